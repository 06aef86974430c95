//! The providers that a query finds, as a stream.
//!
//! Knows the command channel, which hands on what the query tells; how providers are found is the node's affair.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use libp2p_identity::PeerId;

use super::command_channel::{CancelOnDrop, ClientCommand, MAX_WAITING};
use super::timer::Sleep;
use crate::dht::op::{GetProvidersError, GetProvidersOk, GetProvidersResult, QueryResult, ResultOfKind as _};
use crate::error::ClientError;
use crate::peer::PeerInfo;
use crate::record::RecordKey;

/// The providers of a key, as they are found.
///
/// Each comes once; one that comes a second time had no addresses before. Dropping the stream ends the search.
///
/// Nothing is lost if it is read slowly: beside what this node knew before, 1,024 wait to be taken and 4,096 more in the search,
/// which takes no others meanwhile. A search that watches finds those later.
#[must_use = "nothing is searched any more when it is dropped"]
pub struct Providers {
    key: RecordKey,
    results: mpsc::Receiver<QueryResult>,
    /// How long the search may take.
    limit: Option<Sleep>,
    ready: VecDeque<PeerInfo>,
    /// How many were taken since the search was told last.
    taken: usize,
    /// The peer that is left out.
    but: Option<PeerId>,
    error: Option<GetProvidersError>,
    is_over: bool,
    guard: CancelOnDrop,
}

impl Providers {
    pub(crate) fn new(
        key: RecordKey,
        (results, limit): (mpsc::Receiver<QueryResult>, Option<Sleep>),
        guard: CancelOnDrop,
        but: Option<PeerId>,
        begun: Result<(), ClientError>,
    ) -> Self {
        let error = begun.err().map(|error| GetProvidersError::of_query(error, key.clone()));
        let is_over = error.is_some();
        Self { key, results, limit, ready: VecDeque::new(), taken: 0, but, error, is_over, guard }
    }

    /// Returns why the search has ended early, once the stream is over; `None` if all of the closest peers were asked.
    pub const fn error(&self) -> Option<&GetProvidersError> {
        self.error.as_ref()
    }

    /// Tells the search that there is room for others when half of those have been taken for which there was.
    fn took_one(&mut self) {
        self.taken += 1;
        if self.taken >= MAX_WAITING / 2
            && let Some(id) = self.guard.id
        {
            let taken = std::mem::take(&mut self.taken);
            // Whoever is gone tells no more anyway.
            let _ = self.guard.send(ClientCommand::MakeRoom(id, taken));
        }
    }

    fn heard(&mut self, result: Option<QueryResult>) {
        match result.and_then(GetProvidersResult::of) {
            Some(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                return self.ready.extend(providers);
            }
            Some(Err(error)) => self.error = Some(error),
            Some(Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { .. })) => {}
            None => {
                self.error = Some(GetProvidersError::of_query(ClientError::Closed, self.key.clone()));
            }
        }
        self.is_over = true;
        // There is nothing left to cancel.
        self.guard.id = None;
    }
}

impl Stream for Providers {
    type Item = PeerInfo;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerInfo>> {
        loop {
            if let Some(peer) = self.ready.pop_front() {
                self.took_one();
                if Some(peer.peer_id) == self.but {
                    continue;
                }
                return Poll::Ready(Some(peer));
            }
            if self.is_over {
                return Poll::Ready(None);
            }
            match self.results.poll_next_unpin(cx) {
                Poll::Ready(result) => {
                    self.heard(result);
                    continue;
                }
                Poll::Pending => {}
            }
            match self.limit.as_mut().map(|limit| Pin::new(limit).poll(cx)) {
                Some(Poll::Ready(())) => {
                    self.error = Some(GetProvidersError::of_query(ClientError::Timeout, self.key.clone()));
                    self.is_over = true;
                    // Nobody waits for it any more, though the stream may be kept.
                    self.results.close();
                    if let Some(id) = self.guard.id.take() {
                        // Nothing to cancel if the swarm is gone.
                        let _ = self.guard.send(ClientCommand::Cancel(id));
                    }
                }
                Some(Poll::Pending) | None => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers").field("is_over", &self.is_over).field("error", &self.error).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::command_channel::CommandReceiver;
    use super::*;
    use crate::record::RecordKey;

    #[test]
    fn the_search_is_told_of_room_when_half_of_it_was_taken() {
        let mut receiver = CommandReceiver::default();
        let (mut reply, results) = mpsc::channel(super::super::command_channel::MAX_RESULTS);
        let id = receiver.sender().next_id();
        let mut providers = Providers::new(
            RecordKey::new(b"k"),
            (results, None),
            CancelOnDrop::new(&receiver.sender(), Some(id)),
            None,
            Ok(()),
        );
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..MAX_WAITING {
            let provider = PeerInfo { peer_id: PeerId::random(), addrs: vec![] };
            let found =
                GetProvidersOk::FoundProviders { key: RecordKey::new(b"k"), providers: vec![provider] };
            reply.try_send(QueryResult::GetProviders(Ok(found))).unwrap();
        }
        // There is room for what was known before, what was kept, and the last.
        for _ in 0..3 {
            let (closest_peers, shortage) = (Vec::new(), None);
            let last = GetProvidersOk::FinishedWithNoAdditionalRecord { closest_peers, shortage };
            reply.try_send(QueryResult::GetProviders(Ok(last))).unwrap();
        }
        for taken in 1..=MAX_WAITING {
            assert!(matches!(providers.poll_next_unpin(&mut cx), Poll::Ready(Some(_))));
            let more = match receiver.poll(&mut cx) {
                Poll::Ready(ClientCommand::MakeRoom(of, more)) if of == id => Some(more),
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => None,
            };
            assert_eq!(more, (taken % (MAX_WAITING / 2) == 0).then_some(MAX_WAITING / 2), "{taken}");
        }
        assert!(matches!(providers.poll_next_unpin(&mut cx), Poll::Ready(None)));
        assert_eq!(providers.error(), None);
    }

    #[test]
    fn a_search_whose_time_is_up_is_cancelled_though_the_stream_is_kept() {
        let mut receiver = CommandReceiver::default();
        let (_reply, results) = mpsc::channel(1);
        let id = receiver.sender().next_id();
        let guard = CancelOnDrop::new(&receiver.sender(), Some(id));
        let limit = Some(super::super::timer::sleep(std::time::Duration::ZERO));
        let mut providers = Providers::new(RecordKey::new(b"k"), (results, limit), guard, None, Ok(()));
        assert_eq!(futures::executor::block_on(providers.next()), None);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(receiver.poll(&mut cx), Poll::Ready(ClientCommand::Cancel(of)) if of == id));
        drop(providers);
        assert!(receiver.poll(&mut cx).is_pending(), "once");
    }
}
