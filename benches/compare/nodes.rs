//! The nodes that are compared, as servers whose tables are full and who know providers; and what they are full of.

use std::time::Duration;

use libp2p::PeerId;
use libp2p_core::multihash::Multihash;
use libp2p_kad as kad;
use libp2p_kademlia::ProviderRecord;
use libp2p_kademlia::dht::{ConnectionId, Dht, Input, Output};
use libp2p_kademlia::message::Response;
use libp2p_kademlia::store::{MemoryStore, RecordStore as _, Source};
use libp2p_kademlia::time::{Instant, Now, SystemTime};
use libp2p_kademlia::{
    Addresses, Behaviour, Config, ConnectionType, IpDiversity, Joining, KadPeer, Key, Mode,
};

use super::carrier::Carrier;
use super::{PROTOCOL, keys};

/// How many peers are offered to a table; some 300 of them find a place in it.
const OFFERED: u32 = 20_000;

/// How many providers the content has.
pub(crate) const PROVIDERS: u32 = 20;

/// Returns an id like those of ed25519 keys.
pub(crate) fn peer(n: u32) -> PeerId {
    let mut digest = vec![0x08, 0x01, 0x12, 0x20];
    digest.extend(Key::sha256(&n.to_le_bytes()).as_bytes());
    PeerId::from_multihash(Multihash::wrap(0, &digest).unwrap()).unwrap()
}

/// Who provides it: none of those that are offered to the table.
fn providers() -> impl Iterator<Item = u32> {
    OFFERED + 1..=OFFERED + PROVIDERS
}

/// A node of this crate.
pub(crate) fn ours(local: PeerId, carrier: Carrier) -> Behaviour {
    // Nobody in the table is there: it is not to be looked after.
    let config = Config::default()
        .with_joining(Joining::OnRequest)
        .with_refresh_interval(None)
        .unwrap()
        .with_ip_diversity(IpDiversity::Off);
    let now = Now::new(Instant::now(), SystemTime::now());
    let mut store = MemoryStore::new(local);
    let content = keys::content(local);
    for n in providers() {
        let mut record = ProviderRecord::new(content.clone(), peer(n), vec![carrier.nowhere(n)]);
        record.expires = Some(SystemTime::now() + Duration::from_secs(24 * 60 * 60));
        let source = Source { peer: peer(n), group: None, hands_on: false };
        store.add_provider_from(SystemTime::now(), record, source).unwrap();
    }
    let mut dht = Dht::new(local, store, config, [7; 32], now);
    dht.set_mode(now, Some(Mode::Server));
    for n in 1..=OFFERED {
        offer(&mut dht, now, n, carrier);
    }
    while dht.poll_output().is_some() {}
    Behaviour::from_dht(dht)
}

/// Lets a peer connect, answer what it is asked, and go.
fn offer(dht: &mut Dht<MemoryStore>, now: Now, n: u32, carrier: Carrier) {
    let (peer, address, connection) = (peer(n), carrier.nowhere(n), ConnectionId(n.into()));
    dht.handle_input(now, Input::AddressesLearned { peer, addresses: vec![address.clone()] });
    dht.handle_input(
        now,
        Input::Connected { located: None, peer, connection, address, dialled: true, dial: None },
    );
    while let Some(output) = dht.poll_output() {
        if let Output::SendRequest { to, id, .. } = output {
            let connection_ty = ConnectionType::Connected;
            let named = KadPeer { node_id: to, multiaddrs: Addresses::empty(), connection_ty };
            let response = Response::FindNode { closer_peers: vec![named] };
            dht.handle_input(now, Input::ResponseReceived { id, response });
        }
    }
    dht.handle_input(now, Input::Disconnected { peer, connection });
}

pub(crate) type Kad = kad::Behaviour<kad::store::MemoryStore>;

/// A node of `libp2p-kad`.
pub(crate) fn theirs(local: PeerId, carrier: Carrier) -> Kad {
    use kad::store::RecordStore as _;
    let store = kad::store::MemoryStore::new(local);
    let mut kad = kad::Behaviour::with_config(local, store, kad::Config::new(PROTOCOL));
    kad.set_mode(Some(kad::Mode::Server));
    let content = keys::content(local);
    for n in providers() {
        let record = kad::ProviderRecord::new(content.clone(), peer(n), vec![carrier.nowhere(n)]);
        kad.store_mut().add_provider(record).unwrap();
    }
    for n in 1..=OFFERED {
        kad.add_address(&peer(n), carrier.nowhere(n));
    }
    kad
}
