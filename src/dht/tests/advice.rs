//! What the application is told of its own set-up.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::config::IPFS;
use crate::dht::advice::{OF_CLIENT, OF_IDENTIFY, of_protocol};
use crate::dht::op::GetRecordError;
use crate::record::RecordKey;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does something, and returns the `warn` lines that it has written.
fn warned(deed: impl FnOnce()) -> Vec<String> {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_max_level(tracing::Level::WARN);
    tracing::subscriber::with_default(subscriber.with_ansi(false).finish(), deed);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// Searches a record where the only peer does not speak the protocol.
fn search_in_vain(dht: &mut Dht<MemoryStore>) {
    let query = dht.get_record(start(), RecordKey::new(b"key"), None);
    let mut out = outputs(dht);
    while let Some((_, id, _)) = asked(&out).last().cloned() {
        dht.handle_input(start(), Input::RequestFailed { id, error: RequestError::Unsupported });
        out = outputs(dht);
    }
    let result = result_of(&out, query);
    let Some(QueryResult::GetRecord(Err(error @ GetRecordError::NoAnswer { .. }))) = result else {
        panic!("{result:?}")
    };
    let expected = format!("nobody has answered: 1 of 1: does not speak {IPFS} (is it a client?)");
    assert_eq!(error.to_string(), expected);
}

/// A node that is connected to a seed, which has not said what it speaks.
fn node_with_seed(mode: Option<Mode>) -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet());
    dht.set_mode(start(), mode);
    dht.add_address(start(), peer(1), address(1));
    connect_at(&mut dht, start(), 1, address(1));
    for (_, id, _) in asked(&outputs(&mut dht)) {
        dht.handle_input(start(), Input::RequestFailed { id, error: RequestError::Unsupported });
    }
    outputs(&mut dht);
    dht
}

#[test]
fn where_nobody_speaks_the_protocol_the_application_is_warned_once() {
    let mut dht = node_with_seed(Some(Mode::Server));
    let lines = warned(|| (0..3).for_each(|_| search_in_vain(&mut dht)));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains(&of_protocol(&IPFS.into())), "{line}");
}

#[test]
fn a_client_whose_query_fails_is_warned_once() {
    let mut dht = node_with_seed(None);
    let lines = warned(|| (0..3).for_each(|_| search_in_vain(&mut dht)));
    let [_, line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains(OF_CLIENT), "{line}");
}

#[test]
fn whoever_is_a_client_by_choice_or_alone_is_not_warned() {
    let mut chosen = node_with_seed(Some(Mode::Client));
    let lines = warned(|| search_in_vain(&mut chosen));
    assert!(lines.iter().all(|line| !line.contains(OF_CLIENT)), "{lines:?}");
    let mut alone = new_dht(0, quiet());
    alone.set_mode(start(), None);
    let lines = warned(|| {
        alone.get_record(start(), RecordKey::new(b"key"), None);
    });
    assert!(lines.is_empty(), "{lines:?}");
}

/// A node to which a peer has connected of which nothing is known.
fn dialled_by_a_stranger() -> Dht<MemoryStore> {
    let mut dht = new_dht(0, quiet());
    let from = "/ip4/127.0.0.1/tcp/50000".parse().unwrap();
    let connected = connected_at(1, from, false, None);
    dht.handle_input(start(), connected);
    outputs(&mut dht);
    dht
}

/// Lets an hour pass, and returns how often identify was missed.
fn missed(dht: &mut Dht<MemoryStore>) -> usize {
    let mut told = Vec::new();
    while let Some(due) = dht.due().filter(|due| due.at <= start() + 3600 * SECOND) {
        dht.handle_timeout(due.at);
        told.extend(events(&outputs(dht)));
    }
    told.iter().filter(|event| matches!(event, Event::IdentifyMissing { connected: 1 })).count()
}

#[test]
fn where_nothing_says_who_is_there_the_application_is_told_once() {
    let mut dht = dialled_by_a_stranger();
    assert_eq!(dht.due().map(|due| due.at), Some(start() + 30 * SECOND));
    let lines = warned(|| assert_eq!(missed(&mut dht), 1));
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains(OF_IDENTIFY), "{line}");
}

#[test]
fn one_word_of_anybody_is_enough() {
    let (external, listening) = (vec![address(0)], vec![]);
    for input in [
        Input::ProtocolDoubted { peer: peer(1) },
        Input::ProtocolConfirmed { peer: peer(1) },
        Input::AddressesLearned { peer: peer(2), addresses: vec![address(2)] },
        Input::LocalAddresses { external, listening },
    ] {
        let mut dht = dialled_by_a_stranger();
        dht.handle_input(start(), input.clone());
        assert_eq!(missed(&mut dht), 0, "{input:?}");
    }
}

#[test]
fn whoever_has_gone_again_misses_nothing() {
    let mut dht = dialled_by_a_stranger();
    dht.handle_input(start(), Input::Disconnected { peer: peer(1), connection: conn(1) });
    assert_eq!(missed(&mut dht), 0);
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, start(), [1]);
    assert_eq!(missed(&mut dht), 0);
}
