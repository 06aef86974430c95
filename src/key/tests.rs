use super::*;
use crate::rng::Rng;
use crate::rng::cases::cases;

fn keys<const N: usize>(rng: &mut Rng) -> [Key; N] {
    [(); N].map(|()| {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        Key::from_bytes(bytes)
    })
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn distance_is_a_metric() {
    cases(256, |rng| {
        let [a, b, c] = keys(rng);
        assert_eq!(a.distance(&a), Distance::ZERO);
        assert_eq!(a.distance(&b), b.distance(&a));
        assert_eq!(a == b, a.distance(&b) == Distance::ZERO);
        // d(a, c) ≤ d(a, b) + d(b, c), as 256-bit numbers: XOR is addition without the carries.
        let sum = add(a.distance(&b), b.distance(&c));
        assert!(sum.is_none_or(|sum| a.distance(&c) <= sum));
    });
}

#[test]
fn for_a_distance_there_is_one_key() {
    cases(256, |rng| {
        let [a, b] = keys(rng);
        assert_eq!(a.at(a.distance(&b)), b);
    });
}

#[test]
fn order_bucket_and_prefix_agree() {
    cases(256, |rng| {
        let [a, b, c] = keys(rng);
        // One order for everything: whoever is in a nearer bucket is nearer.
        if let (Some(near), Some(far)) = (a.distance(&b).bucket(), a.distance(&c).bucket())
            && near < far
        {
            assert!(a.distance(&b) < a.distance(&c));
        }
        if let Some(bucket) = a.distance(&b).bucket() {
            assert_eq!(bucket.prefix(), a.common_prefix(&b));
            assert_eq!(BucketIndex::with_prefix(a.common_prefix(&b)), Some(bucket));
            let (least, greatest) = bucket.range();
            assert!(least <= a.distance(&b) && a.distance(&b) <= greatest);
        }
    });
}

#[test]
fn a_random_key_lies_in_its_bucket() {
    cases(256, |rng| {
        let ([own], bucket) = (keys(rng), BucketIndex::new(rng.byte()));
        let random = own.random_in_bucket(bucket, rng);
        assert_eq!(own.distance(&random).bucket(), Some(bucket));
    });
}

#[test]
fn a_preimage_hashes_into_its_bucket() {
    cases(256, |rng| {
        let ([own], prefix) = (keys(rng), u32::from(rng.byte() % 11));
        let bucket = BucketIndex::with_prefix(prefix).unwrap();
        if let Some((bytes, key)) = own.preimage_in_bucket(bucket, Key::sha256, rng) {
            assert_eq!(Key::sha256(&bytes), key);
            assert_eq!(own.distance(&key).bucket(), Some(bucket));
        }
    });
}

fn add(a: Distance, b: Distance) -> Option<Distance> {
    a.0.checked_add(b.0).map(Distance)
}

#[test]
fn random_keys_of_a_bucket_are_uniform() {
    let own = Key::sha256(b"own");
    let mut rng = Rng::from_u64(7);
    let bucket = BucketIndex::new(200);
    // The eight bits below the bucket's own take all values about equally often.
    let mut counts = [0u32; 256];
    for _ in 0..256 * 100 {
        let distance = own.distance(&own.random_in_bucket(bucket, &mut rng));
        counts[usize::try_from((distance.0.high >> (200 - 128 - 8)) & 0xff).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (50..160).contains(count)), "{counts:?}");
}

#[test]
fn preimages_are_found_for_every_prefix_that_is_promised() {
    let own = Key::sha256(b"own");
    let mut rng = Rng::from_u64(3);
    for prefix in 0..=MAX_PREIMAGE_PREFIX {
        let bucket = BucketIndex::with_prefix(prefix).unwrap();
        let (_, key) = own.preimage_in_bucket(bucket, Key::sha256, &mut rng).expect("found within the limit");
        assert_eq!(own.common_prefix(&key), prefix);
    }
    let too_deep = BucketIndex::with_prefix(MAX_PREIMAGE_PREFIX + 1).unwrap();
    assert_eq!(own.preimage_in_bucket(too_deep, Key::sha256, &mut rng), None);
}

#[test]
fn a_hash_that_never_fits_ends_the_search() {
    let own = Key::from_bytes([0; 32]);
    let constant: KeyHash = |_| Key::from_bytes([0; 32]);
    assert_eq!(own.preimage_in_bucket(BucketIndex::FARTHEST, constant, &mut Rng::from_u64(0)), None);
}

#[test]
fn known_answers() {
    // SHA-256 of "abc" (FIPS 180-2), and of the identity-multihash peer id of an ed25519 key.
    let expected: [u8; 32] =
        hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").try_into().unwrap();
    assert_eq!(Key::sha256(b"abc").as_bytes(), &expected);
    let peer: PeerId = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5".parse().unwrap();
    assert_eq!(Key::of_peer(&peer, Key::sha256), Key::sha256(&peer.to_bytes()));
    assert_eq!(KBucketKey::from(peer).hashed_bytes(), Key::sha256(&peer.to_bytes()).as_bytes());
}

#[test]
fn every_peer_id_fits_the_buffer() {
    let longest = libp2p_core::multihash::Multihash::<64>::wrap(0x12, &[7; 64]).unwrap();
    let peer = PeerId::from_multihash(longest).unwrap();
    assert_eq!(Key::of_peer(&peer, Key::sha256), Key::sha256(&peer.to_bytes()));
}

#[test]
fn buckets_count_from_the_far_end() {
    let zero = Key::from_bytes([0; 32]);
    let mut bytes = [0; 32];
    bytes[0] = 0x80;
    assert_eq!(zero.distance(&Key::from_bytes(bytes)).bucket(), Some(BucketIndex::FARTHEST));
    bytes[0] = 0;
    bytes[31] = 1;
    assert_eq!(zero.distance(&Key::from_bytes(bytes)).bucket(), Some(BucketIndex::new(0)));
    assert_eq!(Distance::ZERO.bucket(), None);
    assert_eq!(zero.common_prefix(&zero), 256);
    assert_eq!(BucketIndex::with_prefix(256), None);
    let (least, greatest) = BucketIndex::FARTHEST.range();
    assert_eq!((least.ilog2(), greatest), (Some(255), Distance::MAX));
}

#[test]
fn random_ids_halve_from_bucket_to_bucket() {
    let own = Key::sha256(b"own");
    let mut histogram = [0u32; 256];
    for i in 0u32..100_000 {
        let key = Key::sha256(&i.to_le_bytes());
        histogram[usize::from(own.distance(&key).bucket().unwrap().get())] += 1;
    }
    for prefix in 0..8usize {
        let expected = 100_000.0 / f64::from(2u32 << prefix);
        let counted = f64::from(histogram[255 - prefix]);
        assert!(
            (counted - expected).abs() < 5.0 * expected.sqrt(),
            "bucket {prefix}: {counted} of {expected}"
        );
    }
}

#[test]
fn behind_all_keys_that_share_some_bits_comes_the_next_one() {
    let key = |first: [u8; 2], rest: u8| {
        let mut bytes = [rest; 32];
        bytes[..2].copy_from_slice(&first);
        Key::from_bytes(bytes)
    };
    assert_eq!(key([0, 0], 7).behind(0), None);
    assert_eq!(key([0x12, 0x34], 7).behind(1), Some(key([0x80, 0], 0)));
    assert_eq!(key([0x92, 0x34], 7).behind(1), None);
    assert_eq!(key([0x12, 0x34], 7).behind(8), Some(key([0x13, 0], 0)));
    assert_eq!(key([0x12, 0xff], 7).behind(16), Some(key([0x13, 0], 0)));
    assert_eq!(key([0xff, 0xff], 0xff).behind(256), None);
    let mut rng = Rng::from_u64(1);
    for _ in 0..1000 {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        let one = Key::from_bytes(bytes);
        let bits = u32::try_from(rng.below(257)).unwrap();
        let Some(next) = one.behind(bits) else { continue };
        assert!(next > one && next.common_prefix(&one) < bits);
        // Just before it stands the last one that shares them.
        let mut last = *next.as_bytes();
        for byte in last.iter_mut().rev() {
            let borrows = *byte == 0;
            *byte = byte.wrapping_sub(1);
            if !borrows {
                break;
            }
        }
        assert!(Key::from_bytes(last).common_prefix(&one) >= bits);
    }
}

#[test]
fn a_range_of_responsibility_is_computed_with_distances() {
    // A tenth of a quarter of the keyspace, and three of them.
    let quarter = Distance::MAX >> 2;
    let tenth = Distance(quarter.0.checked_div(U256::from(10u32)).unwrap());
    assert_eq!((quarter.ilog2(), tenth.ilog2()), (Some(253), Some(250)));
    assert!(tenth.saturating_mul(9).saturating_add(tenth) <= quarter);
    assert!(tenth.saturating_mul(11) > quarter && tenth.saturating_mul(u64::MAX) == Distance::MAX);
    assert_eq!(Distance::MAX.saturating_add(tenth), Distance::MAX);
    assert_eq!(Distance::from_bytes(tenth.to_bytes()), tenth);
    assert_eq!((quarter << 2).to_bytes()[31], 0xfc);
    let mut rng = Rng::from_u64(1);
    for bucket in [0, 100, 255].map(BucketIndex::new) {
        let ((least, most), random) = (bucket.range(), bucket.random_distance(&mut rng));
        assert!(least <= random && random <= most);
    }
}

#[test]
fn keys_of_all_kinds_are_the_hashes_of_their_bytes() {
    use std::collections::HashSet;
    let multihash = libp2p_core::multihash::Multihash::<64>::wrap(0x12, &[7; 32]).unwrap();
    let (of_multihash, of_bytes) = (KBucketKey::from(multihash), KBucketKey::from(multihash.to_bytes()));
    assert!(of_multihash == of_bytes && KBucketKey::new("text") == KBucketKey::new(b"text"));
    assert_ne!(of_multihash.hashed_bytes(), KBucketKey::new(multihash.digest()).hashed_bytes());
    let copied = of_multihash;
    assert_eq!(HashSet::from([copied, of_multihash]).len(), 1);
    let distance = Key::sha256(b"a").distance(of_bytes.key());
    assert_eq!(of_bytes.for_distance(distance), Key::sha256(b"a"));
    assert_eq!(Key::from(of_multihash), *of_bytes.key());
}
