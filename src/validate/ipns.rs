//! The validator of the namespace `ipns`: signed names of contents.
//!
//! Knows the records of IPNS and how they are signed; knows no other namespace, and does not look at what a name points
//! to.

mod cbor;
#[cfg(feature = "fuzzing")]
pub(crate) mod door;
mod rfc3339;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use libp2p_identity::{PeerId, PublicKey};

use self::cbor::{CborValue, Document};
use super::validator::{InvalidRecord, Validator};
use crate::protobuf::Fields;
use crate::record::RecordKey;
use crate::time::SystemTime;

/// The longest record, in bytes (IPNS record, "Record Size Limit").
const MAX_LEN: usize = 10 * 1024;

/// The prefix of the data that `signatureV2` signs (IPNS record, "Record Creation").
const SIGNED_PREFIX: &[u8] = b"ipns-signature:";

/// The only type of validity: the time at which the record ends (IPNS record, "Validity Type").
const END_OF_LIFE: i64 = 0;

// The keys of the signed data (IPNS record, "Extensible Data (DAG-CBOR)").
const VALUE: &[u8] = b"Value";
const VALIDITY_TYPE: &[u8] = b"ValidityType";
const VALIDITY: &[u8] = b"Validity";
const SEQUENCE: &[u8] = b"Sequence";
const TTL: &[u8] = b"TTL";

/// The validator of IPNS: takes records under `/ipns/` and the bytes of the peer id that is their name.
///
/// Register it as `ipns`. A record has at most 10 KiB and is signed, in `signatureV2`, by the key that stands in the name
/// or, where the name is a hash, in the record. It is refused from the first nanosecond after its end.
///
/// Of several records the one with the higher sequence is better, then the one that ends later, then the bytewise greater
/// one; one without `signatureV2` is worse than all that have it. Comparing checks neither signatures nor whether a record
/// has ended; what cannot be read is the worst.
///
/// # Spec
/// [IPNS record], with the verdicts and the choices of boxo, the library of go. Where those differ from the letter of the
/// specification:
/// - `signatureV1` is not verified. If it or `value` is there, the fields of the protobuf must be those of the signed data;
///   otherwise they are not compared.
/// - `Value` is not looked at, and with the other keys but `Validity` and `ValidityType` may be missing in a record
///   without `signatureV1` and `value`. The keys of the data may stand in any order.
/// - `Sequence` is a 64-bit number in the protobuf and a signed one in the data: from 2^63 on it is negative there.
/// - A negative `TTL` is refused.
/// - A time is what Go's `time.Parse` reads: with a comma for the point, say, but not with small letters.
///
/// Stricter than boxo, for records that are not known to be written: known fields of the protobuf with another wire type and
/// groups are refused instead of skipped; so are names with an inlined key of more than 42 bytes, tags of CBOR on anything
/// but links, nesting of more than 128 levels, ECDSA keys on curves other than P-256, and what the implementations of
/// signatures in `libp2p-identity` refuse.
///
/// [IPNS record]: https://specs.ipfs.tech/ipns/ipns-record/
#[cfg_attr(docsrs, doc(cfg(feature = "ipns")))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipns;

impl Validator for Ipns {
    fn validate(&self, wall: SystemTime, key: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord> {
        let name = key
            .as_ref()
            .strip_prefix(b"/ipns/")
            .ok_or_else(|| InvalidRecord::new("the key does not begin with /ipns/"))?;
        let name = PeerId::from_bytes(name).map_err(|_| InvalidRecord::new("the name is no peer id"))?;
        let record = IpnsRecord::read(value)?;
        record.check_copies()?;
        if rfc3339::nanoseconds(wall) > record.end()? {
            return Err(InvalidRecord::new("the record has ended"));
        }
        if record.integer(TTL).is_ok_and(|ttl| ttl < 0) {
            return Err(InvalidRecord::new("the time to live is negative"));
        }
        // Last, because it costs most.
        record.check_signature(name)
    }

    fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
        let rank = |value| IpnsRecord::read(value).ok().map(|record| record.rank());
        rank(a).cmp(&rank(b)).then_with(|| a.cmp(b))
    }
}

/// A record that can be read; nothing is said of its signature.
struct IpnsRecord<'a> {
    envelope: Envelope<'a>,
    data: Document<'a>,
}

/// The fields of the protobuf; those that are absent are empty or 0.
#[derive(Default)]
struct Envelope<'a> {
    value: &'a [u8],
    signature_v1: &'a [u8],
    validity_type: u64,
    validity: &'a [u8],
    sequence: u64,
    ttl: u64,
    public_key: &'a [u8],
    signature_v2: Option<&'a [u8]>,
    data: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, InvalidRecord> {
        let mut envelope = Self::default();
        for field in Fields::new(bytes) {
            let (number, content) = field?;
            match number {
                1 => envelope.value = content.bytes(number)?,
                2 => envelope.signature_v1 = content.bytes(number)?,
                3 => envelope.validity_type = content.number(number)?,
                4 => envelope.validity = content.bytes(number)?,
                5 => envelope.sequence = content.number(number)?,
                6 => envelope.ttl = content.number(number)?,
                7 => envelope.public_key = content.bytes(number)?,
                8 => envelope.signature_v2 = Some(content.bytes(number)?),
                9 => envelope.data = content.bytes(number)?,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

impl<'a> IpnsRecord<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, InvalidRecord> {
        if bytes.len() > MAX_LEN {
            return Err(InvalidRecord::new("the record has more than 10 KiB"));
        }
        let envelope = Envelope::read(bytes)?;
        let data = cbor::document(envelope.data)?;
        Ok(Self { envelope, data })
    }

    fn integer(&self, key: &[u8]) -> Result<i64, InvalidRecord> {
        match self.data.get(key) {
            Some(CborValue::Integer(integer)) => Ok(*integer),
            Some(CborValue::Bytes(_) | CborValue::Other) | None => Err(missing(key)),
        }
    }

    fn bytes(&self, key: &[u8]) -> Result<&'a [u8], InvalidRecord> {
        match self.data.get(key) {
            Some(CborValue::Bytes(bytes)) => Ok(bytes),
            Some(CborValue::Integer(_) | CborValue::Other) | None => Err(missing(key)),
        }
    }

    /// Numbers from 2^63 on are negative in the data.
    fn unsigned(&self, key: &[u8]) -> Result<u64, InvalidRecord> {
        self.integer(key).map(i64::cast_unsigned)
    }

    /// Returns the last nanosecond, counted from 1970, in which the record holds.
    fn end(&self) -> Result<i128, InvalidRecord> {
        if self.integer(VALIDITY_TYPE)? != END_OF_LIFE {
            return Err(InvalidRecord::new("the type of the validity is unknown"));
        }
        rfc3339::parse(self.bytes(VALIDITY)?).ok_or_else(|| InvalidRecord::new("the validity is no time"))
    }

    /// Whether the new signature is there, the sequence and the end: the greater the better, in this order.
    fn rank(&self) -> (bool, Option<u64>, Option<i128>) {
        (self.envelope.signature_v2.is_some(), self.unsigned(SEQUENCE).ok(), self.end().ok())
    }

    /// Checks that readers of the old fields, if there are any, read what is signed.
    fn check_copies(&self) -> Result<(), InvalidRecord> {
        let Envelope { value, signature_v1, validity_type, validity, sequence, ttl, .. } = self.envelope;
        if value.is_empty() && signature_v1.is_empty() {
            return Ok(());
        }
        let are_equal = self.bytes(VALUE)? == value
            && self.bytes(VALIDITY)? == validity
            && self.unsigned(VALIDITY_TYPE)? == validity_type
            && self.unsigned(SEQUENCE)? == sequence
            && self.unsigned(TTL)? == ttl;
        if are_equal {
            Ok(())
        } else {
            Err(InvalidRecord::new("the fields of the protobuf are not those of the signed data"))
        }
    }

    fn check_signature(&self, name: PeerId) -> Result<(), InvalidRecord> {
        let Some(signature) = self.envelope.signature_v2 else {
            return Err(InvalidRecord::new("the record has no signatureV2"));
        };
        let signed = [SIGNED_PREFIX, self.envelope.data].concat();
        if self.signer(name)?.verify(&signed, signature) {
            Ok(())
        } else {
            Err(InvalidRecord::new("the signature is wrong"))
        }
    }

    /// Returns the key of the record or, if there is none, the one in the name.
    fn signer(&self, name: PeerId) -> Result<PublicKey, InvalidRecord> {
        /// Of the multicodec table.
        const IDENTITY: u64 = 0;

        let decode = |bytes| {
            PublicKey::try_decode_protobuf(bytes).map_err(|_| InvalidRecord::new("malformed public key"))
        };
        if !self.envelope.public_key.is_empty() {
            let key = decode(self.envelope.public_key)?;
            return if key.to_peer_id() == name {
                Ok(key)
            } else {
                Err(InvalidRecord::new("the public key is not that of the name"))
            };
        }
        let multihash = name.as_ref();
        if multihash.code() != IDENTITY {
            return Err(InvalidRecord::new("neither the record nor the name has the public key"));
        }
        decode(multihash.digest())
    }
}

fn missing(key: &[u8]) -> InvalidRecord {
    InvalidRecord::new(format!("no {} in the signed data, or of another type", String::from_utf8_lossy(key)))
}
