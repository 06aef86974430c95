//! Messages of the protocol as plain data, with no trace of their encoding.
//!
//! Knows the peers and records they carry. How they look on the wire is `wire`'s affair.

use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::peer::KadPeer;
use crate::record::{Record, RecordKey};
use crate::time::{SystemTime, wall_after};

/// The six kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// Stores a record.
    PutValue,
    /// Asks for a record and for closer peers.
    GetValue,
    /// Announces the sender as a provider.
    AddProvider,
    /// Asks for providers and for closer peers.
    GetProviders,
    /// Asks for the peers closest to a key.
    FindNode,
    /// Asks for a sign of life.
    Ping,
}

/// A record as it travels: with the time that is left to it, not with the time of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentRecord {
    /// The key.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// The peer that published the record first (rust-libp2p only; an id that cannot be read counts as absent).
    pub publisher: Option<PeerId>,
    /// How long the record still lasts, in whole seconds (rust-libp2p only).
    pub ttl: Option<Duration>,
}

impl SentRecord {
    /// Turns the end of a record into the time left to it at `wall`: at least a second.
    pub(crate) fn of(record: Record, wall: SystemTime) -> Self {
        let left = |end: SystemTime| end.duration_since(wall).unwrap_or_default().max(Duration::from_secs(1));
        Self {
            key: record.key,
            value: record.value,
            publisher: record.publisher,
            ttl: record.expires.map(left),
        }
    }

    /// Turns the time left into the time of the end, counted from `wall`.
    pub fn into_record(self, wall: SystemTime) -> Record {
        Record {
            key: self.key,
            value: self.value,
            publisher: self.publisher,
            expires: self.ttl.map(|ttl| wall_after(wall, ttl)),
        }
    }
}

/// A request: what one peer asks of another.
///
/// # Spec
/// libp2p kad-dht, "RPC messages".
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Asks for a sign of life.
    Ping,
    /// Asks for the peers closest to the hash of `key`: the bytes of a peer id, or any other bytes.
    FindNode {
        /// The bytes that are hashed; never empty.
        key: Bytes,
    },
    /// Asks for the record under `key`, and for the peers closest to it.
    GetValue {
        /// The key of the record; never empty.
        key: RecordKey,
    },
    /// Stores a record.
    PutValue {
        /// The record; its key is the key of the message.
        record: SentRecord,
    },
    /// Asks for the providers of `key`, and for the peers closest to it.
    GetProviders {
        /// The key of the content; never empty.
        key: RecordKey,
    },
    /// Announces a provider of `key`. It is not answered, but by servers that say whether they had room
    /// ([`Response::AddProvider`]); nobody waits for that.
    AddProvider {
        /// The key of the content; never empty.
        key: RecordKey,
        /// The providers; only an entry that names the sender counts. Never empty.
        providers: Vec<KadPeer>,
    },
}

impl Request {
    /// Returns which kind of message this is.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Ping => MessageType::Ping,
            Self::FindNode { .. } => MessageType::FindNode,
            Self::GetValue { .. } => MessageType::GetValue,
            Self::PutValue { .. } => MessageType::PutValue,
            Self::GetProviders { .. } => MessageType::GetProviders,
            Self::AddProvider { .. } => MessageType::AddProvider,
        }
    }

    /// Returns the bytes that are asked about; a ping is about none.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Ping => None,
            Self::FindNode { key } => Some(key),
            Self::GetValue { key } | Self::GetProviders { key } | Self::AddProvider { key, .. } => {
                Some(key.as_ref())
            }
            Self::PutValue { record } => Some(record.key.as_ref()),
        }
    }

    /// Returns whether an answer is to be awaited: of all but ADD_PROVIDER.
    pub const fn is_answered(&self) -> bool {
        match self {
            Self::Ping
            | Self::FindNode { .. }
            | Self::GetValue { .. }
            | Self::PutValue { .. }
            | Self::GetProviders { .. } => true,
            Self::AddProvider { .. } => false,
        }
    }
}

/// A response: what a peer answers.
///
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// A sign of life.
    Pong,
    /// The closest peers the sender knows.
    FindNode {
        /// At most `k` of them, `k + 1` if the sender was asked for itself.
        closer_peers: Vec<KadPeer>,
    },
    /// The record, if the sender has it, and the closest peers it knows.
    GetValue {
        /// The key of the request; `None` where the sender does not repeat it (`libp2p-kad`).
        key: Option<RecordKey>,
        /// The record.
        record: Option<SentRecord>,
        /// At most `k` peers.
        closer_peers: Vec<KadPeer>,
    },
    /// The record was stored.
    PutValue {
        /// The key of the record.
        key: RecordKey,
        /// The value as it was stored; other implementations expect it beside the key, some leave it out.
        value: Option<Bytes>,
    },
    /// The providers the sender knows, and the closest peers.
    GetProviders {
        /// The key of the request; `None` where the sender does not repeat it (`libp2p-kad`).
        key: Option<RecordKey>,
        /// Providers of the key.
        provider_peers: Vec<KadPeer>,
        /// At most `k` peers.
        closer_peers: Vec<KadPeer>,
    },
    /// What has become of an announcement.
    ///
    /// # Spec
    /// A draft, ipfs/specs#537: `providerStatus`, field 11 as a number. As bytes that is the sender's record of py-libp2p.
    AddProvider {
        /// The key of the announcement.
        key: RecordKey,
        /// Whether there was no room for it.
        is_rejected: bool,
    },
}

impl Response {
    /// Returns which kind of message this is.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Pong => MessageType::Ping,
            Self::FindNode { .. } => MessageType::FindNode,
            Self::GetValue { .. } => MessageType::GetValue,
            Self::PutValue { .. } => MessageType::PutValue,
            Self::GetProviders { .. } => MessageType::GetProviders,
            Self::AddProvider { .. } => MessageType::AddProvider,
        }
    }

    /// Returns whether this can be the answer to `request`: the same kind of message, about the same key.
    ///
    /// Answers carry no number, so a stream that is off by one would give every asker a stranger's answer.
    pub fn answers(&self, request: &Request) -> bool {
        match self {
            Self::Pong => matches!(request, Request::Ping),
            Self::FindNode { .. } => matches!(request, Request::FindNode { .. }),
            Self::GetValue { key, record, .. } => {
                let Request::GetValue { key: asked } = request else { return false };
                key.as_ref().is_none_or(|key| key == asked)
                    && record.as_ref().is_none_or(|record| record.key == *asked)
            }
            Self::PutValue { key, value } => {
                let Request::PutValue { record } = request else { return false };
                record.key == *key && value.as_ref().is_none_or(|value| *value == record.value)
            }
            Self::GetProviders { key, .. } => {
                let Request::GetProviders { key: asked } = request else { return false };
                key.as_ref().is_none_or(|key| key == asked)
            }
            Self::AddProvider { key, .. } => {
                matches!(request, Request::AddProvider { key: announced, .. } if key == announced)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_from_arrival() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let mut sent =
            SentRecord { key: RecordKey::new(b"k"), value: Bytes::new(), publisher: None, ttl: None };
        assert_eq!(sent.clone().into_record(wall).expires, None);
        sent.ttl = Some(Duration::from_secs(5));
        let record = sent.clone().into_record(wall);
        assert_eq!(record.expires, Some(wall + Duration::from_secs(5)));
        let later = wall + Duration::from_secs(3);
        assert_eq!(SentRecord::of(record.clone(), later).ttl, Some(Duration::from_secs(2)));
        assert_eq!(SentRecord::of(record, wall + Duration::from_secs(9)).ttl, Some(Duration::from_secs(1)));
    }

    #[test]
    fn an_answer_must_fit_its_request() {
        let key = |name: &str| RecordKey::new(&name);
        let value = Bytes::from_static(b"v");
        let record =
            |name: &str| SentRecord { key: key(name), value: value.clone(), publisher: None, ttl: None };
        let get = Request::GetValue { key: key("a") };
        let got = |of: &str, with: Option<&str>| Response::GetValue {
            key: Some(key(of)),
            record: with.map(record),
            closer_peers: vec![],
        };
        assert!(got("a", None).answers(&get));
        assert!(got("a", Some("a")).answers(&get));
        let silent = Response::GetValue { key: None, record: Some(record("a")), closer_peers: vec![] };
        assert!(silent.answers(&get), "the key is not repeated, the record's fits");
        assert!(!got("b", None).answers(&get), "another key");
        assert!(!got("a", Some("b")).answers(&get), "the record of another key");
        assert!(!Response::Pong.answers(&get), "another kind");
        assert!(Response::Pong.answers(&Request::Ping));
        let put = Request::PutValue { record: record("a") };
        let stored = |name: &str, value| Response::PutValue { key: key(name), value };
        assert!(stored("a", None).answers(&put));
        assert!(stored("a", Some(value.clone())).answers(&put));
        assert!(!stored("a", Some(Bytes::from_static(b"w"))).answers(&put), "another value: refused");
        assert!(!stored("b", Some(value.clone())).answers(&put));
    }
}
