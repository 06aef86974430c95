//! Context: what all parts of the node share.
//!
//! Plain data and what follows from it alone; knows no part.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use super::advice::{Advice, Failure};
use super::answer;
use super::clocks::Clocks;
use super::io::{InboundId, Output, Outputs, Queued, take_first};
use super::local::Local;
use super::mode::ModeMachine;
use crate::config::Config;
use crate::error::AddressError;
use crate::event::{Mode, Notice};
use crate::key::Key;
use crate::message::{MessageType, Response};
use crate::rng::Rng;
use crate::stats::{ByMessageType, InboundRequests};
use crate::time::{Instant, Now, SystemTime};

/// The configuration, who this node is, what time it is, its random choices, and what goes out.
///
/// # Bounds
/// Those of [`Config`]; outputs are bounded by the calls that were made since they were last drained.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) local: Local,
    pub(super) rng: Rng,
    pub(super) clocks: Clocks,
    pub(super) mode: ModeMachine,
    pub(super) advice: Advice,
    pub(super) out: Outputs,
    /// What others have asked.
    pub(super) served: Box<ByMessageType<InboundRequests>>,
}

impl Context {
    pub(super) fn new(local: PeerId, config: Config, seed: [u8; 32], now: Now) -> Self {
        Self {
            local: Local::new(local, Key::of_peer(&local, config.key_hash)),
            rng: Rng::from_seed(config.seed.unwrap_or(seed)),
            clocks: Clocks::new(now),
            mode: ModeMachine::new(),
            advice: Advice::default(),
            out: Outputs::new(),
            served: Box::default(),
            config,
        }
    }

    pub(super) fn next_output(&mut self) -> Option<Queued> {
        take_first(&mut self.out)
    }

    /// Tells the application.
    pub(super) fn tell(&mut self, notice: Notice) {
        self.out.push_back(Output::Event(notice));
    }

    /// Answers a request of a peer.
    pub(super) fn respond(&mut self, to: PeerId, id: InboundId, response: Response) {
        self.served.of_mut(response.message_type()).answered += 1;
        self.out.push_back(Output::SendResponse { to, id, response });
    }

    /// Takes a request of a peer that is not answered.
    pub(super) fn accept(&mut self, to: PeerId, id: InboundId, kind: MessageType) {
        self.served.of_mut(kind).answered += 1;
        self.out.push_back(Output::AcceptRequest { to, id });
    }

    /// Refuses a request of a peer.
    pub(super) fn refuse(&mut self, to: PeerId, id: InboundId, kind: MessageType) {
        self.served.of_mut(kind).refused += 1;
        self.out.push_back(Output::RefuseRequest { to, id });
    }

    /// Returns what the wall clock shows at an instant, if it is not set.
    pub(super) fn wall_at(&self, now: Instant) -> SystemTime {
        self.clocks.wall_at(now)
    }

    /// Returns the key of some bytes: the one place where bytes become keys by the configured hash.
    pub(super) fn hash(&self, bytes: &[u8]) -> Key {
        (self.config.key_hash)(bytes)
    }

    /// Returns whether an address of another peer is kept.
    pub(super) fn keeps(&self, address: &Multiaddr) -> bool {
        answer::keeps(address, &self.local, &self.config)
    }

    /// Returns why an address without a `/p2p` suffix is not one to reach another peer at, if it is not.
    pub(super) fn check_address(
        &self,
        address: &Multiaddr,
        peer: Option<&PeerId>,
    ) -> Result<(), AddressError> {
        if peer == Some(&self.local.peer) {
            return Err(AddressError::Own);
        }
        answer::check(address, &self.local, &self.config)
    }

    /// Takes note of a mode that is another than before.
    pub(super) fn mode_changed(&mut self, changed: Option<Mode>, by_itself: bool) {
        let Some(new_mode) = changed else { return };
        tracing::debug!(%new_mode, "mode changed");
        self.out.push_back(Output::SetMode(new_mode));
        if by_itself {
            self.tell(Notice::ModeChanged { new_mode });
        }
    }

    /// A query of the application has failed: looks whether that shows that something is set up wrongly.
    pub(super) fn advise(&mut self, failure: Failure, num_connected: impl FnOnce() -> usize) {
        self.advice.of_failure(failure, &self.mode, num_connected, &self.config.protocol_name);
    }
}
