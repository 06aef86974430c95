//! The example `node` as its users start it: processes that read commands from a pipe.
//!
//! A command that nobody knows is answered by its name: sent behind another one it tells where the answer to that ends.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, which has a deadline"
)]

mod program;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p_kademlia::store::{RecordStore as _, Redb};
use libp2p_kademlia::{Key, Rng};

/// How long a whole test may take.
const DEADLINE: Duration = Duration::from_secs(60);

fn command(options: &[&str]) -> Command {
    program::command("node", options)
}

/// A node that runs, and is killed when it is dropped.
struct Node {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it printed before it took commands.
    greeting: Vec<String>,
    /// What comes behind `--bootstrap` in the command that it prints.
    bootstrap: String,
    id: String,
    commands: usize,
    deadline: Instant,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts a node, and returns when it takes commands.
    fn start(options: &[&str]) -> Self {
        Self::of(command(options))
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (tell, lines) = sync_channel(10_000);
        thread::Builder::new()
            .spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.take_while(|line| tell.send(line.clone()).is_ok()).for_each(drop);
            })
            .unwrap();
        let deadline = Instant::now() + DEADLINE;
        let [bootstrap, id] = Default::default();
        let mut node =
            Self { child, stdin, lines, greeting: Vec::new(), bootstrap, id, commands: 0, deadline };
        node.greeting = node.ask("");
        let invitation = node.greeting.iter().find(|line| line.starts_with("cargo run ")).unwrap();
        let words: Vec<_> = invitation.split_whitespace().collect();
        assert_eq!(words[..7], ["cargo", "run", "--release", "--example", "node", "--", "--bootstrap"]);
        node.bootstrap = words[7].to_owned();
        node.id = node.bootstrap.rsplit('/').next().unwrap().to_owned();
        node
    }

    fn joined(options: &[&str], through: &Self) -> Self {
        let node = Self::start(&[options, &["--bootstrap", &through.bootstrap]].concat());
        assert!(node.greeting.iter().any(|line| line.starts_with("joined: ")), "{:?}", node.greeting);
        node
    }

    fn write(&mut self, text: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text).and_then(|()| stdin.flush()).unwrap();
    }

    fn next(&mut self) -> Option<String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("nothing more was printed"),
        }
    }

    /// Sends a command and returns the lines of its answer.
    fn ask(&mut self, line: &str) -> Vec<String> {
        self.commands += 1;
        let end = format!("end-of-{}", self.commands);
        self.write(format!("{line}\n{end}\n").as_bytes());
        let mut answer = Vec::new();
        loop {
            let line = self.next().unwrap_or_else(|| panic!("it ended after {line:?}: {answer:?}"));
            if line.starts_with(&format!("unknown command `{end}`")) {
                return answer;
            }
            answer.push(line);
        }
    }

    /// Sends a command that is answered by one line.
    fn tell(&mut self, line: &str) -> String {
        let answer = self.ask(line);
        let [only] = &answer[..] else {
            panic!("{line}: {answer:?}");
        };
        only.clone()
    }

    /// Returns a line of the answer to `status`.
    fn status(&mut self, what: &str) -> String {
        let status = self.ask("status");
        status.iter().find_map(|line| line.strip_prefix(what)).unwrap().trim().to_owned()
    }

    /// Asks again and again until there are so many peers in its table.
    fn until_it_knows(&mut self, peers: usize) {
        while !self.status("peers").starts_with(&format!("{peers} in the table")) {
            assert!(Instant::now() < self.deadline, "it does not get to know {peers} peers");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it has ended, and returns whether it says that all was well.
    fn ended(mut self) -> bool {
        while self.next().is_some() {}
        self.child.wait().unwrap().success()
    }
}

/// Runs a node whose options are wrong. Its input is at its end, so that it would end if they were not.
fn refused(options: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(options).stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!status.success() && status.code().is_some(), "{options:?}: {status} {stdout} {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

fn sha256(bytes: &[u8]) -> String {
    Key::sha256(bytes).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_put_on_one_node_is_got_on_the_other() {
    let mut a = Node::start(&[]);
    let mut b = Node::joined(&[], &a);
    a.until_it_knows(1);
    let stored = a.tell("put greeting  good morning, world ");
    assert_eq!(stored, "peers that stored it: 1, refused: 0, failed: 0, pending: 0");
    for n in 0..100 {
        assert_eq!(b.tell("get greeting"), "good morning, world", "get {n}");
    }
    assert_eq!(b.tell("put answer 42"), stored);
    for n in 0..100 {
        assert_eq!(a.tell("get answer"), "42", "get {n}");
    }
    drop(a);
    assert_eq!(b.tell("get greeting"), "good morning, world", "any node may leave");
}

#[test]
fn all_commands_have_their_short_forms() {
    let mut a = Node::start(&[]);
    let mut b = Node::joined(&[], &a);
    a.until_it_knows(1);
    let (id, prefix, short) = (a.id.clone(), a.id[..20].to_owned(), a.id[8..14].to_owned());
    for peer in [&id, &prefix, &short] {
        for name in ["ping", "p"] {
            assert!(b.tell(&format!("{name} {peer}")).starts_with(&format!("{id} answered in ")));
        }
    }
    for (n, name) in ["store", "s"].iter().enumerate() {
        let stored = b.tell(&format!("{name} {short} k{n} value {n}"));
        assert_eq!(stored, "peers that stored it: 1, refused: 0, failed: 0, pending: 0");
        // Before the other one searches it, too: what was found is cached where it lacked.
        assert_eq!(b.tell(&format!("fv me k{n}")), "this node does not store it");
        assert_eq!(a.tell(&format!("fv me k{n}")), format!("value {n}"));
        assert_eq!(b.tell(&format!("find_value {short} k{n}")), format!("value {n}"));
        assert_eq!(b.tell(&format!("fv {short} k{n}")), format!("value {n}"));
    }
    assert_eq!(b.ask(&format!("fv {short} unheard-of"))[0], format!("{id} does not store it"));
    for name in ["find_node", "fn"] {
        let named = b.ask(&format!("{name} {short} any"));
        assert!(named[0].starts_with(&format!("{id} knows ")), "{named:?}");
        let named = b.ask(&format!("{name} me any"));
        assert!(named[1].contains(&id) && named[1].contains("bits in common"), "{named:?}");
    }
    for name in ["lookup_node", "ln"] {
        let found = b.ask(&format!("{name} hello"));
        assert_eq!(found[0], format!("looking for {}", sha256(b"hello")));
        assert!(found[1].contains(&id) && found[1].contains("bits in common"), "{found:?}");
        assert!(
            found[3].starts_with("peers: 1, hops: 1, requests: 1, failed: 0, soft timeouts: "),
            "{found:?}"
        );
        assert!(found[3].contains(", dials: ") && found[3].ends_with(" ms"), "{found:?}");
        assert_eq!(found[2], format!("path: this node -> {id}"));
    }
    for name in ["lookup_value", "lv"] {
        let found = b.ask(&format!("{name} k0"));
        let copy = found.iter().find(|line| line.contains(&id));
        assert!(copy.unwrap().ends_with(": value 0"), "{found:?}");
        assert!(found.last().unwrap().starts_with("copies: "), "{found:?}");
        let nobody = b.ask(&format!("{name} unheard-of"));
        assert!(nobody.iter().any(|line| line.contains(&id)), "{nobody:?}");
        let last = nobody.last().unwrap();
        assert!(last.starts_with("none of the closest peers has the record ("), "{last}");
    }
    assert_eq!(b.ask("save saved by its other name").len(), 1);
    assert_eq!(a.tell("query saved"), "by its other name");
    assert!(a.tell("remove saved").contains("not stored here any more"));
    assert_eq!(a.tell("fv me saved"), "this node does not store it");
    assert_eq!(a.tell("provide content"), "told: 1, failed: 0, under way: 0");
    let found = b.ask("providers content");
    assert!(found[0].contains(&id) && found[0].contains("/ip4/127.0.0.1/"), "{found:?}");
    assert!(found[1].starts_with("providers: 1, time: "), "{found:?}");
    assert!(b.ask("providers nothing")[0].starts_with("providers: 0, "));
    assert!(a.tell("unprovide content").contains("not provided any more"));
    assert!(b.ask("routes").iter().any(|line| line.contains(&id)));
    assert_eq!(b.status("peers"), "1 in the table, 1 of them connected");
    assert!(b.ask("help").len() > 14);
    let mut c = Node::start(&[]);
    let connected = c.ask(&format!("connect {}", a.bootstrap.split("/p2p/").next().unwrap()));
    assert_eq!(connected[0], format!("met {id}"));
    assert!(connected[1].starts_with("joined: "), "{connected:?}");
    assert_eq!(c.tell("get k0"), "value 0");
    b.write(b"quit\n");
    assert!(b.ended());
    c.stdin = None;
    assert!(c.ended(), "the end of the input ends it, too");
}

/// What the words of a line are drawn from.
const WORDS: [&str; 43] = [
    "put",
    "save",
    "get",
    "query",
    "remove",
    "ping",
    "p",
    "store",
    "s",
    "find_node",
    "fn",
    "find_value",
    "fv",
    "lookup_node",
    "ln",
    "lookup_value",
    "provide",
    "unprovide",
    "providers",
    "lv",
    "connect",
    "status",
    "routes",
    "help",
    "me",
    "0x",
    "0xff",
    "0xf",
    "/ip4/127.0.0.1/tcp/1",
    "/ip4/127.0.0.1",
    "/dns/x",
    "12D3KooW",
    "12D3KooWA",
    "\u{1b}[2J",
    "\u{0}",
    "é",
    "",
    "💥",
    "-1",
    "18446744073709551616",
    "\"",
    "\t",
    "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
];

#[test]
fn nothing_that_is_typed_upsets_it() {
    let mut node = Node::start(&[]);
    let long = format!("put long {}", "x".repeat(100_000));
    let stranger = format!("ping {}", PeerId::random());
    let list = [
        ("frobnicate", "unknown command `frobnicate`; `help` lists them"),
        ("PUT k v", "unknown command"),
        ("put", "expected: put KEY VALUE"),
        ("put k", "expected: put KEY VALUE"),
        ("get", "expected: get KEY"),
        ("get two words", "expected: get KEY"),
        ("get nothing", "no peer is known"),
        ("remove", "expected: remove KEY"),
        ("provide", "expected: provide KEY"),
        ("provide k", "no other peer is known yet"),
        ("providers other", "no peer is known"),
        ("p", "expected: ping PEER"),
        ("p nobody", "expected the id of a peer, or the beginning of one in the table, or me; not `nobody`"),
        (stranger.as_str(), "did not answer: no address of the peer is known"),
        ("s me k", "expected: store PEER KEY VALUE"),
        ("s me k v", "that is this node"),
        ("fn me", "expected: find_node PEER KEY"),
        ("fv nobody k", "expected the id of a peer"),
        ("ln", "expected: lookup_node KEY"),
        ("connect", "expected: connect ADDRESS"),
        ("connect here", "expected an address as /ip4/127.0.0.1/tcp/4001, not `here`"),
        ("connect /ip4/127.0.0.1/tcp/1", "was refused: nobody listens there"),
        ("connect /ip4/127.0.0.1", "it has no port"),
        ("status now", "expected: status"),
        ("quit now", "expected: quit"),
        ("\u{1b}[2J", "unknown command `\\u{1b}[2J`"),
        (long.as_str(), "the value is too large to be stored"),
    ];
    for (line, answer) in list {
        let said = node.tell(line);
        assert!(said.contains(answer), "{line:.40}: {said}");
    }
    assert_eq!(node.ask("ln k").last().unwrap(), "no peer is known: add the address of one");
    assert!(node.ask(" \t ").is_empty());
    node.write(b"get \xff\xfe\n");
    assert_eq!(node.tell(""), "the line could not be read: it is not UTF-8");
    node.ask("put escape \u{1b}[2J");
    assert_eq!(node.tell("get escape"), "0x1b5b324a", "what others put cannot upset the terminal");
    assert_eq!(node.status("id"), node.id);
}

#[test]
fn random_lines_do_not_upset_it_either() {
    let seed = u64::from(std::process::id());
    let mut rng = Rng::from_u64(seed);
    let mut below = |bound: usize| usize::try_from(rng.below(bound as u64)).unwrap();
    let lines: Vec<String> = (0..500)
        .map(|_| {
            let mut line = String::new();
            for n in 0..below(6) {
                let first_of_all = if n == 0 && below(10) > 0 { 21 } else { WORDS.len() };
                line += WORDS[below(first_of_all)];
                line += [" ", " ", " ", "  ", ""][below(5)];
            }
            line
        })
        .collect();
    let mut node = Node::start(&[]);
    let lines = lines.join("\n");
    // The node prints while it is written to: one thread alone would wait for itself.
    let (mut stdin, text) = (node.stdin.take().unwrap(), format!("{lines}\nend-of-lines\n"));
    let writer = thread::Builder::new().spawn(move || stdin.write_all(text.as_bytes()).map(|()| stdin));
    let mut said = Vec::new();
    loop {
        match node.next() {
            Some(line) if line.starts_with("unknown command `end-of-lines`") => break,
            Some(line) => said.push(line),
            None => panic!("seed {seed}: it ended after saying {:?}, given\n{lines}", said.last()),
        }
    }
    node.stdin = Some(writer.unwrap().join().unwrap().unwrap());
    assert_eq!(node.status("id"), node.id, "seed {seed}");
}

#[test]
fn a_key_is_the_bytes_of_its_text_or_of_its_hexadecimal_digits() {
    let mut node = Node::start(&[]);
    let twenty = "0x000102030405060708090a0b0c0d0e0f10111213";
    for (key, place) in [
        ("hello", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        ("0x68656c6c6f", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        (twenty, "e7aebf577f60412f0312d442c70a1fa6148c090bf5bab404caec29482ae779e8"),
        (
            "0x000102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f",
            "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd",
        ),
        ("0xabc", "eb4b9e8905923468a20ce3dc86bcdefef67f743a8156f44ca52e548e62e2c8f0"),
        ("0x", "a54942c8e365f3784f38b8d437f9d708290db60738b00cdcfb934c32d1be97f3"),
        ("0xzz", "29a9e4e79e8c45090ea095a2e58875ebb376a243f1b7a53b9d3bf9c80957a7aa"),
    ] {
        assert_eq!(node.ask(&format!("ln {key}"))[0], format!("looking for {place}"), "{key}");
    }
    node.ask("put hello 0x6869");
    assert_eq!(node.tell("get 0x68656c6c6f"), "0x6869", "values are texts");
    let own: PeerId = node.id.parse().unwrap();
    assert_eq!(node.status("key"), sha256(&own.to_bytes()));
}

#[test]
fn the_same_seed_or_key_file_is_the_same_id() {
    let id = |options: &[&str]| Node::start(options).id.clone();
    assert_eq!(id(&["--id", "alice"]), ALICE);
    assert_eq!(id(&["--id", "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"]), ALICE);
    assert_ne!(id(&["--id", "bob"]), ALICE);
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-key-{}", std::process::id()));
    let file = path.to_str().unwrap();
    let first = id(&["--key-file", file]);
    assert_eq!(id(&["--key-file", file]), first);
    #[cfg(unix)]
    {
        let mode = std::fs::metadata(&path).map(|file| std::os::unix::fs::MetadataExt::mode(&file)).unwrap();
        assert_eq!(mode & 0o777, 0o600);
    }
    std::fs::write(&path, "not a key").unwrap();
    let error = refused(&["--key-file", file]);
    std::fs::remove_file(&path).unwrap();
    assert!(error.contains(file) && error.contains("not a private key"), "{error}");
    let error = refused(&["--key-file", file, "--id", "alice"]);
    assert!(error.contains("--id") && error.contains("--key-file"), "{error}");
    assert!(!path.exists());
}

/// The id of `--id alice`, whose secret key is the SHA-256 of `alice`.
const ALICE: &str = "12D3KooWQCkBm1BYtkHpocxCwMgR8yjitEeHGx8spzcDLGt2gkBm";

#[test]
fn two_networks_on_one_machine_do_not_mix() {
    let mut a = Node::start(&["--network", "one"]);
    let mut b = Node::start(&["--network", "two", "--bootstrap", &a.bootstrap]);
    assert!(b.greeting.iter().any(|line| line.starts_with("not joined yet: ")), "{:?}", b.greeting);
    let mut c = Node::joined(&["--network", "/one/kad/1.0.0"], &a);
    a.ask("put k v");
    assert_eq!(c.tell("get k"), "v");
    assert_ne!(b.tell("get k"), "v");
    assert_eq!(b.status("peers"), "0 in the table, 0 of them connected");
    assert_eq!(b.status("protocol"), "/two/kad/1.0.0");
    assert!(b.status("join").ends_with(" --network two"));
}

#[test]
fn without_options_it_prints_what_another_one_is_started_with() {
    let mut command = command(&[]);
    command.env("RUST_LOG", "info").stderr(Stdio::piped());
    let mut a = Node::of(command);
    assert!(a.bootstrap.starts_with("/ip4/127.0.0.1/tcp/"), "{}", a.bootstrap);
    let mut b = Node::joined(&[], &a);
    assert_ne!(a.id, b.id);
    assert!(b.tell(&format!("ping {}", a.id)).contains(" answered in "));
    let (key, port) = (a.status("key"), a.bootstrap.split('/').nth(4).unwrap().to_owned());
    assert!(a.status("address").starts_with("/ip4/"));
    // Both ports of another one are bound by name, and its id stands apart.
    let (address, id) = a.bootstrap.split_once("/p2p/").unwrap();
    let bind = ["--bind", "/ip4/127.0.0.1/tcp/0", "--bind", "/ip4/127.0.0.1/tcp/0"];
    let mut c = Node::start(&[&bind[..], &["--bootstrap", address, "--bootstrap-id", id]].concat());
    assert!(c.tell(&format!("ping {id}")).contains(" answered in "));
    let addresses: Vec<_> = c.ask("status").into_iter().filter(|line| line.starts_with("address")).collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let d = Node::start(&["--bootstrap", address]);
    assert!(d.greeting.iter().any(|line| line == &format!("met {id} at {address}")), "{:?}", d.greeting);
    a.write(b"quit\n");
    let mut log = String::new();
    a.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    for said in ["listening", "127.0.0.1", &port, &key] {
        assert!(log.contains(said), "{said}: {log}");
    }
    assert!(a.ended());
}

#[test]
fn wrong_options_are_told() {
    let id = PeerId::random().to_string();
    let other = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", PeerId::random());
    for (options, said) in [
        (&["--bootstrap-id", &id][..], "--bootstrap <ADDRESS>"),
        (&["--bootstrap", &format!("/p2p/{id}")], "the address is missing"),
        (&["--bootstrap", &other, "--bootstrap-id", &id], "names another id than --bootstrap-id"),
        (&["--bootstrap", "here"], "'here' for '--bootstrap <ADDRESS>'"),
        (&["--bootstrap-id", "who", "--bootstrap", &other], "'who' for '--bootstrap-id <ID>'"),
        (&["--bind", "/ip4/127.0.0.1"], "cannot listen: Multiaddr is not supported: /ip4/127.0.0.1"),
        (&["--bind", "/ip4/203.0.113.1/tcp/0"], "cannot listen on /ip4/203.0.113.1/tcp/0: C"),
        (&["--network", ""], "--network: expected a name"),
        (&["--key-file", "/nowhere/at/all"], "--key-file /nowhere/at/all: "),
        (&["put"], "unexpected argument 'put'"),
    ] {
        let error = refused(options);
        assert!(error.contains(said), "{options:?}: {error}");
    }
}

/// A file that is gone with the test.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

#[test]
fn what_is_stored_survives_a_kill_and_so_does_the_way_back() {
    let file = format!("libp2p-kademlia-node-{}", std::process::id());
    let file = Temporary(std::env::temp_dir().join(file));
    let store = file.0.to_str().unwrap();
    let mut other = Node::start(&["--bind", "/ip4/127.0.0.1/tcp/0"]);
    let mut node = Node::joined(&["--id", "keeper", "--store", store], &other);
    other.until_it_knows(1);
    node.until_it_knows(1);
    assert!(node.tell("put key value").contains("stored"));
    // One that another node has put here is kept as well.
    let from_other = other.tell("put theirs too");
    assert!(from_other.contains("stored"), "{from_other}");
    // Its peers are saved a second after they have entered the table.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let copy = Temporary(file.0.with_extension("copy"));
        std::fs::copy(&file.0, &copy.0).unwrap();
        let saved = Redb::open(&copy.0, node.id.parse().unwrap()).and_then(|store| store.load_peers());
        // What is copied while it is written may be unreadable.
        if saved.is_ok_and(|peers| !peers.is_empty()) {
            break;
        }
        assert!(Instant::now() < deadline, "the peers are not saved");
        thread::sleep(Duration::from_millis(20));
    }
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    // Nobody else gets what is its.
    let error = refused(&["--id", "another", "--store", store]);
    assert!(error.contains("the file is of the node") && error.contains(&node.id), "{error}");
    // It comes back with the same id, without being told of anybody.
    let mut again = Node::start(&["--id", "keeper", "--store", store]);
    assert_eq!(again.id, node.id);
    assert_eq!(again.tell("get key"), "value");
    assert_eq!(again.tell("get theirs"), "too");
    again.until_it_knows(1);
    drop(other);
    assert!(refused(&["--store", "/"]).contains("--store"));
}

#[test]
fn the_knobs_are_set_by_options() {
    let mut hub = Node::start(&["--bind", "/ip4/127.0.0.1/tcp/0"]);
    let options =
        ["--bucket-size", "1", "--parallelism", "2", "--disjoint-paths", "2", "--query-timeout", "5"];
    let mut others: Vec<_> = (0..3).map(|_| Node::joined(&options, &hub)).collect();
    hub.until_it_knows(3);
    let put = others[0].tell("put key value");
    assert!(put.contains("stored it: 1,"), "k is 1: {put}");
    assert!(hub.tell("put other value").contains("stored it: 3,"), "and 20 there");
    for wrong in [["--bucket-size", "0"], ["--parallelism", "none"], ["--record-ttl", "0"]] {
        assert!(refused(&wrong).contains(wrong[0]), "{wrong:?}");
    }
}
