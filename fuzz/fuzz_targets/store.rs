#![no_main]

// The store catches panics of the database, which the engine would take for its own: what it is to see reaches it all the same.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |data: &[u8]| libp2p_kademlia_fuzz::store(data)
);
