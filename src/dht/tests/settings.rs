//! What may be configured hurts nobody: a small network for an hour with each duration as short and as long as it can be.

use super::*;
use crate::config::least::tests::{ALL, Set};

const HOUR: Duration = Duration::from_secs(3600);

/// How many nodes there are. One of them freezes after half of the time.
const NODES: usize = 6;

/// Runs a small network in which something is stored, provided and looked up, and returns how many requests each node has
/// sent in a second.
fn requests_a_second(set: Set, duration: Duration) -> f64 {
    let config = set(Config::default(), duration).unwrap();
    let mut net = Net::new(NODES, &config);
    net.join_all(SECOND);
    let record = crate::record::Record::new(&b"key"[..], &b"value"[..]);
    net.with(1, |dht, now| dht.put_record(now, record, crate::record::Quorum::One)).unwrap();
    net.with(2, |dht, now| dht.start_providing(now, b"key"[..].into())).unwrap();
    for half in [Health::Alive, Health::Frozen] {
        net.nodes[NODES - 1].health = half;
        for n in 0..NODES - 1 {
            net.with(n, |dht, now| dht.find_closest(now, *b"anything"));
        }
        net.run_for(HOUR / 2);
    }
    let happened = u32::try_from(net.requests_sent).unwrap();
    f64::from(happened) / (HOUR.as_secs_f64() * NODES as f64)
}

#[test]
fn as_short_as_it_can_be_no_duration_floods_and_as_long_as_it_can_be_none_panics() {
    for (what, least, set) in ALL {
        for duration in [least, Duration::MAX - Duration::from_nanos(1), Duration::MAX] {
            let sent = requests_a_second(set, duration);
            assert!(sent < 3.0, "{what} {duration:?}: {sent} requests a second for each node");
        }
    }
}

#[test]
fn all_at_their_least_together_do_not_flood_either() {
    fn all(config: Config, _: Duration) -> Result<Config, crate::error::ConfigError> {
        // A long request timeout, which the soft one sets, is not the shortest.
        let (_, least, request) = ALL.into_iter().find(|(what, ..)| *what == "request timeout").unwrap();
        let others =
            ALL.into_iter().filter(|(what, ..)| !matches!(*what, "soft timeout" | "request timeout"));
        others.fold(request(config, least), |config, (_, least, set)| set(config?, least))
    }
    let sent = requests_a_second(all, SECOND);
    assert!(sent < 8.0, "{sent} requests a second for each node");
}

#[test]
fn the_greatest_numbers_hurt_nobody() {
    let most = std::num::NonZeroUsize::MAX;
    let most_of_bytes = std::num::NonZeroU8::MAX;
    let config = Config::default()
        .with_max_queries(most)
        .with_max_dials(most)
        .with_max_known_peers(most)
        .with_max_seeds(most)
        .with_low_peers(usize::MAX)
        .with_bucket_size(most_of_bytes)
        .with_replacement_cache(u8::MAX)
        .with_beta(most_of_bytes)
        .with_max_providers_per_answer(most);
    let mut net = Net::new(4, &config);
    net.join_all(SECOND);
    net.run_for(HOUR);
    assert!((1..4).all(|n| net.knows(0, n)));
}
