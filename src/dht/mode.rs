//! The mode: whether this node serves others.
//!
//! Knows which of its own addresses are confirmed; knows neither peers nor streams.

use libp2p_core::Multiaddr;

use crate::addrs::is_relayed;
use crate::event::Mode;
use crate::time::{Duration, Instant, after};

/// A node that listens but is a client after this time gets one line in the log, since it surprises many.
/// Chosen, not measured.
const HINT_AFTER: Duration = Duration::from_secs(60);

/// Decides between client and server.
///
/// # What it decides
/// The mode: the one that was set, or server while there is a confirmed external address that is not relayed.
///
/// # States
/// ```text
///            set(Some(m))               external address            last one gone
/// automatic <------------> fixed(m)     client ------------> server ------------> client
///            set(None)
/// ```
///
/// # Inputs
/// [`set`](Self::set), [`addresses`](Self::addresses).
///
/// # Outputs
/// The mode; whether it has changed.
///
/// # What time does
/// A minute after the node began to listen, a client gets one `info` line.
///
/// # Spec
/// libp2p kad-dht, "Client and server mode".
#[derive(Clone, Debug)]
pub(super) struct ModeMachine {
    fixed: Option<Mode>,
    reachable: bool,
    hint_at: Option<Instant>,
    hinted: bool,
}

impl ModeMachine {
    pub(super) const fn new() -> Self {
        Self { fixed: None, reachable: false, hint_at: None, hinted: false }
    }

    pub(super) const fn mode(&self) -> Mode {
        match (self.fixed, self.reachable) {
            (Some(mode), _) => mode,
            (None, true) => Mode::Server,
            (None, false) => Mode::Client,
        }
    }

    pub(super) const fn is_automatic(&self) -> bool {
        self.fixed.is_none()
    }

    /// Sets the mode, or lets it follow the addresses; returns the new mode if it is another.
    pub(super) fn set(&mut self, mode: Option<Mode>) -> Option<Mode> {
        self.changing(|this| this.fixed = mode)
    }

    /// Takes note of the addresses of this node; returns the new mode if it is another.
    pub(super) fn addresses(
        &mut self,
        now: Instant,
        external: &[Multiaddr],
        listening: &[Multiaddr],
    ) -> Option<Mode> {
        if !listening.is_empty() && self.hint_at.is_none() {
            self.hint_at = Some(after(now, HINT_AFTER));
        }
        self.changing(|this| this.reachable = external.iter().any(|address| !is_relayed(address)))
    }

    fn changing(&mut self, change: impl FnOnce(&mut Self)) -> Option<Mode> {
        let before = self.mode();
        change(self);
        (self.mode() != before).then(|| self.mode())
    }

    /// Returns whether the line about being a client is to be written now.
    pub(super) fn hint(&mut self, now: Instant) -> bool {
        if self.hinted || self.hint_at.is_none_or(|at| at > now) {
            return false;
        }
        self.hinted = true;
        self.is_automatic() && self.mode() == Mode::Client
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hint_at.filter(|_| !self.hinted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::start;

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_confirmed_address_makes_a_server() {
        let mut mode = ModeMachine::new();
        assert_eq!(mode.mode(), Mode::Client);
        let listening = addresses(&["/ip4/127.0.0.1/tcp/1"]);
        assert_eq!(mode.addresses(start(), &[], &listening), None);
        let external = addresses(&["/ip4/1.2.3.4/tcp/1"]);
        assert_eq!(mode.addresses(start(), &external, &listening), Some(Mode::Server));
        assert_eq!(mode.addresses(start(), &external, &listening), None);
        assert_eq!(mode.addresses(start(), &[], &listening), Some(Mode::Client));
    }

    #[test]
    fn a_relayed_address_does_not() {
        let mut mode = ModeMachine::new();
        let relay = "/ip4/1.2.3.4/tcp/1/p2p/12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5/p2p-circuit";
        assert_eq!(mode.addresses(start(), &addresses(&[relay]), &[]), None);
        assert_eq!(mode.mode(), Mode::Client);
    }

    #[test]
    fn what_is_set_is_kept() {
        let mut mode = ModeMachine::new();
        assert_eq!(mode.set(Some(Mode::Server)), Some(Mode::Server));
        assert_eq!(mode.addresses(start(), &[], &[]), None);
        assert_eq!(mode.mode(), Mode::Server);
        assert_eq!(mode.set(Some(Mode::Client)), Some(Mode::Client));
        assert_eq!(mode.addresses(start(), &addresses(&["/ip4/1.2.3.4/tcp/1"]), &[]), None);
        assert_eq!(mode.set(None), Some(Mode::Server), "by its address");
    }

    #[test]
    fn a_listening_client_is_told_once() {
        let mut mode = ModeMachine::new();
        assert_eq!(mode.deadline(), None);
        mode.addresses(start(), &[], &addresses(&["/ip4/127.0.0.1/tcp/1"]));
        let due = start() + HINT_AFTER;
        assert_eq!(mode.deadline(), Some(due));
        assert!(!mode.hint(due - Duration::from_secs(1)));
        assert!(mode.hint(due));
        assert!(!mode.hint(due));
        assert_eq!(mode.deadline(), None);
        let mut server = ModeMachine::new();
        server.addresses(start(), &[], &addresses(&["/ip4/127.0.0.1/tcp/1"]));
        server.set(Some(Mode::Server));
        assert!(!server.hint(due));
    }
}
