//! The generated code is not stale: `UPDATE_GENERATED=1 cargo test --test generated` makes it anew.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_generated_code_is_that_of_the_proto_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let out = env::temp_dir().join(format!("libp2p-kademlia-{}", std::process::id()));
    fs::create_dir_all(&out).unwrap();
    let (input, output) = (root.join("proto/dht.proto"), out.join("dht.rs"));
    let config = pb_rs::ConfigBuilder::new(&[&input], Some(&&output), None, &[&root.join("proto")]);
    pb_rs::types::FileDescriptor::run(&config.unwrap().single_module(true).build()).unwrap();
    let (fresh, checked_in) = (
        fs::read_to_string(&output).unwrap(),
        fs::read_to_string(root.join("src/wire/generated/dht.rs")).unwrap(),
    );
    fs::remove_dir_all(&out).unwrap();
    if fresh != checked_in && env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(root.join("src/wire/generated/dht.rs"), &fresh).unwrap();
        return;
    }
    assert!(fresh == checked_in, "stale: run this test with UPDATE_GENERATED=1");
}
