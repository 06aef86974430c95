//! The validators of records: any bytes, and records that are signed here, since bytes find no signature.

use std::cmp::Ordering;
use std::sync::LazyLock;

use libp2p_identity::Keypair;
use libp2p_kademlia::RecordKey;
use libp2p_kademlia::time::{Duration, SystemTime};
use libp2p_kademlia::validate::{Ipns, Namespaces, PublicKeys, Validator as _};

/// The first nanosecond of 2026, when the vectors were made.
const WALL: Duration = Duration::from_secs(1_767_225_600);

/// Behind every time that can be written down.
const LATE: Duration = Duration::from_secs(300_000_000_000);

static SIGNER: LazyLock<Keypair> =
    LazyLock::new(|| Keypair::ed25519_from_bytes([3; 32]).expect("any bytes are a secret"));

static VALIDATORS: LazyLock<Namespaces> =
    LazyLock::new(|| Namespaces::default().with("ipns", Ipns).with("pk", PublicKeys));

/// Reads the bytes as a key and values, some of which are signed. What is accepted is accepted again, and can be chosen.
pub fn ipns(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let (key, rest) = if kind % 2 == 0 { part(rest) } else { (&[][..], rest) };
    let key = if kind % 2 == 0 { RecordKey::new(&key) } else { signed_key() };
    let mut values = Vec::new();
    let mut rest = rest;
    while !rest.is_empty() && values.len() < 4 {
        let value;
        (value, rest) = part(rest);
        values.push(if kind % 2 == 0 { value.to_vec() } else { signed(value, kind & 2 != 0) });
    }
    let accepted: Vec<_> = values.iter().map(|value| judge(&key, value)).collect();
    choose(&key, &values, &accepted);
}

/// Takes a part that is led by its length, two bytes; what is left if there is less.
fn part(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return (bytes, &[]) };
    rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()))
}

fn signed_key() -> RecordKey {
    [&b"/ipns/"[..], &SIGNER.public().to_peer_id().to_bytes()].concat().into()
}

/// Returns a record of which a part is the data, and another stands behind its fields: those of the protobuf, as a rule.
fn signed(value: &[u8], other: bool) -> Vec<u8> {
    let (data, fields) = part(value);
    let mut signature = SIGNER.sign(&[b"ipns-signature:", data].concat()).expect("any bytes can be signed");
    if other && let Some(last) = signature.last_mut() {
        *last ^= 1;
    }
    let mut record = Vec::new();
    field(8, &signature, &mut record);
    field(9, data, &mut record);
    record.extend_from_slice(fields);
    record
}

/// Writes a field of protobuf that has bytes.
fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len > 0x7f {
        out.push(len.to_le_bytes()[0] | 0x80);
        len >>= 7;
    }
    out.push(len.to_le_bytes()[0]);
    out.extend_from_slice(bytes);
}

/// Returns whether a value is accepted: before, too, but not for ever, and not in another's name.
fn judge(key: &RecordKey, value: &[u8]) -> bool {
    let at = |time| VALIDATORS.validate(SystemTime::UNIX_EPOCH + time, key, value);
    let verdict = at(WALL);
    assert_eq!(at(WALL), verdict, "the second time it is another");
    if verdict.is_err() || !key.as_ref().starts_with(b"/ipns/") {
        return verdict.is_ok();
    }
    assert_eq!(at(Duration::ZERO), Ok(()), "not before");
    assert!(at(LATE).is_err(), "for ever");
    let other = RecordKey::new(b"/ipns/\x00\x24\x08\x01\x12\x20................................");
    assert!(VALIDATORS.validate(SystemTime::UNIX_EPOCH, &other, value).is_err(), "in another's name");
    let too_long = [value, &vec![0xff; 10 * 1024]].concat();
    assert_eq!(
        VALIDATORS.compare(key, value, &too_long),
        Ordering::Greater,
        "what cannot be read is the worst"
    );
    true
}

/// The order of the values is total, and of those that are accepted one is chosen, whatever the order.
fn choose(key: &RecordKey, values: &[Vec<u8>], accepted: &[bool]) {
    for a in values {
        assert_eq!(VALIDATORS.compare(key, a, a), Ordering::Equal);
        for b in values {
            let order = VALIDATORS.compare(key, a, b);
            assert_eq!(VALIDATORS.compare(key, b, a), order.reverse());
            for c in values.iter().filter(|_| order.is_ge()) {
                assert!(VALIDATORS.compare(key, b, c).is_lt() || VALIDATORS.compare(key, a, c).is_ge());
            }
        }
    }
    let valid = (0..values.len()).filter(|index| accepted[*index]);
    let better = |best: usize, index: usize| {
        if VALIDATORS.compare(key, &values[index], &values[best]).is_gt() { index } else { best }
    };
    let (first, last) = (valid.clone().reduce(better), valid.rev().reduce(better));
    assert_eq!(first.is_some(), accepted.contains(&true));
    if let (Some(first), Some(last)) = (first, last) {
        assert!(accepted[first] && accepted[last]);
        assert_eq!(VALIDATORS.compare(key, &values[first], &values[last]), Ordering::Equal);
    }
}
