//! The configuration in the terms of a swarm: named by a [`StreamProtocol`], and set in place as `libp2p-kad`'s is.
//!
//! None of these calls fails, as there: what is shorter or larger than it can be is as short or as large as it can be, and a
//! line of the log says so. The setters `with_*` refuse it instead.

use std::num::{NonZeroU8, NonZeroUsize};

use libp2p_swarm::StreamProtocol;

use crate::config::{BucketInserts, Caching, Config, IPFS, Parallelism, StoreInserts, least};
use crate::time::Duration;

/// The name of the protocol in the public IPFS network.
pub const PROTOCOL_NAME: StreamProtocol = StreamProtocol::new(IPFS);

/// The α of the paper: how many requests of a lookup are in flight where that is fixed and nothing else was said (paper §2.3).
pub const ALPHA_VALUE: NonZeroUsize = NonZeroUsize::new(3).unwrap();

fn small(what: &str, given: NonZeroUsize) -> NonZeroU8 {
    NonZeroU8::try_from(given).unwrap_or_else(|_| {
        tracing::warn!(what, %given, most = u8::MAX, "more than there can be was configured: the most is taken");
        NonZeroU8::MAX
    })
}

/// As `libp2p-kad` has them: set in place, and none fails.
impl Config {
    /// Starts from the defaults, for a network of the given protocol name.
    ///
    /// For a name that is known only when the program runs there is [`for_protocol`](Self::for_protocol).
    #[must_use]
    pub fn new(protocol_name: StreamProtocol) -> Self {
        Self { protocol_name: protocol_name.as_ref().into(), ..Self::default() }
    }

    /// Sets `k` as [`with_bucket_size`](Self::with_bucket_size) does, to 255 at most.
    ///
    /// Differs from `libp2p-kad`, where it is of buckets alone: answers name so many and lookups return so many, too, and so
    /// many hold a record unless the replication factor is set.
    pub fn set_kbucket_size(&mut self, k: NonZeroUsize) -> &mut Self {
        self.routing.bucket_size = small("k", k);
        self
    }

    /// Sets the replication factor as [`with_replication_factor`](Self::with_replication_factor) does: more than `k` are `k`,
    /// whichever is set first, and lookups return `k`.
    pub fn set_replication_factor(&mut self, peers: NonZeroUsize) -> &mut Self {
        self.routing.replication_factor = Some(small("the replication factor", peers));
        self
    }

    /// Sets how peers enter the routing table as [`with_bucket_inserts`](Self::with_bucket_inserts) does.
    pub fn set_kbucket_inserts(&mut self, inserts: BucketInserts) -> &mut Self {
        self.routing.bucket_inserts = inserts;
        self
    }

    /// Sets after how long a bucket is looked up as [`with_refresh_interval`](Self::with_refresh_interval) does, to 10 seconds
    /// at least.
    pub fn set_periodic_bootstrap_interval(&mut self, interval: Option<Duration>) -> &mut Self {
        self.routing.refresh_interval = least::REFRESH_INTERVAL.raised_interval(interval);
        self
    }

    /// Sets how many requests of one lookup, or of each of its paths, are in flight as
    /// [`with_parallelism`](Self::with_parallelism) does with [`Parallelism::Fixed`]; if there are disjoint paths, there are as
    /// many of them from then on. One request at once is one path.
    pub fn set_parallelism(&mut self, requests: NonZeroUsize) -> &mut Self {
        let requests = small("parallelism", requests);
        self.lookups.parallelism = Parallelism::Fixed(requests);
        if self.lookups.disjoint_paths > NonZeroU8::MIN {
            self.lookups.disjoint_paths = requests;
        }
        self
    }

    /// Sets disjoint paths as [`with_disjoint_paths`](Self::with_disjoint_paths) does: as many as requests are in flight if that
    /// is fixed, else 3; or one.
    pub fn disjoint_query_paths(&mut self, enabled: bool) -> &mut Self {
        self.lookups.disjoint_paths = match self.lookups.parallelism {
            _ if !enabled => NonZeroU8::MIN,
            Parallelism::Fixed(requests) => requests,
            Parallelism::Adaptive { .. } => small("disjoint paths", ALPHA_VALUE),
        };
        self
    }

    /// Sets the time after which a query ends as [`with_query_timeout`](Self::with_query_timeout) does, to 100 ms at least.
    pub fn set_query_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.lookups.query_timeout = least::QUERY_TIMEOUT.raised(timeout);
        self
    }

    /// Sets how long a record lasts as [`with_record_ttl`](Self::with_record_ttl) does, to 1 second at least.
    pub fn set_record_ttl(&mut self, ttl: Option<Duration>) -> &mut Self {
        self.records.record_ttl = least::RECORD_TTL.raised_interval(ttl);
        self
    }

    /// Sets who decides what is stored as [`with_record_filtering`](Self::with_record_filtering) does.
    pub fn set_record_filtering(&mut self, inserts: StoreInserts) -> &mut Self {
        self.records.record_filtering = inserts;
        self
    }

    /// Sets how often records of others are handed on as [`with_replication_interval`](Self::with_replication_interval) does, to
    /// 1 minute at least.
    pub fn set_replication_interval(&mut self, interval: Option<Duration>) -> &mut Self {
        self.records.replication_interval = least::REPLICATION_INTERVAL.raised_interval(interval);
        self
    }

    /// Sets how often own records are put anew as [`with_publication_interval`](Self::with_publication_interval) does, to
    /// 1 minute at least.
    pub fn set_publication_interval(&mut self, interval: Option<Duration>) -> &mut Self {
        self.records.publication_interval = least::PUBLICATION_INTERVAL.raised_interval(interval);
        self
    }

    /// Sets where a record is cached that was found as [`with_caching`](Self::with_caching) does.
    pub fn set_caching(&mut self, caching: Caching) -> &mut Self {
        self.records.caching = caching;
        self
    }

    /// Sets how long a provider is kept as [`with_provider_ttl`](Self::with_provider_ttl) does, to 1 second at least.
    pub fn set_provider_record_ttl(&mut self, ttl: Option<Duration>) -> &mut Self {
        self.providers.provider_ttl = least::PROVIDER_TTL.raised(ttl.unwrap_or(Duration::MAX));
        self
    }

    /// Sets how often what is provided is announced anew as
    /// [`with_provider_publication_interval`](Self::with_provider_publication_interval) does, to 1 minute at least.
    pub fn set_provider_publication_interval(&mut self, interval: Option<Duration>) -> &mut Self {
        self.providers.provider_publication_interval =
            least::PROVIDER_PUBLICATION_INTERVAL.raised_interval(interval);
        self
    }

    /// Sets how many bytes a message may have as [`with_max_message_size`](Self::with_max_message_size) does, to 1 at least.
    pub fn set_max_packet_size(&mut self, bytes: usize) -> &mut Self {
        if bytes == 0 {
            tracing::warn!("messages of no bytes were configured: nothing that others send can be read");
        }
        self.limits.max_message_size = NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// Sets the time for what a remote peer does on a stream as [`with_stream_timeout`](Self::with_stream_timeout) does, to
    /// 100 ms at least.
    pub fn set_substreams_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.limits.stream_timeout = least::STREAM_TIMEOUT.raised(timeout);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn set_in_place_is_what_the_setters_that_return_it_set() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut ours = Config::new(StreamProtocol::new("/my/kad/1.0.0"));
        ours.set_kbucket_size(n(7)).set_replication_factor(n(5)).set_parallelism(n(4));
        ours.set_kbucket_inserts(BucketInserts::Manual).set_periodic_bootstrap_interval(Some(minutes(3)));
        ours.set_query_timeout(minutes(5)).disjoint_query_paths(true);
        ours.set_record_ttl(Some(minutes(6))).set_record_filtering(StoreInserts::FilterBoth);
        ours.set_replication_interval(None).set_publication_interval(Some(minutes(8)));
        ours.set_caching(Caching::Disabled).set_provider_record_ttl(Some(minutes(9)));
        ours.set_provider_publication_interval(Some(minutes(4)));
        ours.set_max_packet_size(1000).set_substreams_timeout(minutes(1));

        let small = |n: u8| NonZeroU8::new(n).unwrap();
        let with = || {
            Config::for_protocol("/my/kad/1.0.0")?
                .with_bucket_size(small(7))
                .with_replication_factor(small(5))
                .with_parallelism(Parallelism::Fixed(small(4)))
                .with_disjoint_paths(small(4))
                .with_bucket_inserts(BucketInserts::Manual)
                .with_refresh_interval(Some(minutes(3)))?
                .with_query_timeout(minutes(5))?
                .with_record_ttl(Some(minutes(6)))?
                .with_record_filtering(StoreInserts::FilterBoth)
                .with_replication_interval(None)?
                .with_publication_interval(Some(minutes(8)))?
                .with_caching(Caching::Disabled)
                .with_provider_ttl(minutes(9))?
                .with_provider_publication_interval(Some(minutes(4)))?
                .with_max_message_size(n(1000))
                .with_stream_timeout(minutes(1))
        };
        assert_eq!(format!("{ours:?}"), format!("{:?}", with().unwrap()));
    }

    #[test]
    fn what_cannot_be_is_as_near_as_can_be() {
        let mut config = Config::default();
        let zero = Some(Duration::ZERO);
        config.set_query_timeout(Duration::ZERO).set_substreams_timeout(Duration::ZERO);
        config.set_record_ttl(zero).set_provider_record_ttl(zero).set_periodic_bootstrap_interval(zero);
        config.set_publication_interval(zero).set_replication_interval(zero);
        config.set_provider_publication_interval(zero);
        config.set_kbucket_size(n(1000)).set_parallelism(n(1000)).set_max_packet_size(0);
        let text = format!("{config:?}");
        let built = config.clone().with_lookups(config.lookups().clone()).build().unwrap();
        assert_eq!(text, format!("{built:?}"), "nothing is refused");
        assert_eq!(config.lookups().query_timeout, Duration::from_millis(100));
        assert_eq!(config.providers().provider_publication_interval, Some(Duration::from_secs(60)));
        assert_eq!(config.bucket_size(), n(255));

        config.set_record_ttl(None).set_provider_record_ttl(None).set_replication_factor(n(1000));
        assert_eq!((config.records().record_ttl, config.providers().provider_ttl), (None, crate::time::FAR));
        assert_eq!(config.replication_factor(), n(255), "at most k");
    }

    #[test]
    fn paths_are_as_many_as_requests_whichever_is_set_first() {
        let mut config = Config::default();
        let paths = |config: &Config| config.lookups().disjoint_paths.get();
        assert_eq!(paths(config.disjoint_query_paths(true)), 3);
        assert_eq!(paths(config.set_parallelism(n(5))), 5);
        assert_eq!(paths(config.disjoint_query_paths(false)), 1);
        assert_eq!(paths(config.set_parallelism(n(6))), 1);
        assert_eq!(paths(config.disjoint_query_paths(true)), 6);
    }
}
