//! Errors as an application sees them: their texts, their sources, and the guide that explains them.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests: they fail by panicking")]

use std::collections::BTreeSet;
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::Arc;

use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::store::{self, MemoryStore};
use libp2p_kademlia::time::SystemTime;
use libp2p_kademlia::validate::{InvalidRecord, Namespaces, PublicKeys};
use libp2p_kademlia::{
    AddAddressError, AddProviderError, AddressError, AskPeerError, BootstrapError, ClientError, ConnectError,
    Fates, FindPeerError, GetClosestPeersError, GetProvidersError, GetRecordError, PeerInfo, PingError,
    ProvideReport, PutRecordError, PutReport, QueryError, RecordKey, RequestError, Shortage, StoreError,
};

const PROTOCOL: &str = "/my/kad/1.0.0";

fn peer() -> PeerId {
    "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5".parse().unwrap()
}

fn address() -> Multiaddr {
    "/ip4/203.0.113.7/tcp/4001".parse().unwrap()
}

fn named() -> Multiaddr {
    "/dns/bootstrap.example/tcp/4001".parse().unwrap()
}

fn key() -> RecordKey {
    RecordKey::new(b"key")
}

fn protocol() -> Arc<str> {
    PROTOCOL.into()
}

fn fates(errors: &[RequestError]) -> Fates {
    let failed = errors.iter().map(|error| (PeerId::random(), *error)).collect();
    let mut fates = Fates::default();
    (fates.failed, fates.protocol) = (failed, protocol());
    fates
}

fn answered(count: usize) -> Vec<PeerInfo> {
    vec![PeerInfo { peer_id: peer(), addrs: vec![] }; count]
}

fn put_report(errors: &[RequestError]) -> Box<PutReport> {
    let mut report = PutReport::default();
    (report.failed, report.protocol) = (fates(errors).failed, protocol());
    Box::new(report)
}

const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// Why the validators of a node have nothing for a key.
fn no_validator(key: &[u8]) -> InvalidRecord {
    Namespaces::default().with("pk", PublicKeys).check_key(&RecordKey::new(&key)).unwrap_err()
}

/// What the guide explains, each with a text of its own.
fn explained() -> Vec<String> {
    let unsupported = [RequestError::Unsupported];
    let quorum = PutRecordError::QuorumFailed { key: key(), report: put_report(&unsupported), quorum: ONE };
    let not_serving = ConnectError::NotServing {
        peer: peer(),
        address: address(),
        source: RequestError::Unsupported,
        protocol: protocol(),
    };
    let mut unreachable = Fates::default();
    unreachable.failed.push((peer(), RequestError::Unreachable));
    let no_records = Arc::from("no records found");
    let ended = InvalidRecord::new("the record has ended");
    let ping = PingError::Failed { peer: peer(), source: RequestError::NoAddresses, protocol: protocol() };
    vec![
        quorum.to_string(),
        not_serving.to_string(),
        GetRecordError::NoAnswer { key: key(), fates: fates(&unsupported) }.to_string(),
        ClientError::Timeout.to_string(),
        QueryError::Timeout.to_string(),
        QueryError::Busy.to_string(),
        BootstrapError::NoAnswer { fates: unreachable, outcomes: vec![] }.to_string(),
        ConnectError::Refused { address: address() }.to_string(),
        ConnectError::Unreachable { address: address(), reason: "nobody answers there".into() }.to_string(),
        ConnectError::NotResolved { address: named(), reason: no_records }.to_string(),
        ConnectError::NoTransport { address: named() }.to_string(),
        ping.to_string(),
        FindPeerError::NotFound { closest: answered(20) }.to_string(),
        QueryError::TooManyQueries { limit: 1024 }.to_string(),
        ConnectError::Denied { address: address() }.to_string(),
        AddAddressError::Address(AddressError::TooManySeeds { limit: 256 }).to_string(),
        GetRecordError::Invalid { key: key(), source: no_validator(b"/app/name") }.to_string(),
        PutRecordError::Invalid { key: key(), source: no_validator(b"name") }.to_string(),
        QueryError::NoKnownPeers.to_string(),
        Shortage::NoMorePeers { failed: 3 }.to_string(),
        store::Error::MaxProviders { most: 64 }.to_string(),
        PutRecordError::Invalid { key: key(), source: ended }.to_string(),
        GetRecordError::NotFound { key: key(), closest_peers: answered(20) }.to_string(),
    ]
}

#[test]
fn the_guide_has_the_texts_of_the_code_and_no_others() {
    let guide = include_str!("../docs/errors.md");
    let quoted = |line: &str| {
        let text = line.strip_prefix("> `")?.trim_matches('`').trim();
        Some(text.to_owned())
    };
    let quoted: BTreeSet<_> = guide.lines().filter_map(quoted).collect();
    assert_eq!(quoted, explained().into_iter().collect());
    let mistakes = guide.lines().filter(|line| line.starts_with("## ")).count();
    assert_eq!(mistakes, 12);
}

#[test]
fn reasons_are_grouped_and_the_line_is_bounded() {
    use RequestError::{BackedOff, Disconnected, Overloaded, Timeout, Unsupported};
    let text = fates(&[Timeout, Unsupported, Timeout]).to_string();
    let expected = "2 of 3: no answer came in time; 1 of 3: does not speak /my/kad/1.0.0 (is it a client?)";
    assert_eq!(text, expected);
    let many = [Timeout, Unsupported, Disconnected, BackedOff, Overloaded].repeat(400);
    let mut of_many = fates(&many);
    of_many.pending = 7;
    let text = of_many.to_string();
    assert!(text.contains("800 of 2007: other reasons; 7 of 2007: no answer yet"), "{text}");
    assert!(text.len() < 300 && !text.contains('\n'), "{text}");
    assert_eq!(Fates::default().to_string(), "there was nobody to ask");
}

#[test]
fn reports_tell_how_many_and_why_not() {
    let [a, b, c] = [(); 3].map(|()| PeerId::random());
    let mut put = put_report(&[]);
    (put.stored, put.refused, put.failed) = (vec![a], vec![b], vec![(c, RequestError::Unsupported)]);
    assert_eq!(
        put.to_string(),
        "1 stored; 1 of 3: does not speak /my/kad/1.0.0 (is it a client?); 1 of 3: the peer refused"
    );
    let mut told = ProvideReport::default();
    told.sent = vec![a, b];
    assert_eq!(told.to_string(), "2 told");
    let few = AddProviderError::TooFew { key: key(), report: Box::new(told), enough: ONE.saturating_add(14) };
    assert_eq!(few.to_string(), "2 of 15 peers were told");
}

/// Every cause that any query may have.
const CAUSES: [QueryError; 6] = [
    QueryError::NoKnownPeers,
    QueryError::TooManyQueries { limit: 7 },
    QueryError::Cancelled,
    QueryError::Closed,
    QueryError::Busy,
    QueryError::Timeout,
];

/// The errors of all kinds of query that have failed of the same.
fn of_all_kinds(cause: QueryError) -> Vec<(Box<dyn Error>, Option<QueryError>)> {
    fn pair<E: Error + 'static>(error: E, cause: Option<QueryError>) -> (Box<dyn Error>, Option<QueryError>) {
        (Box::new(error), cause)
    }
    macro_rules! each {
        ($($error:expr),* $(,)?) => { vec![$({ let error = $error; let told = error.query_error(); pair(error, told) }),*] };
    }
    let (peer, key, address) = (peer(), key(), address());
    each![
        BootstrapError::Query { cause, peer, num_remaining: Some(3) },
        GetClosestPeersError::Query { cause, key: vec![1], peers: answered(2) },
        FindPeerError::Query { cause, peer, closest: vec![] },
        PingError::Query { cause, peer },
        AskPeerError::Query { cause, peer },
        ConnectError::Query { cause, address },
        GetRecordError::Query { cause, key: key.clone(), records: vec![] },
        PutRecordError::Query { cause, key: key.clone(), report: put_report(&[]) },
        GetProvidersError::Query { cause, key: key.clone(), closest_peers: vec![peer] },
        AddProviderError::Query { cause, key, report: Box::default() },
    ]
}

#[test]
fn what_all_queries_fail_of_is_in_the_text_and_the_source_of_each() {
    for cause in CAUSES {
        for (error, told) in of_all_kinds(cause) {
            assert!(error.to_string().starts_with(&cause.to_string()), "{error}");
            assert_eq!(told, Some(cause));
            assert_eq!(error.source().unwrap().downcast_ref::<QueryError>(), Some(&cause));
        }
    }
    let texts: BTreeSet<_> = CAUSES.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), CAUSES.len());
    assert!(QueryError::TooManyQueries { limit: 7 }.to_string().contains('7'));
}

#[test]
fn each_variant_names_its_cause() {
    use ConnectError as C;
    let (silent, key, records) = (fates(&[RequestError::Timeout]), key(), vec![]);
    let invalid = || InvalidRecord::new("it is odd");
    let full = || StoreError::new(store::Error::MaxRecords { records: 3, bytes: 1000 });
    let why = "no answer came in time";
    let failed = RequestError::Timeout;
    let (at, met, two) = (address(), peer(), ONE.saturating_add(1));
    let named: Vec<(Box<dyn Error>, String)> = vec![
        (Box::new(GetClosestPeersError::NoAnswer { key: vec![1], fates: silent.clone() }), why.into()),
        (Box::new(GetClosestPeersError::EmptyKey), "the key is empty".into()),
        (Box::new(FindPeerError::NotFound { closest: vec![] }), "knows an address".into()),
        (Box::new(FindPeerError::NoAnswer { fates: silent.clone() }), why.into()),
        (Box::new(BootstrapError::NoAnswer { fates: silent.clone(), outcomes: vec![] }), why.into()),
        (Box::new(PingError::Failed { peer: met, source: failed, protocol: protocol() }), why.into()),
        (Box::new(AskPeerError::Failed { peer: met, source: failed, protocol: protocol() }), why.into()),
        (Box::new(AskPeerError::EmptyKey), "the key is empty".into()),
        (
            Box::new(GetRecordError::NotFound { key: key.clone(), closest_peers: answered(3) }),
            "3 answered".into(),
        ),
        (Box::new(GetRecordError::NoAnswer { key: key.clone(), fates: silent.clone() }), why.into()),
        (
            Box::new(GetRecordError::QuorumFailed { key: key.clone(), records, agreed: 1, quorum: two }),
            "1 of the 2 peers".into(),
        ),
        (Box::new(GetRecordError::Invalid { key: key.clone(), source: invalid() }), "it is odd".into()),
        (
            Box::new(PutRecordError::QuorumFailed {
                key: key.clone(),
                report: put_report(&[failed]),
                quorum: two,
            }),
            format!("0 of 2 peers have stored the record; 1 of 1: {why}"),
        ),
        (Box::new(PutRecordError::Invalid { key: key.clone(), source: invalid() }), "it is odd".into()),
        (Box::new(PutRecordError::Store { key: key.clone(), source: full() }), "any more records".into()),
        (Box::new(GetProvidersError::NoAnswer { key: key.clone(), fates: silent }), why.into()),
        (Box::new(GetProvidersError::EmptyKey { key: RecordKey::new(b"") }), "the key is empty".into()),
        (Box::new(AddProviderError::Store { key: key.clone(), source: full() }), "any more records".into()),
        (
            Box::new(C::Address { address: at.clone(), source: AddressError::Own }),
            "of this node itself".into(),
        ),
        (Box::new(C::Address { address: at.clone(), source: AddressError::NoPort }), "no port".into()),
        (Box::new(C::Address { address: at.clone(), source: AddressError::Filtered }), "filter".into()),
        (
            Box::new(C::Address { address: at.clone(), source: AddressError::Undialable }),
            "nobody can dial".into(),
        ),
        (Box::new(AddressError::OtherPeer { named: met }), met.to_string()),
        (Box::new(C::Refused { address: at.clone() }), "refused".into()),
        (Box::new(C::Unreachable { address: at.clone(), reason: "no route".into() }), "no route".into()),
        (Box::new(C::NoTransport { address: at.clone() }), "no transport".into()),
        (
            Box::new(C::NotResolved { address: at.clone(), reason: "no such name".into() }),
            "no such name".into(),
        ),
        (Box::new(C::WrongPeer { address: at.clone(), met }), met.to_string()),
        (Box::new(C::Denied { address: at }), "denied".into()),
    ];
    for (error, cause) in named {
        let text = error.to_string();
        assert!(text.contains(&cause) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn so_do_those_of_clients_of_stores_and_of_nodes_without_an_address() {
    let mut report = ProvideReport::default();
    report.failed = vec![(peer(), RequestError::Unsupported)];
    report.protocol = protocol();
    let disk = std::io::Error::other("the disk is full");
    let named: [(Box<dyn Error>, &str); 7] = [
        (Box::new(AddProviderError::NoAddress { key: key(), report: Box::new(report) }), "does not speak"),
        (Box::new(ClientError::Closed), "the swarm is gone"),
        (Box::new(ClientError::Busy), "wait for the swarm to be polled"),
        (Box::new(AddAddressError::Client(ClientError::Closed)), "the swarm is gone"),
        (Box::new(store::Error::Busy), "before the disk"),
        (Box::new(store::Error::Invalid(InvalidRecord::new("it is odd"))), "it is odd"),
        (Box::new(store::Error::Io(disk)), "the disk is full"),
    ];
    for (error, cause) in named {
        let text = error.to_string();
        assert!(text.contains(cause) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn what_a_store_refuses_names_the_limit() {
    use store::Error as E;
    for (error, limits) in [
        (E::MaxRecords { records: 12, bytes: 34 }, &["12 records", "34 bytes"][..]),
        (E::MaxProvidedKeys { most: 12 }, &["at most 12"]),
        (E::MaxProviders { most: 12 }, &["at most 12"]),
        (E::ValueTooLarge { bytes: 12, most: 10 }, &["12 bytes of at most 10"]),
    ] {
        let text = error.to_string();
        assert!(limits.iter().all(|limit| text.contains(limit)), "{text}");
    }
    // Those that are configured.
    let local = peer();
    let mut config = store::MemoryStoreConfig::default();
    config.records.max_value_bytes = 10;
    let mut store = MemoryStore::with_config(local, config);
    let record = libp2p_kademlia::Record::new("key", vec![0; 12]);
    let refused = store::RecordStore::put(&mut store, SystemTime::UNIX_EPOCH, record);
    assert!(matches!(refused, Err(E::ValueTooLarge { bytes: 12, most: 10 })), "{refused:?}");
}

#[test]
fn sources_are_values() {
    let ping = PingError::Failed { peer: peer(), source: RequestError::Disconnected, protocol: protocol() };
    assert_eq!(ping.source().unwrap().downcast_ref(), Some(&RequestError::Disconnected));
    let too_large = store::Error::ValueTooLarge { bytes: 12, most: 10 };
    let put = PutRecordError::Store { key: key(), source: StoreError::new(too_large) };
    let of_store = put.source().unwrap().source().unwrap().downcast_ref::<store::Error>();
    assert!(matches!(of_store, Some(store::Error::ValueTooLarge { bytes: 12, most: 10 })));
    let connect = ConnectError::Address { address: address(), source: AddressError::Filtered };
    assert_eq!(connect.source().unwrap().downcast_ref(), Some(&AddressError::Filtered));
}

#[test]
fn the_key_is_in_every_error_about_one() {
    let get = GetRecordError::NoAnswer { key: key(), fates: Fates::default() };
    assert_eq!((get.key().clone(), get.into_key()), (key(), key()));
    let put = PutRecordError::Invalid { key: key(), source: InvalidRecord::new("") };
    assert_eq!((put.key().clone(), put.into_key()), (key(), key()));
    let find = GetProvidersError::NoAnswer { key: key(), fates: Fates::default() };
    assert_eq!((find.key().clone(), find.into_key()), (key(), key()));
    let add = AddProviderError::TooFew { key: key(), report: Box::default(), enough: ONE };
    assert_eq!((add.key().clone(), add.into_key()), (key(), key()));
    let closest = GetClosestPeersError::NoAnswer { key: vec![1], fates: Fates::default() };
    assert_eq!((closest.key().to_vec(), closest.into_key()), (vec![1], vec![1]));
}

#[test]
fn a_record_that_has_ended_is_told_to_have() {
    use libp2p_kademlia::dht::Dht;
    use libp2p_kademlia::time::Now;
    use libp2p_kademlia::{Config, Quorum, Record};
    let wall = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    let now = Now::new(libp2p_kademlia::time::Instant::now(), wall);
    let mut dht = Dht::new(peer(), MemoryStore::new(peer()), Config::default(), [0; 32], now);
    let record = Record { expires: Some(SystemTime::UNIX_EPOCH), ..Record::new(key(), &b"v"[..]) };
    let error = dht.put_record(now, record, Quorum::One).unwrap_err();
    assert_eq!(error.to_string(), "the record is not valid: the record has ended");
}
