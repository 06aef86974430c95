// What both crates have alike: compiled once with each of them as `kad`, so that the same text means the same to both.
// A value is named where its type is the point; a closure takes apart or makes what has fields.

same! {
    "Addresses" => size_of::<kad::Addresses>();
    "Addresses::new" => kad::Addresses::new as fn(Multiaddr) -> kad::Addresses;
    "Addresses::iter" => |a: &kad::Addresses| a.iter().next().cloned();
    "Addresses::len" => kad::Addresses::len as fn(&kad::Addresses) -> usize;
    "Addresses::into_vec" => kad::Addresses::into_vec as fn(kad::Addresses) -> Vec<Multiaddr>;
    "Addresses::remove" => kad::Addresses::remove as fn(&mut kad::Addresses, &Multiaddr) -> Result<(), ()>;
    "Addresses::insert" => kad::Addresses::insert as fn(&mut kad::Addresses, Multiaddr) -> bool;
    "Addresses::replace" => kad::Addresses::replace as fn(&mut kad::Addresses, &Multiaddr, &Multiaddr) -> bool;
    "Addresses: Debug" => debug::<kad::Addresses>;

    "Behaviour" => size_of::<Kad>();
    "Behaviour::new" => Kad::new as fn(PeerId, Store) -> Kad;
    "Behaviour::with_config" => Kad::with_config as fn(PeerId, Store, kad::Config) -> Kad;
    "Behaviour::protocol_names" => Kad::protocol_names as fn(&Kad) -> &[StreamProtocol];
    "Behaviour::iter_queries" => |k: &Kad| k.iter_queries().map(|query| query.id()).collect::<Vec<_>>();
    "Behaviour::query" => |k: &Kad, id: &kad::QueryId| k.query(id).is_some();
    "Behaviour::query_mut" => |k: &mut Kad, id: &kad::QueryId| k.query_mut(id).map(|mut query| query.finish());
    "Behaviour::add_address" => Kad::add_address as fn(&mut Kad, &PeerId, Multiaddr) -> kad::RoutingUpdate;
    "Behaviour::remove_address" => Kad::remove_address as fn(&mut Kad, &PeerId, &Multiaddr) -> Option<Entry>;
    "Behaviour::remove_peer" => Kad::remove_peer as fn(&mut Kad, &PeerId) -> Option<Entry>;
    "Behaviour::kbuckets" => |k: &mut Kad| k.kbuckets().map(|bucket: Bucket<'_>| bucket.num_entries()).sum::<usize>();
    "Behaviour::get_closest_peers" => |k: &mut Kad| [k.get_closest_peers(PeerId::random()), k.get_closest_peers(vec![1])];
    "Behaviour::get_n_closest_peers" => |k: &mut Kad| -> kad::QueryId { k.get_n_closest_peers(vec![1], kad::K_VALUE) };
    "Behaviour::get_closest_local_peers" => |k: &mut Kad, key: &PeerKey| -> Vec<PeerKey> {
        k.get_closest_local_peers(key).collect()
    };
    "Behaviour::find_closest_local_peers" => |k: &mut Kad, key: &PeerKey, source: &PeerId| -> Vec<kad::KadPeer> {
        k.find_closest_local_peers(key, source).collect()
    };
    "Behaviour::get_record" => Kad::get_record as fn(&mut Kad, kad::RecordKey) -> kad::QueryId;
    "Behaviour::put_record" => Kad::put_record
        as fn(&mut Kad, kad::Record, kad::Quorum) -> Result<kad::QueryId, kad::store::Error>;
    "Behaviour::put_record_to" => |k: &mut Kad, record: kad::Record| -> kad::QueryId {
        k.put_record_to(record, vec![PeerId::random()].into_iter(), kad::Quorum::One)
    };
    "Behaviour::store_mut" => Kad::store_mut as fn(&mut Kad) -> &mut Store;
    "Behaviour::bootstrap" => Kad::bootstrap as fn(&mut Kad) -> Result<kad::QueryId, kad::NoKnownPeers>;
    "Behaviour::start_providing" => Kad::start_providing
        as fn(&mut Kad, kad::RecordKey) -> Result<kad::QueryId, kad::store::Error>;
    "Behaviour::get_providers" => Kad::get_providers as fn(&mut Kad, kad::RecordKey) -> kad::QueryId;
    "Behaviour::set_mode" => Kad::set_mode as fn(&mut Kad, Option<kad::Mode>);
    "Behaviour::mode" => Kad::mode as fn(&Kad) -> kad::Mode;
    "Behaviour: NetworkBehaviour" => behaviour::<Kad, kad::Event>;

    "BucketInserts" => size_of::<kad::BucketInserts>();
    "BucketInserts::OnConnected" => kad::BucketInserts::OnConnected;
    "BucketInserts::Manual" => kad::BucketInserts::Manual;
    "StoreInserts" => size_of::<kad::StoreInserts>();
    "StoreInserts::Unfiltered" => kad::StoreInserts::Unfiltered;
    "StoreInserts::FilterBoth" => kad::StoreInserts::FilterBoth;
    "Config" => size_of::<kad::Config>();
    "Config: Default" => <kad::Config as Default>::default as fn() -> kad::Config;
    "PROTOCOL_NAME" => kad::PROTOCOL_NAME == StreamProtocol::new("/ipfs/kad/1.0.0");
    "ALPHA_VALUE" => [kad::ALPHA_VALUE, NonZeroUsize::MIN];
    "Config::new" => kad::Config::new as fn(StreamProtocol) -> kad::Config;
    "Config::set_query_timeout" => kad::Config::set_query_timeout
        as fn(&mut kad::Config, Duration) -> &mut kad::Config;
    "Config::set_replication_factor" => kad::Config::set_replication_factor
        as fn(&mut kad::Config, NonZeroUsize) -> &mut kad::Config;
    "Config::set_parallelism" => kad::Config::set_parallelism
        as fn(&mut kad::Config, NonZeroUsize) -> &mut kad::Config;
    "Config::disjoint_query_paths" => kad::Config::disjoint_query_paths
        as fn(&mut kad::Config, bool) -> &mut kad::Config;
    "Config::set_record_ttl" => kad::Config::set_record_ttl
        as fn(&mut kad::Config, Option<Duration>) -> &mut kad::Config;
    "Config::set_record_filtering" => kad::Config::set_record_filtering
        as fn(&mut kad::Config, kad::StoreInserts) -> &mut kad::Config;
    "Config::set_replication_interval" => kad::Config::set_replication_interval
        as fn(&mut kad::Config, Option<Duration>) -> &mut kad::Config;
    "Config::set_publication_interval" => kad::Config::set_publication_interval
        as fn(&mut kad::Config, Option<Duration>) -> &mut kad::Config;
    "Config::set_provider_record_ttl" => kad::Config::set_provider_record_ttl
        as fn(&mut kad::Config, Option<Duration>) -> &mut kad::Config;
    "Config::set_provider_publication_interval" => kad::Config::set_provider_publication_interval
        as fn(&mut kad::Config, Option<Duration>) -> &mut kad::Config;
    "Config::set_max_packet_size" => kad::Config::set_max_packet_size
        as fn(&mut kad::Config, usize) -> &mut kad::Config;
    "Config::set_substreams_timeout" => kad::Config::set_substreams_timeout
        as fn(&mut kad::Config, Duration) -> &mut kad::Config;
    "Config::set_kbucket_inserts" => kad::Config::set_kbucket_inserts
        as fn(&mut kad::Config, kad::BucketInserts) -> &mut kad::Config;
    "Config::set_caching" => kad::Config::set_caching
        as fn(&mut kad::Config, kad::Caching) -> &mut kad::Config;
    "Config::set_periodic_bootstrap_interval" => kad::Config::set_periodic_bootstrap_interval
        as fn(&mut kad::Config, Option<Duration>) -> &mut kad::Config;
    "Config::set_kbucket_size" => kad::Config::set_kbucket_size
        as fn(&mut kad::Config, NonZeroUsize) -> &mut kad::Config;
    "Caching" => size_of::<kad::Caching>();
    "Caching::Disabled" => kad::Caching::Disabled;
    "Caching::Enabled" => kad::Caching::Enabled { max_peers: 0 };
    "Caching::Enabled.max_peers" => |max_peers: u16| kad::Caching::Enabled { max_peers };
    "PeerInfo" => size_of::<kad::PeerInfo>();
    "PeerInfo.peer_id" => |peer: kad::PeerInfo| -> PeerId { peer.peer_id };
    "PeerInfo.addrs" => |peer: kad::PeerInfo| -> Vec<Multiaddr> { peer.addrs };
    "Quorum" => size_of::<kad::Quorum>();
    "Quorum::One" => kad::Quorum::One;
    "Quorum::Majority" => kad::Quorum::Majority;
    "Quorum::All" => kad::Quorum::All;
    "Quorum::N" => kad::Quorum::N as fn(NonZeroUsize) -> kad::Quorum;
    "PeerRecord" => size_of::<kad::PeerRecord>();
    "PeerRecord.peer" => |record: kad::PeerRecord| -> Option<PeerId> { record.peer };
    "PeerRecord.record" => |record: kad::PeerRecord| -> kad::Record { record.record };

    "Event" => size_of::<kad::Event>();
    "Event::InboundRequest" => |e: kad::Event| matches!(e, kad::Event::InboundRequest { .. });
    "Event::InboundRequest.request" => |e: kad::Event| -> Option<kad::InboundRequest> {
        if let kad::Event::InboundRequest { request } = e { Some(request) } else { None }
    };
    "Event::OutboundQueryProgressed" => |e: kad::Event| matches!(e, kad::Event::OutboundQueryProgressed { .. });
    "Event::OutboundQueryProgressed.id" => progressed as fn(kad::Event) -> Option<Progressed>;
    "Event::OutboundQueryProgressed.result" => progressed;
    "Event::OutboundQueryProgressed.stats" => progressed;
    "Event::OutboundQueryProgressed.step" => progressed;
    "Event::RoutingUpdated" => |e: kad::Event| matches!(e, kad::Event::RoutingUpdated { .. });
    "Event::RoutingUpdated.peer" => updated as fn(kad::Event) -> Option<Updated>;
    "Event::RoutingUpdated.is_new_peer" => updated;
    "Event::RoutingUpdated.addresses" => updated;
    "Event::RoutingUpdated.bucket_range" => updated;
    "Event::RoutingUpdated.old_peer" => updated;
    "Event::UnroutablePeer" => |e: kad::Event| matches!(e, kad::Event::UnroutablePeer { .. });
    "Event::UnroutablePeer.peer" => |peer: PeerId| kad::Event::UnroutablePeer { peer };
    "Event::RoutablePeer" => |e: kad::Event| matches!(e, kad::Event::RoutablePeer { .. });
    "Event::RoutablePeer.peer" => |peer: PeerId, address: Multiaddr| kad::Event::RoutablePeer { peer, address };
    "Event::RoutablePeer.address" => |peer: PeerId, address: Multiaddr| kad::Event::RoutablePeer { peer, address };
    "Event::PendingRoutablePeer" => |e: kad::Event| matches!(e, kad::Event::PendingRoutablePeer { .. });
    "Event::PendingRoutablePeer.peer" => |peer: PeerId, address: Multiaddr| {
        kad::Event::PendingRoutablePeer { peer, address }
    };
    "Event::PendingRoutablePeer.address" => |peer: PeerId, address: Multiaddr| {
        kad::Event::PendingRoutablePeer { peer, address }
    };
    "Event::ModeChanged" => |e: kad::Event| matches!(e, kad::Event::ModeChanged { .. });
    "Event::ModeChanged.new_mode" => |new_mode: kad::Mode| kad::Event::ModeChanged { new_mode };
    "ProgressStep" => size_of::<kad::ProgressStep>();
    "ProgressStep.count" => |step: kad::ProgressStep| -> NonZeroUsize { step.count };
    "ProgressStep.last" => |step: kad::ProgressStep| -> bool { step.last };

    "InboundRequest" => size_of::<kad::InboundRequest>();
    "InboundRequest::FindNode" => |r: kad::InboundRequest| matches!(r, kad::InboundRequest::FindNode { .. });
    "InboundRequest::FindNode.num_closer_peers" => numbers as fn(kad::InboundRequest) -> Option<[usize; 2]>;
    "InboundRequest::GetProvider" => |r: kad::InboundRequest| matches!(r, kad::InboundRequest::GetProvider { .. });
    "InboundRequest::GetProvider.num_closer_peers" => numbers;
    "InboundRequest::GetProvider.num_provider_peers" => numbers;
    "InboundRequest::GetRecord" => |r: kad::InboundRequest| matches!(r, kad::InboundRequest::GetRecord { .. });
    "InboundRequest::GetRecord.num_closer_peers" => numbers;
    "InboundRequest::GetRecord.present_locally" => numbers;
    "InboundRequest::AddProvider" => |r: kad::InboundRequest| matches!(r, kad::InboundRequest::AddProvider { .. });
    "InboundRequest::PutRecord" => |r: kad::InboundRequest| matches!(r, kad::InboundRequest::PutRecord { .. });
    "InboundRequest::PutRecord.source" => |r: kad::InboundRequest| -> Option<PeerId> {
        if let kad::InboundRequest::PutRecord { source, .. } = r { Some(source) } else { None }
    };

    "QueryResult" => size_of::<kad::QueryResult>();
    "QueryResult::Bootstrap" => kad::QueryResult::Bootstrap as fn(kad::BootstrapResult) -> kad::QueryResult;
    "QueryResult::GetClosestPeers" => kad::QueryResult::GetClosestPeers
        as fn(kad::GetClosestPeersResult) -> kad::QueryResult;
    "QueryResult::GetProviders" => kad::QueryResult::GetProviders as fn(kad::GetProvidersResult) -> kad::QueryResult;
    "QueryResult::StartProviding" => kad::QueryResult::StartProviding
        as fn(kad::AddProviderResult) -> kad::QueryResult;
    "QueryResult::GetRecord" => kad::QueryResult::GetRecord as fn(kad::GetRecordResult) -> kad::QueryResult;
    "QueryResult::PutRecord" => kad::QueryResult::PutRecord as fn(kad::PutRecordResult) -> kad::QueryResult;
    "GetRecordResult" => |r: kad::GetRecordResult| -> Result<kad::GetRecordOk, kad::GetRecordError> { r };
    "GetRecordOk" => size_of::<kad::GetRecordOk>();
    "GetRecordOk::FoundRecord" => kad::GetRecordOk::FoundRecord as fn(kad::PeerRecord) -> kad::GetRecordOk;
    "GetRecordOk::FinishedWithNoAdditionalRecord" => |ok: kad::GetRecordOk| {
        matches!(ok, kad::GetRecordOk::FinishedWithNoAdditionalRecord { .. })
    };
    "GetRecordError" => debug::<kad::GetRecordError>;
    "GetRecordError::NotFound" => |e: kad::GetRecordError| matches!(e, kad::GetRecordError::NotFound { .. });
    "GetRecordError::NotFound.key" => |e: kad::GetRecordError| -> Option<kad::RecordKey> {
        if let kad::GetRecordError::NotFound { key, .. } = e { Some(key) } else { None }
    };
    "PutRecordResult" => |r: kad::PutRecordResult| -> Result<kad::PutRecordOk, kad::PutRecordError> { r };
    "PutRecordOk" => size_of::<kad::PutRecordOk>();
    "PutRecordOk.key" => |ok: kad::PutRecordOk| -> kad::RecordKey { ok.key };
    "PutRecordError" => debug::<kad::PutRecordError>;
    "PutRecordError::QuorumFailed" => |e: kad::PutRecordError| matches!(e, kad::PutRecordError::QuorumFailed { .. });
    "PutRecordError::QuorumFailed.key" => failed as fn(kad::PutRecordError) -> Option<Failed>;
    "PutRecordError::QuorumFailed.quorum" => failed;
    "BootstrapResult" => |r: kad::BootstrapResult| -> Result<kad::BootstrapOk, kad::BootstrapError> { r };
    "BootstrapOk" => size_of::<kad::BootstrapOk>();
    "BootstrapOk.peer" => |ok: kad::BootstrapOk| -> PeerId { ok.peer };
    "BootstrapOk.num_remaining" => |ok: kad::BootstrapOk| -> u32 { ok.num_remaining };
    "BootstrapError" => debug::<kad::BootstrapError>;
    "GetClosestPeersResult" => |r: kad::GetClosestPeersResult| -> Result<kad::GetClosestPeersOk, _> { r };
    "GetClosestPeersOk" => size_of::<kad::GetClosestPeersOk>();
    "GetClosestPeersOk.key" => |ok: kad::GetClosestPeersOk| -> Vec<u8> { ok.key };
    "GetClosestPeersOk.peers" => |ok: kad::GetClosestPeersOk| -> Vec<kad::PeerInfo> { ok.peers };
    "GetClosestPeersError" => debug::<kad::GetClosestPeersError>;
    "GetClosestPeersError::key" => |e: &kad::GetClosestPeersError| { let key: &[u8] = e.key(); key.len() };
    "GetClosestPeersError::into_key" => kad::GetClosestPeersError::into_key
        as fn(kad::GetClosestPeersError) -> Vec<u8>;
    "GetProvidersResult" => |r: kad::GetProvidersResult| -> Result<kad::GetProvidersOk, kad::GetProvidersError> { r };
    "GetProvidersOk" => size_of::<kad::GetProvidersOk>();
    "GetProvidersOk::FoundProviders" => |ok: kad::GetProvidersOk| {
        matches!(ok, kad::GetProvidersOk::FoundProviders { .. })
    };
    "GetProvidersOk::FoundProviders.key" => |ok: kad::GetProvidersOk| -> Option<kad::RecordKey> {
        if let kad::GetProvidersOk::FoundProviders { key, .. } = ok { Some(key) } else { None }
    };
    "GetProvidersOk::FinishedWithNoAdditionalRecord" => |ok: kad::GetProvidersOk| {
        matches!(ok, kad::GetProvidersOk::FinishedWithNoAdditionalRecord { .. })
    };
    "GetProvidersOk::FinishedWithNoAdditionalRecord.closest_peers" => |ok: kad::GetProvidersOk| -> Vec<PeerId> {
        if let kad::GetProvidersOk::FinishedWithNoAdditionalRecord { closest_peers, .. } = ok {
            closest_peers
        } else {
            Vec::new()
        }
    };
    "GetProvidersError" => debug::<kad::GetProvidersError>;
    "AddProviderResult" => |r: kad::AddProviderResult| -> Result<kad::AddProviderOk, kad::AddProviderError> { r };
    "AddProviderOk" => size_of::<kad::AddProviderOk>();
    "AddProviderOk.key" => |ok: kad::AddProviderOk| -> kad::RecordKey { ok.key };
    "AddProviderError" => debug::<kad::AddProviderError>;

    "QueryInfo" => size_of::<kad::QueryInfo>();
    "QueryInfo::Bootstrap" => |info: kad::QueryInfo| matches!(info, kad::QueryInfo::Bootstrap { .. });
    "QueryInfo::Bootstrap.peer" => joining as fn(kad::QueryInfo) -> Option<(PeerId, kad::ProgressStep)>;
    "QueryInfo::Bootstrap.step" => joining;
    "QueryInfo::GetClosestPeers" => |info: kad::QueryInfo| matches!(info, kad::QueryInfo::GetClosestPeers { .. });
    "QueryInfo::GetClosestPeers.key" => searching
        as fn(kad::QueryInfo) -> Option<(Vec<u8>, NonZeroUsize, kad::ProgressStep)>;
    "QueryInfo::GetClosestPeers.step" => searching;
    "QueryInfo::GetClosestPeers.num_results" => searching;
    "QueryInfo::GetProviders" => |info: kad::QueryInfo| matches!(info, kad::QueryInfo::GetProviders { .. });
    "QueryInfo::GetProviders.key" => finding as fn(kad::QueryInfo) -> Option<(kad::RecordKey, usize, kad::ProgressStep)>;
    "QueryInfo::GetProviders.providers_found" => finding;
    "QueryInfo::GetProviders.step" => finding;
    "QueryInfo::AddProvider" => |info: kad::QueryInfo| matches!(info, kad::QueryInfo::AddProvider { .. });
    "QueryInfo::AddProvider.key" => |info: kad::QueryInfo| -> Option<kad::RecordKey> {
        if let kad::QueryInfo::AddProvider { key, .. } = info { Some(key) } else { None }
    };
    "QueryInfo::PutRecord" => |info: kad::QueryInfo| matches!(info, kad::QueryInfo::PutRecord { .. });
    "QueryInfo::GetRecord" => |info: kad::QueryInfo| matches!(info, kad::QueryInfo::GetRecord { .. });
    "QueryInfo::GetRecord.key" => getting as fn(kad::QueryInfo) -> Option<(kad::RecordKey, kad::ProgressStep)>;
    "QueryInfo::GetRecord.step" => getting;
    "QueryMut::id" => |k: &mut Kad, id: &kad::QueryId| -> Option<kad::QueryId> { Some(k.query_mut(id)?.id()) };
    "QueryMut::info" => |k: &mut Kad, id: &kad::QueryId| -> Option<kad::QueryInfo> {
        Some(k.query_mut(id)?.info().clone())
    };
    "QueryMut::stats" => |k: &mut Kad, id: &kad::QueryId| -> Option<kad::QueryStats> { Some(*k.query_mut(id)?.stats()) };
    "QueryMut::finish" => |k: &mut Kad, id: &kad::QueryId| k.query_mut(id).map(|mut query| query.finish());
    "QueryRef::id" => |k: &Kad, id: &kad::QueryId| -> Option<kad::QueryId> { Some(k.query(id)?.id()) };
    "QueryRef::info" => |k: &Kad, id: &kad::QueryId| -> Option<kad::QueryInfo> { Some(k.query(id)?.info().clone()) };
    "QueryRef::stats" => |k: &Kad, id: &kad::QueryId| -> Option<kad::QueryStats> { Some(*k.query(id)?.stats()) };
    "QueryId" => size_of::<kad::QueryId>();
    "QueryId: Display" => display::<kad::QueryId>;
    "QueryStats" => size_of::<kad::QueryStats>();
    "QueryStats::empty" => kad::QueryStats::empty as fn() -> kad::QueryStats;
    "QueryStats::num_requests" => kad::QueryStats::num_requests as fn(&kad::QueryStats) -> u32;
    "QueryStats::num_successes" => kad::QueryStats::num_successes as fn(&kad::QueryStats) -> u32;
    "QueryStats::num_failures" => kad::QueryStats::num_failures as fn(&kad::QueryStats) -> u32;
    "QueryStats::num_pending" => kad::QueryStats::num_pending as fn(&kad::QueryStats) -> u32;
    "QueryStats::merge" => kad::QueryStats::merge as fn(kad::QueryStats, kad::QueryStats) -> kad::QueryStats;

    "NoKnownPeers" => kad::NoKnownPeers();
    "NoKnownPeers: Display" => display::<kad::NoKnownPeers>;
    "NoKnownPeers: Error" => error::<kad::NoKnownPeers>;
    "RoutingUpdate" => size_of::<kad::RoutingUpdate>();
    "RoutingUpdate::Success" => kad::RoutingUpdate::Success;
    "RoutingUpdate::Pending" => kad::RoutingUpdate::Pending;
    "RoutingUpdate::Failed" => kad::RoutingUpdate::Failed;
    "Mode" => size_of::<kad::Mode>();
    "Mode: Display" => display::<kad::Mode>;
    "Mode::Client" => kad::Mode::Client;
    "Mode::Server" => kad::Mode::Server;

    "KBucketRef" => size_of::<Bucket<'static>>();
    "KBucketRef::range" => |b: &Bucket<'_>| -> (kad::KBucketDistance, kad::KBucketDistance) { b.range() };
    "KBucketRef::is_empty" => |b: &Bucket<'_>| -> bool { b.is_empty() };
    "KBucketRef::num_entries" => |b: &Bucket<'_>| -> usize { b.num_entries() };
    "KBucketRef::has_pending" => |b: &Bucket<'_>| -> bool { b.has_pending() };
    "KBucketRef::contains" => |b: &Bucket<'_>, distance: &kad::KBucketDistance| -> bool { b.contains(distance) };
    "KBucketRef::iter" => peers_of as fn(&Bucket<'_>) -> Vec<PeerId>;
    "EntryRefView" => peers_of;
    "EntryRefView.node" => peers_of;
    "EntryRefView.status" => peers_of;
    "EntryRefView::to_owned" => entries_of as fn(&Bucket<'_>) -> Vec<Entry>;
    "NodeRefView" => addresses_of as fn(&Bucket<'_>) -> Vec<Multiaddr>;
    "NodeRefView.key" => peers_of;
    "NodeRefView.value" => addresses_of;
    "EntryView" => size_of::<Entry>();
    "EntryView.node" => |entry: Entry| -> PeerKey { entry.node.key };
    "EntryView.status" => |entry: Entry| -> kad::NodeStatus { entry.status };
    "EntryView: AsRef" => |entry: &Entry, key: &PeerKey| key.distance(entry);
    "Node" => |entry: Entry| (entry.node.key, entry.node.value);
    "Node.key" => |entry: Entry| -> PeerKey { entry.node.key };
    "Node.value" => |entry: Entry| -> kad::Addresses { entry.node.value };
    "NodeStatus" => size_of::<kad::NodeStatus>();
    "NodeStatus::Connected" => kad::NodeStatus::Connected;
    "NodeStatus::Disconnected" => kad::NodeStatus::Disconnected;
    "U256" => kad::U256::MAX;
    "KBucketKey" => size_of::<PeerKey>();
    "KBucketKey::new" => |key: kad::RecordKey| (kad::KBucketKey::new(key), kad::KBucketKey::new(vec![1]));
    "KBucketKey::preimage" => PeerKey::preimage as fn(&PeerKey) -> &PeerId;
    "KBucketKey::into_preimage" => PeerKey::into_preimage as fn(PeerKey) -> PeerId;
    "KBucketKey::distance" => |a: &PeerKey, b: &kad::KBucketKey<Vec<u8>>| -> kad::KBucketDistance { a.distance(b) };
    "KBucketKey::hashed_bytes" => PeerKey::hashed_bytes as fn(&PeerKey) -> &[u8];
    "KBucketKey::for_distance" => |key: PeerKey, distance: kad::KBucketDistance| key.for_distance(distance);
    "KBucketKey: From<Multihash>" => |m: Multihash<64>| kad::KBucketKey::from(m).preimage().code();
    "KBucketKey: From<PeerId>" => <PeerKey as From<PeerId>>::from as fn(PeerId) -> PeerKey;
    "KBucketKey: From<Vec<u8>>" => |bytes: Vec<u8>| kad::KBucketKey::from(bytes).into_preimage();
    "KBucketKey: From<RecordKey>" => |key: kad::RecordKey| kad::KBucketKey::from(key).into_preimage();
    "KBucketKey: AsRef" => |a: &PeerKey, b: &PeerKey| a.for_distance(a.distance(b)).as_ref() == b.as_ref();
    "KBucketKey: PartialEq" => |a: PeerKey, b: kad::KBucketKey<Vec<u8>>| a == b;
    "KBucketKey: Eq" => eq::<PeerKey>;
    "KBucketKey: Hash" => hash::<PeerKey>;
    "KBucketKey: Copy" => copy::<PeerKey>;
    "KeyBytes" => |key: PeerKey, distance| key.for_distance(distance);
    "KeyBytes::distance" => |key: PeerKey, distance| key.for_distance(distance).distance(&key.for_distance(distance));
    "KeyBytes: From<KBucketKey>" => |key: PeerKey, distance| [key.for_distance(distance), key.into()];
    "KeyBytes: AsRef" => |key: PeerKey, distance| key.distance(&key.for_distance(distance));
    "KBucketDistance" => kad::KBucketDistance(kad::U256::MAX);
    "KBucketDistance::ilog2" => kad::KBucketDistance::ilog2 as fn(&kad::KBucketDistance) -> Option<u32>;

    "ConnectionType" => size_of::<kad::ConnectionType>();
    "ConnectionType::NotConnected" => kad::ConnectionType::NotConnected;
    "ConnectionType::Connected" => kad::ConnectionType::Connected;
    "ConnectionType::CanConnect" => kad::ConnectionType::CanConnect;
    "ConnectionType::CannotConnect" => kad::ConnectionType::CannotConnect;
    "KadPeer" => size_of::<kad::KadPeer>();
    "KadPeer.node_id" => |peer: kad::KadPeer| -> PeerId { peer.node_id };
    "KadPeer.connection_ty" => |peer: kad::KadPeer| -> kad::ConnectionType { peer.connection_ty };
    "KadPeer: From<EntryView>" => <kad::KadPeer as From<Entry>>::from as fn(Entry) -> kad::KadPeer;

    "RecordKey" => size_of::<kad::RecordKey>();
    "RecordKey::new" => |bytes: Vec<u8>| (kad::RecordKey::new(&bytes), kad::RecordKey::new(&"text"));
    "RecordKey::to_vec" => kad::RecordKey::to_vec as fn(&kad::RecordKey) -> Vec<u8>;
    "RecordKey: Borrow" => <kad::RecordKey as Borrow<[u8]>>::borrow as fn(&kad::RecordKey) -> &[u8];
    "RecordKey: AsRef" => <kad::RecordKey as AsRef<[u8]>>::as_ref as fn(&kad::RecordKey) -> &[u8];
    "RecordKey: From<Vec<u8>>" => <kad::RecordKey as From<Vec<u8>>>::from as fn(Vec<u8>) -> kad::RecordKey;
    "RecordKey: From<Multihash>" => |m: Multihash<64>| kad::RecordKey::from(m);
    "Record" => size_of::<kad::Record>();
    "Record.key" => |record: kad::Record| -> kad::RecordKey { record.key };
    "Record.publisher" => |record: kad::Record| -> Option<PeerId> { record.publisher };
    "Record::new" => |bytes: Vec<u8>| kad::Record::new(bytes.clone(), bytes);
    "ProviderRecord" => size_of::<kad::ProviderRecord>();
    "ProviderRecord.key" => |record: kad::ProviderRecord| -> kad::RecordKey { record.key };
    "ProviderRecord.provider" => |record: kad::ProviderRecord| -> PeerId { record.provider };
    "ProviderRecord.addresses" => |record: kad::ProviderRecord| -> Vec<Multiaddr> { record.addresses };
    "ProviderRecord::new" => |key: Vec<u8>| kad::ProviderRecord::new(key, PeerId::random(), Vec::new());
    "ProviderRecord: Hash" => hash::<kad::ProviderRecord>;
    "ProviderRecord: PartialEq" => eq::<kad::ProviderRecord>;
    "ProviderRecord: Eq" => eq::<kad::ProviderRecord>;

    "store::Result" => |result: kad::store::Result<u8>| -> Result<u8, kad::store::Error> { result };
    "store::Error" => error::<kad::store::Error>;
    "store::Error::MaxRecords" => |e: kad::store::Error| matches!(e, kad::store::Error::MaxRecords { .. });
    "store::Error::MaxProvidedKeys" => |e: kad::store::Error| matches!(e, kad::store::Error::MaxProvidedKeys { .. });
    "store::Error::ValueTooLarge" => |e: kad::store::Error| matches!(e, kad::store::Error::ValueTooLarge { .. });
    "store::RecordStore" => <Store as kad::store::RecordStore>::records;
    "store::RecordStore::RecordsIter" => |iter: <Store as kad::store::RecordStore>::RecordsIter<'_>| iter.count();
    "store::RecordStore::ProvidedIter" => |iter: <Store as kad::store::RecordStore>::ProvidedIter<'_>| iter.count();
    "store::RecordStore::records" => |s: &Store| s.records().map(|record| record.into_owned()).next();
    "store::RecordStore::provided" => |s: &Store| s.provided().map(|record| record.into_owned()).next();
    "store::MemoryStore" => size_of::<Store>();
    "store::MemoryStore: RecordStore" => <Store as kad::store::RecordStore>::records;
    "store::MemoryStore::new" => Store::new as fn(PeerId) -> Store;
    "store::MemoryStore::with_config" => Store::with_config as fn(PeerId, kad::store::MemoryStoreConfig) -> Store;
    "store::MemoryStore::retain" => |s: &mut Store| s.retain(|_, record| { record.publisher = None; true });
    "store::MemoryStoreConfig" => size_of::<kad::store::MemoryStoreConfig>();
    "store::MemoryStoreConfig: Default" => kad::store::MemoryStoreConfig::default as fn() -> kad::store::MemoryStoreConfig;
    "K_VALUE" => { let k: NonZeroUsize = kad::K_VALUE; k };
}

type Store = kad::store::MemoryStore;
type Kad = kad::Behaviour<Store>;
type PeerKey = kad::KBucketKey<PeerId>;
type Entry = kad::EntryView<PeerKey, kad::Addresses>;
type Bucket<'a> = kad::KBucketRef<'a, PeerKey, kad::Addresses>;
type Progressed = (kad::QueryId, kad::QueryResult, kad::QueryStats, kad::ProgressStep);
type Updated = (PeerId, bool, kad::Addresses, (kad::KBucketDistance, kad::KBucketDistance), Option<PeerId>);
type Failed = (kad::RecordKey, NonZeroUsize);

fn progressed(event: kad::Event) -> Option<Progressed> {
    let kad::Event::OutboundQueryProgressed { id, result, stats, step } = event else { return None };
    Some((id, result, stats, step))
}

fn updated(event: kad::Event) -> Option<Updated> {
    let kad::Event::RoutingUpdated { peer, is_new_peer, addresses, bucket_range, old_peer } = event else {
        return None;
    };
    Some((peer, is_new_peer, addresses, bucket_range, old_peer))
}

fn numbers(request: kad::InboundRequest) -> Option<[usize; 2]> {
    match request {
        kad::InboundRequest::FindNode { num_closer_peers, .. } => Some([num_closer_peers, 0]),
        kad::InboundRequest::GetProvider { num_closer_peers, num_provider_peers, .. } => {
            Some([num_closer_peers, num_provider_peers])
        }
        kad::InboundRequest::GetRecord { num_closer_peers, present_locally, .. } => {
            Some([num_closer_peers, usize::from(present_locally)])
        }
        _ => None,
    }
}

fn failed(error: kad::PutRecordError) -> Option<Failed> {
    let kad::PutRecordError::QuorumFailed { key, quorum, .. } = error else { return None };
    Some((key, quorum))
}

fn joining(info: kad::QueryInfo) -> Option<(PeerId, kad::ProgressStep)> {
    let kad::QueryInfo::Bootstrap { peer, step, .. } = info else { return None };
    Some((peer, step))
}

fn searching(info: kad::QueryInfo) -> Option<(Vec<u8>, NonZeroUsize, kad::ProgressStep)> {
    let kad::QueryInfo::GetClosestPeers { key, num_results, step } = info else { return None };
    Some((key, num_results, step))
}

fn finding(info: kad::QueryInfo) -> Option<(kad::RecordKey, usize, kad::ProgressStep)> {
    let kad::QueryInfo::GetProviders { key, providers_found, step, .. } = info else { return None };
    Some((key, providers_found, step))
}

fn getting(info: kad::QueryInfo) -> Option<(kad::RecordKey, kad::ProgressStep)> {
    let kad::QueryInfo::GetRecord { key, step, .. } = info else { return None };
    Some((key, step))
}

fn peers_of(bucket: &Bucket<'_>) -> Vec<PeerId> {
    let connected = bucket.iter().filter(|entry| entry.status == kad::NodeStatus::Connected);
    connected.map(|entry| *entry.node.key.preimage()).collect()
}

fn addresses_of(bucket: &Bucket<'_>) -> Vec<Multiaddr> {
    bucket.iter().flat_map(|entry| entry.node.value.iter().cloned().collect::<Vec<_>>()).collect()
}

fn entries_of(bucket: &Bucket<'_>) -> Vec<Entry> {
    bucket.iter().map(|entry| entry.to_owned()).collect()
}
