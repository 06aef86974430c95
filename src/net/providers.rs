//! The providers that a query finds, as a stream.
//!
//! Knows the desk, which hands on what the query tells; how providers are found is the node's affair.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use libp2p_identity::PeerId;

use super::desk::CancelOnDrop;
use super::timer::Sleep;
use crate::error::{ClientError, GetProvidersError};
use crate::event::{GetProvidersOk, QueryResult};
use crate::peer::PeerInfo;
use crate::record::RecordKey;

/// The providers of a key, as they are found.
///
/// Each comes once; one that comes a second time had no addresses before. Dropping the stream ends the search.
#[must_use = "nothing is searched any more when it is dropped"]
pub struct Providers {
    key: RecordKey,
    results: mpsc::Receiver<QueryResult>,
    /// How long the search may take.
    limit: Option<Sleep>,
    ready: VecDeque<PeerInfo>,
    /// Who is left out.
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
        Self { key, results, limit, ready: VecDeque::new(), but, error, is_over, guard }
    }

    /// Returns why the search has ended early, once the stream is over; `None` if all of the closest peers were asked.
    pub const fn error(&self) -> Option<&GetProvidersError> {
        self.error.as_ref()
    }

    fn heard(&mut self, result: Option<QueryResult>) {
        match result {
            Some(QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. }))) => {
                let but = self.but;
                self.ready.extend(providers.into_iter().filter(|peer| Some(peer.peer_id) != but));
                return;
            }
            Some(QueryResult::GetProviders(Err(error))) => self.error = Some(error),
            Some(_) => {}
            None => {
                self.error = Some(GetProvidersError::of_query(ClientError::Closed, self.key.clone()));
            }
        }
        self.is_over = true;
        // There is nothing left to cancel.
        self.guard.ticket = None;
    }
}

impl Stream for Providers {
    type Item = PeerInfo;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerInfo>> {
        loop {
            if let Some(peer) = self.ready.pop_front() {
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
                    // Nobody waits for it any more.
                    self.results.close();
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
