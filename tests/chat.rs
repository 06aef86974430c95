//! The example `chat` as its users start it: processes that know only one node of the network, which does not chat.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, which has a deadline"
)]

#[path = "../examples/chat/message.rs"]
mod message;
mod program;
#[path = "../examples/chat/room.rs"]
mod room;
#[path = "../examples/chat/script.rs"]
mod script;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{SwarmBuilder, identify, noise, tcp, yamux};
use libp2p_gossipsub::{self as gossipsub, IdentTopic, MessageAuthenticity};
use libp2p_kademlia::store::MemoryStore;
use libp2p_kademlia::{Behaviour, Mode};
use libp2p_quic as quic;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How long a whole test may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// How soon everybody has to hear everybody once the last one has been started.
const SOON: Duration = Duration::from_secs(5);

fn command(options: &[&str]) -> Command {
    program::command("chat", options)
}

/// A file that is gone with the test.
struct Temporary(PathBuf);

impl Temporary {
    fn script(name: &str, text: &str) -> Self {
        let file = format!("libp2p-kademlia-chat-{}-{name}", std::process::id());
        let file = std::env::temp_dir().join(file);
        std::fs::write(&file, text).unwrap();
        Self(file)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Somebody who chats, and is killed when it is dropped.
struct Chatter {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    /// What comes behind `--bootstrap` in the command that it prints.
    bootstrap: String,
    started: Instant,
    deadline: Instant,
}

impl Drop for Chatter {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chatter {
    /// Starts it, and returns when it has printed how to reach it.
    fn start(options: &[&str]) -> Self {
        let mut command = command(options);
        let started = Instant::now();
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (tell, lines) = sync_channel(10_000);
        thread::Builder::new()
            .spawn(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                lines.take_while(|line| tell.send((Instant::now(), line.clone())).is_ok()).for_each(drop);
            })
            .unwrap();
        let deadline = started + DEADLINE;
        let mut this = Self { child, stdin, lines, bootstrap: String::new(), started, deadline };
        let (_, invitation) = this.until(|line| line.starts_with("cargo run "));
        let words: Vec<_> = invitation.split_whitespace().collect();
        assert_eq!(words[..6], ["cargo", "run", "--release", "--example", "chat", "--"]);
        assert_eq!(words[words.len() - 2], "--bootstrap");
        this.bootstrap = words[words.len() - 1].to_owned();
        this
    }

    fn write(&mut self, text: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_ref()).and_then(|()| stdin.flush()).unwrap();
    }

    /// Returns the next such line, and when it was printed; skips others.
    fn until(&mut self, is_it: impl Fn(&str) -> bool) -> (Instant, String) {
        let mut skipped = Vec::new();
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if is_it(&line) => return (at, line),
                Ok((_, line)) => skipped.push(line),
                Err(error) => panic!("{error}: {skipped:?}"),
            }
        }
    }

    fn reads(&mut self, line: &str) -> Instant {
        self.until(|printed| printed == line).0
    }

    /// Waits until it has ended; returns whether it says that all was well, and the error that it printed.
    fn ended(mut self) -> (bool, String) {
        while self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())).is_ok() {}
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().success(), errors)
    }
}

/// A node of the network that is in no room, unless it sends something to one.
#[derive(NetworkBehaviour)]
struct Node {
    kademlia: Behaviour,
    identify: identify::Behaviour,
    gossipsub: gossipsub::Behaviour,
}

/// A node in this process.
struct Bootstrap {
    address: String,
    /// What it publishes.
    publish: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn swarm() -> Swarm<Node> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_other_transport(|keypair| quic::tokio::Transport::new(quic::Config::new(keypair)))
        .unwrap()
        .with_behaviour(|keypair: &Keypair| {
            let peer_id = keypair.public().to_peer_id();
            let authenticity = MessageAuthenticity::Signed(keypair.clone());
            Node {
                kademlia: Behaviour::new(peer_id, MemoryStore::new(peer_id)),
                identify: identify::Behaviour::new(identify::Config::new(
                    "/test/1.0.0".into(),
                    keypair.public(),
                )),
                gossipsub: gossipsub::Behaviour::new(authenticity, gossipsub::Config::default()).unwrap(),
            }
        })
        .unwrap()
        .build()
}

impl Bootstrap {
    async fn start(room: Option<&str>) -> Self {
        Self::at("/ip4/127.0.0.1/tcp/0", room).await
    }

    async fn at(listen: &str, room: Option<&str>) -> Self {
        let mut swarm = swarm();
        swarm.behaviour_mut().kademlia.set_mode(Some(Mode::Server));
        swarm.listen_on(listen.parse().unwrap()).unwrap();
        let topic = IdentTopic::new(format!("libp2p-kademlia-chat/{}", room.unwrap_or("nowhere")));
        if room.is_some() {
            swarm.behaviour_mut().gossipsub.subscribe(&topic).unwrap();
        }
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break format!("{address}/p2p/{}", swarm.local_peer_id());
            }
        };
        let (publish, mut published) = mpsc::channel::<Vec<u8>>(100);
        let task = tokio::spawn(async move {
            let (topic, mut listeners) = (topic.hash(), 0);
            loop {
                tokio::select! {
                    event = swarm.select_next_some() => {
                        let subscribed = |event| matches!(event, gossipsub::Event::Subscribed { .. });
                        if let SwarmEvent::Behaviour(NodeEvent::Gossipsub(event)) = event {
                            listeners += usize::from(subscribed(event));
                        }
                    }
                    // Both of those who are to hear it are there.
                    Some(data) = published.recv(), if listeners >= 2 => {
                        swarm.behaviour_mut().gossipsub.publish(topic.clone(), data).unwrap();
                    }
                }
            }
        });
        Self { address, publish, task }
    }
}

/// Runs three by script that know only the bootstrap node; returns after what time everybody had heard everybody.
fn everybody_hears_everybody(bootstrap: &str, room: &str, transport: &[&str]) -> Duration {
    let names = ["alice", "bob", "carol"];
    let hello = |name: &str| format!("hello from {name}");
    let scripts = names.map(|name| {
        let others = names.iter().filter(|other| **other != name);
        let expect: String = others.map(|other| format!("expect {other}: {}\n", hello(other))).collect();
        Temporary::script(&format!("{room}-{name}"), &format!("wait 2\nsay {}\n{expect}quit\n", hello(name)))
    });
    let mut chatters: Vec<_> = names
        .iter()
        .zip(&scripts)
        .map(|(name, script)| {
            let options =
                ["--name", name, "--room", room, "--bootstrap", bootstrap, "--script", script.path()];
            Chatter::start(&[&options, transport].concat())
        })
        .collect();
    let mut last = chatters[2].started;
    for (name, chatter) in names.iter().zip(&mut chatters) {
        let mut missing: HashSet<_> = names
            .iter()
            .filter(|other| *other != name)
            .map(|other| format!("{other}: {}", hello(other)))
            .collect();
        while !missing.is_empty() {
            let (at, line) = chatter.until(|line| missing.contains(line));
            missing.remove(&line);
            last = last.max(at);
        }
    }
    let time = last.duration_since(chatters[2].started);
    for chatter in chatters {
        assert_eq!(chatter.ended(), (true, String::new()));
    }
    time
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_who_know_only_a_fourth_hear_each_other_within_seconds() {
    let quic = ["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let tcp = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    for (room, listen, transport) in [
        ("both", "/ip4/127.0.0.1/tcp/0", &[][..]),
        ("tcp", "/ip4/127.0.0.1/tcp/0", &tcp),
        ("quic", "/ip4/127.0.0.1/udp/0/quic-v1", &quic),
    ] {
        let bootstrap = Bootstrap::at(listen, None).await;
        let time = everybody_hears_everybody(&bootstrap.address, room, transport);
        println!("{room}: everybody has heard everybody {} ms after the last start", time.as_millis());
        assert!(time < SOON, "{room}: {time:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_and_who_goes_is_told() {
    let bootstrap = Bootstrap::start(None).await;
    let mut alice = Chatter::start(&["--name", "alice", "--bootstrap", &bootstrap.address]);
    alice.write("is anybody here?\n/who\n");
    alice.reads("* nobody is here yet: your lines are kept until somebody is");
    alice.reads("* here: you");
    // By the command that the first one prints, with the same nick, and without the id of the node.
    let mut other = Chatter::start(&["--name", "alice", "--bootstrap", &alice.bootstrap]);
    let (_, said) = other.until(|line| line.ends_with(": is anybody here?"));
    assert!(said.starts_with("alice#"), "nobody passes for somebody else: {said}");
    let address = bootstrap.address.split("/p2p/").next().unwrap();
    let mut bob = Chatter::start(&["--name", "bob", "--bootstrap", address]);
    alice.reads("* bob joined");
    other.reads("* bob joined");
    bob.until(|line| line == "* alice joined");
    bob.until(|line| line.starts_with("* alice#") && line.ends_with(" joined"));
    // In another room nothing of this is heard.
    let mut stranger =
        Chatter::start(&["--name", "eve", "--room", "elsewhere", "--bootstrap", &alice.bootstrap]);
    alice.write("/shout\n \n/who\n");
    alice.until(|line| line.starts_with("* unknown command: "));
    let (_, who) = alice.until(|line| line.starts_with("* here: "));
    assert!(who.starts_with("* here: you, alice#") && who.ends_with(", bob"), "{who}");
    other.write("/quit\n");
    assert_eq!(other.ended(), (true, String::new()));
    alice.until(|line| line.starts_with("* alice#") && line.ends_with(" left"));
    // One that is killed cannot say goodbye.
    bob.child.kill().unwrap();
    alice.reads("* bob left");
    stranger.write("anybody?\n/who\n");
    stranger.reads("* nobody is here yet: your lines are kept until somebody is");
    stranger.reads("* here: you");
    stranger.stdin = None;
    stranger.reads("* nobody has heard your last lines: 1");
    assert_eq!(stranger.ended(), (true, String::new()), "the end of the input leaves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_send_and_users_type_upsets_nobody() {
    let hostile = Bootstrap::start(Some("lobby")).await;
    let mut alice = Chatter::start(&["--name", "alice", "--bootstrap", &hostile.address]);
    let mut bob = Chatter::start(&["--name", "bob", "--bootstrap", &hostile.address]);
    alice.reads("* bob joined");
    bob.reads("* alice joined");
    let escape = r#"{"nick":"mallory","say":"\u001b[2J\u202ered\r\n* bob left"}"#;
    for data in [
        &b"\xff\xfe"[..],
        b"{}",
        &[b'['; 60_000],
        br#"{"nick":"* bob left","hello":true}"#,
        br#"{"nick":"\u001b[2J","say":"hi"}"#,
        escape.as_bytes(),
    ] {
        hostile.publish.send(data.to_vec()).await.unwrap();
    }
    for chatter in [&mut alice, &mut bob] {
        let (_, joined) = chatter.until(|line| line.starts_with("* "));
        assert!(joined == "* mallory joined" || joined.starts_with("* you have joined"), "{joined}");
        chatter.reads("mallory: [2Jred  * bob left");
    }
    alice.write(format!("{}\n", "x".repeat(1025)));
    alice.reads("* not said: 1025 bytes are too long for a message: at most 1024");
    alice.write(b"\xff\n");
    alice.reads("* the line could not be read: it is not UTF-8");
    alice.write(format!("{}\n\u{1b}[31mred\n", "x".repeat(1024)));
    bob.reads(&format!("alice: {}", "x".repeat(1024)));
    bob.reads("alice: [31mred");
    alice.write("/who\n");
    alice.reads("* here: you, bob, mallory");
}

/// Runs one that ends by itself, with an error.
fn refused(options: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(options).stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(!status.success() && status.code().is_some(), "{options:?}: {status} {stdout} {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[test]
fn a_script_that_fails_says_where() {
    for (name, text, error) in [
        ("lonely", "sleep 1\nwait 1\n", "error: the script, in vain: line 2: wait 1\n"),
        ("deaf", "# so\n\nexpect bob: hi\n", "error: the script, in vain: line 3: expect bob: hi\n"),
        ("mute", "say hi\nquit\n", "error: the script, nobody was there to hear what was said\n"),
    ] {
        let script = Temporary::script(name, text);
        assert_eq!(refused(&["--script", script.path(), "--max-seconds", "1"]), error);
    }
    let wrong = Temporary::script("wrong", "wait 1\nshout hi\n");
    let error = refused(&["--script", wrong.path()]);
    assert!(error.contains(wrong.path()) && error.contains("line 2: unknown command: shout hi"), "{error}");
    assert!(refused(&["--script", "/nowhere/at/all"]).contains("--script /nowhere/at/all: "));
    let done = Temporary::script("done", "sleep 1\n");
    assert!(command(&["--script", done.path()]).status().unwrap().success());
}

#[test]
fn wrong_options_are_told() {
    for (options, said) in [
        (&["--name", "two words"][..], "a nick has letters, digits,"),
        (&["--name", &"n".repeat(33)], "a nick has at most 32 characters"),
        (&["--room", ""], "a room has a name of 1 to 64 bytes"),
        (&["--bootstrap", "here"], "'here' for '--bootstrap <ADDRESS>'"),
        (&["--listen", "/ip4/127.0.0.1"], "cannot listen: Multiaddr is not supported: /ip4/127.0.0.1"),
        (&["--max-seconds", "3"], "--script <FILE>"),
        (&["hello"], "unexpected argument 'hello'"),
    ] {
        let error = refused(options);
        assert!(error.contains(said), "{options:?}: {error}");
    }
}
