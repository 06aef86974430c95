//! The commands: what a line asks for, how it is carried out, and what is told of it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use libp2p::{Multiaddr, PeerId};
use libp2p_kademlia::{
    AddProviderError, AskPeerOk, Client, GetClosestPeersError, GetRecordError, Key, PeerInfo, PeerRecord,
    Precision, ProvideReport, PutRecordError, PutReport, QueryError, Quorum, Record,
};
use tokio::sync::watch;

use crate::node::paste_first;
use crate::{from_hex, hex, place, with_id};

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Put,
    Get,
    Remove,
    LookupNode,
    LookupValue,
    Provide,
    Unprovide,
    Providers,
    Ping,
    Store,
    FindNode,
    FindValue,
    Connect,
    Status,
    Routes,
    Help,
    Quit,
}

/// How a command is written, and what it does.
struct Usage {
    verb: Verb,
    /// Its name, then its other names.
    names: &'static [&'static str],
    /// Words, but the last may be `VALUE`, which is the rest of the line.
    arguments: &'static [&'static str],
    does: &'static str,
}

const fn usage(
    verb: Verb,
    names: &'static [&'static str],
    arguments: &'static [&'static str],
    does: &'static str,
) -> Usage {
    Usage { verb, names, arguments, does }
}

const COMMANDS: [Usage; 17] = [
    usage(
        Verb::Put,
        &["put", "save"],
        &["KEY", "VALUE"],
        "store a value here and at the peers closest to its key",
    ),
    usage(Verb::Get, &["get", "query"], &["KEY"], "find a value, here or at the closest peers"),
    usage(
        Verb::Remove,
        &["remove", "rm"],
        &["KEY"],
        "forget a value here; others keep it until it ends there",
    ),
    usage(
        Verb::LookupNode,
        &["lookup_node", "ln"],
        &["KEY"],
        "find the peers closest to a key, and tell the cost",
    ),
    usage(Verb::LookupValue, &["lookup_value", "lv"], &["KEY"], "find every copy of a value, and who has it"),
    usage(
        Verb::Provide,
        &["provide"],
        &["KEY"],
        "tell the peers closest to a key that this node has what it stands for",
    ),
    usage(
        Verb::Unprovide,
        &["unprovide"],
        &["KEY"],
        "tell them so no more; they believe it for up to 48 hours",
    ),
    usage(Verb::Providers, &["providers"], &["KEY"], "find who has what a key stands for"),
    usage(Verb::Ping, &["ping", "p"], &["PEER"], "ask one peer for a sign of life"),
    usage(Verb::Store, &["store", "s"], &["PEER", "KEY", "VALUE"], "store a value at one peer"),
    usage(
        Verb::FindNode,
        &["find_node", "fn"],
        &["PEER", "KEY"],
        "ask one peer for the peers closest to a key",
    ),
    usage(Verb::FindValue, &["find_value", "fv"], &["PEER", "KEY"], "ask one peer for a value"),
    usage(Verb::Connect, &["connect"], &["ADDRESS"], "join through whoever is at an address"),
    usage(Verb::Status, &["status"], &[], "tell who and where this node is, and how another one joins it"),
    usage(Verb::Routes, &["routes"], &[], "print the routing table"),
    usage(Verb::Help, &["help", "?"], &[], "print this"),
    usage(Verb::Quit, &["quit", "exit"], &[], "end the node, as ctrl-D does"),
];

const NOTES: &str = "\
KEY      a word. It stands for its bytes as text, or, written 0x and an even number of hexadecimal digits, for those:
         hello and 0x68656c6c6f are the same key. The SHA-256 of the bytes says which peers are closest.
VALUE    the rest of the line; spaces around it do not count
PEER     an id; the beginning, with or without 12D3KooW, of the id of just one peer in the table; or me
ADDRESS  as /ip4/127.0.0.1/tcp/4001, with or without /p2p/<id>";

impl Usage {
    fn of(name: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|usage| usage.names.contains(&name))
    }

    fn line(&self) -> String {
        let words: Vec<_> = self.names.iter().take(1).chain(self.arguments).copied().collect();
        words.join(" ")
    }

    /// Splits what stands behind the name into the arguments.
    fn split<'a>(&self, mut rest: &'a str) -> Option<Vec<&'a str>> {
        let mut arguments = Vec::new();
        for argument in self.arguments {
            let (word, behind) = if *argument == "VALUE" { (rest, "") } else { first_word(rest) };
            if word.is_empty() {
                return None;
            }
            arguments.push(word);
            rest = behind;
        }
        rest.is_empty().then_some(arguments)
    }
}

/// Returns the first word and what stands behind it, without the spaces between.
fn first_word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// Returns the bytes that a key stands for.
fn key(text: &str) -> Vec<u8> {
    text.strip_prefix("0x").and_then(from_hex).unwrap_or_else(|| text.as_bytes().to_vec())
}

/// Returns what others sent as text if it is some that cannot upset a terminal, and else in hexadecimal digits.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => format!("0x{}", hex(bytes)),
    }
}

/// Returns the beginning of what a user typed, as it may be repeated in a message.
fn typed(text: &str) -> String {
    let beginning: String = text.chars().take(40).collect();
    let more = if beginning.len() < text.len() { ".." } else { "" };
    format!("`{}{more}`", beginning.escape_debug())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Why a command ended before it was through.
pub(crate) enum Fault {
    /// Something to be told to the user.
    Told(String),
    /// What it said could not be written.
    Output(io::Error),
    /// The user wants to end.
    Quit,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn told(error: impl std::error::Error) -> Fault {
    Fault::Told(error.to_string())
}

type Outcome = Result<(), Fault>;

/// The node, as commands use it.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) peer_id: PeerId,
    /// Where it listens.
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    /// The name of the protocol.
    pub(crate) protocol: String,
    /// The option by which another node becomes part of the same network.
    pub(crate) network: String,
}

/// Joins through the peers that are known, and says what came of it.
pub(crate) async fn joined(client: &Client) -> String {
    match client.bootstrap().await {
        Ok(_) => match client.peer_count().await {
            Ok(1) => "joined: 1 peer in the table".to_owned(),
            Ok(count) => format!("joined: {count} peers in the table"),
            Err(error) => error.to_string(),
        },
        Err(error) => format!("not joined yet: {error}"),
    }
}

impl Session {
    /// Returns the command that starts another node which joins this one.
    pub(crate) fn invitation(&self) -> String {
        let addresses = self.addresses.borrow();
        let address = addresses.iter().min_by_key(|address| paste_first(address));
        let bootstrap = address
            .map_or_else(String::new, |address| format!(" --bootstrap {}", with_id(address, self.peer_id)));
        format!("cargo run --release --example node --{bootstrap}{}", self.network)
    }

    /// Carries out a line.
    pub(crate) async fn obey(&self, line: &str, out: &mut impl Write) -> Outcome {
        let (name, rest) = first_word(line.trim());
        if name.is_empty() {
            return Ok(());
        }
        let Some(usage) = Usage::of(name) else {
            return Err(Fault::Told(format!("unknown command {}; `help` lists them", typed(name))));
        };
        let expected = || Fault::Told(format!("expected: {}", usage.line()));
        let arguments = usage.split(rest).ok_or_else(expected)?;
        match (usage.verb, &arguments[..]) {
            (Verb::Put, [name, value]) => self.put(name, value, out).await,
            (Verb::Get, [name]) => self.get(name, out).await,
            (Verb::Remove, [name]) => self.remove(name, out).await,
            (Verb::LookupNode, [name]) => self.lookup_node(name, out).await,
            (Verb::LookupValue, [name]) => self.lookup_value(name, out).await,
            (Verb::Provide, [name]) => self.provide(name, out).await,
            (Verb::Unprovide, [name]) => self.unprovide(name, out).await,
            (Verb::Providers, [name]) => self.providers(name, out).await,
            (Verb::Ping, [peer]) => self.ping(peer, out).await,
            (Verb::Store, [peer, name, value]) => self.store(peer, name, value, out).await,
            (Verb::FindNode, [peer, name]) => self.find_node(peer, name, out).await,
            (Verb::FindValue, [peer, name]) => self.find_value(peer, name, out).await,
            (Verb::Connect, [address]) => self.connect(address, out).await,
            (Verb::Status, []) => self.status(out).await,
            (Verb::Routes, []) => Ok(write!(out, "{}", self.client.routing_table().await.map_err(told)?)?),
            (Verb::Help, []) => help(out),
            (Verb::Quit, []) => Err(Fault::Quit),
            _ => Err(expected()),
        }
    }

    async fn put(&self, name: &str, value: &str, out: &mut impl Write) -> Outcome {
        match self.client.put(key(name), value.to_owned()).await {
            Err(PutRecordError::Query { cause: QueryError::NoKnownPeers, .. }) => Ok(writeln!(
                out,
                "stored here only: no other peer is known yet; it is sent to those that come"
            )?),
            Err(PutRecordError::QuorumFailed { report, .. }) if report.is_empty() => {
                Ok(writeln!(out, "stored here only: none of the known peers answered; it is tried again")?)
            }
            result => report(result, out),
        }
    }

    async fn get(&self, name: &str, out: &mut impl Write) -> Outcome {
        let record = self.client.get(key(name)).await.map_err(told)?;
        Ok(writeln!(out, "{}", shown(&record.value))?)
    }

    async fn remove(&self, name: &str, out: &mut impl Write) -> Outcome {
        self.client.remove(key(name)).await.map_err(told)?;
        Ok(writeln!(out, "{} is not stored here any more; others keep it until it ends there", typed(name))?)
    }

    async fn provide(&self, name: &str, out: &mut impl Write) -> Outcome {
        match self.client.provide(key(name)).await {
            Err(AddProviderError::Query { cause: QueryError::NoKnownPeers, .. }) => {
                Ok(writeln!(out, "no other peer is known yet; the first ones that come are told")?)
            }
            report => {
                let ProvideReport { sent, failed, pending, .. } = report.map_err(told)?;
                Ok(writeln!(
                    out,
                    "told: {}, failed: {}, under way: {}",
                    sent.len(),
                    failed.len(),
                    pending.len()
                )?)
            }
        }
    }

    async fn unprovide(&self, name: &str, out: &mut impl Write) -> Outcome {
        self.client.stop_providing(key(name)).await.map_err(told)?;
        Ok(writeln!(out, "{} is not provided any more; others believe it until it ends there", typed(name))?)
    }

    async fn providers(&self, name: &str, out: &mut impl Write) -> Outcome {
        let bytes = key(name);
        let target = Key::sha256(&bytes);
        let (start, mut count) = (Instant::now(), 0);
        let mut found = self.client.providers(bytes);
        while let Some(PeerInfo { peer_id, addrs }) = found.next().await {
            count += 1;
            // A name in an address is what a stranger wrote.
            let addresses: Vec<_> =
                addrs.iter().map(|address| address.to_string().escape_debug().to_string()).collect();
            let provider = self.shown_peer(&target, &peer_id);
            writeln!(out, "{count:3}. {provider}: {}", addresses.join(", "))?;
        }
        if let Some(error) = found.error() {
            return Err(told(error));
        }
        Ok(writeln!(out, "providers: {count}, time: {}", milliseconds(start.elapsed()))?)
    }

    async fn lookup_node(&self, name: &str, out: &mut impl Write) -> Outcome {
        let bytes = key(name);
        let target = Key::sha256(&bytes);
        writeln!(out, "looking for {}", hex(target.as_bytes()))?;
        let found = match self.client.lookup(bytes, Precision::Exact).await {
            Ok(found) => found,
            Err(error) => {
                if let GetClosestPeersError::Query { peers, .. } = &error {
                    list(&target, peers, out)?;
                }
                return Err(told(error));
            }
        };
        list(&target, &found.peers, out)?;
        let path: Vec<_> = found.path.iter().map(ToString::to_string).collect();
        writeln!(out, "path: this node -> {}", path.join(" -> "))?;
        let stats = found.stats;
        writeln!(
            out,
            "peers: {}, hops: {}, requests: {}, failed: {}, soft timeouts: {}, dials: {}, time: {}",
            found.peers.len(),
            stats.hops(),
            stats.num_requests(),
            stats.num_failures(),
            stats.num_soft_timeouts(),
            stats.num_dials(),
            milliseconds(stats.duration().unwrap_or_default())
        )?;
        Ok(())
    }

    async fn lookup_value(&self, name: &str, out: &mut impl Write) -> Outcome {
        let bytes = key(name);
        let target = Key::sha256(&bytes);
        writeln!(out, "looking for {}", hex(target.as_bytes()))?;
        let (start, mut copies) = (Instant::now(), 0);
        let mut found = self.client.get_all(bytes);
        while let Some(next) = found.next().await {
            match next {
                Ok(PeerRecord { peer, record }) => {
                    copies += 1;
                    let holder = self.shown_peer(&target, &peer.unwrap_or(self.peer_id));
                    writeln!(out, "{copies:3}. {holder}: {}", shown(&record.value))?;
                }
                Err(error) => {
                    if let GetRecordError::NotFound { closest_peers, .. } = &error {
                        writeln!(out, "asked, nearest first:")?;
                        list(&target, closest_peers, out)?;
                    }
                    return Err(told(error));
                }
            }
        }
        Ok(writeln!(out, "copies: {copies}, time: {}", milliseconds(start.elapsed()))?)
    }

    async fn ping(&self, peer: &str, out: &mut impl Write) -> Outcome {
        let peer = self.peer(peer).await?;
        if peer == self.peer_id {
            return Ok(writeln!(out, "{peer} is this node, and alive")?);
        }
        let ok = self.client.ping(peer).await.map_err(told)?;
        Ok(writeln!(out, "{peer} answered in {}", milliseconds(ok.rtt))?)
    }

    async fn store(&self, peer: &str, name: &str, value: &str, out: &mut impl Write) -> Outcome {
        let peer = self.peer(peer).await?;
        if peer == self.peer_id {
            return Err(Fault::Told("that is this node: `put` stores here, too".to_owned()));
        }
        let record = Record::new(key(name), value.to_owned());
        report(self.client.put_record_to(record, [peer], Quorum::All).await, out)
    }

    async fn find_node(&self, peer: &str, name: &str, out: &mut impl Write) -> Outcome {
        let (peer, bytes) = (self.peer(peer).await?, key(name));
        let target = Key::sha256(&bytes);
        if peer == self.peer_id {
            let table = self.client.routing_table().await.map_err(told)?;
            let mut peers: Vec<_> = table
                .peers()
                .map(|entry| PeerInfo { peer_id: entry.peer, addrs: entry.addresses.clone() })
                .collect();
            peers.sort_by_key(|peer| target.distance(&place(&peer.peer_id)));
            peers.truncate(libp2p_kademlia::K_VALUE.get());
            return self.named(&target, peer, &peers, out);
        }
        let ok = self.client.find_node_at(peer, bytes).await.map_err(told)?;
        self.named(&target, peer, &ok.closer, out)
    }

    async fn find_value(&self, peer: &str, name: &str, out: &mut impl Write) -> Outcome {
        let (peer, bytes) = (self.peer(peer).await?, key(name));
        let target = Key::sha256(&bytes);
        if peer == self.peer_id {
            // What is stored here comes first.
            let first = self.client.get_all(bytes).next().await;
            return match first {
                Some(Ok(PeerRecord { peer: None, record })) => Ok(writeln!(out, "{}", shown(&record.value))?),
                _ => Err(Fault::Told("this node does not store it".to_owned())),
            };
        }
        let AskPeerOk { closer, record, .. } = self.client.get_record_at(peer, bytes).await.map_err(told)?;
        match record {
            Some(record) => Ok(writeln!(out, "{}", shown(&record.value))?),
            None => {
                writeln!(out, "{peer} does not store it")?;
                self.named(&target, peer, &closer, out)
            }
        }
    }

    async fn connect(&self, address: &str, out: &mut impl Write) -> Outcome {
        let parsed: Option<Multiaddr> =
            address.parse().ok().filter(|address: &Multiaddr| !address.is_empty());
        let parsed = parsed.ok_or_else(|| {
            Fault::Told(format!("expected an address as /ip4/127.0.0.1/tcp/4001, not {}", typed(address)))
        })?;
        let peer = self.client.connect(parsed).await.map_err(told)?;
        writeln!(out, "met {peer}")?;
        Ok(writeln!(out, "{}", joined(&self.client).await)?)
    }

    async fn status(&self, out: &mut impl Write) -> Outcome {
        let table = self.client.routing_table().await.map_err(told)?;
        let connected = table.peers().filter(|entry| entry.is_connected).count();
        writeln!(out, "id        {}", self.peer_id)?;
        writeln!(out, "key       {}", hex(place(&self.peer_id).as_bytes()))?;
        writeln!(out, "protocol  {}", self.protocol)?;
        for address in self.addresses.borrow().iter() {
            writeln!(out, "address   {address}")?;
        }
        writeln!(out, "peers     {} in the table, {connected} of them connected", table.len())?;
        Ok(writeln!(out, "join      {}", self.invitation())?)
    }

    /// Returns the peer that a word means.
    async fn peer(&self, word: &str) -> Result<PeerId, Fault> {
        if word == "me" {
            return Ok(self.peer_id);
        }
        if let Ok(peer) = word.parse() {
            return Ok(peer);
        }
        let table = self.client.routing_table().await.map_err(told)?;
        let begins = |peer: &PeerId| {
            let id = peer.to_base58();
            id.starts_with(word) || id.strip_prefix("12D3KooW").is_some_and(|id| id.starts_with(word))
        };
        let mut meant = table.peers().map(|entry| entry.peer).filter(begins);
        match (meant.next(), meant.count()) {
            (Some(peer), 0) => Ok(peer),
            (Some(_), more) => {
                Err(Fault::Told(format!("{} peers' ids begin with {}", more + 1, typed(word))))
            }
            (None, _) => Err(Fault::Told(format!(
                "expected the id of a peer, or the beginning of one in the table, or me; not {}",
                typed(word)
            ))),
        }
    }

    /// Tells whom a peer has named.
    fn named(&self, target: &Key, by: PeerId, peers: &[PeerInfo], out: &mut impl Write) -> Outcome {
        let whose = if by == self.peer_id { "this node".to_owned() } else { by.to_string() };
        writeln!(out, "{whose} knows {} closest to {}:", peers.len(), hex(target.as_bytes()))?;
        Ok(list(target, peers, out)?)
    }

    fn shown_peer(&self, target: &Key, peer: &PeerId) -> String {
        let own = if *peer == self.peer_id { " (this node)" } else { "" };
        format!("{peer}{own}, {}", distance(target, peer))
    }
}

/// How far a peer is from a key, as people take it in.
fn distance(target: &Key, peer: &PeerId) -> String {
    format!("{} bits in common", target.common_prefix(&place(peer)))
}

/// Prints peers, one on each line.
fn list(target: &Key, peers: &[PeerInfo], out: &mut impl Write) -> io::Result<()> {
    for (n, peer) in (1..).zip(peers) {
        let addresses: Vec<_> = peer.addrs.iter().map(ToString::to_string).collect();
        writeln!(
            out,
            "{n:3}. {}, {}  {}",
            peer.peer_id,
            distance(target, &peer.peer_id),
            addresses.join(" ")
        )?;
    }
    Ok(())
}

/// Tells what became of a record that was sent to others.
fn report(result: Result<PutReport, PutRecordError>, out: &mut impl Write) -> Outcome {
    let report = match &result {
        Ok(report) => report,
        Err(
            PutRecordError::QuorumFailed { report, .. }
            | PutRecordError::Query { cause: QueryError::Timeout | QueryError::Cancelled, report, .. },
        ) => report,
        Err(error) => return Err(Fault::Told(error.to_string())),
    };
    let PutReport { stored, refused, failed, pending, .. } = report;
    writeln!(
        out,
        "peers that stored it: {}, refused: {}, failed: {}, pending: {}",
        stored.len(),
        refused.len(),
        failed.len(),
        pending.len()
    )?;
    for peer in refused {
        writeln!(out, "  {peer} refused, or has another value")?;
    }
    for (peer, why) in failed {
        writeln!(out, "  {peer} failed: {why}")?;
    }
    for peer in pending {
        writeln!(out, "  {peer} has not answered yet")?;
    }
    result.map(drop).map_err(told)
}

fn help(out: &mut impl Write) -> Outcome {
    for usage in &COMMANDS {
        let others = usage.names.get(1..).unwrap_or_default().join(", ");
        writeln!(out, "{:22} {:8} {}", usage.line(), others, usage.does)?;
    }
    Ok(writeln!(out, "{NOTES}")?)
}
