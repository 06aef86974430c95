//! The keys that are asked about and written to.

use libp2p::PeerId;
use libp2p_kademlia::Key;

/// How many bits a key that a node is to keep has in common with its own at least: fewer than 20 peers of its table are nearer.
/// `libp2p-kad` keeps nothing under a key when many peers that it knows are between.
const KEPT: u32 = 10;
/// How many bits a near key has in common with the server's: as many as few of its table.
const NEAR: u32 = 16;

/// Returns bytes like those of a multihash.
pub(crate) fn hash(n: u32) -> Vec<u8> {
    [&[0x12, 0x20], &Key::sha256(&n.to_be_bytes()).as_bytes()[..]].concat()
}

/// Returns bytes whose hash lies in the other half of the keyspace than a peer.
pub(crate) fn far(peer: PeerId) -> Vec<u8> {
    with(peer, |common| common == 0).next().unwrap()
}

/// Returns bytes whose hashes lie as near to a peer as few of its table.
pub(crate) fn near(peer: PeerId) -> impl Iterator<Item = Vec<u8>> {
    with(peer, |common| common >= NEAR)
}

/// Returns the key under which a peer knows providers.
pub(crate) fn content(peer: PeerId) -> Vec<u8> {
    kept(peer).next().unwrap()
}

/// Returns the keys under which a peer is asked to keep something.
pub(crate) fn written(peer: PeerId) -> impl Iterator<Item = Vec<u8>> {
    kept(peer).skip(1)
}

/// Returns bytes under which a peer is to keep something: it is among the 20 closest to them that it knows.
fn kept(peer: PeerId) -> impl Iterator<Item = Vec<u8>> {
    with(peer, |common| common >= KEPT)
}

/// Returns bytes whose hashes have so many bits in common with the key of a peer.
fn with(peer: PeerId, fits: impl Fn(u32) -> bool) -> impl Iterator<Item = Vec<u8>> {
    let first = |key: &[u8; 32]| u32::from_be_bytes([key[0], key[1], key[2], key[3]]);
    let own = first(Key::of_peer(&peer, Key::sha256).as_bytes());
    let common = move |bytes: &[u8]| (first(Key::sha256(bytes).as_bytes()) ^ own).leading_zeros();
    (0..).map(hash).filter(move |bytes| fits(common(bytes)))
}
