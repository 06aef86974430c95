//! The validator of `ipns` against go's verdicts, against records made here, and against any bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p_identity::Keypair;
use serde_json::Value as Json;

use super::*;
use crate::rng::Rng;
use crate::rng::cases::cases;
use crate::validate::tests::hex;

/// The first nanosecond of 2026.
fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

struct Vectors {
    records: Vec<Vector>,
    choices: Vec<Choice>,
}

struct Vector {
    name: String,
    key: RecordKey,
    value: Vec<u8>,
    is_valid: bool,
}

/// Which record go takes of several, unless it fails.
struct Choice {
    of: Vec<String>,
    best: Option<String>,
}

fn text(json: &Json) -> String {
    json.as_str().unwrap().to_owned()
}

fn vectors() -> Vectors {
    let json: Json = serde_json::from_str(include_str!("../../../tests/vectors/ipns.json")).unwrap();
    let records = json["records"].as_array().unwrap().iter().map(|vector| Vector {
        name: text(&vector["name"]),
        key: hex(&text(&vector["routing_key_hex"])).into(),
        value: hex(&text(&vector["record_hex"])),
        is_valid: vector["valid"].as_bool().unwrap(),
    });
    let choices = json["select"].as_array().unwrap().iter().map(|choice| Choice {
        of: choice["set"].as_array().unwrap().iter().map(text).collect(),
        best: choice["best"].as_str().map(str::to_owned),
    });
    Vectors { records: records.collect(), choices: choices.collect() }
}

fn is_valid(key: &RecordKey, value: &[u8]) -> bool {
    Ipns.validate(wall(), key, value).is_ok()
}

#[test]
fn every_verdict_is_that_of_go() {
    let Vectors { records, .. } = vectors();
    assert_eq!((records.len(), records.iter().filter(|vector| vector.is_valid).count()), (80, 36));
    let differ = records.iter().filter(|vector| is_valid(&vector.key, &vector.value) != vector.is_valid);
    assert_eq!(differ.map(|vector| &*vector.name).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Takes the first of the best, as the trait says.
fn best<'a>(key: &RecordKey, values: impl IntoIterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    values.into_iter().reduce(|best, value| if Ipns.compare(key, value, best).is_gt() { value } else { best })
}

#[test]
fn every_choice_is_that_of_go() {
    let Vectors { records, choices } = vectors();
    let by_name: BTreeMap<_, _> = records.iter().map(|vector| (&*vector.name, vector)).collect();
    assert_eq!((choices.len(), by_name.len()), (25, records.len()));
    let (mut decided, mut failed) = (0, 0);
    for Choice { of, best: expected } in choices {
        let set: Vec<_> = of.iter().map(|name| &*by_name[&**name].value).collect();
        let Some(first) = of.first() else {
            assert_eq!(expected, None);
            continue;
        };
        let key = &by_name[&**first].key;
        // Where go fails because of a broken record, the other one is taken here.
        let expected = match expected {
            Some(name) => {
                decided += 1;
                name
            }
            None => {
                failed += 1;
                "sequence 1".to_owned()
            }
        };
        assert_eq!(best(key, set.iter().copied()), Some(&*by_name[&*expected].value), "{of:?}");
        assert_eq!(best(key, set.into_iter().rev()), Some(&*by_name[&*expected].value), "{of:?}, reversed");
    }
    assert_eq!((decided, failed), (20, 4));
}

#[test]
fn the_order_is_total() {
    let Vectors { mut records, .. } = vectors();
    let key = records[0].key.clone();
    records.sort_by(|a, b| Ipns.compare(&key, &a.value, &b.value));
    for (index, a) in records.iter().enumerate() {
        assert_eq!(Ipns.compare(&key, &a.value, &a.value), Ordering::Equal);
        for b in &records[index + 1..] {
            let expected = if a.value == b.value { Ordering::Equal } else { Ordering::Less };
            assert_eq!(Ipns.compare(&key, &a.value, &b.value), expected, "{}, {}", a.name, b.name);
            assert_eq!(Ipns.compare(&key, &b.value, &a.value), expected.reverse(), "{}, {}", b.name, a.name);
        }
    }
}

/// What a record made here says, in CBOR and in the fields of the protobuf.
struct Draft {
    data: BTreeMap<&'static str, Vec<u8>>,
    fields: Vec<u8>,
}

impl Draft {
    fn ending(validity: &str) -> Self {
        let data = [
            ("Value", bytes(b"/ipfs/x")),
            ("Validity", bytes(validity.as_bytes())),
            ("ValidityType", vec![0]),
            ("Sequence", vec![7]),
            ("TTL", vec![9]),
        ];
        Self { data: data.into(), fields: Vec::new() }
    }

    fn with(mut self, key: &'static str, cbor: &[u8]) -> Self {
        self.data.insert(key, cbor.to_vec());
        self
    }

    fn with_fields(mut self, fields: &[&[u8]]) -> Self {
        self.fields = fields.concat();
        self
    }

    fn sign(&self) -> (RecordKey, Vec<u8>) {
        let keypair = Keypair::ed25519_from_bytes([3; 32]).unwrap();
        let mut data = vec![0xa0 | u8::try_from(self.data.len()).unwrap()];
        for (key, value) in &self.data {
            data.push(0x60 | u8::try_from(key.len()).unwrap());
            data.extend(key.bytes().chain(value.iter().copied()));
        }
        let signature = keypair.sign(&[SIGNED_PREFIX, &data].concat()).unwrap();
        let name = keypair.public().to_peer_id().to_bytes();
        let value = [&self.fields[..], &field(8, &signature), &field(9, &data)].concat();
        ([&b"/ipns/"[..], &name].concat().into(), value)
    }

    fn is_valid(&self) -> bool {
        let (key, value) = self.sign();
        is_valid(&key, &value)
    }
}

/// A short byte string in CBOR.
fn bytes(content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap();
    let head = if len < 24 { vec![0x40 | len] } else { vec![0x58, len] };
    [&head, content].concat()
}

/// A short field of bytes in protobuf.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap();
    let len = if len < 0x80 { vec![len] } else { vec![len, 1] };
    [&[number << 3 | 2][..], &len, content].concat()
}

const END: &str = "2026-01-01T00:00:00.00Z";

#[test]
fn a_record_holds_until_its_last_nanosecond() {
    let (key, value) = Draft::ending(END).sign();
    assert_eq!(Ipns.validate(wall(), &key, &value), Ok(()));
    assert_eq!(Ipns.validate(SystemTime::UNIX_EPOCH, &key, &value), Ok(()));
    let after = wall() + Duration::from_nanos(1);
    assert_eq!(Ipns.validate(after, &key, &value).unwrap_err().to_string(), "the record has ended");
}

#[test]
fn copies_in_the_protobuf_are_those_of_the_data() {
    let (value, validity) = (field(1, b"/ipfs/x"), field(4, END.as_bytes()));
    let numbers: [&[u8]; 3] = [&[0x18, 0], &[0x28, 7], &[0x30, 9]];
    let all = [&value[..], &validity, numbers[0], numbers[1], numbers[2]];
    assert!(Draft::ending(END).with_fields(&all).is_valid());
    assert!(!Draft::ending(END).with_fields(&all[..4]).is_valid(), "no ttl");
    // 0 may be absent.
    assert!(Draft::ending(END).with_fields(&[&value, &validity, numbers[1], numbers[2]]).is_valid());
    for (index, wrong) in [
        (0, &field(1, b"/ipfs/y")[..]),
        (1, &field(4, b"2026-01-01T00:00:00Z")),
        (2, &[0x18, 1]),
        (3, &[0x28, 8]),
        (4, &[0x30, 8]),
    ] {
        let mut fields = all;
        fields[index] = wrong;
        assert!(!Draft::ending(END).with_fields(&fields).is_valid(), "{index}");
    }
    // Without value and signatureV1 nobody reads them.
    assert!(Draft::ending(END).with_fields(&[&field(4, b"never"), &[0x18, 1, 0x28, 8, 0x30, 8]]).is_valid());
    // With signatureV1 alone they are compared, and none may be missing in the data.
    assert!(!Draft::ending(END).with_fields(&[&field(2, b"x")]).is_valid());
    let mut partial = Draft::ending(END).with_fields(&all);
    partial.data.remove("TTL");
    assert!(!partial.is_valid());
}

#[test]
fn keys_of_the_data_have_their_types() {
    for (key, cbor, expected) in [
        ("Value", vec![0x61, b'x'], true),
        ("Sequence", vec![0x61, b'7'], true),
        ("TTL", vec![0x61, b'9'], true),
        ("TTL", vec![0x20], false),
        ("Extra", vec![0x81, 0xf6], true),
        ("Extra", vec![0x81, 0xff], false),
        ("Validity", [&[0x77][..], END.as_bytes()].concat(), false),
        ("Validity", vec![0], false),
        ("ValidityType", vec![0x41, 0], false),
        ("ValidityType", vec![1], false),
        ("ValidityType", vec![0x20], false),
    ] {
        assert_eq!(Draft::ending(END).with(key, &cbor).is_valid(), expected, "{key} {cbor:02x?}");
    }
}

#[test]
fn the_name_is_a_peer_id_in_the_namespace() {
    let (key, value) = Draft::ending(END).sign();
    let id = key.as_ref().strip_prefix(b"/ipns/").unwrap();
    for key in [&[b"/pk/", id].concat()[..], b"/ipns/", b"/ipns", b"", id, &[key.as_ref(), b"x"].concat()] {
        assert!(Ipns.validate(wall(), &key.to_vec().into(), &value).is_err(), "{key:02x?}");
    }
    // An inlined key that is none.
    assert!(!is_valid(&b"/ipns/\x00\x02hi".to_vec().into(), &value));
}

#[test]
fn the_fields_of_the_protobuf_have_their_types() {
    let (key, value) = Draft::ending(END).sign();
    for number in 1..=9u8 {
        let is_number = matches!(number, 3 | 5 | 6);
        let wrong = if is_number { vec![number << 3 | 2, 0] } else { vec![number << 3, 0] };
        // The fields that count stand behind.
        assert!(!is_valid(&key, &[&wrong[..], &value].concat()), "{number}");
    }
    for other in [&[0x50, 1][..], &[0x52, 1, 1], &[0x55, 1, 2, 3, 4]] {
        assert!(is_valid(&key, &[other, &value].concat()), "{other:02x?}");
    }
    assert!(!is_valid(&key, &[&[0x53, 0x54], &value[..]].concat()), "a group");
    assert!(is_valid(&key, &[&field(9, b"data"), &value[..]].concat()), "the last one counts");
    assert!(!is_valid(&key, &[&value[..], &field(9, b"data")].concat()));
}

#[test]
fn a_later_end_is_better_than_an_earlier_one_and_a_sequence_better_than_both() {
    let sequence = |sequence: &[u8], end| Draft::ending(end).with("Sequence", sequence).sign().1;
    let (late, later) = ("2030-01-01T00:00:00+01:00", "2029-12-31T23:30:00Z");
    let ascending = [
        b"cannot be read".to_vec(),
        Draft::ending("tomorrow").with("Sequence", &[0x60]).sign().1,
        Draft::ending(late).with("Sequence", &[0x60]).sign().1,
        sequence(&[1], "tomorrow"),
        sequence(&[1], late),
        sequence(&[1], later),
        sequence(&[2], late),
        // 2^63 - 1, 2^63, 2^64 - 1.
        sequence(&[0x1b, 0x7f, 255, 255, 255, 255, 255, 255, 255], late),
        sequence(&[0x3b, 0x7f, 255, 255, 255, 255, 255, 255, 255], late),
        sequence(&[0x20], late),
    ];
    let key = RecordKey::new(b"/ipns/");
    for pair in ascending.windows(2) {
        assert_eq!(Ipns.compare(&key, &pair[0], &pair[1]), Ordering::Less, "{pair:02x?}");
    }
}

/// Replaces some bytes; may move the end to the front, and drop some of what is last then.
fn changed(value: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut value = value.to_vec();
    for _ in 0..rng.within(1..4) {
        let place = rng.place(value.len());
        value[place] = rng.byte();
    }
    if rng.below(5) == 0 {
        let cut = rng.place(value.len());
        value = [&value[cut..], &value[..cut]].concat();
        value.truncate(value.len() - cut / 2);
    }
    value
}

#[test]
fn no_bytes_panic() {
    cases(256, |rng| {
        let key = RecordKey::from([&b"/ipns/"[..], &rng.bytes(50)].concat());
        let (a, b) = (rng.bytes(300), rng.bytes(300));
        assert!(!is_valid(&key, &a));
        assert_eq!(Ipns.compare(&key, &a, &b), a.cmp(&b));
        let _ = cbor::document(&a);
    });
}

#[test]
fn no_data_in_a_signed_record_panic() {
    cases(256, |rng| {
        let (key, value) = Draft::ending(END).with("Extra", &rng.bytes(100)).sign();
        let is_known =
            cbor::document(IpnsRecord::read(&value).map_or(&[], |record| record.envelope.data)).is_ok();
        assert_eq!(is_valid(&key, &value), is_known);
    });
}

#[test]
fn a_changed_record_is_valid_only_if_it_says_the_same() {
    let valid: Vec<_> = vectors().records.into_iter().filter(|vector| vector.is_valid).collect();
    cases(256, |rng| {
        let vector = &valid[rng.place(valid.len())];
        let value = changed(&vector.value, rng);
        let _ = Ipns.compare(&vector.key, &value, &vector.value);
        if is_valid(&vector.key, &value) {
            let (before, after) =
                (IpnsRecord::read(&vector.value).unwrap(), IpnsRecord::read(&value).unwrap());
            assert_eq!(before.data, after.data);
        }
    });
}
