//! The structural check: foreign bytes to a view whose fields can be trusted to lie within it.
//!
//! Knows the numbers of our fields and what kind each is; knows nothing of peers, keys or addresses.
//!
//! `quick-protobuf` must not see bytes that did not pass here: a nested length past its parent makes it panic, tags of
//! more than five bytes are cut (`8a 80 80 80 10` reads as field 1), and an unknown enum value becomes the default, so
//! that an unknown type would read as PUT_VALUE.

use super::error::DecodeError;
use crate::protobuf::{Fields, Value};

/// The field numbers of proto/dht.proto.
pub(super) mod field {
    pub(in crate::wire) const TYPE: u32 = 1;
    pub(in crate::wire) const KEY: u32 = 2;
    pub(in crate::wire) const RECORD: u32 = 3;
    pub(in crate::wire) const CLOSER_PEERS: u32 = 8;
    pub(in crate::wire) const PROVIDER_PEERS: u32 = 9;
    pub(in crate::wire) const CLUSTER_LEVEL: u32 = 10;
    /// A draft, ipfs/specs#537: a number. As bytes it is py-libp2p's `senderRecord`.
    pub(in crate::wire) const PROVIDER_STATUS: u32 = 11;
    pub(in crate::wire) const PEER_ID: u32 = 1;
    pub(in crate::wire) const PEER_ADDRS: u32 = 2;
    pub(in crate::wire) const PEER_CONNECTION: u32 = 3;
    const RECORD_KEY: u32 = 1;
    const RECORD_VALUE: u32 = 2;
    const RECORD_TIME: u32 = 5;
    const RECORD_PUBLISHER: u32 = 666;
    const RECORD_TTL: u32 = 777;

    /// Whether the field of a record, if known, is of bytes (`true`) or a number.
    pub(super) const fn record_is_bytes(number: u32) -> Option<bool> {
        match number {
            RECORD_KEY | RECORD_VALUE | RECORD_TIME | RECORD_PUBLISHER => Some(true),
            RECORD_TTL => Some(false),
            _ => None,
        }
    }
}

/// A message whose structure has been checked, down to the fields of its peers and of its record.
///
/// Of a field that may stand once, the last one counts, as protobuf has it.
#[derive(Clone, Debug, Default)]
pub(super) struct MessageView<'a> {
    body: &'a [u8],
    /// The number of the type; absent in PUT_VALUE, whose number is 0.
    pub(super) message_type: u64,
    pub(super) key: &'a [u8],
    pub(super) record: Option<&'a [u8]>,
    /// How many peers there are in both lists together.
    pub(super) peers: usize,
    /// What has become of an announcement, where that is said.
    pub(super) provider_status: Option<u64>,
}

impl<'a> MessageView<'a> {
    /// Walks over all the bytes once. Allocates nothing.
    pub(super) fn check(body: &'a [u8]) -> Result<Self, DecodeError> {
        if body.is_empty() {
            return Err(DecodeError::Empty);
        }
        let mut view = Self { body, ..Self::default() };
        for field in Fields::new(body) {
            let (number, value) = field?;
            match number {
                field::TYPE => view.message_type = value.number(number)?,
                field::KEY => view.key = value.bytes(number)?,
                field::RECORD => {
                    let record = value.bytes(number)?;
                    check_record(record)?;
                    view.record = Some(record);
                }
                field::CLOSER_PEERS | field::PROVIDER_PEERS => {
                    check_peer(value.bytes(number)?)?;
                    view.peers += 1;
                }
                field::PROVIDER_STATUS => {
                    if let Value::Number(status) = value {
                        view.provider_status = Some(status);
                    }
                }
                _ => {}
            }
        }
        Ok(view)
    }

    /// Iterates over the bytes of the peers of one of the two lists, in the order in which they were sent.
    pub(super) fn peers(&self, list: u32) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        Fields::new(self.body).filter_map(move |field| match field {
            Ok((number, Value::Bytes(body))) if number == list => Some(body),
            Ok(_) | Err(_) => None,
        })
    }
}

/// A peer within a checked message.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerView<'a> {
    body: &'a [u8],
}

impl<'a> PeerView<'a> {
    /// Makes a view of the bytes of a peer of a [`MessageView`], which have been checked with it.
    pub(super) const fn checked(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// Returns the id, empty if there is none, and the number of the connection type.
    pub(super) fn id_and_connection(self) -> (&'a [u8], u64) {
        let mut found = (&[][..], 0);
        for field in Fields::new(self.body).flatten() {
            match field {
                (field::PEER_ID, Value::Bytes(id)) => found.0 = id,
                (field::PEER_CONNECTION, Value::Number(number)) => found.1 = number,
                _ => {}
            }
        }
        found
    }

    /// Iterates over the addresses in the order in which they were sent.
    pub(super) fn addrs(self) -> impl Iterator<Item = &'a [u8]> {
        Fields::new(self.body).filter_map(|field| match field {
            Ok((field::PEER_ADDRS, Value::Bytes(address))) => Some(address),
            Ok(_) | Err(_) => None,
        })
    }
}

fn check_peer(body: &[u8]) -> Result<(), DecodeError> {
    for field in Fields::new(body) {
        let (number, value) = field?;
        match number {
            field::PEER_ID | field::PEER_ADDRS => value.bytes(number).map(drop)?,
            field::PEER_CONNECTION => value.number(number).map(drop)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_record(body: &[u8]) -> Result<(), DecodeError> {
    for field in Fields::new(body) {
        let (number, value) = field?;
        match field::record_is_bytes(number) {
            Some(true) => value.bytes(number).map(drop)?,
            Some(false) => value.number(number).map(drop)?,
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_of_more_than_five_bytes_is_refused() {
        assert!(matches!(
            MessageView::check(&[0x88, 0x80, 0x80, 0x80, 0x80, 0x00, 4]),
            Err(DecodeError::Varint)
        ));
        // The bytes that quick-protobuf reads as field 1: five bytes, but more than 32 bits.
        assert!(matches!(MessageView::check(&[0x8a, 0x80, 0x80, 0x80, 0x10]), Err(DecodeError::Varint)));
    }

    #[test]
    fn an_endless_varint_is_refused() {
        assert!(matches!(MessageView::check(&[0x08]), Err(DecodeError::Varint)));
        let mut endless = vec![0x08];
        endless.extend([0xff; 100]);
        assert!(matches!(MessageView::check(&endless), Err(DecodeError::Varint)));
        // Ten bytes are the longest number; its last byte has room for one bit.
        let longest = |last| [&[0x08][..], &[0xff; 9], &[last]].concat();
        assert_eq!(MessageView::check(&longest(0x01)).unwrap().message_type, u64::MAX);
        assert!(matches!(MessageView::check(&longest(0x02)), Err(DecodeError::Varint)));
    }

    #[test]
    fn a_nested_length_past_its_parent_is_refused() {
        // closerPeers of two bytes, whose id claims five.
        assert!(matches!(MessageView::check(&[0x42, 2, 0x0a, 5, 0, 0, 0, 0]), Err(DecodeError::Length)));
        // A record likewise, and the key of the message itself.
        assert!(matches!(MessageView::check(&[0x1a, 2, 0x0a, 1]), Err(DecodeError::Length)));
        assert!(matches!(MessageView::check(&[0x12, 5, 1]), Err(DecodeError::Length)));
        assert!(matches!(
            MessageView::check(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            Err(DecodeError::Length)
        ));
    }

    #[test]
    fn groups_and_missing_wire_types_are_refused() {
        for wire_type in [3u8, 4, 6, 7] {
            let error = MessageView::check(&[0x08 | wire_type, 0]).unwrap_err();
            assert!(matches!(error, DecodeError::WireType(found) if found == wire_type), "{error}");
        }
        assert!(matches!(MessageView::check(&[0x00, 0]), Err(DecodeError::FieldNumber)));
    }

    #[test]
    fn known_fields_need_their_wire_type() {
        for bytes in [
            &[0x0a, 0][..],            // type as bytes
            &[0x10, 0],                // key as a number
            &[0x18, 0],                // record as a number
            &[0x40, 0],                // closerPeers as a number
            &[0x45, 0, 0, 0, 0],       // closerPeers as 32 fixed bits
            &[0x42, 2, 0x08, 1],       // the id of a peer as a number
            &[0x4a, 2, 0x1a, 0],       // the connection of a provider as bytes
            &[0x1a, 2, 0x08, 1],       // the key of a record as a number
            &[0x1a, 3, 0xca, 0x30, 0], // the ttl of a record as bytes
            &[0x1a, 3, 0xd0, 0x29, 1], // the publisher of a record as a number
        ] {
            let error = MessageView::check(bytes).unwrap_err();
            assert!(matches!(error, DecodeError::FieldType(_)), "{bytes:02x?}: {error}");
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        // clusterLevelRaw, field 11 as bytes, field 12 as 64 and field 13 as 32 fixed bits, then the type.
        let bytes = [
            0x50, 1, 0x5a, 2, 9, 9, 0x61, 0, 0, 0, 0, 0, 0, 0, 0, 0x6d, 0, 0, 0, 0, 0x08, 4, //
        ];
        assert_eq!(MessageView::check(&bytes).unwrap().message_type, 4);
    }

    #[test]
    fn the_last_of_a_repeated_scalar_counts() {
        let view = MessageView::check(&[0x08, 4, 0x08, 5, 0x12, 1, b'a', 0x12, 1, b'b']).unwrap();
        assert_eq!((view.message_type, view.key), (5, &b"b"[..]));
    }

    #[test]
    fn the_empty_message_is_refused() {
        assert!(matches!(MessageView::check(&[]), Err(DecodeError::Empty)));
    }
}
