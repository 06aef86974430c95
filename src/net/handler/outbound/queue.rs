//! The queue of requests that wait for a stream.

use std::collections::BTreeMap;

use crate::dht::RequestId;
use crate::message::MessageType;
use crate::net::messages::OutboundRequest;

/// Returns whether a request goes on a stream only while nothing else is in flight there: a stored value may be large, and a
/// refusal ends the stream.
pub(super) fn wants_stream_alone(request: &OutboundRequest) -> bool {
    request.request.message_type() == MessageType::PutValue
}

/// How many kinds of streams requests want, derived from what `insert` tells apart: a fresh one, one for itself, any.
const KINDS: usize = 3;

/// The requests that wait for a stream, in the order in which the node sent it, apart by what stream it wants.
///
/// Those that cannot go now hold up none of another kind. Everything costs the logarithm of what waits.
#[derive(Debug, Default)]
pub(super) struct RequestQueue([BTreeMap<RequestId, OutboundRequest>; KINDS]);

impl RequestQueue {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(BTreeMap::len).sum()
    }

    pub(super) fn insert(&mut self, request: OutboundRequest) {
        let [fresh, alone, any] = &mut self.0;
        let kind = match (request.is_retried, wants_stream_alone(&request)) {
            (true, _) => fresh,
            (false, true) => alone,
            (false, false) => any,
        };
        kind.insert(request.id, request);
    }

    pub(super) fn extend(&mut self, requests: impl IntoIterator<Item = OutboundRequest>) {
        requests.into_iter().for_each(|request| self.insert(request));
    }

    /// Takes out a request. Returns whether it was here.
    pub(super) fn remove(&mut self, id: RequestId) -> bool {
        self.0.iter_mut().any(|kind| kind.remove(&id).is_some())
    }

    pub(super) fn pop_first(&mut self) -> Option<OutboundRequest> {
        self.pop_first_that(|_| Some(())).map(|(request, ())| request)
    }

    /// Takes out the oldest of those that are the oldest of their kind and for which there is a place.
    pub(super) fn pop_first_that<P>(
        &mut self,
        place_for: impl Fn(&OutboundRequest) -> Option<P>,
    ) -> Option<(OutboundRequest, P)> {
        let mut best: Option<(RequestId, usize, P)> = None;
        for (at, kind) in self.0.iter().enumerate() {
            if let Some((id, request)) = kind.first_key_value()
                && best.as_ref().is_none_or(|(other, ..)| id < other)
                && let Some(place) = place_for(request)
            {
                best = Some((*id, at, place));
            }
        }
        let (id, at, place) = best?;
        Some((self.0.get_mut(at)?.remove(&id)?, place))
    }

    /// Takes out all, oldest first.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = OutboundRequest> {
        let [fresh, alone, any] = std::mem::take(&mut self.0);
        let mut all = fresh;
        all.extend(alone);
        all.extend(any);
        all.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Request, SentRecord};
    use crate::record::RecordKey;

    fn request(id: u64, request: Request, is_retried: bool) -> OutboundRequest {
        OutboundRequest { is_retried, ..OutboundRequest::new(RequestId::new(id), request) }
    }

    fn put() -> Request {
        let record = SentRecord {
            key: RecordKey::new(b"key"),
            value: b"value"[..].into(),
            publisher: None,
            ttl: None,
        };
        Request::PutValue { record }
    }

    #[test]
    fn the_oldest_goes_first_and_one_that_cannot_go_holds_up_no_other_kind() {
        let mut waiting = RequestQueue::default();
        waiting.extend([
            request(5, Request::Ping, false),
            request(2, put(), false),
            request(1, Request::Ping, true),
            request(3, Request::Ping, false),
            request(4, put(), false),
        ]);
        let not_fresh = |request: &OutboundRequest| (!request.is_retried).then_some(());
        let only_any =
            |request: &OutboundRequest| (!request.is_retried && !wants_stream_alone(request)).then_some(());
        assert_eq!(waiting.pop_first_that(only_any).unwrap().0.id, RequestId::new(3));
        assert_eq!(waiting.pop_first_that(not_fresh).unwrap().0.id, RequestId::new(2));
        assert!(waiting.remove(RequestId::new(4)) && !waiting.remove(RequestId::new(4)));
        assert_eq!(waiting.pop_first().unwrap().id, RequestId::new(1));
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting.take_all().map(|request| request.id).collect::<Vec<_>>(), [RequestId::new(5)]);
        assert!(waiting.pop_first().is_none());
    }
}
