//! Checked views to plain messages, and plain messages to bytes.
//!
//! Knows the message types and the field numbers; does not know frames, streams or who sent what.
//!
//! Decoding walks the checked view itself: the generated reader would make a list of addresses for every peer before
//! ours is made from it. Encoding sizes everything first and writes once, so that a message costs one buffer.

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;
use quick_protobuf::sizeofs::{sizeof_len, sizeof_varint};
use quick_protobuf::{BytesReader, MessageRead as _, MessageWrite as _, Writer};

use super::check::{MessageView, PeerView, field};
use super::generated::dht as pb;
use super::generated::dht::mod_Message::{ConnectionType as PbConnection, MessageType as PbType};
use super::{DecodeError, MAX_PEERS, SEND_LIMIT};
use crate::addrs::{Addresses, MAX_ADDRESS_BYTES, MAX_ADDRESSES};
use crate::key::PeerBytes;
use crate::message::{MessageType, Request, Response, SentRecord};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;
use crate::time::Duration;

/// What goes into the field `clusterLevelRaw`, which nobody uses: `go-libp2p-kad-dht` sends 1 and expects at least 1.
const CLUSTER_LEVEL: i32 = 1;

/// Reads a request from the bytes of one frame.
///
/// # Errors
/// Any [`DecodeError`] but those of frames. The stream it came from cannot be trusted any more and ends.
pub fn decode_request(body: &[u8]) -> Result<Request, DecodeError> {
    let view = MessageView::check(body)?;
    Ok(match message_type(&view)? {
        MessageType::Ping => Request::Ping,
        MessageType::FindNode => Request::FindNode { key: Bytes::copy_from_slice(required_key(&view)?) },
        MessageType::GetValue => Request::GetValue { key: record_key(required_key(&view)?) },
        MessageType::GetProviders => Request::GetProviders { key: record_key(required_key(&view)?) },
        MessageType::PutValue => {
            let key = required_key(&view)?;
            let record = record(&view)?.ok_or(DecodeError::Missing("record"))?;
            if record.key.as_ref() != key {
                return Err(DecodeError::KeyMismatch);
            }
            Request::PutValue { record }
        }
        MessageType::AddProvider => {
            let key = record_key(required_key(&view)?);
            let providers = peers(&view, field::PROVIDER_PEERS);
            if providers.is_empty() {
                return Err(DecodeError::Missing("providerPeers"));
            }
            Request::AddProvider { key, providers }
        }
    })
}

/// Reads an answer from the bytes of one frame.
///
/// # Errors
/// Any [`DecodeError`] but those of frames; an answer to ADD_PROVIDER, which py-libp2p sends, reads as
/// [`DecodeError::UnknownType`] since nobody awaits it.
pub fn decode_response(body: &[u8]) -> Result<Response, DecodeError> {
    let view = MessageView::check(body)?;
    let key = (!view.key.is_empty()).then(|| record_key(view.key));
    Ok(match message_type(&view)? {
        MessageType::Ping => Response::Pong,
        MessageType::FindNode => Response::FindNode { closer_peers: peers(&view, field::CLOSER_PEERS) },
        MessageType::GetValue => Response::GetValue {
            key,
            record: record(&view)?,
            closer_peers: peers(&view, field::CLOSER_PEERS),
        },
        MessageType::GetProviders => Response::GetProviders {
            key,
            provider_peers: peers(&view, field::PROVIDER_PEERS),
            closer_peers: peers(&view, field::CLOSER_PEERS),
        },
        MessageType::PutValue => {
            let record = record(&view)?;
            let key = key.or_else(|| record.as_ref().map(|record| record.key.clone()));
            Response::PutValue {
                key: key.ok_or(DecodeError::Missing("key"))?,
                value: record.map(|record| record.value),
            }
        }
        MessageType::AddProvider => return Err(DecodeError::UnknownType(view.message_type)),
    })
}

fn message_type(view: &MessageView<'_>) -> Result<MessageType, DecodeError> {
    // Not by the generated conversion, which reads whatever it does not know as PUT_VALUE.
    const KNOWN: [(PbType, MessageType); 6] = [
        (PbType::PUT_VALUE, MessageType::PutValue),
        (PbType::GET_VALUE, MessageType::GetValue),
        (PbType::ADD_PROVIDER, MessageType::AddProvider),
        (PbType::GET_PROVIDERS, MessageType::GetProviders),
        (PbType::FIND_NODE, MessageType::FindNode),
        (PbType::PING, MessageType::Ping),
    ];
    KNOWN
        .into_iter()
        .find_map(|(number, known)| (number as u64 == view.message_type).then_some(known))
        .ok_or(DecodeError::UnknownType(view.message_type))
}

fn required_key<'a>(view: &MessageView<'a>) -> Result<&'a [u8], DecodeError> {
    if view.key.is_empty() { Err(DecodeError::Missing("key")) } else { Ok(view.key) }
}

fn record_key(bytes: &[u8]) -> RecordKey {
    RecordKey::from(Bytes::copy_from_slice(bytes))
}

fn record(view: &MessageView<'_>) -> Result<Option<SentRecord>, DecodeError> {
    let Some(body) = view.record else { return Ok(None) };
    // Its structure has been checked; what is left to go wrong is a time that is not UTF-8.
    let record = pb::Record::from_reader(&mut BytesReader::from_bytes(body), body)
        .map_err(|_| DecodeError::Missing("record"))?;
    if record.key.is_empty() {
        return Err(DecodeError::Missing("record.key"));
    }
    Ok(Some(SentRecord {
        key: record_key(&record.key),
        value: Bytes::copy_from_slice(&record.value),
        publisher: PeerId::from_bytes(&record.publisher).ok(),
        ttl: (record.ttl != 0).then(|| Duration::from_secs(record.ttl.into())),
    }))
}

fn peers(view: &MessageView<'_>, list: u32) -> Vec<KadPeer> {
    let mut peers = Vec::with_capacity(view.peers(list).take(MAX_PEERS).count());
    peers.extend(view.peers(list).take(MAX_PEERS).filter_map(peer));
    peers
}

/// Reads one peer, or nothing if its id cannot be read.
fn peer(view: PeerView<'_>) -> Option<KadPeer> {
    let (id, connection) = view.id_and_connection();
    let node_id = PeerId::from_bytes(id).ok()?;
    let connection_ty = match connection {
        1 => ConnectionType::Connected,
        2 => ConnectionType::CanConnect,
        3 => ConnectionType::CannotConnect,
        _ => ConnectionType::NotConnected,
    };
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for address in view.addrs().filter_map(|bytes| address(bytes, id)) {
        if addresses.len() == MAX_ADDRESSES {
            break;
        }
        if !addresses.contains(&address) {
            if addresses.is_empty() {
                addresses.reserve_exact(view.addrs().count().min(MAX_ADDRESSES));
            }
            addresses.push(address);
        }
    }
    Some(KadPeer { node_id, multiaddrs: Addresses::from_clean(addresses), connection_ty })
}

/// Reads one address of the peer with the id `id`, without its `/p2p` suffix, or nothing if it is unusable.
fn address(bytes: &[u8], id: &[u8]) -> Option<Multiaddr> {
    let mut last = None;
    let mut end = bytes.len();
    let mut rest = bytes;
    if bytes.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        end = bytes.len() - rest.len();
        let (protocol, behind) = Protocol::from_bytes(rest).ok()?;
        last = Some(protocol);
        rest = behind;
    }
    let kept = match last {
        Some(Protocol::P2p(peer)) if PeerBytes::of(&peer).as_slice() == id => bytes.get(..end)?,
        Some(Protocol::P2p(_)) => return None,
        Some(_) | None => bytes,
    };
    if kept.is_empty() || kept.len() > MAX_ADDRESS_BYTES {
        return None;
    }
    Multiaddr::try_from(kept.to_vec()).ok()
}

/// Appends a request to `buffer` as one frame, its length first.
///
/// Providers of an ADD_PROVIDER are sent with fewer addresses if the message would exceed [`SEND_LIMIT`].
pub fn encode_request(request: &Request, buffer: &mut BytesMut) {
    let (key, record, providers): (&[u8], _, &[KadPeer]) = match request {
        Request::Ping => (&[], None, &[]),
        Request::FindNode { key } => (key, None, &[]),
        Request::GetValue { key } | Request::GetProviders { key } => (key.as_ref(), None, &[]),
        Request::PutValue { record } => (record.key.as_ref(), Some(sent_record(record)), &[]),
        Request::AddProvider { key, providers } => (key.as_ref(), None, providers),
    };
    let message_type = pb_type(request.message_type());
    Outgoing { message_type, key, record, closer: &[], providers }.write(buffer);
}

/// Appends an answer to `buffer` as one frame, its length first.
///
/// Peers are sent with fewer addresses, then left out from the end, as far as the message would exceed [`SEND_LIMIT`].
/// A record is never cut.
pub fn encode_response(response: &Response, buffer: &mut BytesMut) {
    let optional_key = |key: &Option<RecordKey>| key.as_ref().map_or(Bytes::new(), |key| key.bytes().clone());
    let (key, record, closer, providers): (Bytes, _, &[KadPeer], &[KadPeer]) = match response {
        Response::Pong => (Bytes::new(), None, &[], &[]),
        Response::FindNode { closer_peers } => (Bytes::new(), None, closer_peers, &[]),
        Response::GetValue { key, record, closer_peers } => {
            (optional_key(key), record.as_ref().map(sent_record), closer_peers, &[])
        }
        Response::PutValue { key, value } => {
            let record = value.as_deref().map(|value| pb::Record {
                key: Cow::Borrowed(key.as_ref()),
                value: Cow::Borrowed(value),
                ..pb::Record::default()
            });
            (key.bytes().clone(), record, &[], &[])
        }
        Response::GetProviders { key, provider_peers, closer_peers } => {
            (optional_key(key), None, closer_peers, provider_peers)
        }
    };
    let message_type = pb_type(response.message_type());
    Outgoing { message_type, key: &key, record, closer, providers }.write(buffer);
}

const fn pb_type(message_type: MessageType) -> PbType {
    match message_type {
        MessageType::PutValue => PbType::PUT_VALUE,
        MessageType::GetValue => PbType::GET_VALUE,
        MessageType::AddProvider => PbType::ADD_PROVIDER,
        MessageType::GetProviders => PbType::GET_PROVIDERS,
        MessageType::FindNode => PbType::FIND_NODE,
        MessageType::Ping => PbType::PING,
    }
}

fn sent_record(record: &SentRecord) -> pb::Record<'_> {
    pb::Record {
        key: Cow::Borrowed(record.key.as_ref()),
        value: Cow::Borrowed(&record.value),
        timeReceived: Cow::Borrowed(""),
        publisher: record.publisher.map_or(Cow::Borrowed(&[]), |peer| Cow::Owned(peer.to_bytes())),
        ttl: record.ttl.map_or(0, |ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1)),
    }
}

/// A message about to be written.
struct Outgoing<'a> {
    message_type: PbType,
    key: &'a [u8],
    record: Option<pb::Record<'a>>,
    closer: &'a [KadPeer],
    providers: &'a [KadPeer],
}

/// How much of the peers is sent.
#[derive(Clone, Copy)]
struct Cut {
    addresses: usize,
    closer: usize,
    providers: usize,
}

impl Outgoing<'_> {
    fn write(&self, buffer: &mut BytesMut) {
        let cut = self.cut();
        let len = self.size(cut);
        buffer.reserve(sizeof_len(len));
        // Writing into a buffer that grows cannot fail.
        let written = self.write_fields(cut, len, &mut Writer::new(buffer.writer()));
        debug_assert!(written.is_ok());
    }

    fn write_fields<W: quick_protobuf::WriterBackend>(
        &self,
        cut: Cut,
        len: usize,
        w: &mut Writer<W>,
    ) -> quick_protobuf::Result<()> {
        w.write_varint(len as u64)?;
        if self.message_type != PbType::PUT_VALUE {
            w.write_with_tag(tag(field::TYPE, 0), |w| w.write_enum(self.message_type as i32))?;
        }
        if !self.key.is_empty() {
            w.write_with_tag(tag(field::KEY, 2), |w| w.write_bytes(self.key))?;
        }
        if let Some(record) = &self.record {
            w.write_with_tag(tag(field::RECORD, 2), |w| w.write_message(record))?;
        }
        for peer in self.closer.iter().take(cut.closer) {
            write_peer(w, field::CLOSER_PEERS, peer, cut.addresses)?;
        }
        for peer in self.providers.iter().take(cut.providers) {
            write_peer(w, field::PROVIDER_PEERS, peer, cut.addresses)?;
        }
        w.write_with_tag(tag(CLUSTER_FIELD, 0), |w| w.write_int32(CLUSTER_LEVEL))
    }

    /// Decides how much of the peers fits: all of it nearly always.
    fn cut(&self) -> Cut {
        let mut cut =
            Cut { addresses: MAX_ADDRESSES, closer: self.closer.len(), providers: self.providers.len() };
        if self.size(cut) <= SEND_LIMIT {
            return cut;
        }
        // Whoever can read a long record can read the peers beside it.
        let limit = SEND_LIMIT.max(self.size(Cut { addresses: 0, closer: 0, providers: 0 }) + SEND_LIMIT / 2);
        while cut.addresses > 1 && self.size(cut) > limit {
            cut.addresses /= 2;
        }
        while self.size(cut) > limit && cut.closer + cut.providers > 0 {
            if cut.closer >= cut.providers { cut.closer -= 1 } else { cut.providers -= 1 }
        }
        cut
    }

    fn size(&self, cut: Cut) -> usize {
        let peers = |peers: &[KadPeer], count| -> usize {
            peers.iter().take(count).map(|peer| 1 + sizeof_len(peer_size(peer, cut.addresses))).sum()
        };
        let message_type = if self.message_type == PbType::PUT_VALUE { 0 } else { 2 };
        let key = if self.key.is_empty() { 0 } else { 1 + sizeof_len(self.key.len()) };
        let record = self.record.as_ref().map_or(0, |record| 1 + sizeof_len(record.get_size()));
        message_type + key + record + peers(self.closer, cut.closer) + peers(self.providers, cut.providers) + 2
    }
}

/// The field number of `clusterLevelRaw`.
const CLUSTER_FIELD: u32 = 10;

const fn tag(field: u32, wire_type: u32) -> u32 {
    field << 3 | wire_type
}

fn peer_size(peer: &KadPeer, addresses: usize) -> usize {
    let id = 1 + sizeof_len(peer.node_id.as_ref().encoded_len());
    let addresses: usize = peer.multiaddrs.iter().take(addresses).map(|a| 1 + sizeof_len(a.len())).sum();
    let connection = match pb_connection(peer.connection_ty) {
        PbConnection::NOT_CONNECTED => 0,
        number => 1 + sizeof_varint(number as u64),
    };
    id + addresses + connection
}

fn write_peer<W: quick_protobuf::WriterBackend>(
    w: &mut Writer<W>,
    list: u32,
    peer: &KadPeer,
    addresses: usize,
) -> quick_protobuf::Result<()> {
    w.write_tag(tag(list, 2))?;
    w.write_varint(peer_size(peer, addresses) as u64)?;
    w.write_with_tag(tag(field::PEER_ID, 2), |w| w.write_bytes(PeerBytes::of(&peer.node_id).as_slice()))?;
    for address in peer.multiaddrs.iter().take(addresses) {
        w.write_with_tag(tag(field::PEER_ADDRS, 2), |w| w.write_bytes(address.as_ref()))?;
    }
    match pb_connection(peer.connection_ty) {
        PbConnection::NOT_CONNECTED => Ok(()),
        number => w.write_with_tag(tag(field::PEER_CONNECTION, 0), |w| w.write_enum(number as i32)),
    }
}

const fn pb_connection(connection: ConnectionType) -> PbConnection {
    match connection {
        ConnectionType::NotConnected => PbConnection::NOT_CONNECTED,
        ConnectionType::Connected => PbConnection::CONNECTED,
        ConnectionType::CanConnect => PbConnection::CAN_CONNECT,
        ConnectionType::CannotConnect => PbConnection::CANNOT_CONNECT,
    }
}

#[cfg(test)]
mod tests;
