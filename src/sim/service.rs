//! The service queue of a node: what has arrived there and waits until the node comes to it.

use std::collections::VecDeque;

use crate::dht::Input;
use crate::time::{Duration, Instant};

/// What a node is to be called with.
#[derive(Debug)]
pub(super) enum Task {
    Input(Instant, Box<Input>),
    /// Its deadline has come.
    Wake,
}

impl Task {
    /// Returns how long a node works on it, if it works for `work` on each message and each connection.
    const fn cost(&self, work: Duration) -> Duration {
        match self {
            Self::Input(_, input) => match **input {
                Input::RequestReceived { .. } | Input::ResponseReceived { .. } | Input::Connected { .. } => {
                    work
                }
                Input::Disconnected { .. }
                | Input::DialFailed { .. }
                | Input::AddressesLearned { .. }
                | Input::ProtocolConfirmed { .. }
                | Input::ProtocolUnsupported { .. }
                | Input::ProtocolDoubted { .. }
                | Input::LocalAddresses { .. }
                | Input::RequestSent { .. }
                | Input::RequestFailed { .. }
                | Input::AnnouncementRejected { .. }
                | Input::StoreAdvanced { .. } => Duration::ZERO,
            },
            Self::Wake => Duration::ZERO,
        }
    }
}

/// A queue with one server: what arrives is worked on in its order, one after another, and has its effect when the work on it
/// is done. A deadline that comes meanwhile takes its place behind what has arrived before.
///
/// # Bounds
/// What has arrived and is not done yet.
#[derive(Debug)]
pub(super) struct Service {
    waiting: VecDeque<Task>,
    is_under_way: bool,
    is_to_wake: bool,
}

impl Service {
    pub(super) const fn new() -> Self {
        Self { waiting: VecDeque::new(), is_under_way: false, is_to_wake: false }
    }

    /// Something arrives now.
    pub(super) fn push(&mut self, now: Instant, input: Input) {
        self.waiting.push_back(Task::Input(now, Box::new(input)));
    }

    /// The node's deadline has come. Returns whether it waits for what has arrived before; if not, it is now.
    pub(super) fn wakes_later(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        if !self.is_to_wake {
            self.is_to_wake = true;
            self.waiting.push_back(Task::Wake);
        }
        true
    }

    /// Returns whether its deadline has come, and waits.
    pub(super) const fn is_to_wake(&self) -> bool {
        self.is_to_wake
    }

    /// Returns whether something waits or is worked on.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins to work on the first that waits, unless something is under way. Returns how long it takes.
    pub(super) fn begin(&mut self, work: Duration) -> Option<Duration> {
        let first = self.waiting.front().filter(|_| !self.is_under_way)?;
        self.is_under_way = true;
        Some(first.cost(work))
    }

    /// Returns what has been worked on.
    pub(super) fn done(&mut self) -> Option<Task> {
        self.is_under_way = false;
        let task = self.waiting.pop_front()?;
        if matches!(task, Task::Wake) {
            self.is_to_wake = false;
        }
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::ConnectionId;
    use crate::sim::ids::peer_id;
    use crate::time::start;

    const WORK: Duration = Duration::from_micros(50);

    fn connected() -> Input {
        let (peer, connection) = (peer_id(1, 1), ConnectionId(1));
        let address = libp2p_core::Multiaddr::empty();
        Input::Connected { located: None, peer, connection, address, dialled: false, dial: None }
    }

    #[test]
    fn what_arrives_is_worked_on_one_after_another_and_a_deadline_waits_for_what_was_there() {
        let mut service = Service::new();
        assert!(!service.wakes_later(), "nothing is in its way");
        service.push(start(), connected());
        service.push(start(), Input::Disconnected { peer: peer_id(1, 1), connection: ConnectionId(1) });
        assert_eq!(service.begin(WORK), Some(WORK));
        assert_eq!(service.begin(WORK), None, "one at a time");
        assert!(service.wakes_later() && service.wakes_later(), "told twice, it waits once");
        service.push(start(), connected());
        assert!(matches!(service.done(), Some(Task::Input(..))));
        assert_eq!(service.begin(WORK), Some(Duration::ZERO), "what is no message costs nothing");
        assert!(matches!(service.done(), Some(Task::Input(..))));
        assert!(service.is_to_wake());
        assert_eq!(service.begin(WORK), Some(Duration::ZERO));
        assert!(matches!(service.done(), Some(Task::Wake)));
        assert!(!service.is_to_wake() && service.is_busy());
        assert_eq!(service.begin(WORK), Some(WORK));
        assert!(service.done().is_some() && service.done().is_none() && !service.is_busy());
    }
}
