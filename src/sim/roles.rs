//! Roles: which nodes play along and which do not, dealt at random.

use super::scenario::Roles;
use crate::rng::Rng;
use crate::time::Duration;

/// The role of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Honest,
    Client,
    Undialable,
    Colluder,
    Poisoner,
    Liar,
    Stuffer,
    Laggard,
    /// Makes providers up.
    Sybil,
}

impl Role {
    pub(super) const fn is_dialable(self) -> bool {
        !matches!(self, Self::Client | Self::Undialable)
    }

    pub(super) const fn is_honest(self) -> bool {
        matches!(self, Self::Honest | Self::Client | Self::Undialable)
    }
}

/// Deals roles to nodes at random, each to its exact share. Node 0, whom others join through, is honest.
pub(super) fn deal(roles: &Roles, nodes: usize, rng: &mut Rng) -> Vec<Role> {
    let mut dealt = Vec::with_capacity(nodes);
    for (role, share) in [
        (Role::Client, roles.clients),
        (Role::Undialable, roles.undialable),
        (Role::Colluder, roles.colluders),
        (Role::Poisoner, roles.poisoners),
        (Role::Liar, roles.liars),
        (Role::Stuffer, roles.stuffers),
        (Role::Laggard, roles.laggards),
    ] {
        dealt.extend(std::iter::repeat_n(role, part(nodes, share)));
    }
    dealt.truncate(nodes.saturating_sub(1));
    dealt.resize(nodes, Role::Honest);
    shuffle(&mut dealt, rng);
    if let Some(honest) = dealt.iter().position(|role| *role == Role::Honest) {
        dealt.swap(0, honest);
    }
    dealt
}

/// Returns how many a share of `all` is, rounded.
pub(super) fn part(all: usize, share: f64) -> usize {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of some nodes, between none and all of them"
    )]
    let part = (all as f64 * share.clamp(0.0, 1.0)).round() as usize;
    part
}

/// Fisher and Yates.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for at in (1..items.len()).rev() {
        items.swap(at, below(rng, at + 1));
    }
}

/// Returns a uniform position among `len`.
pub(super) fn below(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).unwrap_or_default()
}

/// By how much a laggard is late: beyond most soft timeouts, and well within what a request may take. Chosen, not measured.
const LATE: Duration = Duration::from_millis(1500);
const LATEST: Duration = Duration::from_millis(3000);

/// Returns by how much a node of some role answers later than its link makes it.
pub(super) fn lateness(role: Role, rng: &mut Rng) -> Duration {
    if role == Role::Laggard { LATE + (LATEST - LATE).mul_f64(rng.unit()) } else { Duration::ZERO }
}
