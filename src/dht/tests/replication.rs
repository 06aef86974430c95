//! How many hold a record, or are told of a provider: fewer than a bucket holds.

use std::num::{NonZeroU8, NonZeroUsize};

use super::*;
use crate::dht::op::{AddProviderOk, GetRecordOk, PutRecordOk};
use crate::record::{Quorum, Record, RecordKey};
use crate::store::RecordStore as _;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

fn net(nodes: usize, config: &Config) -> Net {
    let mut net = Net::new(nodes, config);
    net.join_all(10 * MS);
    net.run_for(60 * SECOND);
    net
}

fn three() -> Config {
    Config::default().with_replication_factor(const { NonZeroU8::new(3).unwrap() })
}

/// Those for which something is true, the node `but` aside.
fn those(net: &Net, but: usize, is: impl Fn(&Dht<MemoryStore>) -> bool) -> BTreeSet<PeerId> {
    (0..net.nodes.len()).filter(|n| *n != but && is(&net.nodes[*n].dht)).map(peer).collect()
}

fn holders(net: &Net, but: usize, key: &RecordKey) -> BTreeSet<PeerId> {
    those(net, but, |dht| dht.store().get(WALL, key).unwrap().is_some())
}

fn closest(net: &Net, but: usize, key: &RecordKey, count: usize) -> BTreeSet<PeerId> {
    net.truth(but, key.as_ref(), count).into_iter().collect()
}

#[test]
fn records_and_providers_are_at_as_many_as_are_configured_and_buckets_stay() {
    let mut net = net(60, &three());
    let key = RecordKey::new(b"some key");
    let record = Record::new(key.clone(), "value");
    let id = net.with(3, |dht, now| dht.put_record(now, record, Quorum::All)).unwrap();
    let (QueryResult::PutRecord(Ok(PutRecordOk { report, .. })), _) = net.result(3, id) else {
        panic!("stored")
    };
    assert_eq!(report.stored.len(), 3, "all are three");
    assert_eq!(holders(&net, 3, &key), closest(&net, 3, &key, 3));

    let id = net.with(3, |dht, now| dht.start_providing(now, key.clone())).unwrap();
    let (QueryResult::StartProviding(Ok(AddProviderOk { .. })), _) = net.result(3, id) else {
        panic!("told")
    };
    net.run_for(SECOND);
    let told = those(&net, 3, |dht| !dht.store().providers(WALL, &key).unwrap().is_empty());
    assert_eq!(told, closest(&net, 3, &key, 3));

    for (n, quorum) in [(40, Quorum::One), (41, Quorum::Majority), (42, Quorum::All)] {
        let id = net.with(n, |dht, now| dht.get_record(now, key.clone(), Some(quorum)));
        let (QueryResult::GetRecord(Ok(found)), _) = net.result(n, id) else { panic!("found, {quorum:?}") };
        let GetRecordOk::FinishedWithNoAdditionalRecord { best, agreed, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!((best.value.as_ref(), agreed >= quorum.of(3).get()), (&b"value"[..], true));
    }
    assert_eq!(net.closest(5, b"some key").0.len(), 20, "a search for the closest is for k");
    assert!(net.nodes[5].dht.table().buckets().any(|bucket| bucket.entries().len() > 3));
}

#[test]
fn those_who_hold_a_record_do_not_spread_it_beyond_as_many_as_are_configured() {
    let mut net = net(40, &three());
    let key = RecordKey::new(b"some key");
    let id =
        net.with(3, |dht, now| dht.put_record(now, Record::new(key.clone(), "value"), Quorum::All)).unwrap();
    net.result(3, id);
    net.run_for(4 * 3600 * SECOND);
    // Whoever puts it anew holds it beside those at whom he does.
    let held = holders(&net, 3, &key);
    assert!(
        held.is_superset(&closest(&net, 3, &key, 3)) && held.is_subset(&closest(&net, 3, &key, 4)),
        "{held:?}"
    );
}

#[test]
fn one_put_can_be_at_fewer_or_more_than_are_configured_and_never_at_more_than_k() {
    let mut net = net(60, &three());
    for (copies, held) in [(1, 1), (7, 7), (1000, 20)] {
        let key = RecordKey::new(&[copies as u8]);
        let (record, wanted) = (Record::new(key.clone(), "value"), NonZeroUsize::new(copies).unwrap());
        let put =
            |dht: &mut Dht<MemoryStore>, now| dht.put_record_to_n_closest(now, record, wanted, Quorum::All);
        let id = net.with(3, put).unwrap();
        let (QueryResult::PutRecord(Ok(ok)), _) = net.result(3, id) else { panic!("stored") };
        assert_eq!(ok.report.stored.len(), held);
        assert_eq!(holders(&net, 3, &key), closest(&net, 3, &key, held));
    }
    let all = Config::default().with_replication_factor(NonZeroU8::MAX);
    assert_eq!((three().replication_factor().get(), all.replication_factor().get()), (3, 20));
}
