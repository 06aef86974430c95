//! Providers: announced, found, watched, announced anew; and what others announce here.

use std::num::{NonZeroU8, NonZeroUsize};

use super::*;
use crate::config::{Protection, StoreInserts};
use crate::dht::op::{AddProviderError, AddProviderOk, GetProvidersError, GetProvidersOk, ProvideReport};
use crate::error::QueryError;
use crate::event::{InboundRequest, Shortage};
use crate::peer::{ConnectionType, KadPeer};
use crate::record::{ProviderRecord, RecordKey};
use crate::store::RecordStore as _;

const WALL: SystemTime = SystemTime::UNIX_EPOCH;
const HOUR: Duration = Duration::from_secs(3600);

fn content() -> RecordKey {
    RecordKey::new(b"some content")
}

fn net(nodes: usize, config: &Config) -> Net {
    let mut net = Net::new(nodes, &config.clone().with_joining(crate::config::Joining::Automatic));
    net.join_all(10 * MS);
    net.run_for(60 * SECOND);
    net
}

fn provided(result: QueryResult) -> Result<AddProviderOk, AddProviderError> {
    match result {
        QueryResult::StartProviding(result) => result,
        other => panic!("{other:?}"),
    }
}

fn provide_at(net: &mut Net, n: usize, key: &RecordKey) -> Result<ProvideReport, AddProviderError> {
    let id = net.with(n, |dht, now| dht.start_providing(now, key.clone())).unwrap();
    provided(net.result(n, id).0).map(|ok| ok.report)
}

/// The providers that a query has told of, in order.
fn told(net: &Net, n: usize, query: QueryId) -> Vec<PeerInfo> {
    let of_query = |event: &Event| match event {
        Event::OutboundQueryProgressed {
            id,
            result: QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ..
        } if *id == query => Some(providers.clone()),
        _ => None,
    };
    net.nodes[n].events.iter().filter_map(of_query).flatten().collect()
}

fn find_at(net: &mut Net, n: usize, key: &RecordKey) -> Vec<PeerInfo> {
    let id = net.with(n, |dht, now| dht.get_providers(now, key.clone()));
    let (result, _) = net.result(n, id);
    let finished = |ok: &GetProvidersOk| matches!(ok, GetProvidersOk::FinishedWithNoAdditionalRecord { .. });
    assert!(matches!(&result, QueryResult::GetProviders(Ok(ok)) if finished(ok)), "{result:?}");
    told(net, n, id)
}

fn holders(net: &Net, key: &RecordKey, provider: usize) -> Vec<usize> {
    let holds = |n: &usize| {
        let known = net.nodes[*n].dht.store().providers(WALL, key).unwrap();
        *n != provider && known.iter().any(|record| record.provider == peer(provider))
    };
    (0..net.nodes.len()).filter(holds).collect()
}

/// What a node does with an announcement: `true` if it takes it as done.
fn announce(dht: &mut Dht<MemoryStore>, now: Now, from: usize, key: &[u8], named: Vec<KadPeer>) -> bool {
    let request = Request::AddProvider { key: RecordKey::from(key), providers: named };
    dht.handle_input(
        now,
        Input::RequestReceived { from: peer(from), connection: conn(from), id: InboundId(7), request },
    );
    let out = outputs(dht);
    let accepted = out.iter().any(|o| matches!(o, Output::AcceptRequest { id: InboundId(7), .. }));
    let refused = out.iter().any(|o| matches!(o, Output::RefuseRequest { id: InboundId(7), .. }));
    assert!(accepted != refused, "one of both, always: {out:?}");
    assert!(!out.iter().any(|o| matches!(o, Output::SendResponse { .. })), "it is never answered");
    accepted
}

fn bare(n: usize) -> KadPeer {
    KadPeer { multiaddrs: Addresses::empty(), ..named_peer(n) }
}

fn known(dht: &Dht<MemoryStore>, key: &[u8]) -> Vec<ProviderRecord> {
    dht.store().providers(WALL, &RecordKey::from(key)).unwrap()
}

#[test]
fn the_closest_are_told_and_everybody_finds_the_provider_with_its_address() {
    let mut net = net(60, &Config::default().with_protection(Protection::Off));
    let ProvideReport { sent, failed, pending, .. } = provide_at(&mut net, 3, &content()).unwrap();
    // The rest is on its way.
    let report = ProvideReport { sent: [sent, pending].concat(), ..ProvideReport::default() };
    assert!(failed.is_empty());
    // A few more than 20 are told, since a few might be silent.
    let truth = net.truth(3, b"some content", 24);
    assert!(truth[..20].iter().all(|closest| report.sent.contains(closest)), "{report:?}");
    assert!(report.sent.iter().all(|told| truth.contains(told)), "{report:?}");
    net.run_for(SECOND);
    assert_eq!(holders(&net, &content(), 3).len(), report.sent.len());
    for n in (0..60).filter(|n| *n != 3) {
        let info = PeerInfo { peer_id: peer(3), addrs: vec![address(3)] };
        assert_eq!(find_at(&mut net, n, &content()), [info], "by {n}");
        assert!(net.nodes[n].dht.addresses_of(&peer(3)).iter().any(|known| *known == address(3)));
    }
    assert_eq!(find_at(&mut net, 3, &content())[0].peer_id, peer(3), "itself first");
}

/// The requests among some outputs by which this node is announced, after those before them have been answered.
fn announcements(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<(PeerId, RequestId)> {
    let mut all = Vec::new();
    loop {
        let new = asked(&outputs(dht));
        if new.is_empty() {
            return all;
        }
        for (to, id, request) in new {
            if request.is_answered() {
                name(dht, now, id, &[]);
            } else {
                all.push((to, id));
            }
        }
    }
}

#[test]
fn one_event_tells_that_enough_were_told_and_the_query_shows_what_becomes_of_the_others() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, 1..=8);
    let id = dht.start_providing(now, content()).unwrap();
    let announced = announcements(&mut dht, now);
    assert_eq!(announced.len(), 8);
    let report = |dht: &Dht<MemoryStore>| {
        let query = dht.query(id)?;
        let crate::dht::op::QueryInfo::AddProvider { report, sent, .. } = query.info() else {
            panic!("{query:?}")
        };
        assert_eq!(report.sent.len(), *sent);
        Some([report.sent.len(), report.failed.len(), report.pending.len()])
    };
    let mut told = Vec::new();
    for (at, (_, request)) in announced.into_iter().enumerate() {
        let error = RequestError::StreamEnded;
        let failed = Input::RequestFailed { id: request, error };
        dht.handle_input(now, if at == 6 { failed } else { Input::RequestSent { id: request } });
        told.extend(progress(&outputs(&mut dht), id).into_iter().map(|(result, _, step)| {
            let report = provided(result).unwrap().report;
            (at + 1, report.sent.len(), report.pending.len(), step.last)
        }));
        let expected = [[1, 0, 7], [2, 0, 6], [3, 0, 5], [4, 0, 4], [5, 0, 3], [6, 0, 2], [6, 1, 1]];
        assert_eq!(report(&dht), expected.get(at).copied());
    }
    assert_eq!(told, [(6, 6, 2, true)], "three quarters of eight");
}

#[test]
fn an_announcement_can_be_cancelled_after_its_event_and_says_nothing_more() {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, 1..=4);
    let id = dht.start_providing(now, content()).unwrap();
    for (_, request) in announcements(&mut dht, now).into_iter().take(3) {
        dht.handle_input(now, Input::RequestSent { id: request });
    }
    assert_eq!(progress(&outputs(&mut dht), id).len(), 1);
    assert!(dht.cancel(now, id) && !dht.cancel(now, id));
    assert!(progress(&outputs(&mut dht), id).is_empty() && dht.query(id).is_none());
}

/// Lets a lone node search providers, and gives the asker room for so many; the first that is asked names those.
fn search_slowly(room: usize, named: std::ops::Range<usize>, watch: bool) -> (Dht<MemoryStore>, QueryId) {
    let (mut dht, now) = (new_dht(0, quiet()), start());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, 1..=2);
    let id = if watch { dht.watch_providers(now, content()) } else { dht.get_providers(now, content()) };
    dht.make_room(now, id, room);
    for (at, (_, request, _)) in asked(&outputs(&mut dht)).into_iter().enumerate() {
        let provider_peers = if at == 0 { named.clone().map(named_peer).collect() } else { vec![] };
        let response = Response::GetProviders { key: Some(content()), closer_peers: vec![], provider_peers };
        dht.handle_input(now, Input::ResponseReceived { id: request, response });
    }
    (dht, id)
}

/// How many providers each event tells, and which is the last; 0 of one that tells none.
fn counts(dht: &mut Dht<MemoryStore>, id: QueryId) -> Vec<(usize, bool)> {
    let count = |(result, _, step): (QueryResult, QueryStats, ProgressStep)| match result {
        QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
            (providers.len(), step.last)
        }
        _ => (0, step.last),
    };
    progress(&outputs(dht), id).into_iter().map(count).collect()
}

#[test]
fn what_a_slow_asker_has_no_room_for_is_told_at_the_end_of_the_search() {
    let (mut dht, id) = search_slowly(3, 10..20, false);
    assert_eq!(counts(&mut dht, id), [(3, false), (7, false), (0, true)]);
}

#[test]
fn what_a_slow_asker_of_a_watch_has_no_room_for_is_told_when_it_has() {
    let (mut dht, id) = search_slowly(3, 10..20, true);
    assert_eq!(counts(&mut dht, id), [(3, false)]);
    dht.make_room(start(), id, 2);
    assert_eq!(counts(&mut dht, id), [(2, false)]);
    dht.make_room(start(), id, 100);
    assert_eq!(counts(&mut dht, id), [(5, false)]);
    dht.make_room(start(), id, 100);
    assert_eq!(counts(&mut dht, id), []);
}

#[test]
fn whoever_finishes_a_search_is_told_what_was_kept_and_whoever_cancels_is_not() {
    let (mut dht, id) = search_slowly(3, 10..20, true);
    dht.finish(start(), id);
    assert_eq!(counts(&mut dht, id), [(3, false), (7, false), (0, true)]);
    let (mut dht, id) = search_slowly(3, 10..20, true);
    dht.cancel(start(), id);
    assert_eq!(counts(&mut dht, id), [(3, false), (0, true)]);
}

#[test]
fn nothing_is_dropped_because_a_dial_is_needed_and_nothing_counts_before_it_is_sent() {
    // The mistake of libp2p-kad: it drops what must be dialled for, and reports success.
    let mut dht = new_dht(0, quiet());
    let now = start();
    listen_at(&mut dht, now, &[address(0)]);
    for n in 1..4 {
        dht.add_address(now, peer(n), address(n));
    }
    admit(&mut dht, now, [1, 2, 3]);
    for n in 1..4 {
        dht.handle_input(now, Input::Disconnected { peer: peer(n), connection: conn(n) });
    }
    let id = dht.start_providing(now, content()).unwrap();
    let mut asked = BTreeSet::new();
    let mut announced = BTreeMap::new();
    for _ in 0..10 {
        for output in outputs(&mut dht) {
            match output {
                Output::Dial { id, peer: Some(to), .. } => {
                    let n = (1..4).find(|n| peer(*n) == to).unwrap();
                    let dial = Some(id);
                    let input = Input::Connected {
                        located: None,
                        peer: to,
                        connection: conn(n),
                        address: address(n),
                        dialled: true,
                        dial,
                    };
                    dht.handle_input(now, input);
                }
                Output::SendRequest { id, to, request: Request::FindNode { .. }, .. } => {
                    let response = Response::FindNode { closer_peers: vec![] };
                    dht.handle_input(now, Input::ResponseReceived { id, response });
                    // Each closes its connection behind its first answer.
                    if asked.insert(to) {
                        lose(&mut dht, now, (0..60).find(|n| peer(*n) == to).unwrap());
                    }
                }
                Output::SendRequest { id, to, request: Request::AddProvider { key, .. }, .. } => {
                    assert_eq!(key, content());
                    announced.insert(to, id);
                }
                Output::Event(Event::OutboundQueryProgressed { .. }) => panic!("nothing was sent yet"),
                _ => {}
            }
        }
    }
    assert_eq!((asked.len(), announced.len()), (3, 3), "each was dialled for it");
    let mut reports = Vec::new();
    for (at, request) in announced.values().enumerate() {
        dht.handle_input(now, Input::RequestSent { id: *request });
        let sent = outputs(&mut dht).into_iter().filter_map(|output| match output {
            Output::Event(Event::OutboundQueryProgressed { id: of, result, .. }) if of == id => {
                Some(provided(result).unwrap().report.sent.len())
            }
            _ => None,
        });
        reports.extend(sent.map(|sent| (at + 1, sent)));
    }
    assert_eq!(reports, [(3, 3)], "three quarters of three are three");
}

#[test]
fn too_few_is_an_error_that_says_who_and_why() {
    let mut dht = new_dht(0, quiet());
    let now = start();
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, [1, 2]);
    let id = dht.start_providing(now, content()).unwrap();
    let mut last = None;
    for _ in 0..10 {
        for output in outputs(&mut dht) {
            match output {
                Output::SendRequest { id, request: Request::FindNode { .. }, .. } => {
                    let response = Response::FindNode { closer_peers: vec![] };
                    dht.handle_input(now, Input::ResponseReceived { id, response });
                }
                Output::SendRequest { id, to, request: Request::AddProvider { .. }, .. } if to == peer(1) => {
                    dht.handle_input(now, Input::RequestSent { id });
                }
                Output::SendRequest { id, request: Request::AddProvider { .. }, .. } => {
                    dht.handle_input(now, Input::RequestFailed { id, error: RequestError::StreamEnded });
                }
                Output::Event(Event::OutboundQueryProgressed { id: of, result, step, .. }) if of == id => {
                    assert!(step.last);
                    last = Some(provided(result));
                }
                _ => {}
            }
        }
    }
    let Some(Err(AddProviderError::TooFew { report, enough, .. })) = last else {
        panic!("{last:?}");
    };
    assert_eq!(report.sent, [peer(1)]);
    assert_eq!(report.failed, [(peer(2), RequestError::StreamEnded)]);
    assert_eq!(enough.get(), 2);
    // It goes on trying: one of two is fewer than should know.
    assert_eq!(dht.providing.deadline(true), Some((now + 60 * SECOND).instant));
}

#[test]
fn whoever_is_alone_announces_as_soon_as_there_is_somebody() {
    let config = Config::default().with_joining(crate::config::Joining::Automatic);
    let mut net = Net::new(3, &config);
    let id = net.with(0, |dht, now| dht.start_providing(now, content())).unwrap();
    assert_eq!(
        provided(net.result(0, id).0),
        Err(AddProviderError::of_query(QueryError::NoKnownPeers, content()))
    );
    net.run_for(HOUR);
    net.add_address(1, 2);
    net.add_address(0, 1);
    net.run_for(5 * SECOND);
    assert_eq!(holders(&net, &content(), 0), [1, 2]);
    assert_eq!(find_at(&mut net, 2, &content())[0].peer_id, peer(0));
}

#[test]
fn it_is_announced_anew_before_others_forget_it_until_it_is_stopped() {
    let mut net = net(25, &Config::default().with_refresh_interval(None).unwrap());
    provide_at(&mut net, 3, &content()).unwrap();
    // The second time it is longer ago than what was announced at first lasts.
    for day in 1..=2 {
        net.run_for(25 * HOUR);
        let wall = WALL + (net.now - start());
        let closest = net.truth(3, b"some content", 20);
        let holds = |n: &usize| !net.nodes[*n].dht.store().providers(wall, &content()).unwrap().is_empty();
        let holding = (0..25).filter(|n| closest.contains(&peer(*n))).filter(holds).count();
        assert_eq!(holding, 20, "after {day} days");
    }
    net.with(3, |dht, now| dht.stop_providing(now, &content())).unwrap();
    net.run_for(49 * HOUR);
    let wall = WALL + (net.now - start());
    assert!((0..25).all(|n| net.nodes[n].dht.store().providers(wall, &content()).unwrap().is_empty()));
    assert!(find_at(&mut net, 9, &content()).is_empty());
}

#[test]
fn a_provider_known_to_few_is_announced_again_as_the_network_grows() {
    let config = Config::default().with_joining(crate::config::Joining::Automatic);
    let mut net = Net::new(2, &config);
    net.add_address(0, 1);
    net.run_for(5 * SECOND);
    assert_eq!(provide_at(&mut net, 0, &content()).unwrap().sent, [peer(1)]);
    for _ in 2..40 {
        let n = net.add(config.clone());
        net.add_address(n, 1);
        net.run_for(SECOND);
    }
    net.run_for(2 * HOUR);
    let closest = net.truth(0, b"some content", 20);
    let holders = holders(&net, &content(), 0);
    let told = closest.iter().filter(|id| holders.iter().any(|n| peer(*n) == **id)).count();
    assert!(told >= 15, "{told} of the closest 20");
}

#[test]
fn only_the_senders_own_entry_counts() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    meet(&mut dht, now, 1);
    assert!(!announce(&mut dht, now, 1, b"k", vec![named_peer(2)]), "of another: the stream ends");
    assert!(known(&dht, b"k").is_empty());
    assert!(announce(&mut dht, now, 1, b"k", vec![named_peer(2), named_peer(1)]));
    let found = known(&dht, b"k");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].provider, &found[0].addresses[..]), (peer(1), &[address(1)][..]));
    assert_eq!(found[0].expires, Some(WALL + 48 * HOUR));
    assert!(announce(&mut dht, now, 1, &[1; 80], vec![named_peer(1)]));
    assert!(!announce(&mut dht, now, 1, &[1; 81], vec![named_peer(1)]), "longer than anybody's");
    assert!(known(&dht, &[1; 81]).is_empty());
}

#[test]
fn a_client_stores_nothing() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    dht.set_mode(now, Some(Mode::Client));
    assert!(!announce(&mut dht, now, 1, b"k", vec![named_peer(1)]));
    assert!(known(&dht, b"k").is_empty());
}

#[test]
fn addresses_that_come_later_are_handed_on() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    connect_at(&mut dht, now, 2, address(2));
    let request = connected_at(1, "/memory/999".parse().unwrap(), false, None);
    dht.handle_input(now, request);
    assert!(announce(&mut dht, now, 1, b"k", vec![bare(1)]), "one without addresses is not refused");
    let asked = |dht: &mut Dht<MemoryStore>| {
        let request = Request::GetProviders { key: RecordKey::new(b"k") };
        dht.handle_input(
            now,
            Input::RequestReceived { from: peer(2), connection: conn(2), id: InboundId(9), request },
        );
        outputs(dht).into_iter().find_map(|output| match output {
            Output::SendResponse { response: Response::GetProviders { provider_peers, .. }, .. } => {
                Some(provider_peers)
            }
            _ => None,
        })
    };
    let named = asked(&mut dht).unwrap();
    assert_eq!((named.len(), named[0].node_id, named[0].multiaddrs.is_empty()), (1, peer(1), true));
    // By identify: what libp2p-kad leaves out of its announcements if it has no external address.
    dht.handle_input(now, Input::AddressesLearned { peer: peer(1), addresses: vec![address(1)] });
    let named = asked(&mut dht).unwrap();
    assert_eq!(named[0].multiaddrs.iter().collect::<Vec<_>>(), [&address(1)]);
    // By a later announcement.
    assert!(announce(&mut dht, now, 1, b"k", vec![named_peer(1)]));
    assert_eq!(known(&dht, b"k")[0].addresses, [address(1)]);
}

#[test]
fn the_application_may_decide_what_is_taken() {
    let now = start();
    let mut dht = new_dht(0, quiet().with_record_filtering(StoreInserts::FilterBoth));
    let mut held = Vec::new();
    for n in 1..3 {
        let request = Request::AddProvider { key: RecordKey::new(b"k"), providers: vec![named_peer(n)] };
        dht.handle_input(
            now,
            Input::RequestReceived { from: peer(n), connection: conn(n), id: InboundId(7), request },
        );
        held.extend(outputs(&mut dht).into_iter().find_map(|output| match output {
            Output::Event(Event::InboundRequest {
                request: InboundRequest::AddProvider { record: Some((held, record)), source, .. },
            }) => Some((held, record, source)),
            _ => None,
        }));
    }
    assert!(known(&dht, b"k").is_empty());
    assert_eq!((held[0].1.provider, held[0].2), (peer(1), peer(1)));
    assert!(dht.refuse_record(held[1].0));
    assert!(dht.accept_record(now, held[0].0).unwrap() && !dht.accept_record(now, held[0].0).unwrap());
    assert_eq!(known(&dht, b"k").iter().map(|record| record.provider).collect::<Vec<_>>(), [peer(1)]);
    assert!(!outputs(&mut dht).iter().any(|o| matches!(o, Output::RefuseRequest { .. })));
}

#[test]
fn of_many_providers_some_are_named_others_to_others_and_itself_always() {
    let now = start();
    let k = NonZeroU8::new(5).unwrap();
    let mut dht = new_dht(0, quiet().with_bucket_size(k));
    dht.handle_input(now, Input::LocalAddresses { external: vec![address(0)], listening: vec![] });
    drop(dht.start_providing(now, RecordKey::new(b"k")));
    for n in 1..30 {
        connect_at(&mut dht, now, n, address(n));
        assert!(announce(&mut dht, now, n, b"k", vec![named_peer(n)]));
    }
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let request = Request::GetProviders { key: RecordKey::new(b"k") };
        dht.handle_input(
            now,
            Input::RequestReceived { from: peer(3), connection: conn(3), id: InboundId(9), request },
        );
        let named = outputs(&mut dht).into_iter().find_map(|output| match output {
            Output::SendResponse { response: Response::GetProviders { provider_peers, .. }, .. } => {
                Some(provider_peers)
            }
            _ => None,
        });
        let named = named.unwrap();
        assert_eq!((named.len(), named[0].node_id), (5, peer(0)));
        assert_eq!(named[0].multiaddrs.iter().collect::<Vec<_>>(), [&address(0)]);
        let ids: BTreeSet<_> = named.iter().map(|peer| peer.node_id).collect();
        assert_eq!(ids.len(), 5, "nobody twice");
        assert_eq!(named[0].connection_ty, ConnectionType::CanConnect);
        seen.extend(ids);
    }
    assert_eq!(seen.len(), 29, "all but the origin, sooner or later");
}

/// Lets a lone node search, and answers what it asks by `answer`.
fn search(
    dht: &mut Dht<MemoryStore>,
    now: Now,
    answer: impl Fn(&PeerId) -> (Vec<KadPeer>, Vec<usize>),
) -> (Vec<Vec<PeerInfo>>, Vec<PeerId>) {
    let id = dht.get_providers(now, content());
    let (mut told, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        for output in outputs(dht) {
            match output {
                Output::Dial { id, peer: Some(to), .. } => {
                    let n = (0..1000).find(|n| peer(*n) == to).unwrap();
                    let dial = Some(id);
                    let input = Input::Connected {
                        located: None,
                        peer: to,
                        connection: conn(n),
                        address: address(n),
                        dialled: true,
                        dial,
                    };
                    dht.handle_input(now, input);
                }
                Output::SendRequest { id, to, request: Request::GetProviders { key }, .. } => {
                    let (provider_peers, closer) = answer(&to);
                    let closer_peers = closer.into_iter().map(named_peer).collect();
                    let key = Some(key);
                    let response = Response::GetProviders { key, provider_peers, closer_peers };
                    asked.push(to);
                    dht.handle_input(now, Input::ResponseReceived { id, response });
                }
                Output::Event(Event::OutboundQueryProgressed {
                    id: of,
                    result: QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
                    ..
                }) if of == id => told.push(providers),
                _ => {}
            }
        }
    }
    assert!(dht.query(id).is_none(), "it has ended");
    (told, asked)
}

#[test]
fn no_number_of_providers_ends_a_search_and_few_of_one_answer_count() {
    let now = start();
    let config = quiet().with_max_providers_per_answer(NonZeroUsize::new(7).unwrap());
    let mut dht = new_dht(0, config);
    admit(&mut dht, now, [1, 2, 3, 4, 5]);
    let liar = peer(1);
    let (told, asked) = search(&mut dht, now, |from| {
        let made_up = if *from == liar { (100..900).map(named_peer).collect() } else { vec![named_peer(50)] };
        (made_up, vec![6, 7])
    });
    assert_eq!(asked.len(), 7, "everybody was asked");
    let all: Vec<_> = told.into_iter().flatten().map(|peer| peer.peer_id).collect();
    assert_eq!(all.len(), 8, "seven of the liar and one of the others");
    assert!(all.contains(&peer(50)));
}

#[test]
fn a_provider_without_addresses_is_told_again_when_they_are_known() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, now, [1, 2, 3]);
    let (without, with) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let (told, _) = search(&mut dht, now, |_| {
        if without.get() < 1 {
            without.set(1);
            (vec![bare(50)], vec![])
        } else {
            with.set(with.get() + 1);
            (vec![named_peer(50)], vec![])
        }
    });
    let told: Vec<_> = told.into_iter().flatten().collect();
    assert_eq!(told.len(), 2, "once without, once with, not a third time");
    assert!(told[0].addrs.is_empty() && told[1].addrs == [address(50)]);
    assert_eq!((told[0].peer_id, told[1].peer_id, with.get()), (peer(50), peer(50), 2));
}

#[test]
fn disjoint_paths_find_providers_too() {
    // libp2p-kad comes back empty (#5418).
    let mut net = net(60, &Config::default().with_disjoint_paths(NonZeroU8::new(4).unwrap()));
    provide_at(&mut net, 3, &content()).unwrap();
    net.run_for(SECOND);
    for n in [7, 20, 44] {
        assert_eq!(find_at(&mut net, n, &content())[0].peer_id, peer(3));
    }
}

/// How many of the closest have answered a search that is over, and why no more.
fn finished(result: QueryResult) -> (usize, Option<Shortage>) {
    match result {
        QueryResult::GetProviders(Ok(GetProvidersOk::FinishedWithNoAdditionalRecord {
            closest_peers,
            shortage,
        })) => (closest_peers.len(), shortage),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_search_that_finds_nobody_says_so_before_it_ends_and_one_that_finds_somebody_does_not() {
    let mut net = net(30, &Config::default());
    provide_at(&mut net, 3, &content()).unwrap();
    net.run_for(SECOND);
    for (key, empty) in [(content(), 0), (RecordKey::new(b"nobody's"), 1)] {
        let id = net.with(5, |dht, now| dht.get_providers(now, key.clone()));
        assert!(matches!(
            net.result(5, id).0,
            QueryResult::GetProviders(Ok(GetProvidersOk::FinishedWithNoAdditionalRecord { .. }))
        ));
        let told = net.nodes[5].events.iter().filter_map(|event| match event {
            Event::OutboundQueryProgressed {
                id: of,
                result: QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key, providers })),
                ..
            } if *of == id => Some((key.clone(), providers.len())),
            _ => None,
        });
        let told: Vec<_> = told.collect();
        assert!(!told.is_empty() && told.iter().all(|(of, _)| *of == key), "{told:?}");
        assert_eq!(told.iter().filter(|(_, count)| *count == 0).count(), empty, "{told:?}");
    }
}

#[test]
fn a_search_that_has_asked_fewer_than_were_wanted_says_why() {
    for (nodes, expected) in [(10, (9, Some(Shortage::NoMorePeers { failed: 0 }))), (60, (20, None))] {
        let mut net = net(nodes, &Config::default());
        let id = net.with(5, |dht, now| dht.get_providers(now, content()));
        assert_eq!(finished(net.result(5, id).0), expected, "of {nodes}");
    }
    // Nobody was asked, and what this node knows itself is told.
    let mut dht = new_dht(0, quiet());
    dht.start_providing(start(), content()).unwrap();
    outputs(&mut dht);
    let id = dht.get_providers(start(), content());
    let result = result_of(&outputs(&mut dht), id).unwrap();
    assert_eq!(finished(result), (0, Some(Shortage::NoMorePeers { failed: 0 })));
}

/// What a server that has room for one provider of each key answers two of them.
fn answers_of_a_full_server(config: Config) -> Vec<Output> {
    let now = start();
    let limits = crate::store::ProviderLimits { max_per_key: 1, ..Default::default() };
    let stores = crate::store::MemoryStoreConfig { providers: limits, ..Default::default() };
    let store = MemoryStore::with_config(peer(0), stores);
    let mut dht = Dht::new(peer(0), store, config, [0; 32], now);
    dht.set_mode(now, Some(Mode::Server));
    let mut out = Vec::new();
    for n in [1, 2, 1] {
        connect_at(&mut dht, now, n, address(n));
        let request = Request::AddProvider { key: content(), providers: vec![named_peer(n)] };
        let (from, connection, id) = (peer(n), conn(n), InboundId(n as u64));
        dht.handle_input(now, Input::RequestReceived { from, connection, id, request });
        out.extend(outputs(&mut dht));
    }
    out.retain(|o| matches!(o, Output::SendResponse { .. } | Output::AcceptRequest { .. }));
    out
}

#[test]
fn a_full_server_says_so_where_that_is_configured() {
    let silent = answers_of_a_full_server(quiet());
    assert!(silent.iter().all(|o| matches!(o, Output::AcceptRequest { .. })) && silent.len() == 3);
    let told = answers_of_a_full_server(quiet().with_provider_status(true));
    let rejected = Response::AddProvider { key: content(), is_rejected: true };
    let [
        Output::AcceptRequest { .. },
        Output::SendResponse { to, response, .. },
        Output::AcceptRequest { to: again, .. },
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert!(*to == peer(2) && *response == rejected && *again == peer(1), "{told:?}");
}

/// The peers that are told of a key, all of which take it.
fn take_announcements(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<PeerId> {
    let mut told = Vec::new();
    loop {
        let new = announcements(dht, now);
        if new.is_empty() {
            return told;
        }
        for (to, id) in new {
            told.push(to);
            dht.handle_input(now, Input::RequestSent { id });
        }
    }
}

#[test]
fn the_next_nearest_is_told_for_each_that_has_no_room_while_the_announcement_runs_and_afterwards() {
    let (mut dht, now) = (new_dht(0, quiet().with_protection(Protection::Off)), start());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, 1..=30);
    dht.start_providing(now, content()).unwrap();
    let first = take_announcements(&mut dht, now);
    assert!((20..23).contains(&first.len()), "{}", first.len());
    let key = content();
    let target = Key::sha256(key.as_ref());
    let mut nearest: Vec<_> = (1..=30).collect();
    nearest.sort_by_key(|n| target.distance(&self::key(*n)));
    let next: Vec<_> = nearest.iter().map(|n| peer(*n)).filter(|peer| !first.contains(peer)).collect();
    let reject = |dht: &mut Dht<MemoryStore>, peer| {
        let key = content();
        dht.handle_input(now, Input::AnnouncementRejected { peer, key });
        take_announcements(dht, now)
    };
    assert_eq!(reject(&mut dht, first[3]), next[..1]);
    assert_eq!(reject(&mut dht, first[3]), [], "once");
    assert_eq!(reject(&mut dht, peer(999)), [], "who was not told has nothing to reject");
    assert_eq!(reject(&mut dht, next[0]), next[1..2], "it has none either");
    for at in [4, 5, 6, 7, 8, 9, 10, 11, 12, 13] {
        reject(&mut dht, first[at]);
    }
    assert_eq!(reject(&mut dht, first[14]), [], "there is nobody else");
}

/// Returns who lives in the region of a key, as a node sees it.
fn region_of(net: &Net, n: usize, key: &RecordKey) -> Vec<PeerId> {
    let (dht, key) = (&net.nodes[n].dht, Key::sha256(key.as_ref()));
    let radius = dht.upkeep.size.region(&dht.network_size().unwrap(), 20, 20);
    let in_region =
        |other: &usize| *other != n && Key::of_peer(&peer(*other), Key::sha256).distance(&key) <= radius;
    (0..net.nodes.len()).filter(in_region).map(peer).collect()
}

#[test]
fn all_of_the_region_are_told_and_asked_where_that_is_protected() {
    let mut net = net(100, &Config::default());
    // By the lookups of random keys that follow a join.
    net.run_for(HOUR * 3 / 4);
    let size = net.nodes[3].dht.network_size().unwrap();
    assert!(size.samples >= 5 && size.low <= 100 && size.high >= 100, "{size:?}");
    let region = region_of(&net, 3, &content());
    assert!(region.len() > 22, "{region:?}");
    let id = net.with(3, |dht, now| dht.start_providing(now, content()).unwrap());
    net.run_for(10 * SECOND);
    assert!(matches!(net.result(3, id).0, QueryResult::StartProviding(Ok(_))));
    let told = holders(&net, &content(), 3);
    let missing: Vec<_> =
        region.iter().filter(|peer| !told.iter().any(|n| self::peer(*n) == **peer)).collect();
    // What is next to nothing of a bucket is not looked up.
    assert!(10 * missing.len() <= region.len(), "{missing:?} of {}", region.len());
    assert!(told.len() > 22 && told.len() <= 2 * region.len(), "{}", told.len());

    // Whoever reads on asks them all, and whoever does not want to be protected asks the closest.
    let asked = |net: &mut Net, n: usize| {
        let id = net.with(n, |dht, now| dht.get_providers(now, RecordKey::new(b"nobody has it")));
        net.result(n, id).1.num_successes()
    };
    let everywhere = asked(&mut net, 9);
    let of_closest = {
        let mut off = self::net(100, &Config::default().with_protection(Protection::Off));
        asked(&mut off, 9)
    };
    assert!(everywhere > of_closest && everywhere <= 2 * of_closest, "{everywhere} {of_closest}");
}

#[test]
fn the_caller_ends_a_search_when_it_has_enough() {
    let mut net = net(60, &Config::default());
    provide_at(&mut net, 3, &content()).unwrap();
    net.run_for(SECOND);
    let origin = (4..60).find(|n| !holders(&net, &content(), 3).contains(n)).unwrap();
    let id = net.with(origin, |dht, now| dht.get_providers(now, content()));
    while told(&net, origin, id).is_empty() {
        net.run_for(MS);
    }
    let sent = net.requests_sent;
    assert!(net.with(origin, |dht, now| dht.finish(now, id)));
    net.run_for(5 * SECOND);
    assert!(net.requests_sent <= sent + 2, "nothing is asked any more");
    let (closest, shortage) = finished(net.result(origin, id).0);
    assert_eq!(shortage, (closest < 20).then_some(Shortage::Finished));
}

#[test]
fn a_watch_asks_after_one_second_then_ever_more_rarely_and_tells_each_once() {
    let config = Config::default().with_protection(Protection::Off);
    let mut net = net(30, &config.with_refresh_interval(None).unwrap());
    provide_at(&mut net, 3, &content()).unwrap();
    let begun = net.now;
    let id = net.with(9, |dht, now| dht.watch_providers(now, content()));
    net.run_for(SECOND);
    assert_eq!(told(&net, 9, id).iter().map(|info| info.peer_id).collect::<Vec<_>>(), [peer(3)]);
    // Somebody comes later; the pauses are 1, 2, 4, 8 ... seconds.
    net.run_for(20 * SECOND);
    provide_at(&mut net, 4, &content()).unwrap();
    net.run_for(40 * SECOND);
    assert_eq!(told(&net, 9, id).iter().map(|info| info.peer_id).collect::<Vec<_>>(), [peer(3), peer(4)]);
    net.run_for(HOUR);
    let query = net.nodes[9].dht.query(id).expect("it lasts");
    let rounds = 1 + 9 + (3600 + 61 - 511) / 300;
    let requests = usize::try_from(query.stats().num_requests()).unwrap();
    assert!(requests <= rounds * 29 && requests >= (rounds - 2) * 15, "{requests} in {rounds}");
    assert!(net.now > begun + HOUR);
    assert!(net.with(9, |dht, now| dht.cancel(now, id)));
    assert!(matches!(
        net.result(9, id).0,
        QueryResult::GetProviders(Err(GetProvidersError::Query { cause: QueryError::Cancelled, .. }))
    ));
}

#[test]
fn a_watch_begins_when_there_is_somebody_to_ask() {
    let config = Config::default().with_joining(crate::config::Joining::Automatic);
    let mut net = Net::new(3, &config);
    let id = net.with(0, |dht, now| dht.watch_providers(now, content()));
    net.run_for(HOUR);
    net.add_address(1, 2);
    net.run_for(SECOND);
    provide_at(&mut net, 2, &content()).unwrap();
    net.add_address(0, 1);
    net.run_for(5 * SECOND);
    assert_eq!(told(&net, 0, id).iter().map(|info| info.peer_id).collect::<Vec<_>>(), [peer(2)]);
}

#[test]
fn keys_that_cannot_be_are_refused_before_anything_is_asked() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, now, [1]);
    for key in [vec![], vec![1; 81]] {
        assert!(dht.start_providing(now, RecordKey::from(key)).is_err());
    }
    dht.get_providers(now, RecordKey::from(Vec::new()));
    dht.watch_providers(now, RecordKey::from(Vec::new()));
    let out = outputs(&mut dht);
    let refused = |output: &&Output| {
        matches!(
            output,
            Output::Event(Event::OutboundQueryProgressed {
                result: QueryResult::GetProviders(Err(GetProvidersError::EmptyKey { .. })),
                ..
            })
        )
    };
    assert_eq!(out.iter().filter(refused).count(), 2);
    assert!(!out.iter().any(|output| matches!(output, Output::SendRequest { .. })));
    assert_eq!(dht.store().provided().count(), 0);
}

#[test]
fn own_addresses_are_those_that_each_peer_can_use() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    let listening: Vec<Multiaddr> =
        ["/ip4/127.0.0.1/tcp/1", "/ip4/1.2.3.4/tcp/1"].map(|text| text.parse().unwrap()).into();
    dht.handle_input(now, Input::LocalAddresses { external: vec![], listening: listening.clone() });
    connect_at(&mut dht, now, 1, "/ip4/127.0.0.1/tcp/9".parse().unwrap());
    prove(&mut dht, now, 1);
    connect_at(&mut dht, now, 2, "/ip4/5.6.7.8/tcp/9".parse().unwrap());
    prove(&mut dht, now, 2);
    dht.start_providing(now, content()).unwrap();
    let mut announced = BTreeMap::new();
    for _ in 0..5 {
        for output in outputs(&mut dht) {
            match output {
                Output::SendRequest { id, request: Request::FindNode { .. }, .. } => {
                    let response = Response::FindNode { closer_peers: vec![] };
                    dht.handle_input(now, Input::ResponseReceived { id, response });
                }
                Output::SendRequest { to, request: Request::AddProvider { providers, .. }, .. } => {
                    assert_eq!(providers.len(), 1);
                    assert_eq!(providers[0].node_id, peer(0));
                    announced.insert(to, providers[0].multiaddrs.clone().into_vec());
                }
                _ => {}
            }
        }
    }
    assert_eq!(announced[&peer(1)], listening, "from this machine");
    assert_eq!(announced[&peer(2)], listening[1..], "from anywhere");
}

#[test]
fn a_flood_of_one_network_leaves_room_for_others_and_for_this_node() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    for n in 1..5 {
        connect_at(&mut dht, now, n, format!("/ip4/1.2.{n}.4/tcp/1").parse().unwrap());
    }
    connect_at(&mut dht, now, 9, "/ip4/5.6.7.8/tcp/1".parse().unwrap());
    for i in 0..50_000u32 {
        let from = 1 + i as usize % 4;
        assert!(
            announce(&mut dht, now, from, &i.to_be_bytes(), vec![named_peer(from)]),
            "its stream goes on"
        );
    }
    let taken = (0..50_000u32).filter(|i| !known(&dht, &i.to_be_bytes()).is_empty()).count();
    assert!(taken < 20_000, "{taken} were taken");
    assert!(announce(&mut dht, now, 9, b"honest", vec![named_peer(9)]));
    assert_eq!(known(&dht, b"honest").len(), 1);
    // libp2p-kad: 1,024 foreign keys block one's own.
    dht.start_providing(now, content()).unwrap();
    assert_eq!(dht.store().provided().count(), 1);
    // And it is over when it ends, though nobody asks.
    let due = std::iter::from_fn(|| {
        let deadline = dht.due()?;
        dht.handle_timeout(deadline.at);
        outputs(&mut dht);
        (deadline.at < now + 49 * HOUR).then_some(())
    });
    assert!(due.take(10_000).count() < 10_000);
    assert!(dht.store().providers(WALL, &RecordKey::new(b"honest")).unwrap().is_empty());
}

#[cfg(feature = "redb")]
#[test]
fn what_was_provided_before_a_restart_is_announced_when_it_would_have_been() {
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-provided-{}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let open = || crate::store::Redb::open(&path, peer(0)).unwrap();
    let now = start();
    let mut dht = Dht::new(peer(0), open(), quiet(), [0; 32], now);
    dht.set_mode(now, Some(Mode::Server));
    listen_at(&mut dht, now, &[address(0)]);
    let met = connected_at(1, address(1), true, None);
    dht.handle_input(now, Input::AddressesLearned { peer: peer(1), addresses: vec![address(1)] });
    dht.handle_input(now, met);
    dht.handle_input(now, Input::ProtocolConfirmed { peer: peer(1) });
    let mut has_begun = false;
    for _ in 0..20 {
        while let Some(output) = dht.poll_output() {
            if let Output::SendRequest { id, request, .. } = output {
                let answer = match request {
                    Request::AddProvider { .. } => Input::RequestSent { id },
                    _ => Input::ResponseReceived {
                        id,
                        response: Response::FindNode { closer_peers: vec![named_peer(1)] },
                    },
                };
                dht.handle_input(now, answer);
            }
        }
        if !has_begun && dht.table().len() == 1 {
            has_begun = true;
            dht.start_providing(now, content()).unwrap();
        }
    }
    // What is written while a commit runs is asked for by the next one.
    for seconds in 1..=3 {
        dht.handle_timeout(now + SECOND * seconds);
        dht.store().rest();
    }
    assert!(has_begun);
    assert_eq!(dht.store().progress().of(dht.store().written()), Some(true), "it is on disk");
    let end = dht.store().provided().next().unwrap().expires;
    assert_eq!(end, Some(WALL + 48 * HOUR), "others believe it until then");
    drop(dht);
    for (hours, least, most) in [(2, HOUR * 29 / 2, 20 * HOUR), (30, Duration::ZERO, HOUR / 6)] {
        let then = Now::new(now.instant, WALL + HOUR * hours);
        let mut dht = Dht::new(peer(0), open(), quiet(), [0; 32], then);
        let due = dht.providing.deadline(true).unwrap() - now.instant;
        assert!(due >= least && due <= most, "{hours} hours later, in {due:?}");
        // Where it listens is what others have been told.
        listen_at(&mut dht, then, &[address(0)]);
        dht.handle_timeout(then + 30 * SECOND);
        assert_eq!(dht.providing.deadline(true).unwrap() - now.instant, due, "it is not told again");
    }
    std::fs::remove_file(&path).unwrap();
}

/// How many announcements a node has been sent by others that it is to keep, by key.
fn told_of(net: &Net, n: usize, keys: std::ops::Range<u32>) -> usize {
    let wall = WALL + (net.now - start());
    let holds = |key: &u32| !net.nodes[n].dht.store().providers(wall, &small(*key)).unwrap().is_empty();
    keys.filter(holds).count()
}

fn small(n: u32) -> RecordKey {
    RecordKey::from(&n.to_be_bytes())
}

#[test]
fn in_a_small_network_each_is_told_once_however_often_it_joins() {
    // Seen: with two nodes each key at 0.4, 2.4, 6.4, 13 and 33 s, and again with each join.
    let config = Config::default().with_joining(crate::config::Joining::Automatic);
    let mut net = Net::new(3, &config);
    net.add_address(0, 1);
    net.run_for(100 * MS);
    for n in 0..100 {
        drop(net.with(0, |dht, now| dht.start_providing(now, small(n))));
    }
    net.run_for(HOUR);
    assert_eq!((told_of(&net, 1, 0..100), net.announcements), (100, 100));
    // Who comes is told, and nobody else.
    net.add_address(2, 1);
    net.run_for(HOUR);
    assert_eq!((told_of(&net, 2, 0..100), net.announcements), (100, 200));
    net.run_for(18 * HOUR);
    assert_eq!(net.announcements, 200);
    net.run_for(5 * HOUR);
    assert_eq!(net.announcements, 400, "the interval is over");
}

/// A lone node that knows two peers, at whatever addresses it is met, and takes what it announces as sent. Returns whom it
/// has announced a key to.
fn sent(dht: &mut Dht<MemoryStore>, now: Now) -> Vec<(PeerId, RecordKey, Vec<Multiaddr>)> {
    let mut sent = Vec::new();
    loop {
        let out = outputs(dht);
        if out.is_empty() {
            return sent;
        }
        for (to, id, request) in asked(&out) {
            match request {
                Request::AddProvider { key, providers } => {
                    sent.push((to, key, providers[0].multiaddrs.clone().into_vec()));
                    dht.handle_input(now, Input::RequestSent { id });
                }
                _ => name(dht, now, id, &[]),
            }
        }
        assert!(events(&out).iter().all(|event| !matches!(event, Event::ModeChanged { .. })));
    }
}

#[test]
fn without_an_address_nobody_is_told_before_there_is_one() {
    let mut now = start();
    let mut dht = new_dht(0, quiet());
    admit(&mut dht, now, [1, 2]);
    let id = dht.start_providing(now, content()).unwrap();
    let out = outputs(&mut dht);
    assert!(asked(&out).is_empty(), "nobody is even asked");
    let Some(QueryResult::StartProviding(Err(AddProviderError::NoAddress { key, report }))) =
        result_of(&out, id)
    else {
        panic!("{out:?}");
    };
    assert_eq!((key, *report), (content(), ProvideReport::default()));
    // It does not wake for it either.
    assert!(dht.due().is_none_or(|due| due.reason != "providers"), "{:?}", dht.due());
    now += HOUR;
    dht.handle_timeout(now);
    assert_eq!(sent(&mut dht, now), []);
    listen_at(&mut dht, now, &[address(0)]);
    let told: Vec<_> = sent(&mut dht, now).into_iter().map(|(to, _, named)| (to, named)).collect();
    assert_eq!(told.len(), 2, "at once: {told:?}");
    assert!(told.iter().all(|(_, named)| *named == [address(0)]));
}

#[test]
fn whoever_cannot_use_any_address_is_told_of_none() {
    let mut now = start();
    let mut dht = new_dht(0, quiet());
    let [site, world]: [Multiaddr; 2] =
        ["/ip4/192.168.0.2/tcp/1", "/ip4/1.2.3.4/tcp/1"].map(|text| text.parse().unwrap());
    listen_at(&mut dht, now, std::slice::from_ref(&site));
    for (n, at) in [(1, "/ip4/5.6.7.8/tcp/9"), (2, "/ip4/192.168.0.9/tcp/9")] {
        connect_at(&mut dht, now, n, at.parse().unwrap());
        prove(&mut dht, now, n);
    }
    let id = dht.start_providing(now, content()).unwrap();
    let (mut told, mut last) = (Vec::new(), None);
    for _ in 0..10 {
        let out = outputs(&mut dht);
        last = last.or_else(|| result_of(&out, id));
        for (to, id, request) in asked(&out) {
            match request {
                Request::AddProvider { .. } => {
                    told.push(to);
                    dht.handle_input(now, Input::RequestSent { id });
                }
                _ => name(&mut dht, now, id, &[]),
            }
        }
    }
    assert_eq!(told, [peer(2)], "go would reset the stream, js and py would drop it");
    let Some(QueryResult::StartProviding(Err(AddProviderError::NoAddress { report, .. }))) = last else {
        panic!("{last:?}");
    };
    assert_eq!((report.sent, report.failed), (vec![peer(2)], vec![(peer(1), RequestError::NoOwnAddress)]));
    assert!(dht.table().entry(&key(1), &peer(1)).is_some(), "it is not the peer's fault");
    // A relay, or a router that maps a port.
    dht.handle_input(now, Input::LocalAddresses { external: vec![world.clone()], listening: vec![site] });
    let mut told = sent(&mut dht, now);
    now += 30 * SECOND;
    dht.handle_timeout(now);
    told.extend(sent(&mut dht, now));
    let both: BTreeSet<_> = told.iter().map(|(to, ..)| *to).collect();
    assert_eq!(both.len(), 2, "{told:?}");
    assert!(told.iter().all(|(_, _, named)| named[..] == [world.clone()]));
}

#[test]
fn when_the_own_addresses_change_all_is_told_anew_within_a_minute_a_part_after_the_other() {
    const KEYS: u32 = 3000;
    let mut now = start();
    let mut dht = new_dht(0, quiet());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, [1]);
    for n in 0..KEYS {
        dht.start_providing(now, small(n)).unwrap();
        assert_eq!(sent(&mut dht, now).len(), 1);
    }
    now += HOUR;
    dht.handle_timeout(now);
    assert_eq!(sent(&mut dht, now), []);
    // The same in another order, and gone for a moment: nothing has changed.
    listen_at(&mut dht, now, &[]);
    listen_at(&mut dht, now, &[address(0)]);
    now += 60 * SECOND;
    dht.handle_timeout(now);
    assert_eq!(sent(&mut dht, now), []);
    let before = now;
    listen_at(&mut dht, now, &[address(0), address(8)]);
    now += SECOND;
    listen_at(&mut dht, now, &[address(9)]);
    let mut told = BTreeMap::new();
    while now < before + 60 * SECOND {
        let next = dht.due().map_or(before + 60 * SECOND, |due| due.at.min(before + 60 * SECOND));
        now = next;
        dht.handle_timeout(now);
        let under_way = asked(&outputs(&mut dht));
        assert!(under_way.len() <= 4, "four at once: {}", under_way.len());
        for (_, id, _) in under_way {
            name(&mut dht, now, id, &[]);
        }
        for (_, key, named) in sent(&mut dht, now) {
            assert_eq!(named, [address(9)], "as they are now");
            *told.entry(key).or_insert(0) += 1;
        }
    }
    assert_eq!(told.len(), KEYS as usize);
    assert!(told.values().all(|count| *count == 1), "each once");
    now += HOUR;
    dht.handle_timeout(now);
    assert_eq!(sent(&mut dht, now), []);
}

#[test]
fn what_is_provided_no_more_is_not_announced_any_further() {
    let now = start();
    for is_advertised in [false, true] {
        let mut dht = new_dht(0, quiet());
        listen_at(&mut dht, now, &[address(0)]);
        for n in 1..4 {
            dht.add_address(now, peer(n), address(n));
        }
        admit(&mut dht, now, [1, 2, 3]);
        let begin = if is_advertised { Dht::advertise } else { Dht::start_providing };
        let id = begin(&mut dht, now, content()).unwrap();
        let out = outputs(&mut dht);
        assert!(!asked(&out).is_empty());
        if is_advertised {
            dht.retire(now, &content());
        } else {
            dht.stop_providing(now, &content()).unwrap();
        }
        for (_, id, _) in asked(&out) {
            name(&mut dht, now, id, &[]);
        }
        let out = outputs(&mut dht);
        assert!(matches!(
            result_of(&out, id),
            Some(QueryResult::StartProviding(Err(AddProviderError::Query {
                cause: QueryError::Cancelled,
                ..
            })))
        ));
        assert!(asked(&out).iter().all(|(_, _, request)| !matches!(request, Request::AddProvider { .. })));
        assert_eq!((dht.queries().count(), dht.num_requests()), (0, 0));
        assert_eq!(sent(&mut dht, now), []);
    }
}

#[test]
fn a_key_that_is_provided_and_advertised_is_until_both_have_ended() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, [1]);
    let is_named = |dht: &mut Dht<MemoryStore>| {
        let id = InboundId(9);
        let request = Request::GetProviders { key: content() };
        dht.handle_input(now, Input::RequestReceived { from: peer(1), connection: conn(1), id, request });
        outputs(dht).into_iter().any(|output| match output {
            Output::SendResponse { response: Response::GetProviders { provider_peers, .. }, .. } => {
                let named = provider_peers.iter().filter(|provider| provider.node_id == peer(0)).count();
                assert!(named <= 1);
                named == 1
            }
            _ => false,
        })
    };
    for first_ends in ["provided", "advertised"] {
        dht.advertise(now, content()).unwrap();
        sent(&mut dht, now);
        assert!(is_named(&mut dht), "though the store knows nothing of it");
        assert_eq!(dht.store().provided().count(), 0);
        dht.start_providing(now, content()).unwrap();
        sent(&mut dht, now);
        assert_eq!(dht.store().provided().count(), 1);
        let due = |dht: &Dht<MemoryStore>| dht.providing.deadline(true);
        if first_ends == "provided" {
            dht.stop_providing(now, &content()).unwrap();
            assert_eq!(dht.store().provided().count(), 0);
        } else {
            dht.retire(now, &content());
            assert_eq!(dht.store().provided().count(), 1);
        }
        assert!(is_named(&mut dht) && due(&dht).is_some(), "{first_ends}");
        dht.stop_providing(now, &content()).unwrap();
        dht.retire(now, &content());
        assert!(!is_named(&mut dht) && due(&dht).is_none(), "{first_ends}");
    }
}

#[cfg(feature = "redb")]
#[test]
fn an_advertisement_does_not_outlive_its_program_and_what_is_provided_does() {
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-advertised-{}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let open = || crate::store::Redb::open(&path, peer(0)).unwrap();
    let now = start();
    let mut dht = Dht::new(peer(0), open(), quiet(), [0; 32], now);
    listen_at(&mut dht, now, &[address(0)]);
    dht.advertise(now, small(1)).unwrap();
    dht.start_providing(now, small(2)).unwrap();
    dht.start_providing(now, small(3)).unwrap();
    dht.advertise(now, small(3)).unwrap();
    dht.handle_timeout(now + SECOND);
    dht.store().rest();
    drop(dht);
    let mut dht = Dht::new(peer(0), open(), quiet(), [0; 32], now);
    let mut provided: Vec<_> = dht.store().provided().map(|own| own.key.clone()).collect();
    provided.sort();
    assert_eq!(provided, [small(2), small(3)]);
    let found = dht.get_providers(now, small(1));
    let out: Vec<_> = std::iter::from_fn(|| dht.poll_output()).collect();
    assert!(
        matches!(
            result_of(&out, found),
            Some(QueryResult::GetProviders(Err(GetProvidersError::Query {
                cause: QueryError::NoKnownPeers,
                ..
            })))
        ),
        "it names itself no more: {out:?}"
    );
    drop(dht);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn this_node_comes_once_among_the_providers_of_its_own_key() {
    let mut net = net(30, &Config::default());
    provide_at(&mut net, 3, &content()).unwrap();
    net.run_for(SECOND);
    let found = find_at(&mut net, 3, &content());
    assert_eq!(found, [PeerInfo { peer_id: peer(3), addrs: vec![address(3)] }]);
    let watched = net.with(3, |dht, now| dht.watch_providers(now, content()));
    net.run_for(60 * SECOND);
    assert_eq!(told(&net, 3, watched).len(), 1);
}

#[test]
fn of_a_provider_few_addresses_are_kept() {
    let now = start();
    let mut dht = new_dht(0, quiet());
    meet(&mut dht, now, 1);
    let many = (1..17).map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap());
    let of_many = KadPeer { multiaddrs: Addresses::collect(&peer(1), many), ..named_peer(1) };
    assert!(announce(&mut dht, now, 1, b"many", vec![of_many]));
    assert_eq!(known(&dht, b"many")[0].addresses.len(), 8);
    let name = "a".repeat(60);
    let long = (1..9).map(|n| format!("/dns4/{name}.{name}.{n}.org/tcp/1").parse().unwrap());
    let of_long = KadPeer { multiaddrs: Addresses::collect(&peer(1), long), ..named_peer(1) };
    assert!(announce(&mut dht, now, 1, b"long", vec![of_long]));
    let kept = &known(&dht, b"long")[0].addresses;
    let bytes: usize = kept.iter().map(Multiaddr::len).sum();
    assert!(kept.len() >= 3 && bytes <= 512, "{kept:?}");
}

#[cfg(feature = "redb")]
#[test]
fn statements_with_many_addresses_take_little_of_a_file() {
    // Seen: a file of 270 MB for 20,000 of them.
    let path = std::env::temp_dir().join(format!("libp2p-kademlia-addressed-{}", std::process::id()));
    drop(std::fs::remove_file(&path));
    let mut store = crate::store::Redb::open(&path, peer(0)).unwrap();
    let long = |n: usize| format!("/dns4/{}/tcp/{n}", format!("{n:03}").repeat(80)).parse().unwrap();
    let addresses: Vec<Multiaddr> = (1..33).map(long).collect();
    for n in 0..1000u32 {
        let from = peer(1 + n as usize % 64);
        let record = ProviderRecord::new(small(n), from, addresses.clone());
        store
            .add_provider_from(
                WALL,
                record,
                crate::store::Source { peer: from, group: None, hands_on: false },
            )
            .unwrap();
        if n % 100 == 0 {
            store.sync().unwrap();
        }
    }
    store.sync().unwrap();
    let found = store.providers(WALL, &small(7)).unwrap();
    assert_eq!(found[0].addresses, addresses[..2]);
    drop(store);
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(len < 4 * 1024 * 1024, "{len} bytes");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn addresses_that_change_while_a_key_is_announced_are_told_anew() {
    let mut now = start();
    let mut dht = new_dht(0, quiet());
    listen_at(&mut dht, now, &[address(0)]);
    admit(&mut dht, now, 1..=3);
    dht.start_providing(now, content()).unwrap();
    let under_way = announcements(&mut dht, now);
    assert_eq!(under_way.len(), 3);
    listen_at(&mut dht, now, &[address(9)]);
    for (_, id) in under_way {
        dht.handle_input(now, Input::RequestSent { id });
    }
    let mut told = Vec::new();
    let end = now + 60 * SECOND;
    while now < end {
        now = dht.due().map_or(end, |due| due.at.min(end));
        dht.handle_timeout(now);
        told.extend(sent(&mut dht, now).into_iter().map(|(to, _, named)| (to, named)));
    }
    told.sort();
    let mut expected: Vec<_> = (1..=3).map(|n| (peer(n), vec![address(9)])).collect();
    expected.sort();
    assert_eq!(told, expected);
}
