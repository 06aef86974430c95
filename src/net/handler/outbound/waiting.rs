//! Requests that wait for a stream.

use std::collections::BTreeMap;

use crate::dht::RequestId;
use crate::message::{MessageType, Request};

/// A request that is not answered.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: RequestId,
    pub(super) request: Request,
    /// Whether a stream has ended with this request at its front.
    pub(super) retried: bool,
}

impl Pending {
    /// Returns whether it goes on a stream only while nothing else is in flight there.
    pub(super) fn wants_stream_alone(&self) -> bool {
        self.request.message_type() == MessageType::PutValue
    }
}

/// How many kinds of streams requests want: a fresh one, one for itself, any.
const KINDS: usize = 3;

/// What waits for a stream, in the order in which the node sent it, apart by what stream it wants.
///
/// Those that cannot go now hold up nobody of another kind. Everything costs the logarithm of what waits.
#[derive(Debug, Default)]
pub(super) struct Waiting([BTreeMap<RequestId, Pending>; KINDS]);

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(BTreeMap::len).sum()
    }

    pub(super) fn insert(&mut self, pending: Pending) {
        let [fresh, alone, any] = &mut self.0;
        let kind = match (pending.retried, pending.wants_stream_alone()) {
            (true, _) => fresh,
            (false, true) => alone,
            (false, false) => any,
        };
        kind.insert(pending.id, pending);
    }

    pub(super) fn extend(&mut self, requests: impl IntoIterator<Item = Pending>) {
        requests.into_iter().for_each(|pending| self.insert(pending));
    }

    /// Takes out a request. Returns whether it was here.
    pub(super) fn remove(&mut self, id: RequestId) -> bool {
        self.0.iter_mut().any(|kind| kind.remove(&id).is_some())
    }

    pub(super) fn pop_first(&mut self) -> Option<Pending> {
        self.pop_first_that(|_| Some(())).map(|(pending, ())| pending)
    }

    /// Takes out the oldest of those that are the oldest of their kind and for which there is a place.
    pub(super) fn pop_first_that<P>(
        &mut self,
        place_for: impl Fn(&Pending) -> Option<P>,
    ) -> Option<(Pending, P)> {
        let mut best: Option<(RequestId, usize, P)> = None;
        for (at, kind) in self.0.iter().enumerate() {
            if let Some((id, pending)) = kind.first_key_value()
                && best.as_ref().is_none_or(|(other, ..)| id < other)
                && let Some(place) = place_for(pending)
            {
                best = Some((*id, at, place));
            }
        }
        let (id, at, place) = best?;
        Some((self.0.get_mut(at)?.remove(&id)?, place))
    }

    /// Takes out all, oldest first.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Pending> {
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
    use crate::message::SentRecord;
    use crate::record::RecordKey;

    fn pending(id: u64, request: Request, retried: bool) -> Pending {
        Pending { id: RequestId::new(id), request, retried }
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
        let mut waiting = Waiting::default();
        waiting.extend([
            pending(5, Request::Ping, false),
            pending(2, put(), false),
            pending(1, Request::Ping, true),
            pending(3, Request::Ping, false),
            pending(4, put(), false),
        ]);
        let not_fresh = |pending: &Pending| (!pending.retried).then_some(());
        let only_any = |pending: &Pending| (!pending.retried && !pending.wants_stream_alone()).then_some(());
        assert_eq!(waiting.pop_first_that(only_any).unwrap().0.id, RequestId::new(3));
        assert_eq!(waiting.pop_first_that(not_fresh).unwrap().0.id, RequestId::new(2));
        assert!(waiting.remove(RequestId::new(4)) && !waiting.remove(RequestId::new(4)));
        assert_eq!(waiting.pop_first().unwrap().id, RequestId::new(1));
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting.take_all().map(|pending| pending.id).collect::<Vec<_>>(), [RequestId::new(5)]);
        assert!(waiting.pop_first().is_none());
    }
}
