//! The builder of a configuration: takes groups of values, and says all that is wrong with them at once.

use std::fmt;

use super::{Config, Limits, Lookups, Providers, Records, Routing};
use crate::error::ConfigError;

/// A builder of a [`Config`]: takes whole groups of values unseen, and checks them all together.
///
/// A group is a plain struct with public fields; name those that differ, and take the others from its default. Values that
/// depend on each other, as the soft timeout on the request timeout, come in any order.
///
/// ```
/// use std::time::Duration;
///
/// use libp2p_kademlia::config::{Config, Lookups, Routing};
///
/// let routing = Routing { grace_period: Duration::ZERO, ..Routing::default() };
/// let lookups = Lookups { query_timeout: Duration::ZERO, ..Lookups::default() };
/// let builder = Config::builder().with_protocol_name("/my/kad/1.0.0").with_routing(routing);
/// let error = builder.with_lookups(lookups).build().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "the grace period must be at least 10s; the query timeout must be at least 100ms"
/// );
/// ```
#[derive(Clone)]
#[must_use = "nothing is configured until `build` is called"]
pub struct ConfigBuilder(Config);

impl fmt::Debug for ConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConfigBuilder").field(&self.0).finish()
    }
}

impl From<Config> for ConfigBuilder {
    /// Starts from a configuration, to change groups of it.
    fn from(config: Config) -> Self {
        Self(config)
    }
}

impl ConfigBuilder {
    /// Sets the name of the protocol, which begins with a slash. Default: [`PROTOCOL_NAME`](crate::PROTOCOL_NAME).
    pub fn with_protocol_name(mut self, name: impl AsRef<str>) -> Self {
        self.0.protocol_name = name.as_ref().into();
        self
    }

    /// Sets the configuration of the routing table.
    pub fn with_routing(mut self, routing: Routing) -> Self {
        self.0.routing = routing;
        self
    }

    /// Sets the configuration of lookups.
    pub fn with_lookups(mut self, lookups: Lookups) -> Self {
        self.0.lookups = lookups;
        self
    }

    /// Sets the configuration of records.
    pub fn with_records(mut self, records: Records) -> Self {
        self.0.records = records;
        self
    }

    /// Sets the configuration of providers.
    pub fn with_providers(mut self, providers: Providers) -> Self {
        self.0.providers = providers;
        self
    }

    /// Sets the limits of the node.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.0.limits = limits;
        self
    }

    /// Returns the configuration, if all of it can be.
    ///
    /// # Errors
    /// What is wrong, and what to set instead: [`ConfigError::ProtocolName`], [`ConfigError::TooShort`] or
    /// [`ConfigError::SoftTimeouts`]; or [`ConfigError::Several`] with all of them, if there is more than one.
    pub fn build(self) -> Result<Config, ConfigError> {
        let Self(mut config) = self;
        let mut wrong = Vec::new();
        wrong.extend(config.check_name().err());
        config.routing.check(&mut wrong);
        config.lookups.check(&mut wrong);
        config.records.check(&mut wrong);
        config.providers.check(&mut wrong);
        config.limits.check(&mut wrong);
        match (wrong.pop(), wrong.is_empty()) {
            (None, _) => Ok(config),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                wrong.push(last);
                Err(ConfigError::Several(wrong))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::least::tests::ALL;
    use crate::time::{Duration, FAR};

    /// Every duration of every group.
    fn all(span: Duration) -> ConfigBuilder {
        let routing = Routing { grace_period: span, refresh_interval: Some(span), ..Routing::default() };
        let lookups = Lookups {
            query_timeout: span,
            request_timeout: span,
            soft_timeout: span..=span,
            ..Lookups::default()
        };
        let records = Records {
            record_ttl: Some(span),
            publication_interval: Some(span),
            replication_interval: Some(span),
            held_for: span,
            ..Records::default()
        };
        let providers = Providers {
            provider_ttl: span,
            provider_publication_interval: Some(span),
            ..Providers::default()
        };
        let limits = Limits {
            inbound_idle_timeout: span,
            outbound_idle_timeout: span,
            stream_timeout: span,
            ..Limits::default()
        };
        let builder = Config::default().with_routing(routing).with_lookups(lookups).with_records(records);
        builder.with_providers(providers).with_limits(limits)
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let error = all(Duration::ZERO).with_protocol_name("kad").build().unwrap_err();
        let text = error.to_string();
        let ConfigError::Several(mut wrong) = error else { panic!("{error:?}") };
        let texts: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(text, texts.join("; "));
        assert_eq!(wrong.remove(0), ConfigError::ProtocolName("kad".into()));
        let mut short: Vec<_> = ALL.map(|(what, least, _)| ConfigError::TooShort { what, least }).to_vec();
        wrong.sort_by_key(ToString::to_string);
        short.sort_by_key(ToString::to_string);
        assert_eq!(wrong, short);
    }

    #[test]
    fn what_is_wrong_alone_is_the_error() {
        let second = Duration::from_secs(1);
        let lookups = Lookups { soft_timeout: 2 * second..=second, ..Lookups::default() };
        let error = Config::builder().with_lookups(lookups).build().unwrap_err();
        assert_eq!(error, ConfigError::SoftTimeouts);
        let error = Config::builder().with_protocol_name("kad").build().unwrap_err();
        assert_eq!(error, ConfigError::ProtocolName("kad".into()));
    }

    #[test]
    fn groups_are_what_the_setters_set() {
        for span in [Duration::from_secs(60), FAR, Duration::MAX] {
            let set =
                ALL.into_iter().filter(|(what, ..)| !matches!(*what, "soft timeout" | "request timeout"));
            let config = set.fold(Config::default(), |config, (.., set)| set(config, span).unwrap());
            let soft = |timeout: Duration| Lookups {
                request_timeout: timeout,
                soft_timeout: timeout..=timeout,
                ..config.lookups().clone()
            };
            let config = config.clone().with_lookups(soft(span.min(FAR))).build().unwrap();
            assert_eq!(format!("{config:?}"), format!("{:?}", all(span).build().unwrap()));
        }
    }

    #[test]
    fn all_of_a_configuration_is_shown() {
        let config = Config::default().with_seed([7; 32]).with_address_filter(|_| true);
        let text = format!("{config:?}");
        assert!(text.contains("seed: Some(..)") && text.contains("address_filter: Some(..)"), "{text}");
        assert!(
            text.contains("timeout_policy: Fitted") && text.contains("max_node_buffer: 67108864"),
            "{text}"
        );
        assert!(!text.contains("[7, 7"), "{text}");
    }
}
