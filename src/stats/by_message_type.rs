//! Numbers for each kind of message.

use std::fmt;

use super::statistic::Statistic;
use crate::message::MessageType;

/// One group of numbers for each kind of message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ByMessageType<T> {
    /// Of PING.
    pub ping: T,
    /// Of FIND_NODE.
    pub find_node: T,
    /// Of GET_VALUE.
    pub get_value: T,
    /// Of PUT_VALUE.
    pub put_value: T,
    /// Of GET_PROVIDERS.
    pub get_providers: T,
    /// Of ADD_PROVIDER.
    pub add_provider: T,
}

impl<T> ByMessageType<T> {
    /// Returns the group of a kind.
    pub const fn of(&self, kind: MessageType) -> &T {
        match kind {
            MessageType::Ping => &self.ping,
            MessageType::FindNode => &self.find_node,
            MessageType::GetValue => &self.get_value,
            MessageType::PutValue => &self.put_value,
            MessageType::GetProviders => &self.get_providers,
            MessageType::AddProvider => &self.add_provider,
        }
    }

    pub(crate) const fn of_mut(&mut self, kind: MessageType) -> &mut T {
        match kind {
            MessageType::Ping => &mut self.ping,
            MessageType::FindNode => &mut self.find_node,
            MessageType::GetValue => &mut self.get_value,
            MessageType::PutValue => &mut self.put_value,
            MessageType::GetProviders => &mut self.get_providers,
            MessageType::AddProvider => &mut self.add_provider,
        }
    }

    /// Iterates over the groups of all kinds, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        [
            ("ping", &self.ping),
            ("find_node", &self.find_node),
            ("get_value", &self.get_value),
            ("put_value", &self.put_value),
            ("get_providers", &self.get_providers),
            ("add_provider", &self.add_provider),
        ]
        .into_iter()
    }
}

/// All kinds of message.
pub(super) const KINDS: [MessageType; 6] = [
    MessageType::Ping,
    MessageType::FindNode,
    MessageType::GetValue,
    MessageType::PutValue,
    MessageType::GetProviders,
    MessageType::AddProvider,
];

impl<T: Statistic> Statistic for ByMessageType<T> {
    fn merge(&mut self, other: &Self) {
        KINDS.into_iter().for_each(|kind| self.of_mut(kind).merge(other.of(kind)));
    }

    fn since(&self, earlier: &Self) -> Self {
        let since = |kind| self.of(kind).since(earlier.of(kind));
        let [ping, find_node, get_value, put_value, get_providers, add_provider] = KINDS.map(since);
        Self { ping, find_node, get_value, put_value, get_providers, add_provider }
    }

    fn clear_gauges(&mut self) {
        KINDS.into_iter().for_each(|kind| self.of_mut(kind).clear_gauges());
    }

    fn show(&self, f: &mut fmt::Formatter<'_>, name: &dyn fmt::Display) -> fmt::Result {
        self.iter().try_for_each(|(kind, group)| group.show(f, &format_args!("{name}_{kind}")))
    }
}
