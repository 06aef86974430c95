//! Rates: who has asked for more than it is guaranteed.

use std::net::IpAddr;

use libp2p_identity::PeerId;

use crate::addrs::IpGroup;
use crate::config::{Rate, Rates};
use crate::map::FastMap;
use crate::message::MessageType;
use crate::peer::PackedPeerId;
use crate::time::{Duration, Instant};

/// How late the node may be before what is beyond its sender's rate is refused, and before that of peers of the table is, too.
/// Chosen, not measured: five times what a busy event loop waits.
const LATE: Duration = Duration::from_millis(5);
const LATE_FOR_MEMBERS: Duration = Duration::from_millis(10);

/// By how much the rates of strangers are lowered at most. Chosen, not measured.
const MAX_LOWERED: u32 = 16;

/// A group of addresses has the rates of so many peers (chosen, not measured).
const PEERS_OF_GROUP: u32 = 8;

/// Of so many peers, and of so many groups, it is remembered what they have asked; beyond that all that are owed their whole burst
/// are forgotten, and if none is, newcomers have their group's rate alone. Chosen, not measured: 3 MiB.
const MAX_REMEMBERED: usize = 16 * 1024;

/// The prefix of a group of addresses, in bits, by the version of IP (the IPFS `spec` counts the same for routing at /16 and /32;
/// rates are of single networks).
const PREFIXES: (u32, u32) = (24, 48);

/// A group of IP addresses that share rates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RateGroup {
    V4(u32),
    V6(u64),
    /// Whoever comes through a relay.
    Relay(PackedPeerId),
}

impl RateGroup {
    /// Returns the group of an address; none of one that only this machine or its site can reach, as a proxy in front of this node has.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        IpGroup::of_ip(ip)?;
        Some(match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits() >> (32 - PREFIXES.0)),
            IpAddr::V6(ip) => Self::V6(u64::try_from(ip.to_bits() >> (128 - PREFIXES.1)).unwrap_or(u64::MAX)),
        })
    }
}

/// When each kind of request of a sender would be owed its whole burst again: microseconds since the first request of all.
#[derive(Clone, Copy, Debug, Default)]
struct Owed([u64; 4]);

impl Owed {
    fn of(&mut self, kind: MessageType) -> &mut u64 {
        let [lookups, puts, announcements, pings] = &mut self.0;
        match kind {
            MessageType::FindNode | MessageType::GetValue | MessageType::GetProviders => lookups,
            MessageType::PutValue => puts,
            MessageType::AddProvider => announcements,
            MessageType::Ping => pings,
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.0.iter().all(|at| *at <= now)
    }
}

/// The sender of a request.
#[derive(Clone, Debug)]
pub(super) struct RequestSender {
    pub(super) peer: PeerId,
    /// Where its connection comes from, if that is known.
    pub(super) group: Option<RateGroup>,
    /// Whether it is in the routing table: then its neighbours take nothing of its rate.
    pub(super) is_member: bool,
}

/// What a rate says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateVerdict {
    /// It is within what its sender is guaranteed.
    Within,
    /// It is beyond that, and served all the same.
    Beyond,
    /// It is beyond that, and there is too much to do.
    Refused,
}

/// The limiter of rates.
///
/// # What it decides
/// Whether a request is within what its sender and its sender's network are guaranteed, and whether one that is not is served
/// all the same: as long as the node is not late. By the generic cell rate algorithm, which keeps one time for each sender and kind.
///
/// # Inputs, outputs
/// [`judge`](Self::judge).
///
/// # What time does
/// Gives senders back what they are owed.
///
/// # Bounds
/// 16,384 peers and as many groups.
///
/// # Spec
/// None; ATM Forum, Traffic Management 4.1, §4.4.2 has the algorithm.
#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    peers: FastMap<PackedPeerId, Owed>,
    groups: FastMap<RateGroup, Owed>,
    first: Option<Instant>,
}

impl RateLimiter {
    /// Judges a request at a time when the node is so late.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        late: Duration,
        sender: &RequestSender,
        kind: MessageType,
        rates: &Rates,
    ) -> RateVerdict {
        let since = now.saturating_duration_since(*self.first.get_or_insert(now));
        let now = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let lowered = if sender.is_member { 1 } else { lowered(late) };
        let is_within = self.is_within(now, sender, kind, rates.of(kind), lowered);
        let patience = if sender.is_member { LATE_FOR_MEMBERS } else { LATE };
        match is_within {
            true => RateVerdict::Within,
            false if late < patience => RateVerdict::Beyond,
            false => RateVerdict::Refused,
        }
    }

    /// Charges a request, if its sender and its sender's group are owed it. Returns whether they are.
    fn is_within(
        &mut self,
        now: u64,
        sender: &RequestSender,
        kind: MessageType,
        rate: Rate,
        lowered: u32,
    ) -> bool {
        // The group first: whoever makes ids up leaves no trace of them.
        let group = sender.group.clone().filter(|_| !sender.is_member);
        let group = match group.map(|group| has_room(&mut self.groups, group, now)) {
            Some(Some(owed)) => match charged(*owed.of(kind), now, rate, PEERS_OF_GROUP, lowered) {
                Some(after) => Some((owed, after)),
                None => return false,
            },
            Some(None) | None => None,
        };
        match has_room(&mut self.peers, PackedPeerId::from(&sender.peer), now) {
            Some(owed) => match charged(*owed.of(kind), now, rate, 1, lowered) {
                Some(after) => *owed.of(kind) = after,
                None => return false,
            },
            // Its group's rate alone; nothing if that is not known either.
            None if group.is_none() => return false,
            None => {}
        }
        if let Some((owed, after)) = group {
            *owed.of(kind) = after;
        }
        true
    }
}

/// Returns by how much the rates of strangers are lowered when the node is so late: to a half each time that doubles.
fn lowered(late: Duration) -> u32 {
    let times = u32::try_from(late.as_micros() / LATE.as_micros()).unwrap_or(u32::MAX);
    times.clamp(1, MAX_LOWERED)
}

/// Returns what a sender is owed, if it is remembered or there is room for it.
fn has_room<K: Eq + std::hash::Hash>(all: &mut FastMap<K, Owed>, sender: K, now: u64) -> Option<&mut Owed> {
    if all.len() >= MAX_REMEMBERED && !all.contains_key(&sender) {
        all.retain(|_, owed| !owed.is_over(now));
        if all.len() >= MAX_REMEMBERED {
            return None;
        }
    }
    Some(all.entry(sender).or_default())
}

/// Returns when a sender is owed its whole burst again after a request, if that is within so many times a rate that is lowered to
/// a part of it.
fn charged(owed: u64, now: u64, rate: Rate, times: u32, lowered: u32) -> Option<u64> {
    let (per_second, burst) = (u64::from(rate.per_second.get()), u64::from(rate.burst.get()));
    let cost = (1_000_000 * u64::from(lowered) / (per_second * u64::from(times))).max(1);
    // The burst is lowered with the rate: as many microseconds of the lower one are fewer requests.
    // One at once is owed at least.
    let most = (burst * 1_000_000 / per_second).max(cost);
    let after = owed.max(now).saturating_add(cost);
    (after - now <= most).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dht::tests::peer;
    use crate::time::start;

    const SECOND: Duration = Duration::from_secs(1);

    fn sender(n: usize, ip: &str) -> RequestSender {
        RequestSender { peer: peer(n), group: RateGroup::of(ip.parse().unwrap()), is_member: false }
    }

    /// Returns how many of so many requests of a kind at one time are within their rate.
    fn within(
        limiter: &mut RateLimiter,
        now: Instant,
        late: Duration,
        of: &RequestSender,
        kind: MessageType,
        count: usize,
    ) -> usize {
        let rates = Rates::default();
        let verdicts = (0..count).map(|_| limiter.judge(now, late, of, kind, &rates));
        verdicts.filter(|verdict| *verdict == RateVerdict::Within).count()
    }

    #[test]
    fn a_peer_is_guaranteed_its_burst_and_then_its_rate() {
        let (mut limiter, of) = (RateLimiter::default(), sender(1, "9.9.2.1"));
        let mut within = |now, kind| within(&mut limiter, now, Duration::ZERO, &of, kind, 30_000);
        let kinds = [
            (MessageType::FindNode, 200, 50),
            (MessageType::PutValue, 32, 2),
            (MessageType::AddProvider, 20_000, 500),
            (MessageType::Ping, 32, 2),
        ];
        for (kind, burst, per_second) in kinds {
            assert_eq!(within(start(), kind), burst, "{kind:?}");
            assert_eq!(within(start() + SECOND, kind), per_second, "{kind:?}");
            assert_eq!(within(start() + 1000 * SECOND, kind), burst, "{kind:?}");
        }
        // All that looks something up shares one rate.
        assert_eq!(within(start() + 1000 * SECOND, MessageType::GetProviders), 0);
    }

    #[test]
    fn a_network_has_the_rates_of_eight_peers_however_many_ids_it_has() {
        let mut limiter = RateLimiter::default();
        let all = (0..100).map(|n| {
            let of = sender(n, &format!("9.9.2.{n}"));
            within(&mut limiter, start(), Duration::ZERO, &of, MessageType::FindNode, 300)
        });
        assert_eq!(all.sum::<usize>(), 8 * 200);
        let other = sender(200, "9.9.3.1");
        assert_eq!(within(&mut limiter, start(), Duration::ZERO, &other, MessageType::FindNode, 300), 200);
        let v6 = |n: usize| sender(300 + n, &format!("2606:4700:1:{n}::1"));
        let all =
            (0..20).map(|n| within(&mut limiter, start(), Duration::ZERO, &v6(n), MessageType::Ping, 100));
        assert_eq!(all.sum::<usize>(), 8 * 32);
    }

    #[test]
    fn whoever_comes_through_a_proxy_or_is_in_the_table_shares_no_rate_and_whoever_comes_through_a_relay_does()
     {
        let mut limiter = RateLimiter::default();
        let mut all = |of: &dyn Fn(usize) -> RequestSender| -> usize {
            let count = |n| within(&mut limiter, start(), Duration::ZERO, &of(n), MessageType::Ping, 40);
            (0..20).map(count).sum()
        };
        assert_eq!(all(&|n| sender(n, "127.0.0.1")), 20 * 32);
        assert_eq!(all(&|n| RequestSender { is_member: true, ..sender(100 + n, "9.9.9.9") }), 20 * 32);
        let relay = RateGroup::Relay(PackedPeerId::from(&peer(999)));
        assert_eq!(
            all(&|n| RequestSender { group: Some(relay.clone()), ..sender(200 + n, "127.0.0.1") }),
            8 * 32
        );
    }

    #[test]
    fn however_small_a_burst_is_one_is_owed() {
        let one = std::num::NonZeroU32::MIN;
        let lookups = Rate { per_second: one, burst: one };
        let rates = Rates { lookups, ..Rates::default() };
        let late = Duration::from_secs(1);
        let verdict =
            RateLimiter::default().judge(start(), late, &sender(1, "9.9.2.1"), MessageType::FindNode, &rates);
        assert_eq!(verdict, RateVerdict::Within);
    }

    #[test]
    fn what_is_beyond_is_served_until_the_node_is_late_and_that_of_strangers_is_refused_first() {
        let rates = Rates::default();
        let mut limiter = RateLimiter::default();
        let (stranger, member) =
            (sender(1, "9.9.2.1"), RequestSender { is_member: true, ..sender(2, "8.8.1.1") });
        for of in [&stranger, &member] {
            within(&mut limiter, start(), Duration::ZERO, of, MessageType::FindNode, 200);
        }
        let mut judge =
            |of: &RequestSender, late| limiter.judge(start(), late, of, MessageType::FindNode, &rates);
        let [in_time, late, very_late] = [1, 6, 12].map(Duration::from_millis);
        use RateVerdict::{Beyond, Refused};
        assert_eq!([in_time, late, very_late].map(|late| judge(&stranger, late)), [Beyond, Refused, Refused]);
        assert_eq!([in_time, late, very_late].map(|late| judge(&member, late)), [Beyond, Beyond, Refused]);
    }

    #[test]
    fn the_later_the_node_is_the_less_strangers_are_guaranteed_and_members_as_much_as_ever() {
        let late = Duration::from_millis(20);
        let stranger = within(
            &mut RateLimiter::default(),
            start(),
            late,
            &sender(1, "9.9.2.1"),
            MessageType::FindNode,
            999,
        );
        assert_eq!(stranger, 50, "a quarter");
        let member = RequestSender { is_member: true, ..sender(1, "9.9.2.1") };
        assert_eq!(
            within(&mut RateLimiter::default(), start(), late, &member, MessageType::FindNode, 999),
            200
        );
        let never = Duration::from_secs(9);
        let stranger = within(
            &mut RateLimiter::default(),
            start(),
            never,
            &sender(1, "9.9.2.1"),
            MessageType::FindNode,
            999,
        );
        assert_eq!(stranger, 12, "a sixteenth, however late");
    }

    #[test]
    fn memory_is_bounded_and_what_is_owed_nothing_is_forgotten() {
        let mut limiter = RateLimiter::default();
        for n in 0..MAX_REMEMBERED + 100 {
            let of = sender(n, &format!("9.{}.{}.1", n / 256, n % 256));
            within(&mut limiter, start(), Duration::ZERO, &of, MessageType::FindNode, 1);
        }
        assert_eq!((limiter.peers.len(), limiter.groups.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        let of = sender(MAX_REMEMBERED + 200, "7.7.7.1");
        within(&mut limiter, start() + SECOND, Duration::ZERO, &of, MessageType::FindNode, 1);
        assert_eq!((limiter.peers.len(), limiter.groups.len()), (1, 1));
    }
}
