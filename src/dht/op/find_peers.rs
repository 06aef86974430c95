//! Finds the closest peers to a key.

use std::num::NonZeroUsize;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::bootstrap::{look_up_bucket, look_up_own};
use super::machine::{After, Begin, End, FilteredAnswer, Findings, Machine, Step, View};
use super::search::{Goal, Search};
use crate::addrs::Addresses;
use crate::config::Config;
use crate::dht::advice::Failure;
use crate::dht::view::Parts;
use crate::error::fates::so_far;
use crate::error::{Fates, QueryError, RequestError, query_error};
use crate::event::{Precision, ProgressStep, QueryStats, Shortage};
use crate::peer::PeerInfo;
use crate::query::lookup::Place;
use crate::routing::refresh::Target;
use crate::time::Instant;

/// The outcome of a search for the closest peers.
pub type GetClosestPeersResult = Result<GetClosestPeersOk, GetClosestPeersError>;

/// The closest peers to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GetClosestPeersOk {
    /// The bytes whose hash was looked for.
    pub key: Vec<u8>,
    /// The closest peers that answered, nearest first.
    pub peers: Vec<PeerInfo>,
    /// How the search got there: each peer has named the next; the last is the closest that answered.
    pub path: Vec<PeerId>,
    /// Why there are fewer than were asked for, if there are.
    pub shortage: Option<Shortage>,
}

/// Why a search for the closest peers ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetClosestPeersError {
    /// Nobody that was asked has answered. See what became of them, add the address of a peer that serves the protocol, and
    /// search again.
    #[error("nobody has answered: {fates}")]
    NoAnswer {
        /// The bytes whose hash was looked for.
        key: Vec<u8>,
        /// What became of those that were asked.
        fates: Fates,
    },
    /// The protocol cannot ask for the hash of no bytes: give at least one.
    #[error("the key is empty")]
    EmptyKey,
    /// What any query may fail of: see [`QueryError`] for what to do.
    #[error("{cause}{}", so_far("closest peers that had answered", .peers.len()))]
    Query {
        /// What happened.
        #[source]
        cause: QueryError,
        /// The bytes whose hash was looked for.
        key: Vec<u8>,
        /// The closest peers that had answered, nearest first.
        peers: Vec<PeerInfo>,
    },
}

impl GetClosestPeersError {
    /// Returns the bytes whose hash was looked for.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::NoAnswer { key, .. } | Self::Query { key, .. } => key,
            Self::EmptyKey => &[],
        }
    }

    /// Returns the bytes whose hash was looked for, without the rest.
    pub fn into_key(self) -> Vec<u8> {
        match self {
            Self::NoAnswer { key, .. } | Self::Query { key, .. } => key,
            Self::EmptyKey => Vec::new(),
        }
    }
}

query_error!(GetClosestPeersError);

impl Findings for GetClosestPeersResult {
    fn found(&self) -> &[PeerInfo] {
        self.as_ref().map_or(&[], |ok| &ok.peers)
    }

    fn failure(&self) -> Option<Failure> {
        match self {
            Err(GetClosestPeersError::NoAnswer { fates, .. }) => Some(Failure::of_fates(fates)),
            Err(error) => Failure::of_query(error.query_error()),
            Ok(_) => None,
        }
    }
}

/// What is seen of a search for the closest peers that runs.
#[derive(Debug)]
pub(in crate::dht) struct FindPeersInfo {
    pub(in crate::dht) key: Vec<u8>,
    pub(in crate::dht) num_results: NonZeroUsize,
    pub(in crate::dht) step: ProgressStep,
}

/// A search for the closest peers to a key.
///
/// Ends when as many as were wanted have answered; see [`Lookup`](crate::query::lookup::Lookup).
#[derive(Debug)]
pub(in crate::dht) struct FindPeers {
    search: Search,
    /// How many were asked for.
    asked_for: NonZeroUsize,
    /// As many of them as are searched at once.
    wanted: NonZeroUsize,
    /// Whether the node learns from it how large the network is.
    measures: bool,
    is_over: bool,
}

impl FindPeers {
    /// Begins to look up the own id or a random key for the node's own sake; `None` if there is nobody to ask.
    pub(in crate::dht) fn of_upkeep(now: Instant, target: Target, parts: &mut Parts<'_>) -> Option<Self> {
        let wanted = parts.cx.config.bucket_size();
        let mut view = parts.view(usize::MAX);
        let search = match target {
            Target::Own => look_up_own(now, &view),
            Target::Bucket(bucket) => look_up_bucket(now, &mut view, bucket),
            Target::Anywhere => look_up_anywhere(now, &mut view),
        };
        let measures = target == Target::Anywhere;
        search.map(|search| Self { search, asked_for: wanted, wanted, measures, is_over: false })
    }

    fn result(&self, view: &View<'_>, is_over: bool) -> GetClosestPeersOk {
        let peers = self.search.closest(view, self.wanted.get());
        let shortage = if peers.len() >= self.asked_for.get() {
            None
        } else if peers.len() >= self.wanted.get() {
            Some(Shortage::Limit { limit: self.wanted.get() })
        } else if is_over {
            Some(Shortage::NoMorePeers { failed: self.search.num_failed() })
        } else {
            Some(Shortage::Finished)
        };
        let (key, path) = (self.search.preimage().to_vec(), self.search.path());
        GetClosestPeersOk { key, peers, path, shortage }
    }
}

/// Begins the lookup of a random key, whose closest peers are all to answer; `None` if there is nobody to ask.
fn look_up_anywhere(now: Instant, view: &mut View<'_>) -> Option<Search> {
    let mut bytes = [0; 32];
    view.rng.fill(&mut bytes);
    let key = (view.config.key_hash)(&bytes);
    if let Some(bucket) = view.local.key.distance(&key).bucket() {
        view.refresh.looked_up(now, bucket, view.rng);
    }
    let (target, k) = ((Bytes::copy_from_slice(&bytes), key), view.config.bucket_size().get());
    Search::new(now, view, target, k, Goal::Closest(Precision::Exact))
}

impl Begin for FindPeers {
    /// The bytes whose hash is looked for, how many peers are asked for, `k` if nothing is said, and how precisely.
    type Command = (Vec<u8>, Option<NonZeroUsize>, Precision);
    type Info = FindPeersInfo;
    type Result = GetClosestPeersResult;

    fn seen((key, asked_for, _): &Self::Command, config: &Config) -> FindPeersInfo {
        let k = config.bucket_size();
        let num_results = asked_for.map_or(k, |asked_for| asked_for.min(k));
        FindPeersInfo { key: key.clone(), num_results, step: ProgressStep::first() }
    }

    /// Begins to search the peers closest to the hash of some bytes, at most `k`, unless there are none or nobody is known.
    fn begin(
        now: Instant,
        (key, asked_for, precision): Self::Command,
        parts: &mut Parts<'_>,
    ) -> Result<Self, Box<GetClosestPeersResult>> {
        if key.is_empty() {
            return Err(Box::new(Err(GetClosestPeersError::EmptyKey)));
        }
        let preimage = Bytes::from(key);
        let target = (preimage.clone(), parts.cx.hash(&preimage));
        let k = parts.cx.config.bucket_size();
        let asked_for = asked_for.unwrap_or(k);
        let wanted = asked_for.min(k);
        match Search::begin(now, target, wanted.get(), precision, parts) {
            Ok(search) => Ok(Self { search, asked_for, wanted, measures: false, is_over: false }),
            Err(error) => {
                let (cause, key) = (error.into(), preimage.to_vec());
                let error = GetClosestPeersError::Query { cause, key, peers: Vec::new() };
                Err(Box::new(Err(error)))
            }
        }
    }
}

impl<R: From<GetClosestPeersResult>, I: From<FindPeersInfo>> Machine<R, I> for FindPeers {
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R> {
        // Nobody is to be told that the network is small, or large, by those of a few IP groups.
        let step = if self.measures {
            self.search.next_diverse(now, view, 0)
        } else {
            self.search.next(now, view, 0)
        };
        self.is_over = step.is_none();
        match step {
            Some(step) => step,
            None if !self.search.has_answers() => {
                let (key, fates) = (self.search.preimage().to_vec(), self.search.fates(view));
                Step::Done(R::from(Err(GetClosestPeersError::NoAnswer { key, fates })))
            }
            None => Step::Done(R::from(Ok(self.result(view, true)))),
        }
    }

    fn knows(&self, _: u16, peer: &PeerId, addresses: &Addresses) -> bool {
        self.search.knows(peer, addresses)
    }

    fn place(&mut self, now: Instant, to: &PeerId, _: u16, place: Place) {
        self.search.place(now, to, place);
    }

    fn answered(&mut self, from: &PeerId, _: u16, answer: FilteredAnswer) {
        self.search.answered(from, answer);
    }

    fn failed(&mut self, from: &PeerId, _: u16, error: RequestError) {
        self.search.failed(from, error);
    }

    fn end(&mut self, view: &View<'_>, why: End) -> R {
        let ok = self.result(view, false);
        R::from(match why {
            End::Timeout | End::Cancelled | End::Refused { .. } => {
                let GetClosestPeersOk { key, peers, .. } = ok;
                Err(GetClosestPeersError::Query { cause: why.cause(), key, peers })
            }
            End::Enough => Ok(ok),
        })
    }

    fn after(&self, _: Instant, _: &View<'_>) -> After {
        match self.search.farthest_answered(self.wanted.get()).filter(|_| self.measures && self.is_over) {
            Some((peers, farthest)) => After::Measured { peers, farthest },
            None => After::Nothing,
        }
    }

    fn info(&self, step: ProgressStep) -> I {
        I::from(FindPeersInfo { key: self.search.preimage().to_vec(), num_results: self.wanted, step })
    }

    fn count(&self, stats: &mut QueryStats) {
        self.search.count(stats);
    }
}
