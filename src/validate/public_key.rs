//! The validator of the namespace `pk`: public keys under the ids of their peers.
//!
//! Knows how keys are written down; does no cryptography but the hash of an id, and knows no other namespace.

use std::cmp::Ordering;

use sha2::{Digest, Sha256};

use super::validator::{InvalidRecord, Validator};
use crate::protobuf::Fields;
use crate::record::RecordKey;
use crate::time::SystemTime;

/// The validator of public keys: takes them under `/pk/` and the bytes of the peer id that is made from them.
///
/// Register it as `pk`. The value is the protobuf encoding of an Ed25519, RSA, secp256k1 or ECDSA key. It is written anew
/// before its id is computed, so the order of the fields and unknown ones do not matter. RSA keys have 2,048 to 8,192
/// bits, ECDSA keys are on P-224, P-256, P-384 or P-521. All of them are judged alike in every build, whatever its
/// features: keys are looked at, but not computed with.
///
/// Keys that are valid are equally good.
///
/// # Spec
/// libp2p peer ids, "Keys"; the namespace is that of go-libp2p-record, whose verdicts it gives. Differs: that a point lies
/// on its curve is not checked, since there is no private key of one that does not; and the DER of RSA and ECDSA keys
/// must hold nothing but the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicKeys;

impl Validator for PublicKeys {
    fn validate(&self, _: SystemTime, key: &RecordKey, value: &[u8]) -> Result<(), InvalidRecord> {
        let id = key
            .as_ref()
            .strip_prefix(b"/pk/")
            .ok_or_else(|| InvalidRecord::new("the key does not begin with /pk/"))?;
        if id == peer_id(&canonical(value)?) {
            Ok(())
        } else {
            Err(InvalidRecord::new("the public key is not that of the peer"))
        }
    }

    fn compare(&self, _: &RecordKey, _: &[u8], _: &[u8]) -> Ordering {
        Ordering::Equal
    }
}

/// Returns the bytes of the id of a peer whose key, in its canonical encoding, is this one.
fn peer_id(encoded: &[u8]) -> Vec<u8> {
    /// Of the multicodec table, as the other.
    const IDENTITY: u8 = 0x00;
    const SHA2_256: u8 = 0x12;
    /// Keys of so many bytes stand in the id themselves (peer ids, "Peer Ids").
    const MAX_INLINE: u8 = 42;

    match u8::try_from(encoded.len()) {
        Ok(len @ ..=MAX_INLINE) => [&[IDENTITY, len], encoded].concat(),
        Ok(_) | Err(_) => [&[SHA2_256, 32][..], &Sha256::digest(encoded)].concat(),
    }
}

/// Reads the protobuf encoding of a key and returns the only one that all implementations write.
fn canonical(value: &[u8]) -> Result<Vec<u8>, InvalidRecord> {
    // The fields of `PublicKey` (peer ids, "Keys").
    const TYPE: u32 = 1;
    const DATA: u32 = 2;

    let (mut key_type, mut data) = (None, None);
    for field in Fields::new(value) {
        match field? {
            (TYPE, value) => key_type = Some(value.number(TYPE)?),
            (DATA, value) => data = Some(value.bytes(DATA)?),
            _ => {}
        }
    }
    let key_type = key_type.ok_or_else(|| InvalidRecord::new("a public key without its type"))?;
    let data = data.ok_or_else(|| InvalidRecord::new("a public key without its data"))?;
    let data = match key_type {
        0 => der::is_rsa(data).then(|| data.to_vec()),
        1 => (data.len() == 32).then(|| data.to_vec()),
        2 => compressed(data),
        3 => der::is_ecdsa(data).then(|| data.to_vec()),
        _ => return Err(InvalidRecord::new("a public key of unknown type")),
    };
    let data = data.ok_or_else(|| InvalidRecord::new("a malformed public key"))?;

    let mut encoded = vec![0x08];
    encoded.extend_from_slice(unsigned_varint::encode::u64(
        key_type,
        &mut unsigned_varint::encode::u64_buffer(),
    ));
    encoded.push(0x12);
    encoded.extend_from_slice(unsigned_varint::encode::usize(
        data.len(),
        &mut unsigned_varint::encode::usize_buffer(),
    ));
    encoded.extend_from_slice(&data);
    Ok(encoded)
}

/// Returns the 33 bytes of a point on secp256k1: whether its second coordinate is odd, and the first one.
fn compressed(point: &[u8]) -> Option<Vec<u8>> {
    match point {
        [2 | 3, x @ ..] if x.len() == 32 => Some(point.to_vec()),
        // Both coordinates; the hybrid forms 6 and 7 say beforehand whether the second one is odd.
        [form @ (4 | 6 | 7), x_and_y @ ..] if x_and_y.len() == 64 => {
            let odd = x_and_y.last()? & 1;
            let x = x_and_y.get(..32).filter(|_| *form == 4 || *form == 6 | odd)?;
            Some([&[2 | odd], x].concat())
        }
        _ => None,
    }
}

/// Keys as X.509 has them: a SubjectPublicKeyInfo in DER. Tags are those of X.690, object ids those of RFC 3279 and RFC 5480.
mod der {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const SEQUENCE: u8 = 0x30;

    /// rsaEncryption and its NULL.
    const RSA: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0];
    /// ecPublicKey.
    const ECDSA: &[u8] = &[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    /// The curves, and the bytes of a coordinate on each.
    const CURVES: [(&[u8], usize); 4] = [
        (&[0x06, 5, 0x2b, 0x81, 4, 0, 33], 28),
        (&[0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], 32),
        (&[0x06, 5, 0x2b, 0x81, 4, 0, 34], 48),
        (&[0x06, 5, 0x2b, 0x81, 4, 0, 35], 66),
    ];

    pub(super) fn is_rsa(der: &[u8]) -> bool {
        let Some((RSA, key)) = algorithm_and_key(der) else { return false };
        let bits = || {
            let (modulus, exponent) = element(INTEGER, whole(SEQUENCE, key)?)?;
            // Go keeps the exponent in 63 bits.
            bits(whole(INTEGER, exponent)?).filter(|bits| *bits <= 63)?;
            bits(modulus)
        };
        bits().is_some_and(|bits| (2048..=8192).contains(&bits))
    }

    pub(super) fn is_ecdsa(der: &[u8]) -> bool {
        let Some((algorithm, [4, coordinates @ ..])) = algorithm_and_key(der) else { return false };
        let Some(curve) = algorithm.strip_prefix(ECDSA) else { return false };
        CURVES.iter().any(|(oid, len)| *oid == curve && 2 * len == coordinates.len())
    }

    /// Returns the contents of an AlgorithmIdentifier, and the key behind it.
    fn algorithm_and_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
        let (algorithm, key) = element(SEQUENCE, whole(SEQUENCE, der)?)?;
        // The first byte says how many bits of the last one are unused.
        let key = whole(BIT_STRING, key)?.strip_prefix(&[0])?;
        Some((algorithm, key))
    }

    /// Returns how many bits a positive number has.
    fn bits(integer: &[u8]) -> Option<usize> {
        let digits = match integer {
            // A zero stands only before what would be negative without it.
            [0, rest @ ..] if rest.first()? & 0x80 != 0 => rest,
            [1..0x80, ..] => integer,
            _ => return None,
        };
        let unused = digits.first()?.leading_zeros();
        (8 * digits.len()).checked_sub(usize::try_from(unused).ok()?)
    }

    /// Returns the content of an element behind which nothing stands.
    fn whole(tag: u8, der: &[u8]) -> Option<&[u8]> {
        element(tag, der).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
    }

    /// Splits off the content of the first element. A length is written as short as it can be.
    fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
        let (len, rest) = match der.strip_prefix(&[tag])? {
            [0x81, len, rest @ ..] if *len >= 0x80 => (u16::from(*len), rest),
            [0x82, high, low, rest @ ..] if *high > 0 => (u16::from_be_bytes([*high, *low]), rest),
            [len, rest @ ..] if *len < 0x80 => (u16::from(*len), rest),
            _ => return None,
        };
        rest.split_at_checked(len.into())
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::Keypair;
    use serde_json::Value;

    use super::*;
    use crate::rng::cases::cases;
    use crate::validate::tests::hex;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;

    struct Vector {
        name: String,
        key: RecordKey,
        value: Vec<u8>,
        is_valid: bool,
    }

    fn vectors() -> Vec<Vector> {
        let json: Value = serde_json::from_str(include_str!("../../tests/vectors/pk.json")).unwrap();
        let vectors = json["records"].as_array().unwrap().iter().map(|vector| Vector {
            name: vector["name"].as_str().unwrap().to_owned(),
            key: hex(vector["key_hex"].as_str().unwrap()).into(),
            value: hex(vector["value_hex"].as_str().unwrap()),
            is_valid: vector["valid"].as_bool().unwrap(),
        });
        vectors.collect()
    }

    fn is_valid(key: &RecordKey, value: &[u8]) -> bool {
        PublicKeys.validate(WALL, key, value).is_ok()
    }

    #[test]
    fn every_verdict_is_that_of_go() {
        let vectors = vectors();
        assert_eq!((vectors.len(), vectors.iter().filter(|vector| vector.is_valid).count()), (30, 7));
        let differ = vectors.iter().filter(|vector| is_valid(&vector.key, &vector.value) != vector.is_valid);
        assert_eq!(differ.map(|vector| &*vector.name).collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn a_key_is_valid_under_the_id_of_its_peer() {
        for seed in 0..20 {
            let public = Keypair::ed25519_from_bytes([seed; 32]).unwrap().public();
            let key = RecordKey::from([&b"/pk/"[..], &public.to_peer_id().to_bytes()].concat());
            assert_eq!(PublicKeys.validate(WALL, &key, &public.encode_protobuf()), Ok(()));
            assert_eq!(PublicKeys.compare(&key, b"a", b"b"), Ordering::Equal);
        }
    }

    #[test]
    fn the_known_keys_have_their_bounds() {
        // A modulus of so many bits, with an exponent of three bytes.
        let rsa = |bits: usize| {
            let mut modulus = vec![0; bits.div_ceil(8)];
            modulus[0] = 1 << ((bits - 1) % 8);
            let sign: &[u8] = if bits.is_multiple_of(8) { &[0] } else { &[] };
            let algorithm = [&hex("06092a864886f70d010101")[..], &[5, 0]].concat();
            let key = [tlv(2, &[sign, &modulus].concat()), tlv(2, &[1, 0, 1])].concat();
            tlv(0x30, &[tlv(0x30, &algorithm), tlv(3, &[&[0], &tlv(0x30, &key)[..]].concat())].concat())
        };
        for (bits, expected) in [(2047, false), (2048, true), (3001, true), (8192, true), (8193, false)] {
            assert_eq!(der::is_rsa(&rsa(bits)), expected, "{bits}");
        }
        let ecdsa = |curve: &str, coordinates: usize| {
            let algorithm = [&hex("06072a8648ce3d0201")[..], &hex(curve)].concat();
            let point = [&[0, 4][..], &vec![9; coordinates]].concat();
            tlv(0x30, &[tlv(0x30, &algorithm), tlv(3, &point)].concat())
        };
        let curves = [
            ("06052b81040021", 56),
            ("06082a8648ce3d030107", 64),
            ("06052b81040022", 96),
            ("06052b81040023", 132),
        ];
        for (curve, len) in curves {
            assert!(der::is_ecdsa(&ecdsa(curve, len)), "{curve}");
            assert!(!der::is_ecdsa(&ecdsa(curve, len - 1)), "{curve}");
        }
        assert!(!der::is_ecdsa(&ecdsa("06052b8104000a", 64)), "secp256k1");
    }

    /// One element of DER, of up to 64 KiB.
    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
        let len = match (high, low) {
            (0, ..0x80) => vec![low],
            (0, _) => vec![0x81, low],
            _ => vec![0x82, high, low],
        };
        [&[tag][..], &len, content].concat()
    }

    #[test]
    fn der_holds_the_key_and_nothing_else() {
        for name in ["rsa", "ecdsa"] {
            let vector = vectors().into_iter().find(|vector| vector.name == name).unwrap();
            let data = Fields::new(&vector.value).find_map(|field| match field {
                Ok((2, value)) => value.bytes(2).ok(),
                _ => None,
            });
            let data = data.unwrap();
            let is_key = |der: &[u8]| if name == "rsa" { der::is_rsa(der) } else { der::is_ecdsa(der) };
            assert!(is_key(data));
            assert!(!is_key(&[data, &[0]].concat()));
            for cut in 0..data.len() {
                assert!(!is_key(&data[..cut]), "{name}, {cut} bytes");
            }
        }
    }

    #[test]
    fn a_point_of_secp256k1_is_compressed_before_it_is_hashed() {
        let (x, even, odd) = ([7; 32], [2; 32], [3; 32]);
        let point = |form: u8, y: [u8; 32]| [&[form][..], &x, &y].concat();
        for (point, expected) in [
            (point(4, even), Some(2)),
            (point(4, odd), Some(3)),
            (point(6, even), Some(2)),
            (point(7, odd), Some(3)),
            (point(6, odd), None),
            (point(7, even), None),
            (point(5, even), None),
            ([&[2][..], &x].concat(), Some(2)),
            ([&[4][..], &x].concat(), None),
            (vec![], None),
        ] {
            assert_eq!(compressed(&point), expected.map(|sign| [&[sign][..], &x].concat()), "{point:?}");
        }
    }

    #[test]
    fn no_bytes_panic() {
        cases(256, |rng| assert!(!is_valid(&rng.bytes(80).into(), &rng.bytes(400))));
    }

    #[test]
    fn of_a_changed_key_only_the_encoding_may_differ() {
        let valid: Vec<_> = vectors().into_iter().filter(|vector| vector.is_valid).collect();
        cases(256, |rng| {
            let vector = &valid[rng.place(valid.len())];
            let mut value = vector.value.clone();
            for _ in 0..rng.within(1..4) {
                let place = rng.place(value.len());
                value[place] = rng.byte();
            }
            if rng.below(2) == 0 {
                value.truncate(rng.place(value.len()));
            }
            if is_valid(&vector.key, &value) {
                assert_eq!(canonical(&value), canonical(&vector.value));
            }
        });
    }
}
