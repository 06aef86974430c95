//! Scenarios: what is simulated, as plain data.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::draw::Draw;
use super::links::Links;
use super::roles::Role;
use crate::config::Config;
use crate::event::Precision;
use crate::record::Quorum;
use crate::time::Duration;

/// A scenario: a network, what happens to it, and what it is asked.
///
/// [`Default`] is 1,000 nodes with ideal tables that are well, and 1,000 lookups. Time counts from when the network stands:
/// when all have joined and [`settle`](Self::settle) has passed.
///
/// The same scenario has the same [`Report`](super::Report), to the last bit, on every machine and in every build.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many nodes there are at the beginning.
    pub nodes: usize,
    /// From which everything random follows.
    pub seed: u64,
    /// The configuration of every node that is in none of the groups. Its key hash is that of all.
    pub config: Config,
    /// What lies between the nodes.
    pub links: Links,
    /// Where the nodes are, as far as their addresses tell.
    pub hosting: Hosting,
    /// How long a node works on each message and each connection that arrives, one after another: what arrives meanwhile waits,
    /// and so does its deadline. Zero: no time, and nothing waits.
    pub work: Duration,
    /// How the network comes to be.
    pub start: Start,
    /// Groups of nodes with a configuration of their own; each node is in one at most. A newcomer that takes the place of
    /// another is in its group.
    pub groups: Vec<Group>,
    /// Which nodes do not play along from the beginning.
    pub roles: Roles,
    /// Shares of nodes with roles that the simulator does not bring.
    pub own_roles: Vec<(f64, Arc<dyn Role>)>,
    /// Whether nodes come and go all the time.
    pub churn: Option<Churn>,
    /// How long their sessions last, if not as [`Churn`] says.
    pub sessions: Option<Draw<Session>>,
    /// What happens to the network, and when.
    pub incidents: Vec<(Duration, Incident)>,
    /// What the nodes are asked to look up.
    pub lookups: Lookups,
    /// What the nodes are asked to put, get, provide and search; by default nothing.
    pub records: Records,
    /// How long the network is left alone before time counts.
    pub settle: Duration,
    /// How long the simulation lasts at least, though all queries have ended.
    pub lasts: Duration,
    /// How often the health of the tables is looked at, if at all.
    pub sample_every: Option<Duration>,
    /// How many threads work. However many they are, the report is the same; two are faster while much happens at the same time.
    pub threads: NonZeroUsize,
}

/// The hosting of nodes: whether their addresses tell that they have different owners. Of nodes that are together
/// there are at most 60,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Hosting {
    /// Each in an IPv4 /16 of its own, as far as there are enough.
    #[default]
    Spread,
    /// All in one public IPv4 /16.
    OneNetwork,
    /// All on one public IPv4 address, at different ports.
    OneAddress,
    /// All in one IPv6 /32.
    OneV6Network,
    /// All behind one relay, each at a port of its own so that addresses differ.
    OneRelay,
    /// Each behind a relay of its own, all of which run on one public IPv4 address.
    RelaysOfOneHost,
    /// All under one domain, each with a name of its own.
    OneDomain,
}

/// The placement of nodes that are let in while a world goes on: who seems to own them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// In so many IPv4 /16 in turn, each at an address of its own.
    Groups(usize),
    /// All where one owner has them.
    Hosted(Hosting),
}

impl From<usize> for Placement {
    fn from(groups: usize) -> Self {
        Self::Groups(groups)
    }
}

/// The start of a network: how it comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Each node has a perfect table: in each bucket `k` random nodes of those that belong there, or all of them; it was connected
    /// to them, knows their round-trip times, and still is to those whose connections it keeps. Joins and refreshes are off, no
    /// peer is probed.
    Ideal,
    /// The nodes come one after another, each knowing only one of the first.
    Join {
        /// The time between two of them.
        every: Duration,
        /// How many of the first nodes are known to those that come later.
        seeds: usize,
    },
}

/// A group of nodes with a configuration of their own, chosen at random.
#[derive(Clone, Debug)]
pub struct Group {
    /// How many they are, at most those that are in no earlier group.
    pub size: Size,
    /// Their configuration, but for its key hash.
    pub config: Config,
}

/// The size of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Size {
    /// A share of all nodes.
    Share(f64),
    /// So many.
    Nodes(usize),
}

/// The shares of nodes that do not play along from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Roles {
    /// Clients behind a router: they ask, do not serve and cannot be dialled.
    pub clients: f64,
    /// Servers that cannot be dialled: dials to them hang.
    pub undialable: f64,
    /// Name only each other, those nearest to what is asked for.
    pub colluders: f64,
    /// Name made-up peers that are nearest to what is asked for, at addresses where no node answers.
    pub poisoners: f64,
    /// Name the right peers at addresses of others.
    pub liars: f64,
    /// Name a thousand made-up peers anywhere.
    pub stuffers: f64,
    /// Answer late, 1.5 to 3 s, and name made-up peers that are nearest to what is asked for, even where a record or a provider
    /// is asked for.
    pub laggards: f64,
}

/// Nodes come and go: their sessions are Weibull distributed with shape 0.5, as measured in BitTorrent and IPFS, so that
/// most are short and some are very long.
///
/// A node that is there at the beginning is in the midst of a session. For each that leaves another comes at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// The mean of all sessions.
    pub mean_session: Duration,
    /// The share of newcomers that have never been there; others come back with their old id and an empty table.
    pub new_ids: f64,
    /// The share that vanishes without ending its connections; dials to them hang. Others leave in order.
    pub crashes: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self { mean_session: Duration::from_secs(10_000), new_ids: 0.5, crashes: 0.5 }
    }
}

/// The session whose length is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// One that begins.
    New,
    /// One that is under way when time begins to count: what is left of it.
    UnderWay,
}

/// An incident that a network suffers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Incident {
    /// A share of the nodes falls silent: their connections stay, but they never answer, and dials to them hang.
    Freeze(f64),
    /// A share of the nodes dies: their connections end, and dials to them are refused.
    Kill(f64),
    /// A share of the nodes lose their uplinks, each by itself: nothing passes, dials hang, connections are lost after
    /// ten seconds.
    CutUplinks(f64),
    /// A share of the nodes is parted from the others, but not from each other.
    Partition {
        /// The share.
        share: f64,
        /// Whether what they send still arrives on the other side.
        one_way: bool,
    },
    /// All links work again.
    Heal,
}

/// The lookups that the nodes are asked for, of random keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lookups {
    /// How many.
    pub count: usize,
    /// When the first begins.
    pub first_at: Duration,
    /// The time from one to the next.
    pub every: Duration,
    /// How precise they are.
    pub precision: Precision,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            count: 1000,
            first_at: Duration::ZERO,
            every: Duration::from_millis(100),
            precision: Precision::Exact,
        }
    }
}

/// The puts, gets, announcements and searches that the nodes are asked for: all that live take turns, in a random order.
///
/// Each put and each announcement has a random key of its own. What came of them is in [`Report::records`].
///
/// [`Report::records`]: super::Report::records
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Records {
    /// Puts of a record each.
    pub puts: Load,
    /// Gets: each of the next record that was acknowledged before, the first again behind the last. While there is none,
    /// nobody is asked.
    pub gets: Load,
    /// Announcements of a provider each.
    pub provides: Load,
    /// Searches for providers: each of the next key that enough were told of before, as gets.
    pub searches: Load,
    /// How many must acknowledge a put.
    pub put_quorum: Quorum,
    /// How many a get asks for that have the record, if not as the configuration says.
    pub get_quorum: Option<Quorum>,
    /// How many bytes a value has: random ones, at most the 65,536 that a store takes by default.
    pub value_bytes: usize,
}

impl Default for Records {
    fn default() -> Self {
        let [puts, gets, provides, searches] = [Load::default(); 4];
        // Chosen, not measured.
        let (put_quorum, get_quorum, value_bytes) = (Quorum::Majority, None, 256);
        Self { puts, gets, provides, searches, put_quorum, get_quorum, value_bytes }
    }
}

/// The load of one kind of query: how many, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many.
    pub count: usize,
    /// When the first begins: else at once, but gets and searches ten seconds after the last put or announcement has begun.
    pub first_at: Option<Duration>,
    /// The time from one to the next.
    pub every: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Self { count: 0, first_at: None, every: Duration::from_millis(100) }
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 1000,
            seed: 1,
            config: Config::default(),
            links: Links::default(),
            hosting: Hosting::default(),
            work: Duration::ZERO,
            start: Start::Ideal,
            groups: Vec::new(),
            roles: Roles::default(),
            own_roles: Vec::new(),
            churn: None,
            sessions: None,
            incidents: Vec::new(),
            lookups: Lookups::default(),
            records: Records::default(),
            settle: Duration::from_secs(60),
            lasts: Duration::ZERO,
            sample_every: None,
            threads: NonZeroUsize::MIN,
        }
    }
}
