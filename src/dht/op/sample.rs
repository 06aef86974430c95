//! Samples peers: the example of "To add an operation" in ARCHITECTURE, there in tests only.

use std::collections::VecDeque;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::machine::{Ask, Begin, End, FilteredAnswer, Findings, Machine, Step, View, find_node};
use crate::addrs::Addresses;
use crate::config::Config;
use crate::dht::advice::Failure;
use crate::dht::peers::Urgency;
use crate::dht::view::Parts;
use crate::error::{Fates, NoKnownPeers, QueryError, RequestError, query_error};
use crate::event::{ProgressStep, QueryStats};
use crate::peer::PeerInfo;
use crate::time::Instant;

/// The outcome of sampling peers.
pub type SampleResult = Result<SampleOk, SampleError>;

/// Some peers have told whom they know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampleOk {
    /// Whom they know, in the order in which they told it.
    pub named: Vec<PeerInfo>,
}

/// Why peers were sampled in vain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// Nobody that was asked has answered. Try again when others are in the table.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// What became of those that were asked.
        fates: Fates,
    },
    /// What any query may fail of: see [`QueryError`].
    #[error("{cause}")]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
    },
}

query_error!(SampleError);

impl Findings for SampleResult {
    fn found(&self) -> &[PeerInfo] {
        self.as_ref().map_or(&[], |ok| &ok.named)
    }

    fn failure(&self) -> Option<Failure> {
        match self {
            Err(SampleError::NoAnswer { fates }) => Some(Failure::of_fates(fates)),
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of a query that samples peers.
#[derive(Debug)]
pub(in crate::dht) struct SampleInfo {
    pub(in crate::dht) answered: usize,
}

/// Asks some peers of the table, the nearest first, whom they know near this node.
///
/// # States
/// ```text
/// Asking --all asked--> Waiting --all settled--> over
/// ```
///
/// # Bounds
/// One request for each peer of the table.
#[derive(Debug)]
pub(in crate::dht) struct Sample {
    unasked: VecDeque<PeerId>,
    asked: usize,
    answered: usize,
    failed: Vec<(PeerId, RequestError)>,
    named: Vec<PeerInfo>,
}

impl Sample {
    const fn pending(&self) -> usize {
        self.asked - self.answered - self.failed.len()
    }

    fn result(&self, view: &View<'_>) -> SampleResult {
        if self.answered > 0 {
            return Ok(SampleOk { named: self.named.clone() });
        }
        let (failed, protocol) = (self.failed.clone(), view.config.protocol_name.clone());
        Err(SampleError::NoAnswer { fates: Fates { failed, pending: self.pending(), protocol } })
    }
}

impl Begin for Sample {
    /// How many are asked.
    type Command = usize;
    type Info = SampleInfo;
    type Result = SampleResult;

    fn seen(_: &usize, _: &Config) -> SampleInfo {
        SampleInfo { answered: 0 }
    }

    /// Begins to ask, unless the table is empty.
    fn begin(_: Instant, count: usize, parts: &mut Parts<'_>) -> Result<Self, Box<SampleResult>> {
        let nearest = parts.upkeep.table.closest(&parts.cx.local.key);
        let unasked: VecDeque<_> = nearest.take(count).map(|entry| entry.peer()).collect();
        if unasked.is_empty() {
            return Err(Box::new(Err(SampleError::Query { cause: NoKnownPeers().into() })));
        }
        Ok(Self { unasked, asked: 0, answered: 0, failed: Vec::new(), named: Vec::new() })
    }
}

impl<R: From<SampleResult>, I: From<SampleInfo>> Machine<R, I> for Sample {
    fn next(&mut self, _: Instant, view: &mut View<'_>) -> Step<R> {
        if let Some(to) = self.unasked.pop_front() {
            self.asked += 1;
            let request = find_node(&Bytes::from(view.local.peer.to_bytes()));
            let (addresses, urgency) = (Addresses::empty(), Urgency::Patient);
            return Step::Ask(Ask { to, addresses, request, lookup: 0, urgency });
        }
        if self.pending() > 0 { Step::Wait(None) } else { Step::Done(R::from(self.result(view))) }
    }

    fn answered(&mut self, _: &PeerId, _: u16, answer: FilteredAnswer) {
        self.answered += 1;
        let info = answer.closer.into_iter();
        self.named.extend(info.map(|peer| PeerInfo { peer_id: peer.peer, addrs: peer.addresses.into_vec() }));
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        self.failed.push((*from, error));
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        R::from(match why {
            End::Enough => self.result(view),
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                Err(SampleError::Query { cause: why.cause() })
            }
        })
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(SampleInfo { answered: self.answered })
    }

    fn count(&self, stats: &mut QueryStats) {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        stats.requests = count(self.asked);
        stats.success = count(self.answered);
        stats.failure = count(self.failed.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::op::{Command, QueryInfo, QueryResult};
    use crate::dht::tests::{
        SECOND, admit, answer_all, asked, new_dht, outputs, peer, quiet, result_of, start,
    };
    use crate::dht::{Dht, Input};
    use crate::event::QueryId;
    use crate::store::MemoryStore;

    fn sampling(servers: usize, count: usize) -> (Dht<MemoryStore>, QueryId) {
        let mut dht = new_dht(0, quiet());
        admit(&mut dht, start(), 1..=servers);
        let query = dht.run(start() + SECOND, Command::Sample { count });
        (dht, query)
    }

    #[test]
    fn an_operation_of_the_list_is_begun_shown_asked_and_told() {
        let (mut dht, query) = sampling(3, 2);
        assert_eq!(dht.query(query).unwrap().info(), &QueryInfo::Sample { answered: 0 });
        let out = answer_all(&mut dht, start() + SECOND, &[7]);
        assert_eq!(asked(&out).len(), 2);
        let Some(QueryResult::Sample(Ok(ok))) = result_of(&out, query) else { panic!("{out:?}") };
        assert!(ok.named.len() == 2 && ok.named.iter().all(|named| named.peer_id == peer(7)), "{ok:?}");
        assert!(!dht.addresses_of(&peer(7)).is_empty(), "what was found is remembered");
        assert!(dht.query(query).is_none());
    }

    #[test]
    fn what_keeps_it_from_beginning_or_ends_it_is_told_like_that_of_any_other() {
        let (mut dht, query) = sampling(0, 2);
        let nobody = SampleError::Query { cause: QueryError::NoKnownPeers };
        let out = outputs(&mut dht);
        assert!(matches!(result_of(&out, query), Some(QueryResult::Sample(Err(error))) if error == nobody));

        let (mut dht, query) = sampling(1, 2);
        let id = asked(&outputs(&mut dht))[0].1;
        let error = RequestError::BadAnswer;
        dht.handle_input(start() + SECOND, Input::RequestFailed { id, error });
        let fates = Fates {
            failed: vec![(peer(1), error)],
            pending: 0,
            protocol: dht.config().protocol_name.clone(),
        };
        let out = outputs(&mut dht);
        let Some(QueryResult::Sample(Err(error))) = result_of(&out, query) else { panic!("{out:?}") };
        assert_eq!(error, SampleError::NoAnswer { fates });

        let (mut dht, query) = sampling(1, 2);
        assert!(dht.cancel(start() + SECOND, query));
        let cancelled = SampleError::Query { cause: QueryError::Cancelled };
        let out = outputs(&mut dht);
        assert!(
            matches!(result_of(&out, query), Some(QueryResult::Sample(Err(error))) if error == cancelled)
        );
    }
}
