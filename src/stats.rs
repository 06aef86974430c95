//! Statistics: what a node has done since it began, and what it holds now, as plain numbers.
//!
//! Knows kinds of messages and of errors. Each machine counts what it alone knows; the caller that asks for all adds it up.

mod by_message_type;
mod histogram;
mod statistic;

use std::fmt;

pub use by_message_type::ByMessageType;
pub use histogram::{BUCKETS, Histogram, Observed};
pub(crate) use statistic::Statistic;

use crate::error::RequestError;
use crate::time::Duration;

/// The groups of numbers. A `counter` only rises; a `gauge` is what it is now, and so is the `longest` time of something; a
/// `group` is made of others.
macro_rules! groups {
    ($(
        $(#[$doc:meta])*
        $name:ident { $( $(#[$field_doc:meta])* $kind:ident $field:ident: $type:ty, )* }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl Statistic for $name {
            fn merge(&mut self, other: &Self) {
                $( groups!(@merge $kind self.$field, other.$field); )*
            }

            fn since(&self, earlier: &Self) -> Self {
                Self { $( $field: groups!(@since $kind self.$field, earlier.$field), )* }
            }

            fn clear_gauges(&mut self) {
                $( groups!(@clear $kind self.$field); )*
            }

            fn show(&self, f: &mut fmt::Formatter<'_>, name: &dyn fmt::Display) -> fmt::Result {
                $( groups!(@show $kind self.$field, f, format_args!("{name}_{}", stringify!($field))); )*
                Ok(())
            }
        }
    )*};
    (@merge group $own:expr, $other:expr) => { $own.merge(&$other) };
    (@merge longest $own:expr, $other:expr) => { $own = $own.max($other) };
    // A window that is not bounded is as wide as can be.
    (@merge $kind:ident $own:expr, $other:expr) => { $own = $own.saturating_add($other) };
    (@since group $own:expr, $earlier:expr) => { $own.since(&$earlier) };
    (@since counter $own:expr, $earlier:expr) => { $own.saturating_sub($earlier) };
    (@since $kind:ident $own:expr, $earlier:expr) => {{
        let _ = $earlier;
        $own
    }};
    (@clear group $own:expr) => { $own.clear_gauges() };
    (@clear counter $own:expr) => {};
    (@clear $kind:ident $own:expr) => { $own = Default::default() };
    (@show group $own:expr, $f:ident, $name:expr) => { $own.show($f, &$name)? };
    (@show longest $own:expr, $f:ident, $name:expr) => {
        if !$own.is_zero() {
            writeln!($f, "{} {:?}", $name, $own)?;
        }
    };
    (@show $kind:ident $own:expr, $f:ident, $name:expr) => {
        if $own > 0 {
            writeln!($f, "{} {}", $name, $own)?;
        }
    };
}

groups! {
    /// The statistics of a node: counters since it began, gauges of now, and histograms.
    ///
    /// Made by [`Client::stats`](crate::Client::stats), [`Behaviour::stats`](crate::Behaviour::stats) and
    /// [`Dht::stats`](crate::dht::Dht::stats), which knows nothing of [`transport`](Self::transport). To ask costs some
    /// additions and a walk over requests in flight and queries; to count costs an addition each time. What they show is of the
    /// whole node: nothing is kept for each peer. The buckets of the routing table are shown by
    /// [`routing_table`](crate::Behaviour::routing_table).
    ///
    /// ```
    /// use libp2p_kademlia::stats::Stats;
    ///
    /// /// What a node has done since it was looked at last.
    /// fn report(now: &Stats, before: &Stats) -> String {
    ///     let since = now.since(before);
    ///     let find_node = &since.outbound_requests.find_node;
    ///     let mean = find_node.latency.sum() / u32::try_from(find_node.succeeded).unwrap_or(1).max(1);
    ///     format!("{} of {} FIND_NODE answered, in {mean:?}; {} entries",
    ///         find_node.succeeded, find_node.started, since.routing_table.entries)
    /// }
    /// # assert_eq!(report(&Stats::default(), &Stats::default()), "0 of 0 FIND_NODE answered, in 0ns; 0 entries");
    /// ```
    ///
    /// [`Display`](fmt::Display) writes each number that is not zero on a line of its own.
    Stats {
        /// What this node has asked, by kind.
        group outbound_requests: ByMessageType<OutboundRequests>,
        /// What others have asked, by kind.
        group inbound_requests: ByMessageType<InboundRequests>,
        /// Requests beyond what their senders are guaranteed.
        group admission: Admission,
        /// What waits before it is answered or stored.
        group held: Held,
        /// Queries.
        group queries: Queries,
        /// The routing table.
        group routing_table: RoutingTable,
        /// Strangers that were asked whether they are servers, before they may enter the table.
        group checks: Checks,
        /// Peers of the table that were asked whether they still live.
        group probes: Checks,
        /// Dials.
        group dials: Dials,
        /// The store.
        group store: Store,
        /// Records that are put anew.
        group republish: Schedule,
        /// Keys that are announced anew.
        group reprovide: Schedule,
        /// How much waits where.
        group queues: Queues,
        /// Time, and how late the node was.
        group clock: Clock,
        /// Streams and bytes.
        group transport: Transport,
    }

    /// Requests of one kind that this node has made.
    ///
    /// `started` is the sum of `succeeded`, `failed`, `cancelled`, `waiting` and `in_flight`.
    OutboundRequests {
        /// Requests that a query or the upkeep of the table wanted made, when it did.
        counter started: u64,
        /// Messages handed to the transport: more than `started` where one was sent again on another connection, less where some
        /// could not be sent.
        counter sent: u64,
        /// Requests that were answered, when the answer came; of ADD_PROVIDER, which is not answered, when its bytes were out.
        counter succeeded: u64,
        /// Requests that have failed, by reason, when they did.
        group failed: RequestFailures,
        /// Requests dropped before they were sent or answered, since nobody waits for them any more.
        counter cancelled: u64,
        /// Requests that wait for a connection or their turn.
        gauge waiting: u64,
        /// Requests that are sent and not answered.
        gauge in_flight: u64,
        /// How long answers took, from sending the request to reading the answer, dialling not counted.
        group latency: Histogram<Duration>,
    }

    /// Requests that have failed, by the reasons of [`RequestError`].
    RequestFailures {
        /// No address of the peer was known.
        counter no_addresses: u64,
        /// This program refused to dial.
        counter dial_refused: u64,
        /// The peer could not be reached.
        counter unreachable: u64,
        /// The peer had failed lately.
        counter backed_off: u64,
        /// No answer came in time.
        counter timeout: u64,
        /// The connection was lost.
        counter disconnected: u64,
        /// The peer ended the stream.
        counter stream_ended: u64,
        /// The peer does not speak the protocol.
        counter unsupported: u64,
        /// The peer would not store what it was sent.
        counter refused: u64,
        /// The answer did not fit.
        counter bad_answer: u64,
        /// Too many requests were waiting.
        counter overloaded: u64,
        /// This node has no address that the peer could use.
        counter no_own_address: u64,
        /// The peer was banned, or no member of the network.
        counter banned: u64,
    }

    /// Requests of one kind that others have made.
    ///
    /// `received` is the sum of the others.
    InboundRequests {
        /// Requests that were read, when the node had them.
        counter received: u64,
        /// Requests that were answered, when the answer was handed to the transport; of ADD_PROVIDER, which is not answered, when
        /// it was taken.
        counter answered: u64,
        /// Requests that were refused: by a client, for what they say, or since there was no room.
        counter refused: u64,
        /// Requests that wait for the disk or for the application.
        gauge pending: u64,
    }

    /// Requests beyond the rates that their senders are guaranteed; see [`Rates`](crate::config::Rates).
    Admission {
        /// Those that were served all the same.
        counter beyond_served: u64,
        /// Those that were refused, since this node was late.
        counter beyond_refused: u64,
    }

    /// What others sent that is held back.
    Held {
        /// Answers that had to wait until what they acknowledge survives a crash, when they began to.
        counter disk: u64,
        /// Answers that wait for that now.
        gauge disk_waiting: u64,
        /// How long those took that have waited for it; all other requests are answered in the call that tells of them, but for those
        /// that wait for the application.
        group disk_latency: Histogram<Duration>,
        /// Records and provider records that were shown to the application to decide on, when they were.
        counter application: u64,
        /// Those that the application has not decided on in time.
        counter application_expired: u64,
        /// Those that wait for the application now.
        gauge application_waiting: u64,
    }

    /// Queries, by their origin.
    Queries {
        /// Those of the application.
        group application: QueryCosts,
        /// Those that the node makes unasked: for the table, and to keep records and announcements alive.
        group maintenance: QueryCosts,
        /// Queries of the application that ended before they began, since there was no room, nobody to ask or no need to.
        counter immediate: u64,
        /// Queries whose key was surrounded: an attacker had put peers of its own nearest to it.
        counter surrounded: u64,
    }

    /// What queries have come to and have cost, counted when each is over.
    ///
    /// `started` is the sum of `succeeded`, `failed`, `timed_out`, `cancelled` and `running`.
    QueryCosts {
        /// Queries that began.
        counter started: u64,
        /// Queries that ended with a result.
        counter succeeded: u64,
        /// Queries that ended with an error.
        counter failed: u64,
        /// Queries that ended since their time was up.
        counter timed_out: u64,
        /// Queries that were cancelled.
        counter cancelled: u64,
        /// Queries that run.
        gauge running: u64,
        /// How long they took; of one that is cancelled or timed out, until its latest event.
        group duration: Histogram<Duration>,
        /// How many peers had to be asked one after another until the nearest that answered was known.
        group hops: Histogram<u64>,
        /// How many requests they made.
        group requests: Histogram<u64>,
        /// How often a peer was slower than was to be expected.
        group soft_timeouts: Histogram<u64>,
        /// How many requests needed a connection first.
        group dials: Histogram<u64>,
    }

    /// The routing table.
    ///
    /// `entries` is `inserted` without all that are `evicted`.
    RoutingTable {
        /// Peers in the table.
        gauge entries: u64,
        /// Peers that wait for a place in a full bucket.
        gauge replacements: u64,
        /// Buckets that have either.
        gauge buckets: u64,
        /// Peers that have entered, at once or after they had waited.
        counter inserted: u64,
        /// Peers that began to wait for a place.
        counter pending: u64,
        /// Peers that proved themselves and were not taken, by reason.
        group refused: Refusals,
        /// Peers that have left, by reason.
        group evicted: Evictions,
    }

    /// Peers that were not taken into the routing table; see [`Refusal`](crate::routing::Refusal).
    Refusals {
        /// Their key is this node's.
        counter own_key: u64,
        /// No address of them is known.
        counter no_addresses: u64,
        /// Too many of their IP group are there.
        counter diversity: u64,
        /// The bucket is full, and nobody may wait.
        counter full: u64,
    }

    /// Peers that have left the routing table.
    Evictions {
        /// They had failed, and another took their place.
        counter replaced: u64,
        /// They had failed five times, and nobody waited for their place.
        counter failed: u64,
        /// They do not speak the protocol, or no longer.
        counter unsupported: u64,
        /// The program denies connections to them.
        counter denied: u64,
        /// The application removed them, or their last address.
        counter removed: u64,
    }

    /// Peers that were asked for themselves.
    ///
    /// `started` is the sum of the others.
    Checks {
        /// Those that were asked.
        counter started: u64,
        /// Those that answered.
        counter passed: u64,
        /// Those that did not, whether or not that was the peer's fault.
        counter failed: u64,
        /// Those that have not answered yet.
        gauge pending: u64,
    }

    /// Dials of this node, each to some addresses of a peer at once.
    ///
    /// `started` is the sum of `succeeded`, `failed`, `abandoned` and `in_progress`.
    Dials {
        /// Dials handed to the transport.
        counter started: u64,
        /// Dials that became a connection.
        counter succeeded: u64,
        /// Dials that have failed, by reason.
        group failed: DialFailures,
        /// Dials that gave their slot back since nobody waited for them any more; they may have succeeded later.
        counter abandoned: u64,
        /// Dials that hold a slot.
        gauge in_progress: u64,
        /// Peers and addresses that wait for a slot.
        gauge waiting: u64,
        /// How long those took that succeeded.
        group duration: Histogram<Duration>,
    }

    /// Dials that have failed; see [`DialFailure`](crate::dht::DialFailure).
    DialFailures {
        /// Nobody was there.
        counter unreachable: u64,
        /// Another peer was.
        counter wrong_peer: u64,
        /// This node itself was.
        counter own: u64,
        /// The program has aborted them.
        counter refused: u64,
        /// The program did not let them through.
        counter denied: u64,
        /// Another part of the program was dialling the peer, or it was connected.
        counter under_way: u64,
        /// There was no address.
        counter no_addresses: u64,
        /// They held their slot for longer than a request may take.
        counter timeout: u64,
    }

    /// The store.
    Store {
        /// Records, this node's and others'.
        gauge records: u64,
        /// Bytes of their keys and values.
        gauge record_bytes: u64,
        /// Provider records, this node's and others'.
        gauge provider_records: u64,
        /// Records that had to make way for others.
        counter evicted: u64,
        /// Records that the store did not take.
        counter refused: u64,
        /// Records that have ended, when they were dropped.
        counter expired: u64,
        /// Provider records of others that the store did not take.
        counter provider_records_refused: u64,
    }

    /// What is put or announced anew from time to time.
    Schedule {
        /// All that is.
        gauge scheduled: u64,
        /// What waits though its time has come, or is near that of others; of a long backlog, 1,024 beyond what is at hand.
        gauge due: u64,
        /// What was done, or turned out to need nothing.
        counter done: u64,
        /// For how long the one has been due that should have been done first.
        longest lateness: Duration,
    }

    /// How much waits where.
    Queues {
        /// Outputs that the driver has not taken.
        gauge outputs: u64,
        /// Strangers that wait to be asked.
        gauge strangers: u64,
        /// Queries that stand in line: they begin when fewer requests are in flight than the window is wide.
        gauge queries: u64,
        /// How many requests may be in flight before more queries begin; it follows how late the node is, unless it is
        /// configured to be fixed.
        gauge request_window: u64,
        /// Events that the swarm has not taken. Zero without one.
        gauge swarm_events: u64,
        /// Events that handlers have not taken. Zero without a swarm.
        gauge handler_events: u64,
        /// Calls of clients that wait to be carried out. Zero without a swarm.
        gauge calls: u64,
    }

    /// Time, and how late the node was.
    Clock {
        /// How long after the time for which the node had asked it was called, each time that it was not before.
        group lateness: Histogram<Duration>,
        /// Jumps of the wall clock, against the monotonic one, to a later time: it was set, or the machine has slept.
        counter jumps_forward: u64,
        /// Jumps to an earlier time.
        counter jumps_backward: u64,
    }

    /// Streams and bytes of the protocol, on all connections. Zero without a swarm.
    ///
    /// A connection tells what it has counted with the next event that it has for the node, or after 64 KiB, or when it ends.
    Transport {
        /// Bytes of messages that were read from streams, those of negotiation not counted.
        counter bytes_received: u64,
        /// Bytes of messages that were written to streams.
        counter bytes_sent: u64,
        /// Streams that peers have opened and this node has taken.
        counter inbound_streams_opened: u64,
        /// Streams that peers have opened beyond the limit, while all others were busy.
        counter inbound_streams_refused: u64,
        /// Streams that this node has opened.
        counter outbound_streams_opened: u64,
        /// Streams that this node could not open.
        counter outbound_streams_failed: u64,
        /// Requests for which there was a stream already that had served another.
        counter outbound_streams_reused: u64,
        /// Streams in either direction that have ended by an error, out of time, or before what was awaited on them had come.
        counter streams_reset: u64,
        /// How often a connection has left the rest of its work for its next turn.
        counter handler_budget_exhausted: u64,
        /// How often the behaviour has: it makes 256 turns in one call of `poll` at most.
        counter poll_budget_exhausted: u64,
    }
}

impl Stats {
    /// Adds the statistics of another node: counters, gauges and histograms, of maxima the greater.
    pub fn merge(&mut self, other: &Self) {
        Statistic::merge(self, other);
    }

    /// Returns what a node has done, without what it holds: of one that is gone.
    #[must_use]
    pub fn without_gauges(mut self) -> Self {
        self.clear_gauges();
        self
    }

    /// Returns what has happened since `earlier`, statistics of the same node: counters and histograms without what they had
    /// then, gauges and maxima as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Statistic::since(self, earlier)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.show(f, &"libp2p_kademlia")
    }
}

impl OutboundRequests {
    /// Returns how many requests have no outcome yet.
    pub const fn pending(&self) -> u64 {
        self.waiting + self.in_flight
    }
}

impl RequestFailures {
    /// Returns how many requests have failed, for whatever reason.
    pub const fn total(&self) -> u64 {
        let of_dials = self.no_addresses + self.dial_refused + self.unreachable + self.backed_off;
        let of_peers = self.timeout + self.disconnected + self.stream_ended + self.unsupported;
        let of_answers = self.refused + self.bad_answer;
        of_dials + of_peers + of_answers + self.overloaded + self.no_own_address + self.banned
    }

    pub(crate) const fn of_mut(&mut self, error: RequestError) -> &mut u64 {
        match error {
            RequestError::NoAddresses => &mut self.no_addresses,
            RequestError::DialRefused => &mut self.dial_refused,
            RequestError::Unreachable => &mut self.unreachable,
            RequestError::BackedOff => &mut self.backed_off,
            RequestError::Timeout => &mut self.timeout,
            RequestError::Disconnected => &mut self.disconnected,
            RequestError::StreamEnded => &mut self.stream_ended,
            RequestError::Unsupported => &mut self.unsupported,
            RequestError::Refused => &mut self.refused,
            RequestError::BadAnswer => &mut self.bad_answer,
            RequestError::Overloaded => &mut self.overloaded,
            RequestError::NoOwnAddress => &mut self.no_own_address,
            RequestError::Banned => &mut self.banned,
        }
    }
}

impl DialFailures {
    /// Returns how many dials have failed, for whatever reason.
    pub const fn total(&self) -> u64 {
        let of_peers = self.unreachable + self.wrong_peer + self.own + self.timeout;
        of_peers + self.refused + self.denied + self.under_way + self.no_addresses
    }
}

impl Refusals {
    /// Returns how many peers were refused, for whatever reason.
    pub const fn total(&self) -> u64 {
        self.own_key + self.no_addresses + self.diversity + self.full
    }
}

impl Evictions {
    /// Returns how many peers have left, for whatever reason.
    pub const fn total(&self) -> u64 {
        self.replaced + self.failed + self.unsupported + self.denied + self.removed
    }
}

/// Returns a length as a gauge.
pub(crate) const fn gauge(len: usize) -> u64 {
    // No collection has more than 2^64 members.
    len as u64
}

#[cfg(test)]
mod tests {
    use super::by_message_type::KINDS;
    use super::*;

    /// Statistics in which some numbers of each kind have happened.
    fn some(times: u64) -> Stats {
        let mut stats = Stats::default();
        for kind in KINDS {
            let requests = stats.outbound_requests.of_mut(kind);
            requests.started += times;
            requests.in_flight = times;
            (0..times).for_each(|n| requests.latency.observe(Duration::from_millis(n)));
        }
        stats.routing_table.entries = 7 * times;
        stats.republish.lateness = Duration::from_secs(times);
        stats.transport.bytes_sent += 1000 * times;
        stats
    }

    #[test]
    fn what_has_happened_since_is_the_difference_of_counters_and_gauges_are_as_they_are() {
        let since = some(5).since(&some(2));
        assert_eq!((since.outbound_requests.ping.started, since.transport.bytes_sent), (3, 3000));
        assert_eq!((since.outbound_requests.add_provider.in_flight, since.routing_table.entries), (5, 35));
        assert_eq!(
            (since.outbound_requests.get_value.latency.count(), since.republish.lateness.as_secs()),
            (3, 5)
        );
        let mut sum = some(2);
        sum.merge(&since);
        assert_eq!((sum.outbound_requests.ping.started, sum.routing_table.entries), (5, 49));
        assert_eq!(sum.republish.lateness, some(5).republish.lateness, "the longest of both");
        assert_eq!(sum.since(&Stats::default()), sum);
        let gone = some(4).without_gauges();
        assert_eq!((gone.outbound_requests.ping.started, gone.routing_table.entries), (4, 0));
        assert!(gone.republish.lateness.is_zero());
    }

    #[test]
    fn each_number_that_is_not_zero_is_shown_under_a_name_of_its_own() {
        assert_eq!(Stats::default().to_string(), "");
        let shown = some(2).to_string();
        let mut names: Vec<_> = shown.lines().filter_map(|line| line.split(' ').next()).collect();
        let is_name =
            |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(names.iter().all(is_name), "{shown}");
        assert!(shown.contains("libp2p_kademlia_transport_bytes_sent 2000\n"), "{shown}");
        assert!(shown.contains("libp2p_kademlia_outbound_requests_find_node_latency_count 2\n"), "{shown}");
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_failure_has_a_number_of_its_own_that_is_in_the_sum() {
        let all = [
            RequestError::NoAddresses,
            RequestError::DialRefused,
            RequestError::Unreachable,
            RequestError::BackedOff,
            RequestError::Timeout,
            RequestError::Disconnected,
            RequestError::StreamEnded,
            RequestError::Unsupported,
            RequestError::Refused,
            RequestError::BadAnswer,
            RequestError::Overloaded,
            RequestError::NoOwnAddress,
            RequestError::Banned,
        ];
        let mut failures = RequestFailures::default();
        for (sum, error) in (1..).zip(all) {
            let count = failures.of_mut(error);
            assert_eq!(*count, 0, "{error:?}");
            *count += 1;
            assert_eq!(failures.total(), sum, "{error:?}");
        }
    }
}
