//! Roles: how a node behaves that need not play along, and how roles are dealt to nodes at random.

use std::fmt;
use std::sync::Arc;

use crate::key::Key;
use crate::message::{Request, Response};
use crate::peer::KadPeer;
use crate::rng::Rng;
use crate::time::Duration;

/// The role of a node: what of it is not as the protocol says.
///
/// A node of any role is a real one: it joins, asks, and looks after its table. Its role says how others can reach it, and what
/// it answers them. The built-in ones are [`BuiltIn`](super::BuiltIn); a role can leave to one of them what it does not change
/// itself.
///
/// ```
/// use libp2p_kademlia::message::Request;
/// use libp2p_kademlia::sim::{Answer, Around, Role, Scenario};
/// use std::sync::Arc;
///
/// /// Answers nobody who looks something up.
/// #[derive(Debug)]
/// struct Sulker;
///
/// impl Role for Sulker {
///     fn answer(&self, _: &Around<'_>, request: &Request) -> Answer {
///         match request {
///             Request::FindNode { .. } => Answer::Silence,
///             _ => Answer::ByProtocol,
///         }
///     }
/// }
///
/// let scenario = Scenario { nodes: 50, own_roles: vec![(0.1, Arc::new(Sulker))], ..Scenario::default() };
/// assert!(scenario.run()?.summary().recall > 0.9);
/// # Ok::<_, libp2p_kademlia::sim::Violation>(())
/// ```
///
/// # Determinism
/// What a role says must follow from what it is told. One that reads a clock, or asks for entropy, has no run repeat.
pub trait Role: fmt::Debug + Send + Sync {
    /// Returns whether it plays along, so that it counts among those a lookup ought to find. Asked once, when a node is made.
    fn is_honest(&self) -> bool {
        false
    }

    /// Returns whether others can dial it; if not, dials to it hang. Asked once, when a node is made.
    fn is_dialable(&self) -> bool {
        true
    }

    /// Returns whether it serves. Asked once, when a node is made.
    fn is_server(&self) -> bool {
        true
    }

    /// Returns what it answers.
    fn answer(&self, around: &Around<'_>, request: &Request) -> Answer {
        let _ = (around, request);
        Answer::ByProtocol
    }

    /// Returns by how much later than its link makes it an answer of its node arrives.
    fn lateness(&self, rng: &mut Rng) -> Duration {
        let _ = rng;
        Duration::ZERO
    }
}

/// The answer of a role to a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// The node itself answers, which is told of the request.
    ByProtocol,
    /// This, and the node hears nothing of the request.
    Instead(Box<Response>),
    /// The stream ends without an answer.
    Refusal,
    /// Nothing comes.
    Silence,
}

/// The network as a role sees it: all of it, as no real adversary could.
///
/// Nodes are known by their numbers.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    view: &'a dyn NetworkView,
    me: usize,
    asker: usize,
}

impl fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").field("me", &self.me).field("asker", &self.asker).finish_non_exhaustive()
    }
}

/// A node as a role sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Other {
    /// Its number.
    pub number: usize,
    /// Whether it lives.
    pub is_alive: bool,
    /// Whether it plays along.
    pub is_honest: bool,
    /// Whether it can be dialled.
    pub is_dialable: bool,
    /// Whether it has the role of the node that sees it.
    pub is_fellow: bool,
}

/// What a role sees of a network.
pub(super) trait NetworkView {
    fn since_start(&self) -> Duration;
    fn len(&self) -> usize;
    fn bucket_size(&self, n: usize) -> usize;
    fn key_of(&self, bytes: &[u8]) -> Key;
    fn closest(&self, me: usize, target: &Key, count: usize, among: &dyn Fn(&Other) -> bool) -> Vec<usize>;
    fn named(&self, n: usize, at: usize) -> KadPeer;
    fn nobody(&self, seed: u64) -> KadPeer;
}

impl<'a> Around<'a> {
    pub(super) const fn new(view: &'a dyn NetworkView, me: usize, asker: usize) -> Self {
        Self { view, me, asker }
    }

    /// Returns the number of the node itself.
    pub const fn me(&self) -> usize {
        self.me
    }

    /// Returns the number of the node that asks.
    pub const fn asker(&self) -> usize {
        self.asker
    }

    /// Returns the virtual time since the beginning of the world.
    pub fn now(&self) -> Duration {
        self.view.since_start()
    }

    /// Returns how many nodes there have been.
    pub fn num_nodes(&self) -> usize {
        self.view.len()
    }

    /// Returns `k` of the node itself: as many peers as an answer names.
    pub fn bucket_size(&self) -> usize {
        self.view.bucket_size(self.me)
    }

    /// Returns the place of some bytes in the keyspace: of what a request asks for.
    pub fn key_of(&self, bytes: &[u8]) -> Key {
        self.view.key_of(bytes)
    }

    /// Returns the numbers of the `count` nodes closest to a target among some, closest first.
    pub fn closest(&self, target: &Key, count: usize, among: impl Fn(&Other) -> bool) -> Vec<usize> {
        self.view.closest(self.me, target, count, &among)
    }

    /// Returns a node as an honest one would name it.
    pub fn named(&self, n: usize) -> KadPeer {
        self.view.named(n, n)
    }

    /// Returns a node at the address of another.
    pub fn named_at(&self, n: usize, at: usize) -> KadPeer {
        self.view.named(n, at)
    }

    /// Returns a peer that does not exist, at an address where nobody is: for each seed another.
    pub fn nobody(&self, seed: u64) -> KadPeer {
        self.view.nobody(seed)
    }
}

/// Deals roles to nodes at random, each to its exact share; all that get the same one are fellows. Node 0, whom others join
/// through, and those that are left play along.
pub(super) fn deal(
    shares: &[(f64, Arc<dyn Role>)],
    honest: &Arc<dyn Role>,
    nodes: usize,
    rng: &mut Rng,
) -> Vec<Arc<dyn Role>> {
    let mut dealt = Vec::with_capacity(nodes);
    for (share, role) in shares {
        dealt.extend(std::iter::repeat_n(role, part(nodes, *share)).map(Arc::clone));
    }
    dealt.truncate(nodes.saturating_sub(1));
    dealt.resize_with(nodes, || Arc::clone(honest));
    rng.shuffle(&mut dealt);
    if let Some(first) = dealt.iter().position(|role| is_same(role, honest)) {
        dealt.swap(0, first);
    }
    dealt
}

/// Returns whether two nodes were dealt the same role.
pub(super) fn is_same(one: &Arc<dyn Role>, other: &Arc<dyn Role>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
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

/// Returns a uniform position among `len`.
pub(super) fn below(rng: &mut Rng, len: usize) -> usize {
    usize::try_from(rng.below(len as u64)).unwrap_or_default()
}
