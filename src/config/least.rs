//! The least durations that make sense, and what is refused.
//!
//! Each is what a node can keep up with for hours, though it is no good setting: measured by
//! `dht/tests/settings.rs`, where no node of a small network sends more than a few requests a second.

use crate::error::ConfigError;
use crate::time::{Duration, FAR};

/// A duration of the configuration and the least that it may be.
pub(crate) struct Least {
    what: &'static str,
    least: Duration,
}

/// Each peer of a table is asked once in that time, which for 200 are 20 requests a second. Chosen;
/// `dht/tests/settings.rs` holds what comes of it.
pub(crate) const GRACE_PERIOD: Least = Least::new("grace period", Duration::from_secs(10));

/// A lookup of each of up to 17 buckets, of some 20 requests, in that time. Chosen; `dht/tests/settings.rs` holds what
/// comes of it.
pub(crate) const REFRESH_INTERVAL: Least = Least::new("refresh interval", Duration::from_secs(10));

/// The least time for a remote peer, or the application, to act in: less than a round trip on the Internet. Chosen;
/// `dht/tests/settings.rs` holds what comes of it.
const ANSWER: Duration = Duration::from_millis(100);

pub(crate) const QUERY_TIMEOUT: Least = Least::new("query timeout", ANSWER);
pub(crate) const REQUEST_TIMEOUT: Least = Least::new("request timeout", ANSWER);
pub(crate) const INBOUND_IDLE_TIMEOUT: Least = Least::new("inbound idle timeout", ANSWER);
pub(crate) const OUTBOUND_IDLE_TIMEOUT: Least = Least::new("outbound idle timeout", ANSWER);
pub(crate) const STREAM_TIMEOUT: Least = Least::new("stream timeout", ANSWER);
pub(crate) const HELD_FOR: Least = Least::new("time for which records are held", ANSWER);

/// About a round trip within a machine: one that is always over asks all candidates at once. Chosen;
/// `dht/tests/settings.rs` holds what comes of it.
pub(crate) const SOFT_TIMEOUT: Least = Least::new("soft timeout", Duration::from_millis(1));

/// The least time that anything stored lasts: the protocol counts in seconds (`ttl` of proto/dht.proto).
const TTL: Duration = Duration::from_secs(1);

pub(crate) const RECORD_TTL: Least = Least::new("record TTL", TTL);
pub(crate) const PROVIDER_TTL: Least = Least::new("provider TTL", TTL);

/// The least time after which what is stored is put or announced anew: each costs a lookup and `k` requests. Chosen;
/// `dht/tests/settings.rs` holds what comes of it.
const PUBLICATION: Duration = Duration::from_secs(60);

pub(crate) const PUBLICATION_INTERVAL: Least = Least::new("publication interval", PUBLICATION);
pub(crate) const REPLICATION_INTERVAL: Least = Least::new("replication interval", PUBLICATION);
pub(crate) const PROVIDER_PUBLICATION_INTERVAL: Least =
    Least::new("provider publication interval", PUBLICATION);

impl Least {
    const fn new(what: &'static str, least: Duration) -> Self {
        Self { what, least }
    }

    /// Takes a duration that is not too short. What is so long that it means never is as long as sums of it can be.
    pub(super) fn span(&self, given: Duration) -> Result<Duration, ConfigError> {
        let Self { what, least } = *self;
        if given < least { Err(ConfigError::TooShort { what, least }) } else { Ok(given.min(FAR)) }
    }

    /// Takes the time after which something happens again, or never.
    pub(super) fn interval(&self, given: Option<Duration>) -> Result<Option<Duration>, ConfigError> {
        let given = given.map(|given| self.span(given)).transpose()?;
        Ok(given.filter(|given| *given < FAR))
    }

    /// Takes the least in place of a duration that is too short, and tells the log.
    pub(crate) fn raised(&self, given: Duration) -> Duration {
        let Self { what, least } = *self;
        if given < least {
            tracing::warn!(
                what,
                ?given,
                ?least,
                "a duration that is too short was configured: the least is taken"
            );
        }
        given.max(least).min(FAR)
    }

    /// Takes the time after which something happens again as [`raised`](Self::raised) does, or never.
    pub(crate) fn raised_interval(&self, given: Option<Duration>) -> Option<Duration> {
        given.map(|given| self.raised(given)).filter(|given| *given < FAR)
    }

    /// Takes a duration as [`span`](Self::span) does, in its place, or notes what is wrong.
    pub(super) fn check(&self, given: &mut Duration, wrong: &mut Vec<ConfigError>) {
        match self.span(*given) {
            Ok(taken) => *given = taken,
            Err(error) => wrong.push(error),
        }
    }

    /// Takes a duration as [`interval`](Self::interval) does, in its place, or notes what is wrong.
    pub(super) fn check_interval(&self, given: &mut Option<Duration>, wrong: &mut Vec<ConfigError>) {
        match self.interval(*given) {
            Ok(taken) => *given = taken,
            Err(error) => wrong.push(error),
        }
    }
}

/// Each duration of the configuration: its name, the least it may be, and how to set it.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;

    /// Sets one duration, and those that limit it so that they do not.
    pub(crate) type Set = fn(Config, Duration) -> Result<Config, ConfigError>;

    pub(crate) const ALL: [(&str, Duration, Set); 14] = [
        ("grace period", GRACE_PERIOD.least, Config::with_grace_period),
        ("query timeout", ANSWER, Config::with_query_timeout),
        ("request timeout", ANSWER, |config, timeout| {
            config.with_soft_timeout(SOFT_TIMEOUT.least..=SOFT_TIMEOUT.least)?.with_request_timeout(timeout)
        }),
        ("soft timeout", SOFT_TIMEOUT.least, |config, soft| {
            config.with_request_timeout(Duration::MAX)?.with_soft_timeout(soft..=soft)
        }),
        ("refresh interval", REFRESH_INTERVAL.least, |config, interval| {
            config.with_refresh_interval(Some(interval))
        }),
        ("inbound idle timeout", ANSWER, Config::with_inbound_idle_timeout),
        ("outbound idle timeout", ANSWER, Config::with_outbound_idle_timeout),
        ("stream timeout", ANSWER, Config::with_stream_timeout),
        ("record TTL", TTL, |config, ttl| config.with_record_ttl(Some(ttl))),
        ("publication interval", PUBLICATION, |config, time| config.with_publication_interval(Some(time))),
        ("replication interval", PUBLICATION, |config, time| config.with_replication_interval(Some(time))),
        ("time for which records are held", ANSWER, Config::with_held_for),
        ("provider TTL", TTL, Config::with_provider_ttl),
        ("provider publication interval", PUBLICATION, |config, time| {
            config.with_provider_publication_interval(Some(time))
        }),
    ];

    #[test]
    fn what_is_too_short_is_refused_with_an_error_that_names_it_and_the_least() {
        for (what, least, set) in ALL {
            for given in [Duration::ZERO, Duration::from_nanos(1), least - Duration::from_nanos(1)] {
                let error = set(Config::default(), given).unwrap_err();
                assert_eq!(error, ConfigError::TooShort { what, least });
                assert_eq!(error.to_string(), format!("the {what} must be at least {least:?}"));
            }
            for given in [least, 2 * least, FAR, Duration::MAX] {
                assert!(set(Config::default(), given).is_ok(), "{what} {given:?}");
            }
        }
    }

    #[test]
    fn the_longest_of_what_repeats_is_never() {
        for never in [Some(Duration::MAX), Some(FAR), None] {
            let config = Config::default().with_refresh_interval(never).unwrap();
            assert_eq!(config.routing.refresh_interval, None);
            let config = config.with_record_ttl(never).unwrap().with_publication_interval(never).unwrap();
            assert_eq!((config.records.record_ttl, config.records.publication_interval), (None, None));
        }
    }
}
