//! The least durations that make sense, and what is refused.
//!
//! Each is what a node can keep up with for hours, though it is no good setting: measured by
//! `dht/tests/settings.rs`, where no node of a small network sends more than a few requests a second.

use crate::error::ConfigError;
use crate::time::{Duration, FAR};

/// The least grace period: each peer of a table is asked once in that time, which for 200 are 20 requests a second.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The least time between two lookups of the same bucket: of up to 17, each of some 20 requests.
pub(super) const REFRESH: Duration = Duration::from_secs(10);

/// The least time for somebody else to act in: less than a round trip on the Internet.
pub(super) const ANSWER: Duration = Duration::from_millis(100);

/// The least soft timeout, about a round trip within a machine: one that is always over asks all candidates at once.
pub(super) const SOFT: Duration = Duration::from_millis(1);

/// The least time that anything stored lasts: the protocol counts in seconds.
pub(super) const TTL: Duration = Duration::from_secs(1);

/// The least time after which what is stored is put or announced anew: each costs a lookup and `k` requests.
pub(super) const PUBLICATION: Duration = Duration::from_secs(60);

/// Takes a duration that is not too short. What is so long that it means never is as long as sums of it can be.
pub(super) fn span(what: &'static str, least: Duration, given: Duration) -> Result<Duration, ConfigError> {
    if given < least { Err(ConfigError::TooShort { what, least }) } else { Ok(given.min(FAR)) }
}

/// Takes the time after which something happens again, or never.
pub(super) fn interval(
    what: &'static str,
    least: Duration,
    given: Option<Duration>,
) -> Result<Option<Duration>, ConfigError> {
    let given = given.map(|given| span(what, least, given)).transpose()?;
    Ok(given.filter(|given| *given < FAR))
}

/// Each duration of the configuration: its name, the least it may be, and how to set it.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;

    /// Sets one duration, and those that limit it so that they do not.
    pub(crate) type Set = fn(Config, Duration) -> Result<Config, ConfigError>;

    pub(crate) const ALL: [(&str, Duration, Set); 14] = [
        ("grace period", GRACE, Config::with_grace_period),
        ("query timeout", ANSWER, Config::with_query_timeout),
        ("request timeout", ANSWER, |config, timeout| {
            config.with_soft_timeout(SOFT..=SOFT)?.with_request_timeout(timeout)
        }),
        ("soft timeout", SOFT, |config, soft| {
            config.with_request_timeout(Duration::MAX)?.with_soft_timeout(soft..=soft)
        }),
        ("refresh interval", REFRESH, |config, interval| config.with_refresh_interval(Some(interval))),
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
            assert_eq!(config.refresh_interval, None);
            let config = config.with_record_ttl(never).unwrap().with_publication_interval(never).unwrap();
            assert_eq!((config.records.ttl, config.records.publication), (None, None));
        }
    }
}
