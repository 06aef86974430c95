//! What an operation is: a state machine that says what it wants as a [`Step`], and is told what came of it.
//!
//! It sees the rest of the node through [`View`] and changes nothing of it. What it tells is of a type of its own: the list of
//! all kinds, one level up, makes one of all.

use bytes::Bytes;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::addrs::Addresses;
use crate::config::Config;
use crate::dht::advice::Failure;
use crate::dht::answer::CloserPeer;
use crate::dht::io::DialFailure;
use crate::dht::peers::Urgency;
use crate::dht::view::Parts;
use crate::error::{QueryError, RequestError};
use crate::event::{ProgressStep, QueryStats};
use crate::key::{Distance, Key};
use crate::message::Request;
use crate::peer::PeerInfo;
use crate::query::lookup::Place;
use crate::record::{Record, RecordKey};
use crate::time::{Duration, Instant, SystemTime};

pub(in crate::dht) use crate::dht::view::View;

/// A request that an operation wants made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dht) struct Ask {
    pub(in crate::dht) to: PeerId,
    /// Where the peer may be, beside what is known of it.
    pub(in crate::dht) addresses: Addresses,
    pub(in crate::dht) request: Request,
    /// Which of the operation's lookups asks.
    pub(in crate::dht) lookup: u16,
    pub(in crate::dht) urgency: Urgency,
}

/// What an operation wants, whose results are told as an `R`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a step is handled at once, never kept")]
pub(in crate::dht) enum Step<R> {
    Ask(Ask),
    /// Connect to an address, whichever peer is there.
    Dial(Multiaddr),
    /// Tell the application that somebody has put peers of their own around the hash of these bytes.
    Surrounded(Bytes),
    /// Tell the asker what was reached so far.
    Progress(R),
    /// Tell the asker the last that it is told. The operation goes on.
    Told(R),
    /// Nothing before something happens, or until then: a time that lies ahead.
    Wait(Option<Instant>),
    Done(R),
}

/// What an answer says to an operation.
#[derive(Clone, Debug)]
pub(in crate::dht) struct FilteredAnswer {
    /// The peers it names, as far as they count.
    pub(in crate::dht) closer: Vec<CloserPeer>,
    /// The addresses it names for the peer that the operation looks for.
    pub(in crate::dht) target: Addresses,
    /// The record it carries, if that is valid.
    pub(in crate::dht) record: Option<Record>,
    /// The providers it names, as far as they count.
    pub(in crate::dht) providers: Vec<(PeerId, Addresses)>,
    pub(in crate::dht) rtt: Duration,
}

/// Why an operation ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dht) enum End {
    /// Its time is up.
    Timeout,
    /// It was cancelled.
    Cancelled,
    /// What it has is enough for the asker.
    Enough,
    /// It cannot begin: so many queries run already.
    Refused {
        /// How many may run at once.
        limit: usize,
    },
}

impl End {
    /// Returns the cause of the error with which an operation ends that can end in no other way.
    pub(in crate::dht) const fn cause(self) -> QueryError {
        match self {
            Self::Timeout => QueryError::Timeout,
            Self::Cancelled | Self::Enough => QueryError::Cancelled,
            Self::Refused { limit } => QueryError::TooManyQueries { limit },
        }
    }
}

/// The state machine of an operation: its results are told as an `R`, what is seen of it is shown as an `I`.
///
/// A machine says of what these can be made, and no more; so it need not know other kinds.
pub(in crate::dht) trait Machine<R, I> {
    /// Returns what the operation wants now; asked again until it waits or is done.
    fn next(&mut self, now: Instant, view: &mut View<'_>) -> Step<R>;

    /// Returns whether it is no news to one of the operation's lookups that a peer is at these addresses.
    fn knows(&self, _lookup: u16, _peer: &PeerId, _addresses: &Addresses) -> bool {
        false
    }

    /// A request of one of the operation's lookups waits for its place in this node, or has got it; `now` is the node's
    /// [own time](View::moment).
    fn place(&mut self, _now: Instant, _to: &PeerId, _lookup: u16, _place: Place) {}

    /// A peer has answered a request of one of the operation's lookups.
    fn answered(&mut self, from: &PeerId, lookup: u16, answer: FilteredAnswer);

    /// A request that is not answered has been sent.
    fn sent(&mut self, _from: &PeerId, _lookup: u16) {}

    /// A request has failed for good.
    fn failed(&mut self, from: &PeerId, lookup: u16, error: RequestError);

    /// A peer to which this was announced has no room for it. Returns whether it was announced to that peer.
    fn rejected(&mut self, _from: &PeerId) -> bool {
        false
    }

    /// An address that was to be dialled has been, and this is the peer that was there, or why none was met.
    fn address_dialled(&mut self, _result: Result<PeerId, DialFailure>) {}

    /// Returns the result of an operation that ends before it is done.
    fn end(&mut self, view: &View<'_>, why: End) -> R;

    /// Returns what was found and not told yet, to be told before the last result.
    fn rest(&mut self, _: &View<'_>) -> Option<R> {
        None
    }

    /// Returns the peer whose addresses matter to the operation wherever they are named.
    fn looks_for(&self) -> Option<&PeerId> {
        None
    }

    /// Returns whether it asks one peer at most, so that it need not wait until there is room for it.
    fn is_light(&self) -> bool {
        false
    }

    /// Returns what the operation is about and how far it is; `step` is its next event.
    fn info(&self, step: ProgressStep) -> I;

    /// Fills in what the operation's lookups have cost.
    fn count(&self, stats: &mut QueryStats);

    /// Returns whether what it has sent is to arrive though it is over: what is to be stored is not lost because enough have
    /// stored it, or because a dial takes long.
    fn outlives(&self) -> bool {
        false
    }

    /// Returns the key of the record that it puts, if it does, and whether the closest are to hold it, or peers that were
    /// named.
    fn puts(&self) -> Option<(&RecordKey, bool)> {
        None
    }

    /// Returns whether it sends the record that it puts to a peer.
    fn sends_to(&self, _: &PeerId) -> Elsewhere {
        Elsewhere::No
    }

    /// Returns the key that it announces, if it does.
    fn announces(&self) -> Option<&RecordKey> {
        None
    }

    /// Returns the address that it connects to, if it does.
    fn connects_to(&self) -> Option<&Multiaddr> {
        None
    }

    /// Returns what the node is to do when it is over.
    fn after(&self, _: Instant, _: &View<'_>) -> After {
        After::Nothing
    }
}

/// An operation that begins with nothing but peers: what the list gives to `begin`.
pub(in crate::dht) trait Begin: Sized {
    /// What the command says: its one field, or all of them as a tuple.
    type Command;
    /// What is seen of it.
    type Info;
    /// What the application is told.
    type Result;

    /// Returns what is seen of a query that need not, or cannot, begin.
    fn seen(command: &Self::Command, config: &Config) -> Self::Info;

    /// Begins it.
    ///
    /// # Errors
    /// The result, if it need not, or cannot, begin.
    fn begin(now: Instant, command: Self::Command, parts: &mut Parts<'_>) -> Result<Self, Box<Self::Result>>;
}

/// What the node itself takes from a result, whatever kind of query it is of.
pub(in crate::dht) trait Findings {
    /// Returns the peers that were found, with addresses: those are remembered, and made known to the rest of the program.
    fn found(&self) -> &[PeerInfo] {
        &[]
    }

    /// Returns whether what was found is no news: this node has remembered it.
    fn is_remembered(&self) -> bool {
        false
    }

    /// Returns how the query has failed, if nobody that was asked has done what it was for.
    fn failure(&self) -> Option<Failure> {
        None
    }
}

/// Whether an operation sends a record to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dht) enum Elsewhere {
    No,
    /// The closest are not known yet.
    Perhaps,
    /// It has done so, or is about to.
    Yes,
}

/// What is left to be done for an operation that is over.
#[derive(Debug)]
pub(in crate::dht) enum After {
    Nothing,
    /// A join is over: whether anybody was reached.
    Joined(bool),
    /// An address that was to be dialled need not be any more.
    Dialled,
    /// A record was found.
    Found(FollowUp),
    /// A record was put.
    Put(Stored),
    /// A key was announced.
    Announced(Announced),
    /// The lookup of a random key is over: so many peers have answered, the last of which is so far away.
    Measured {
        peers: usize,
        farthest: Distance,
    },
    /// A newcomer was told of a key: whether it could be.
    Told(PeerId, bool),
}

/// What is to be done when a record has been found.
#[derive(Debug)]
pub(in crate::dht) struct FollowUp {
    pub(in crate::dht) record: Record,
    /// They had a worse one.
    pub(in crate::dht) correct: Vec<PeerId>,
    /// They had none and are to cache it until then.
    pub(in crate::dht) cache: Vec<(PeerId, SystemTime)>,
}

/// What has come of a put.
#[derive(Debug)]
pub(in crate::dht) struct Stored {
    pub(in crate::dht) key: RecordKey,
    /// Whether anybody has stored it.
    pub(in crate::dht) is_stored: bool,
    /// They have it now, or soon will, or do not want it.
    pub(in crate::dht) reached: Vec<PeerId>,
    /// Whether a peer did not answer.
    pub(in crate::dht) has_failed: bool,
}

/// What has come of an announcement.
#[derive(Debug)]
pub(in crate::dht) struct Announced {
    pub(in crate::dht) key: RecordKey,
    /// How many have been told.
    pub(in crate::dht) sent: usize,
    /// How many are enough.
    pub(in crate::dht) enough: usize,
    /// Whether too few were told because this node has no address that the others could use.
    pub(in crate::dht) lacks_address: bool,
    /// Whom it was sent to, or was to be.
    pub(in crate::dht) asked: Vec<PeerId>,
    /// Who has taken it, as far as is known.
    pub(in crate::dht) told: Vec<PeerId>,
    /// Who is told in the place of one of these that has no room, nearest first, and where those are.
    pub(in crate::dht) next: Vec<(PeerId, Addresses)>,
    /// The addresses of this node when it began.
    pub(in crate::dht) addresses: Addresses,
}

/// Returns the request for the peers closest to the hash of `key`.
pub(in crate::dht) fn find_node(key: &Bytes) -> Request {
    Request::FindNode { key: key.clone() }
}

/// Returns the bytes of a peer id with their key.
pub(in crate::dht) fn preimage_of(peer: &PeerId, key: Key) -> (Bytes, Key) {
    (Bytes::from(peer.to_bytes()), key)
}
