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
use quick_protobuf::sizeofs::sizeof_len;
use quick_protobuf::{BytesReader, MessageRead as _, MessageWrite as _, Writer};

use super::cache::PeerCache;
use super::check::{MessageView, PeerView, field};
use super::error::DecodeError;
use super::generated::dht as pb;
use super::generated::dht::mod_Message::{ConnectionType as PbConnection, MessageType as PbType};
use crate::addrs::{Addresses, MAX_ADDRESS_BYTES, MAX_ADDRESSES, is_dialable};
use crate::key::{PeerBytes, peer_id_len};
use crate::message::{MessageType, Request, Response, SentRecord};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::RecordKey;
use crate::time::Duration;

/// How many peers of one list of a message are read: 256. The rest is skipped. Chosen, not measured.
pub const MAX_PEERS: usize = 256;

/// How many bytes a message may have so that every implementation can read it: 16 KiB, the limit of `libp2p-kad`.
///
/// Longer lists of peers are sent with fewer addresses, then with fewer peers.
pub const SEND_LIMIT: usize = 16 * 1024;

/// The value of the field `clusterLevelRaw`, which is no longer used: `go-libp2p-kad-dht` sends 1 and expects at least 1.
const CLUSTER_LEVEL: u64 = 1;

/// What has become of an announcement (ipfs/specs#537).
const ACCEPTED: u64 = 0;
const REJECTED: u64 = 1;

/// Reads a request from the bytes of one frame.
///
/// # Errors
/// Any [`DecodeError`] but those of frames and of the stream: `Varint`, `FieldNumber`, `Length`, `WireType`, `FieldType`,
/// `Empty`, `UnknownType`, `Missing` or `KeyMismatch`. End the stream that it came from, which cannot be trusted any more.
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
            let providers = peers(&view, field::PROVIDER_PEERS, None);
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
/// Any [`DecodeError`] but those of frames and of the stream, as of [`decode_request`]: end the stream, and ask another
/// peer. An answer to ADD_PROVIDER reads as [`DecodeError::UnknownType`] unless it says what has become of the announcement:
/// py-libp2p sends one that does not.
pub fn decode_response(body: &[u8]) -> Result<Response, DecodeError> {
    response(body, None)
}

/// Reads an answer from the bytes of one frame, and whom it names from a cache as far as possible.
pub(super) fn response(body: &[u8], cache: Option<&PeerCache>) -> Result<Response, DecodeError> {
    let view = MessageView::check(body)?;
    let peers = |view: &_, list| peers(view, list, cache);
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
        MessageType::AddProvider => {
            let status = view.provider_status.ok_or(DecodeError::UnknownType(view.message_type))?;
            let key = key.ok_or(DecodeError::Missing("key"))?;
            Response::AddProvider { key, is_rejected: status == REJECTED }
        }
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

fn peers(view: &MessageView<'_>, list: u32, cache: Option<&PeerCache>) -> Vec<KadPeer> {
    let mut peers = Vec::with_capacity(view.peers.min(MAX_PEERS));
    let mut scratch = Vec::new();
    let mut decode = |body| peer(PeerView::checked(body), &mut scratch);
    let views = view.peers(list).take(MAX_PEERS);
    match cache {
        Some(cache) => cache.read(views, decode, &mut peers),
        None => peers.extend(views.filter_map(&mut decode)),
    }
    peers
}

/// Reads one peer, or nothing if its id cannot be read. `scratch` serves for the addresses of all of them.
fn peer(view: PeerView<'_>, scratch: &mut Vec<Multiaddr>) -> Option<KadPeer> {
    let (id, connection) = view.id_and_connection();
    let node_id = PeerId::from_bytes(id).ok()?;
    let connection_ty = match connection {
        1 => ConnectionType::Connected,
        2 => ConnectionType::CanConnect,
        3 => ConnectionType::CannotConnect,
        _ => ConnectionType::NotConnected,
    };
    for address in view.addrs().filter_map(|bytes| address(bytes, id)) {
        if scratch.len() == MAX_ADDRESSES {
            break;
        }
        if !scratch.contains(&address) {
            scratch.push(address);
        }
    }
    Some(KadPeer { node_id, multiaddrs: Addresses::from_clean(scratch), connection_ty })
}

/// The number of the protocol `/p2p` as an unsigned varint (multicodec table: 0x01a5).
const P2P: [u8; 2] = [0xa5, 0x03];

/// Reads one address of the peer with the id `id`, without its `/p2p` suffix, or nothing if it is unusable.
fn address(bytes: &[u8], id: &[u8]) -> Option<Multiaddr> {
    let kept = if bytes.windows(2).any(|pair| pair == P2P) { without_suffix(bytes, id)? } else { bytes };
    if kept.is_empty() || kept.len() > MAX_ADDRESS_BYTES {
        return None;
    }
    Multiaddr::try_from(kept.to_vec()).ok().filter(is_dialable)
}

/// Cuts off a `/p2p` suffix with the id; nothing if there is one with another id.
fn without_suffix<'a>(bytes: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = bytes.len() - rest.len();
        let (protocol, behind) = Protocol::from_bytes(rest).ok()?;
        if let Protocol::P2p(peer) = protocol
            && behind.is_empty()
        {
            return if PeerBytes::of(&peer).as_slice() == id { bytes.get(..end) } else { None };
        }
        rest = behind;
    }
    Some(bytes)
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
    Outgoing { message_type, key, record, closer: &[], providers, status: None }.write(buffer);
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
        Response::AddProvider { key, .. } => (key.bytes().clone(), None, &[], &[]),
    };
    let message_type = pb_type(response.message_type());
    let status = match response {
        Response::AddProvider { is_rejected, .. } => Some(if *is_rejected { REJECTED } else { ACCEPTED }),
        Response::Pong
        | Response::FindNode { .. }
        | Response::GetValue { .. }
        | Response::PutValue { .. }
        | Response::GetProviders { .. } => None,
    };
    Outgoing { message_type, key: &key, record, closer, providers, status }.write(buffer);
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
    status: Option<u64>,
}

/// The cut of a message: how much of the peers is sent.
#[derive(Clone, Copy)]
struct Cut {
    addresses: usize,
    closer: usize,
    providers: usize,
}

impl Outgoing<'_> {
    fn write(&self, buffer: &mut BytesMut) {
        let (cut, len) = self.cut();
        buffer.reserve(sizeof_len(len));
        let start = buffer.len();
        let mut out = FieldWriter(buffer);
        out.varint(len as u64);
        if self.message_type != PbType::PUT_VALUE {
            out.number(field::TYPE, self.message_type as u64);
        }
        if !self.key.is_empty() {
            out.bytes(field::KEY, self.key);
        }
        if let Some(record) = &self.record {
            out.record(record);
        }
        self.closer
            .iter()
            .take(cut.closer)
            .for_each(|peer| out.peer(field::CLOSER_PEERS, peer, cut.addresses));
        let providers = self.providers.iter().take(cut.providers);
        providers.for_each(|peer| out.peer(field::PROVIDER_PEERS, peer, cut.addresses));
        out.number(field::CLUSTER_LEVEL, CLUSTER_LEVEL);
        if let Some(status) = self.status {
            out.number(field::PROVIDER_STATUS, status);
        }
        debug_assert_eq!(buffer.len() - start, sizeof_len(len));
    }

    /// Decides how much of the peers fits, which is all of it nearly always; returns the size of the message, too.
    fn cut(&self) -> (Cut, usize) {
        let mut cut =
            Cut { addresses: MAX_ADDRESSES, closer: self.closer.len(), providers: self.providers.len() };
        let whole = self.size(cut);
        if whole <= SEND_LIMIT {
            return (cut, whole);
        }
        // Whoever can read a long record can read the peers beside it.
        let limit = SEND_LIMIT.max(self.size(Cut { addresses: 0, closer: 0, providers: 0 }) + SEND_LIMIT / 2);
        let mut size = whole;
        while cut.addresses > 1 && size > limit {
            cut.addresses /= 2;
            size = self.size(cut);
        }
        // Each is taken off by itself: of ten thousand nearly all may go.
        while size > limit && cut.closer + cut.providers > 0 {
            let (peers, count) = if cut.closer >= cut.providers {
                (self.closer, &mut cut.closer)
            } else {
                (self.providers, &mut cut.providers)
            };
            *count -= 1;
            size -= field_size(&peers[*count], cut.addresses);
        }
        (cut, size)
    }

    fn size(&self, cut: Cut) -> usize {
        let peers = |peers: &[KadPeer], count| -> usize {
            peers.iter().take(count).map(|peer| field_size(peer, cut.addresses)).sum()
        };
        let message_type = if self.message_type == PbType::PUT_VALUE { 0 } else { 2 };
        let key = if self.key.is_empty() { 0 } else { 1 + sizeof_len(self.key.len()) };
        let record = self.record.as_ref().map_or(0, |record| 1 + sizeof_len(record.get_size()));
        message_type
            + key
            + record
            + peers(self.closer, cut.closer)
            + peers(self.providers, cut.providers)
            + 2
            + self.status.map_or(0, |_| 2)
    }
}

/// Returns how many bytes a peer takes in a message, with its tag and its length.
fn field_size(peer: &KadPeer, addresses: usize) -> usize {
    1 + sizeof_len(peer_size(peer, addresses))
}

fn peer_size(peer: &KadPeer, addresses: usize) -> usize {
    let id = 1 + sizeof_len(peer_id_len(&peer.node_id));
    let addresses: usize = peer.multiaddrs.iter().take(addresses).map(|a| 1 + sizeof_len(a.len())).sum();
    // Its numbers are small.
    let connection = if pb_connection(peer.connection_ty) == PbConnection::NOT_CONNECTED { 0 } else { 2 };
    id + addresses + connection
}

/// A writer of fields, one after another, into a buffer that has room for them.
struct FieldWriter<'a>(&'a mut BytesMut);

impl FieldWriter<'_> {
    fn varint(&mut self, value: u64) {
        let mut bytes = unsigned_varint::encode::u64_buffer();
        self.0.extend_from_slice(unsigned_varint::encode::u64(value, &mut bytes));
    }

    /// A number; those of our fields and their values fit a byte each.
    fn number(&mut self, field: u32, value: u64) {
        self.varint((field << 3).into());
        self.varint(value);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.length(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// The tag and the length of a field of bytes; both fit a byte nearly always.
    fn length(&mut self, field: u32, len: usize) {
        let tag = field << 3 | 2;
        match (u8::try_from(tag), u8::try_from(len)) {
            (Ok(tag @ ..0x80), Ok(len @ ..0x80)) => self.0.extend_from_slice(&[tag, len]),
            _ => {
                self.varint(tag.into());
                self.varint(len as u64);
            }
        }
    }

    fn record(&mut self, record: &pb::Record<'_>) {
        self.length(field::RECORD, record.get_size());
        // FieldWriter into a buffer that grows cannot fail.
        let written = record.write_message(&mut Writer::new((&mut *self.0).writer()));
        debug_assert!(written.is_ok());
    }

    fn peer(&mut self, list: u32, peer: &KadPeer, addresses: usize) {
        self.length(list, peer_size(peer, addresses));
        self.bytes(field::PEER_ID, PeerBytes::of(&peer.node_id).as_slice());
        for address in peer.multiaddrs.iter().take(addresses) {
            self.bytes(field::PEER_ADDRS, address.as_ref());
        }
        let connection = pb_connection(peer.connection_ty);
        if connection != PbConnection::NOT_CONNECTED {
            self.number(field::PEER_CONNECTION, connection as u64);
        }
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
