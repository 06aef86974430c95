//! Sees how far the store has come with making changes survive a crash.
//!
//! Knows that a store calls from a thread of its own; what comes of it the node decides.

use std::sync::Arc;
use std::task::Context;

use futures::task::AtomicWaker;

use crate::store::{Progress, RecordStore};

/// Wakes the behaviour's task when the store has made progress, and says what is new.
#[derive(Debug)]
pub(super) struct Watch {
    waker: Arc<AtomicWaker>,
    seen: Progress,
}

impl Watch {
    /// Begins to watch a store.
    pub(super) fn new(store: &mut impl RecordStore) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        let woken = waker.clone();
        store.on_progress(Arc::new(move || woken.wake()));
        Self { waker, seen: store.progress() }
    }

    /// Returns how far the store has come, if that is news; otherwise the task is woken when it is.
    pub(super) fn poll(&mut self, cx: &Context<'_>, store: &impl RecordStore) -> Option<Progress> {
        // First, so that nothing is missed that happens meanwhile.
        self.waker.register(cx.waker());
        let progress = store.progress();
        (std::mem::replace(&mut self.seen, progress) != progress).then_some(progress)
    }
}

#[cfg(test)]
#[cfg(feature = "redb")]
mod tests {
    use std::future::poll_fn;
    use std::task::{Poll, Waker};

    use libp2p_swarm::{NetworkBehaviour as _, ToSwarm};

    use super::*;
    use crate::dht::Event;
    use crate::dht::op::{PutRecordError, QueryResult};
    use crate::error::QueryError;
    use crate::net::behaviour::Behaviour;
    use crate::net::timer;
    use crate::record::{Quorum, Record};
    use crate::store::{Disk, Redb};
    use crate::time::Duration;

    #[test]
    fn the_swarm_does_not_wait_for_the_disk_and_is_woken_when_that_has_caught_up() {
        let peer = libp2p_identity::Keypair::generate_ed25519().public().to_peer_id();
        let disk = Disk::default();
        let mut node = Behaviour::new(peer, Redb::open_on(disk.clone(), peer).unwrap());
        disk.forget_syncs();
        disk.shut();
        let query = node.put_record(Record::new("key", "value"), Quorum::One).unwrap();
        let later = timer::both() + Duration::from_secs(1);
        node.dht_mut().handle_timeout(later);
        disk.wait_for_sync();
        // The disk is busy, and the node is not.
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = node.poll(&mut cx) {
            assert!(
                !matches!(event, ToSwarm::GenerateEvent(Event::OutboundQueryProgressed { .. })),
                "{event:?}"
            );
        }
        let is_stored = node.store_mut().records().any(|record| record.value == "value");
        assert!(is_stored && node.query(&query).is_some());
        let result = futures::executor::block_on(poll_fn(|cx| {
            loop {
                match node.poll(cx) {
                    Poll::Ready(ToSwarm::GenerateEvent(Event::OutboundQueryProgressed {
                        result, ..
                    })) => {
                        return Poll::Ready(result);
                    }
                    Poll::Ready(_) => {}
                    Poll::Pending => {
                        // Now that it waits, it is the store that wakes it.
                        disk.open();
                        return Poll::Pending;
                    }
                }
            }
        }));
        assert!(
            matches!(
                result,
                QueryResult::PutRecord(Err(PutRecordError::Query { cause: QueryError::NoKnownPeers, .. }))
            ),
            "{result:?}"
        );
        assert!(!disk.syncs().contains(&std::thread::current().id()), "no commit is made in `poll`");
    }
}
