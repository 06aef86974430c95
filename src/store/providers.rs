//! Providers of keys, by what others say: a compact index.
//!
//! Knows keys, peers, their IP groups and wall-clock times; neither values nor who may announce what.

use std::collections::{BTreeMap, BTreeSet};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use smallvec::{SmallVec, smallvec};

use super::charge::{Amount, Beyond, Charge, KEY_SHARE, SHARE, Taken, charge};
use super::compact::{Interner, Number, PackedKey, Tag};
use super::fair::FairShares;
use super::{Error, Result};
use crate::addrs::{Addresses, IpGroup, clean};
use crate::peer::PackedPeerId;
use crate::record::{ProviderRecord, RecordKey};
use crate::time::{Duration, SystemTime};

/// The limits of provider records: how much room there is for them, statements that a peer provides a key.
///
/// # When there is none
/// Statements that have ended go first. Then a new one takes the place of one of a group that has more than its own, about a key of
/// the half that is farther from the node first; else it is refused. Renewing one always works. The peers of one
/// IP group are a quarter of the providers of a key at most, and have a sixteenth of the room for others. When a key has as many
/// providers as it may, the provider of a group that has few of them takes the place of one of the group that has most: of the one
/// whose statement ends first. Peers of no group are not bounded as one, but count as one here. What the node provides itself has
/// room of its own.
#[derive(Clone, Debug)]
pub struct ProviderLimits {
    /// Of how many keys others may be the providers. Default: 65,536.
    pub max_keys: usize,
    /// How many keys the node itself may provide. Default: 1,048,576.
    pub max_own_keys: usize,
    /// How many providers a key may have beside the node. Default: 64.
    pub max_per_key: usize,
    /// How many statements of others are kept, whatever the key. Default: 262,144.
    pub max_pairs: usize,
}

impl Default for ProviderLimits {
    fn default() -> Self {
        Self { max_keys: 64 * 1024, max_own_keys: 1024 * 1024, max_per_key: 64, max_pairs: 256 * 1024 }
    }
}

/// How many addresses of a provider are kept: 8, as TCP, QUIC, WebTransport and WebRTC over IPv4 and IPv6 have.
/// Chosen, not measured.
pub const MAX_PROVIDER_ADDRESSES: usize = 8;

/// How many bytes they take at most, all together: 512. Eight addresses of QUIC over IPv6 have some 200, two relayed ones some
/// 300; those beyond are left out, and those that fit are kept. Chosen, not measured.
pub const MAX_PROVIDER_ADDRESS_BYTES: usize = 512;

/// Returns the addresses of a provider that are kept, wherever it is that they are: those first that it names first.
pub(crate) fn kept_addresses(provider: &PeerId, addresses: impl IntoIterator<Item = Multiaddr>) -> Addresses {
    first_addresses(addresses.into_iter().filter_map(|address| clean(address, provider)))
}

/// Returns those addresses of a provider that are kept; shares the list if it is all of them.
pub(crate) fn kept_of(addresses: Addresses) -> Addresses {
    let bytes: usize = addresses.iter().map(Multiaddr::len).sum();
    if addresses.len() <= MAX_PROVIDER_ADDRESSES && bytes <= MAX_PROVIDER_ADDRESS_BYTES {
        return addresses;
    }
    first_addresses(addresses.iter().cloned())
}

/// Returns the first addresses, as many as are kept; those between them that are too long are left out.
fn first_addresses(clean: impl Iterator<Item = Multiaddr>) -> Addresses {
    let (mut kept, mut left) = (Vec::new(), MAX_PROVIDER_ADDRESS_BYTES);
    for address in clean {
        if kept.len() >= MAX_PROVIDER_ADDRESSES {
            break;
        }
        if address.len() <= left && !kept.contains(&address) {
            left -= address.len();
            kept.push(address);
        }
    }
    Addresses::from_clean(&mut kept)
}

/// So many keys are looked at for one that may go, in each half of them (chosen, not measured).
const MAX_TRIED: usize = 512;

/// The bit of a tag by which the farther half of all keys differs from the nearer one: the first (derived).
const FAR: Tag = 1 << (Tag::BITS - 1);

/// Returns a number that looks like another for each turn: the finisher of SplitMix64 (Steele, Lea & Flood 2014; its paper has the
/// numbers).
const fn mixed(turn: u64) -> u64 {
    let x = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Statements that are to make way, with their keys.
type ToGo = SmallVec<[(PackedKey, ProviderStatement); 1]>;

/// For so long after a provider's latest announcement its addresses are returned (`go-libp2p-kad-dht`).
const ADDRESSES_LAST: Duration = Duration::from_secs(24 * 60 * 60);

/// Seconds since 1970, rounded up; zero is the end of what has none.
type EndSecond = u32;

fn second(time: SystemTime) -> EndSecond {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let up = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    u32::try_from(up).unwrap_or(u32::MAX)
}

fn time(second: EndSecond) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(second.into()))
}

/// The statement that a peer provides a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProviderStatement {
    provider: Number,
    end: EndSecond,
    /// The group that it counts for.
    group: Option<Number>,
}

/// What is known of a provider, once for all that it provides.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) addresses: Addresses,
    pub(super) announced: SystemTime,
}

impl Provider {
    const fn unknown(addresses: Addresses) -> Self {
        Self { addresses, announced: SystemTime::UNIX_EPOCH }
    }
}

/// A key and a peer that provided it.
pub(super) type KeyAndProvider = (PackedKey, PackedPeerId);

/// The statements that had to make way: one, or all about a key.
pub(super) type Displaced = SmallVec<[KeyAndProvider; 1]>;

/// An index of keys, each with its providers.
///
/// # Bounds
/// Those of [`ProviderLimits`]. Some 150 bytes for a key of up to 38 bytes with one provider, the index of ends included; for
/// each provider some 200 and its addresses, 8 and 512 bytes at most. Nothing is kept in one piece that grows with the whole.
///
/// # Invariants
/// A name is used as often as statements name it. Whatever has an end stands in the index of ends.
#[derive(Debug)]
pub(super) struct ProviderIndex {
    limits: ProviderLimits,
    keys: BTreeMap<PackedKey, SmallVec<[ProviderStatement; 1]>>,
    pairs: usize,
    ends: BTreeSet<(EndSecond, Tag, Number)>,
    providers: Interner<PackedPeerId, Provider>,
    groups: Interner<IpGroup, ()>,
    shares: FairShares,
    /// Of this node: the nearest keys to it are those that others look for here.
    own: Tag,
    /// How often something had to make way: each time it is looked for elsewhere.
    turn: u64,
}

impl ProviderIndex {
    pub(super) fn new(local: &PeerId, limits: ProviderLimits) -> Self {
        let own = PackedKey::new(&local.to_bytes()).tag();
        Self {
            limits,
            keys: BTreeMap::new(),
            pairs: 0,
            ends: BTreeSet::new(),
            providers: Interner::new(),
            groups: Interner::new(),
            shares: FairShares::default(),
            own,
            turn: 0,
        }
    }

    /// Takes a statement in, in place of an earlier one of its key and provider, and returns those that had to make way.
    ///
    /// Addresses that are named replace those known. What has ended has to be taken out before, so that it makes room.
    ///
    /// # Errors
    /// [`Error::MaxProviders`], [`Error::MaxProvidedKeys`]; then nothing has changed.
    pub(super) fn add(
        &mut self,
        wall: SystemTime,
        record: &ProviderRecord,
        group: Option<IpGroup>,
    ) -> Result<Displaced> {
        let (number, gone) = self.state(record, group)?;
        if !record.addresses.is_empty() {
            self.name_addresses(number, wall, record);
        }
        Ok(gone)
    }

    /// Takes a statement in as it was saved, with addresses that were announced some time ago.
    ///
    /// # Errors
    /// [`Error::MaxProviders`], [`Error::MaxProvidedKeys`]; then nothing has changed.
    #[cfg(feature = "redb")]
    pub(super) fn restore(
        &mut self,
        announced: SystemTime,
        record: &ProviderRecord,
        group: Option<IpGroup>,
    ) -> Result<Displaced> {
        let (number, gone) = self.state(record, group)?;
        // Each statement was saved with what was known then: the latest counts.
        let known = self.providers.get(number).map(|known| known.about.announced);
        if !record.addresses.is_empty() && known.is_none_or(|known| known <= announced) {
            self.name_addresses(number, announced, record);
        }
        Ok(gone)
    }

    fn name_addresses(&mut self, number: Number, announced: SystemTime, record: &ProviderRecord) {
        let Some(Provider { addresses, announced: latest }) =
            self.providers.get_mut(number).map(|provider| &mut provider.about)
        else {
            return;
        };
        *latest = announced;
        if !addresses.iter().eq(&record.addresses) {
            *addresses = kept_addresses(&record.provider, record.addresses.iter().cloned());
        }
    }

    fn state(&mut self, record: &ProviderRecord, group: Option<IpGroup>) -> Result<(Number, Displaced)> {
        let (key, peer) = (PackedKey::new(record.key.as_ref()), PackedPeerId::from(&record.provider));
        let all = self.of(&key);
        let known = self.providers.number(&peer);
        let before = all.iter().find(|statement| Some(statement.provider) == known).copied();
        let end = record.expires.map_or(0, |end| second(end).max(1));
        if let Some(before) = before.filter(|before| self.group(before) == group) {
            self.renew(&key, before, end);
            return Ok((before.provider, Displaced::new()));
        }
        let (group, evicted) = match before {
            // Otherwise a group could get more than its share by way of another.
            Some(before) if !self.has_share(all, group) => (self.group(&before), ToGo::new()),
            Some(_) => (group, ToGo::new()),
            None => (group, self.room(&key, all, group)?),
        };
        // The new ones come before the old ones leave, so that nothing is forgotten that is used on.
        let statement = ProviderStatement {
            provider: self.providers.enter(peer, || Provider::unknown(Addresses::empty())),
            end,
            group: group.map(|group| self.groups.enter(group, || ())),
        };
        if let Some(before) = before {
            self.take_out(&key, before);
        }
        self.turn += u64::from(!evicted.is_empty());
        let gone = evicted.into_iter().filter_map(|(of, old)| self.take_out(&of, old)).collect();
        if statement.end > 0 {
            self.ends.insert((statement.end, key.tag(), statement.provider));
        }
        self.shares.entered(statement.group);
        self.keys.entry(key).or_default().push(statement);
        self.pairs += 1;
        Ok((statement.provider, gone))
    }

    /// Lets a statement end at another time. It is the latest one of its key then.
    fn renew(&mut self, key: &PackedKey, before: ProviderStatement, end: EndSecond) {
        let Some(all) = self.keys.get_mut(key) else { return };
        let at = all.iter().position(|statement| statement.provider == before.provider);
        if let Some(latest) = at.and_then(|at| all.get_mut(at..)) {
            latest.rotate_left(1);
        }
        if before.end == end {
            return;
        }
        if let Some(statement) = all.last_mut() {
            statement.end = end;
        }
        self.left_end((before.end, key.tag(), before.provider));
        if end > 0 {
            self.ends.insert((end, key.tag(), before.provider));
        }
    }

    fn of(&self, key: &PackedKey) -> &[ProviderStatement] {
        self.keys.get(key).map_or(&[], |all| all)
    }

    fn group(&self, statement: &ProviderStatement) -> Option<IpGroup> {
        statement.group.and_then(|number| self.groups.get(number)).map(|group| group.name)
    }

    /// Returns how many statements are of a group.
    fn of_group(&self, all: &[ProviderStatement], group: Option<IpGroup>) -> usize {
        let number = group.map(|group| self.groups.number(&group));
        // Of a group without a number there is none.
        let count = |number| all.iter().filter(|statement| statement.group == number).count();
        match number {
            Some(None) => 0,
            Some(number) => count(number),
            None => count(None),
        }
    }

    /// Charges one more statement to a group: among all, and among those of its key.
    ///
    /// # Errors
    /// What is too small, among all or for the key.
    fn charge(
        &self,
        all: &[ProviderStatement],
        group: Option<IpGroup>,
    ) -> [std::result::Result<(), Beyond>; 2] {
        let who = Charge::direct(group);
        let uses = group.map_or(0, |group| self.groups.uses(&group));
        let taken = |all, group| Taken { all: Amount::of(all), group: Amount::of(group), ..Taken::default() };
        let (kept, of_key) = (taken(self.pairs, uses), taken(all.len(), self.of_group(all, group)));
        let (limits, one) = (&self.limits, Amount::of(1));
        [
            charge(&who, one, &kept, Amount::of(limits.max_pairs), SHARE),
            charge(&who, one, &of_key, Amount::of(limits.max_per_key), KEY_SHARE),
        ]
    }

    /// Returns whether a group has its share left, among all and for a key.
    fn has_share(&self, all: &[ProviderStatement], group: Option<IpGroup>) -> bool {
        self.charge(all, group).into_iter().all(|charged| !matches!(charged, Err(Beyond::Group)))
    }

    /// Returns the statements that have to make way so that one more about a key fits, with their keys.
    fn room(&self, key: &PackedKey, all: &[ProviderStatement], group: Option<IpGroup>) -> Result<ToGo> {
        let ProviderLimits { max_keys, max_pairs, max_per_key, .. } = self.limits;
        let (full, of_key) =
            (|most| Error::MaxProvidedKeys { most }, Error::MaxProviders { most: max_per_key });
        match self.charge(all, group) {
            [Err(Beyond::Group | Beyond::Peer), _] => Err(full(max_pairs)),
            [_, Err(Beyond::Group | Beyond::Peer)] => Err(of_key),
            // Whoever takes the place of another needs no more room.
            [_, Err(Beyond::Room)] => {
                self.to_evict(all, group).map(|old| smallvec![(key.clone(), old)]).ok_or(of_key)
            }
            [Err(Beyond::Room), Ok(())] => {
                let needs_key = all.is_empty() && self.keys.len() >= max_keys;
                self.to_displace(group, needs_key).ok_or(full(max_pairs))
            }
            [Ok(()), Ok(())] if all.is_empty() && self.keys.len() >= max_keys => {
                self.to_displace(group, true).ok_or(full(max_keys))
            }
            [Ok(()), Ok(())] => Ok(ToGo::new()),
        }
    }

    /// Returns a statement that makes way for one more of a group, or, if a key is needed, all statements about one.
    ///
    /// Of the half of the keys that is farther from the node first. They are looked through from somewhere on, another place each
    /// time: since those that make way have more than the average, that does not take long. First one of a group that has at least as
    /// much as the average is looked for, then any.
    fn to_displace(&self, group: Option<IpGroup>, needs_key: bool) -> Option<ToGo> {
        // One without a number has nothing yet: as little as any that is unknown.
        let number = group.map(|group| self.groups.number(&group).unwrap_or(Number::MAX));
        let makes_way = |statement: &ProviderStatement| self.shares.makes_way(statement.group, number);
        if !self.shares.any_makes_way(number) {
            return None;
        }
        let to_go = |key: &PackedKey, all: &[ProviderStatement]| -> ToGo {
            let fitting = all.iter().filter(|statement| makes_way(statement));
            let count = if needs_key { all.len() } else { 1 };
            fitting.take(count).map(|statement| (key.clone(), *statement)).collect()
        };
        let far_half = !self.own & FAR;
        let mut second = None;
        for half in [far_half, far_half ^ FAR] {
            let start = half | (mixed(self.turn) & !FAR);
            let [first, start, last] = [half, start, half | !FAR].map(PackedKey::before);
            let keys = self.keys.range(&start..&last).chain(self.keys.range(&first..&start));
            for (key, all) in keys.take(MAX_TRIED) {
                let may_go = if needs_key { all.iter().all(makes_way) } else { all.iter().any(makes_way) };
                if may_go && all.iter().any(|statement| self.shares.is_large(statement.group)) {
                    return Some(to_go(key, all));
                }
                if may_go && second.is_none() {
                    second = Some(to_go(key, all));
                }
            }
        }
        second
    }

    /// Returns the statement of the most represented group that ends first, if the newcomer's has fewer.
    fn to_evict(&self, all: &[ProviderStatement], group: Option<IpGroup>) -> Option<ProviderStatement> {
        let mut counts: BTreeMap<Option<Number>, usize> = BTreeMap::new();
        for statement in all {
            *counts.entry(statement.group).or_default() += 1;
        }
        let most = counts.values().max().filter(|most| self.of_group(all, group) < **most)?;
        let theirs = all.iter().filter(|statement| counts.get(&statement.group) == Some(most));
        // What has no end comes last.
        theirs.min_by_key(|statement| statement.end.wrapping_sub(1)).copied()
    }

    /// Takes a statement about a key out, and returns whose it was.
    fn take_out(&mut self, key: &PackedKey, old: ProviderStatement) -> Option<KeyAndProvider> {
        let all = self.keys.get_mut(key)?;
        all.retain(|statement| statement.provider != old.provider);
        if all.is_empty() {
            self.keys.remove(key);
        }
        self.pairs -= 1;
        self.left_end((old.end, key.tag(), old.provider));
        self.shares.left(old.group);
        if let Some(group) = old.group {
            self.groups.leave(group);
        }
        self.providers.leave(old.provider).map(|peer| (key.clone(), peer))
    }

    /// Returns a statement that stands in the index of ends like this.
    fn ending(
        &self,
        (end, tag, provider): (EndSecond, Tag, Number),
    ) -> Option<(&PackedKey, ProviderStatement)> {
        let of_tag = self.keys.range(PackedKey::before(tag)..).take_while(|(key, _)| key.tag() == tag);
        let is_it = |statement: &&ProviderStatement| statement.end == end && statement.provider == provider;
        of_tag.into_iter().find_map(|(key, all)| Some((key, *all.iter().find(is_it)?)))
    }

    /// A statement has left, or ends at another time: it stands in the index of ends no more, unless another one stands there.
    fn left_end(&mut self, end: (EndSecond, Tag, Number)) {
        if self.ending(end).is_none() {
            self.ends.remove(&end);
        }
    }

    /// Takes one statement out that has ended, and returns whose it was; `None` if none has.
    pub(super) fn pop_ended(&mut self, wall: SystemTime) -> Option<KeyAndProvider> {
        let now = second(wall);
        let first = self.ends.first().filter(|(end, ..)| *end <= now).copied()?;
        let (key, statement) = self.ending(first)?;
        let key = key.clone();
        self.take_out(&key, statement)
    }

    /// Lets a statement end at `latest` that would end later, and returns it as a record; `None` if there is none.
    pub(super) fn shorten(&mut self, latest: SystemTime) -> Option<ProviderRecord> {
        let to = second(latest).max(1);
        let last = self.ends.last().filter(|(end, ..)| *end > to).copied()?;
        let (key, statement) = self.ending(last)?;
        let key = key.clone();
        let all = self.keys.get_mut(&key)?.iter_mut();
        all.filter(|known| known.provider == statement.provider).for_each(|known| known.end = to);
        self.left_end(last);
        self.ends.insert((to, key.tag(), statement.provider));
        let provider = self.providers.get(statement.provider)?.name.unpacked();
        let record = ProviderRecord::new(RecordKey::new(&key.as_bytes()), provider, Vec::new());
        Some(ProviderRecord { expires: time(to), ..record })
    }

    /// Returns when the next statement ends.
    pub(super) fn next_end(&self) -> Option<SystemTime> {
        self.ends.first().and_then(|(end, ..)| time(*end))
    }

    /// Removes the statement of a provider about a key, and returns whether there was one.
    pub(super) fn remove(&mut self, key: &RecordKey, provider: &PeerId) -> bool {
        let key = PackedKey::new(key.as_ref());
        let number = self.providers.number(&PackedPeerId::from(provider));
        let found = self.of(&key).iter().find(|statement| Some(statement.provider) == number).copied();
        found.is_some_and(|statement| self.take_out(&key, statement).is_some())
    }

    /// Returns the statements about a key that have not ended, in turn one of each group.
    ///
    /// A requester that is given only the first ones is thus not left with those of a single group.
    pub(super) fn get(&self, wall: SystemTime, key: &RecordKey) -> Vec<ProviderRecord> {
        let record = |(end, provider, addresses): (EndSecond, PeerId, &Addresses)| ProviderRecord {
            key: key.clone(),
            provider,
            expires: time(end).filter(|_| end > 0),
            addresses: addresses.iter().cloned().collect(),
        };
        self.lasting(wall, key, record)
    }

    /// Returns the providers of a key in the same order, with their addresses, which are shared.
    pub(super) fn addresses(&self, wall: SystemTime, key: &RecordKey) -> Vec<(PeerId, Addresses)> {
        self.lasting(wall, key, |(_, provider, addresses)| (provider, addresses.clone()))
    }

    /// Returns what `of` makes of the end, the provider and its addresses of each statement that has not ended, in turn one of
    /// each group.
    fn lasting<T>(
        &self,
        wall: SystemTime,
        key: &RecordKey,
        of: impl Fn((EndSecond, PeerId, &Addresses)) -> T,
    ) -> Vec<T> {
        let (all, now) = (self.of(&PackedKey::new(key.as_ref())), second(wall));
        let mut turns: BTreeMap<Option<Number>, usize> = BTreeMap::new();
        let mut lasting: Vec<_> = all
            .iter()
            .filter(|statement| statement.end == 0 || statement.end > now)
            .map(|statement| {
                let turn = turns.entry(statement.group).or_default();
                *turn += 1;
                (*turn, statement)
            })
            .collect();
        lasting.sort_by_key(|(turn, _)| *turn);
        let none = Addresses::empty();
        let known = |(_, statement): (usize, &ProviderStatement)| {
            let provider = self.providers.get(statement.provider)?;
            let since = wall.duration_since(provider.about.announced).unwrap_or_default();
            let addresses = if since < ADDRESSES_LAST { &provider.about.addresses } else { &none };
            Some(of((statement.end, provider.name.unpacked(), addresses)))
        };
        lasting.into_iter().filter_map(known).collect()
    }

    /// Returns the group for which a statement counts, and what is known of its provider.
    #[cfg(feature = "redb")]
    pub(super) fn standing(
        &self,
        key: &RecordKey,
        provider: &PeerId,
    ) -> Option<(Option<IpGroup>, &Provider)> {
        let number = self.providers.number(&PackedPeerId::from(provider))?;
        let all = self.of(&PackedKey::new(key.as_ref()));
        let statement = all.iter().find(|statement| statement.provider == number)?;
        Some((self.group(statement), &self.providers.get(number)?.about))
    }

    /// Returns of how many keys providers are known, and how many statements there are.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.keys.len(), self.pairs)
    }

    /// Returns how many statements count for a group.
    #[cfg(test)]
    pub(super) fn counted(&self, group: IpGroup) -> usize {
        self.groups.uses(&group)
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let (limits, all) = (&self.limits, || self.keys.values().flatten());
        assert_eq!(self.pairs, all().count());
        assert!(self.pairs <= limits.max_pairs && self.keys.len() <= limits.max_keys);
        let uses =
            |of: &dyn Fn(&ProviderStatement) -> bool| u32::try_from(all().filter(|s| of(s)).count()).unwrap();
        for (number, provider) in self.providers.iter() {
            assert_eq!(provider.uses, uses(&|statement| statement.provider == number));
        }
        for (number, group) in self.groups.iter() {
            assert_eq!(group.uses, uses(&|statement| statement.group == Some(number)));
            assert!(usize::try_from(group.uses).unwrap() <= limits.max_pairs.div_ceil(SHARE));
        }
        for statements in self.keys.values() {
            assert!(!statements.is_empty() && statements.len() <= limits.max_per_key);
            let mut providers: Vec<_> = statements.iter().map(|statement| statement.provider).collect();
            providers.sort_unstable();
            providers.dedup();
            assert_eq!(providers.len(), statements.len());
            for statement in statements {
                assert!(self.providers.get(statement.provider).is_some());
                assert!(statement.group.is_none_or(|group| self.groups.get(group).is_some()));
                let group = self.group(statement);
                assert!(
                    group.is_none()
                        || self.of_group(statements, group) <= limits.max_per_key.div_ceil(KEY_SHARE)
                );
            }
        }
        let ends =
            self.keys.iter().flat_map(|(key, all)| all.iter().map(move |s| (s.end, key.tag(), s.provider)));
        assert_eq!(self.ends, ends.filter(|(end, ..)| *end > 0).collect());
        assert_eq!(self.shares, self.shares_as_stated());
    }

    #[cfg(test)]
    fn shares_as_stated(&self) -> FairShares {
        let mut shares = FairShares::default();
        self.keys.values().flatten().for_each(|statement| shares.entered(statement.group));
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::whole;

    const WALL: SystemTime = SystemTime::UNIX_EPOCH;
    const HOUR: Duration = Duration::from_secs(3600);

    fn peer(n: u32) -> PeerId {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&n.to_be_bytes());
        PeerId::from_multihash(libp2p_core::multihash::Multihash::wrap(0x12, &digest).unwrap()).unwrap()
    }

    fn at(port: u16) -> Multiaddr {
        format!("/ip4/1.2.3.4/tcp/{port}").parse().unwrap()
    }

    fn record(key: &[u8], n: u32, hours: u32) -> ProviderRecord {
        let record = ProviderRecord::new(key.to_vec(), peer(n), vec![at(1)]);
        ProviderRecord { expires: Some(WALL + HOUR * hours), ..record }
    }

    fn with(max_keys: usize, max_per_key: usize, max_pairs: usize) -> ProviderIndex {
        let limits = ProviderLimits { max_keys, max_per_key, max_pairs, max_own_keys: 0 };
        ProviderIndex::new(&peer(u32::MAX), limits)
    }

    fn group(n: u32) -> Option<IpGroup> {
        let [a, b, c, d] = n.to_be_bytes();
        Some(IpGroup::V6([a, b, c, d]))
    }

    fn expire(providers: &mut ProviderIndex, wall: SystemTime) {
        while providers.pop_ended(wall).is_some() {}
    }

    fn ids(providers: &ProviderIndex, wall: SystemTime, key: &[u8]) -> Vec<PeerId> {
        let all = providers.get(wall, &RecordKey::from(key));
        all.into_iter().map(|record| record.provider).collect()
    }

    #[test]
    fn a_statement_is_returned_as_it_was_until_it_ends() {
        let mut providers = with(10, 10, 80);
        for key in [&b""[..], b"short", &[7; 38], &[7; 39], &[7; 80]] {
            let given = record(key, 1, 2);
            providers.add(WALL, &given, group(1)).unwrap();
            providers.check();
            assert_eq!(providers.get(WALL, &given.key), std::slice::from_ref(&given));
            assert_eq!(providers.get(WALL + HOUR, &given.key), std::slice::from_ref(&given));
            assert_eq!(providers.get(WALL + 2 * HOUR, &given.key), []);
        }
        assert_eq!((providers.len(), providers.providers.iter().count()), ((5, 5), 1));
        expire(&mut providers, WALL + HOUR);
        assert_eq!(providers.next_end(), Some(WALL + 2 * HOUR));
        expire(&mut providers, WALL + 2 * HOUR);
        assert_eq!(providers.next_end(), None);
        providers.check();
        assert_eq!((providers.len(), providers.providers.iter().count()), ((0, 0), 0));
        assert_eq!(providers.groups.iter().count(), 0);
        // What ends with the beginning of time ends nevertheless.
        providers.add(WALL, &record(b"k", 1, 0), None).unwrap();
        assert!(providers.next_end().is_some());
    }

    #[test]
    fn few_addresses_are_kept_of_each_and_few_bytes() {
        let mut providers = with(10, 10, 10);
        let kept = |providers: &mut ProviderIndex, addresses: Vec<Multiaddr>| {
            let record = ProviderRecord { addresses, ..record(b"k", 1, 2) };
            providers.add(WALL, &record, None).unwrap();
            providers.get(WALL, &record.key).remove(0).addresses
        };
        let ports = kept(&mut providers, (1..100).map(at).collect());
        assert_eq!(ports, (1..9).map(at).collect::<Vec<_>>(), "the first ones");
        let long = |n: usize| format!("/dns4/{}/tcp/{n}", "a".repeat(250)).parse::<Multiaddr>().unwrap();
        let some = kept(&mut providers, vec![long(1), long(1), at(1), long(2), long(3), at(2)]);
        assert_eq!(some, [long(1), at(1), at(2)], "what does not fit is left out");
        let bytes = |addresses: &[Multiaddr]| addresses.iter().map(Multiaddr::len).sum::<usize>();
        assert!(bytes(&some) + long(2).len() > MAX_PROVIDER_ADDRESS_BYTES);
        let nowhere = "/ip4/0.0.0.0/tcp/1".parse().unwrap();
        assert_eq!(kept(&mut providers, vec![nowhere, at(3)]), [at(3)]);
    }

    #[test]
    fn what_is_clean_already_is_kept_alike() {
        let long = |len: usize| format!("/dns4/{}/tcp/1", "a".repeat(len)).parse::<Multiaddr>().unwrap();
        let many = |most: u16| (1..=most).map(at).collect::<Vec<_>>();
        // A name takes three bytes more and its port three, the other one eight together.
        let [fits, exceeds] = [242, 243].map(|len| vec![long(250), long(len), at(1)]);
        for (addresses, is_all) in [
            (many(0), true),
            (many(8), true),
            (many(9), false),
            (vec![long(250), long(190), long(30), at(1)], true),
            (vec![long(250), at(1), long(249), at(2)], false),
            (fits, true),
            (exceeds, false),
        ] {
            let clean = Addresses::collect(&peer(1), addresses.iter().cloned());
            let kept = kept_of(clean.clone());
            assert_eq!(kept, kept_addresses(&peer(1), addresses), "{kept:?}");
            assert_eq!(kept == clean, is_all, "{kept:?}");
        }
    }

    #[test]
    fn a_statement_that_is_renewed_is_the_latest_of_its_key() {
        let mut providers = with(10, 12, 48);
        for n in 0..3 {
            providers.add(WALL, &record(b"k", n, 2), group(1)).unwrap();
        }
        for (renewed, hours, order) in
            [(0, 2, [1, 2, 0]), (2, 5, [1, 0, 2]), (1, 1, [0, 2, 1]), (1, 4, [0, 2, 1])]
        {
            let other = ProviderRecord { addresses: vec![at(9)], ..record(b"k", renewed, hours) };
            providers.add(WALL, &other, group(1)).unwrap();
            providers.check();
            assert_eq!(ids(&providers, WALL, b"k"), order.map(peer));
            assert_eq!(providers.get(WALL, &other.key)[2], other);
        }
        // One without an end does not end.
        providers.add(WALL, &ProviderRecord { expires: None, ..record(b"k", 0, 0) }, group(1)).unwrap();
        providers.check();
        expire(&mut providers, WALL + 9 * HOUR);
        providers.check();
        assert_eq!(ids(&providers, WALL, b"k"), [peer(0)]);
    }

    #[test]
    fn a_later_statement_takes_the_place_of_an_earlier_one_and_brings_addresses() {
        let mut providers = with(10, 10, 10);
        let bare = ProviderRecord { addresses: vec![], ..record(b"k", 1, 2) };
        providers.add(WALL, &bare, None).unwrap();
        assert_eq!(whole(&providers.get(WALL, &bare.key)), whole([&bare]));
        providers.add(WALL + HOUR, &record(b"k", 1, 9), None).unwrap();
        // One without addresses does not erase those that are known.
        let longer = ProviderRecord { addresses: vec![], ..record(b"k", 1, 60) };
        providers.add(WALL + HOUR, &longer, None).unwrap();
        providers.check();
        assert_eq!(whole(&providers.get(WALL + HOUR, &bare.key)), whole(&[record(b"k", 1, 60)]));
        // A day after they were announced addresses are not returned any more; the provider is.
        let later = WALL + 25 * HOUR;
        assert_eq!(providers.get(later - HOUR / 60, &bare.key)[0].addresses.len(), 1);
        let without = ProviderRecord { addresses: vec![], ..record(b"k", 1, 60) };
        assert_eq!(whole(&providers.get(later, &bare.key)), whole([&without]));
    }

    #[test]
    fn keys_and_providers_are_bounded() {
        let mut providers = with(2, 3, 4);
        for n in 0..3 {
            providers.add(WALL, &record(b"a", n, 2), None).unwrap();
        }
        assert!(matches!(providers.add(WALL, &record(b"a", 9, 2), None), Err(Error::MaxProviders { .. })));
        providers.add(WALL, &record(b"a", 2, 3), None).unwrap();
        providers.add(WALL, &record(b"b", 9, 2), None).unwrap();
        assert!(matches!(providers.add(WALL, &record(b"c", 1, 2), None), Err(Error::MaxProvidedKeys { .. })));
        assert!(matches!(providers.add(WALL, &record(b"b", 1, 2), None), Err(Error::MaxProvidedKeys { .. })));
        providers.check();
        assert_eq!(ids(&providers, WALL, b"a"), [peer(0), peer(1), peer(2)]);
        assert!(providers.remove(&b"a".into(), &peer(1)));
        assert!(!providers.remove(&b"a".into(), &peer(77)));
        assert!(!providers.remove(&b"none".into(), &peer(1)));
        providers.check();
        assert_eq!(ids(&providers, WALL, b"a"), [peer(0), peer(2)]);
        // What has ended makes room.
        expire(&mut providers, WALL + 2 * HOUR);
        providers.add(WALL + 2 * HOUR, &record(b"c", 1, 4), None).unwrap();
        providers.check();
        assert_eq!(ids(&providers, WALL + 2 * HOUR, b"a"), [peer(2)]);
        assert!(ids(&providers, WALL + 2 * HOUR, b"b").is_empty());
    }

    #[test]
    fn of_one_group_are_a_quarter_of_the_providers_of_a_key_and_a_sixteenth_of_all() {
        let mut providers = with(100, 8, 64);
        for n in 0..2 {
            providers.add(WALL, &record(b"a", n, 2), group(1)).unwrap();
        }
        assert!(matches!(
            providers.add(WALL, &record(b"a", 2, 2), group(1)),
            Err(Error::MaxProviders { .. })
        ));
        for n in 0..2 {
            providers.add(WALL, &record(b"b", n, 2), group(1)).unwrap();
        }
        assert!(matches!(
            providers.add(WALL, &record(b"c", 0, 2), group(1)),
            Err(Error::MaxProvidedKeys { .. })
        ));
        // Those that are there are renewed, others and those of no group are taken.
        assert_eq!(providers.add(WALL, &record(b"b", 1, 9), group(1)).unwrap(), Displaced::new());
        for n in 10..14 {
            providers.add(WALL, &record(b"a", n, 2), None).unwrap();
        }
        providers.add(WALL, &record(b"c", 0, 2), group(2)).unwrap();
        providers.check();
        assert_eq!(providers.counted(group(1).unwrap()), 4);
    }

    #[test]
    fn in_a_full_key_the_group_that_has_most_makes_way_for_one_that_has_few() {
        let mut providers = with(10, 8, 640);
        for (n, hours) in [(0, 5), (1, 2), (2, 3), (3, 4), (4, 9), (5, 6), (6, 7), (7, 8)] {
            providers.add(WALL, &record(b"a", n, hours), group(n / 2)).unwrap();
        }
        // Each of four groups has two; the one that ends first among all of these goes.
        let (_, gone) = providers.add(WALL, &record(b"a", 8, 1), group(9)).unwrap().remove(0);
        assert!(gone.is(&peer(1)));
        providers.check();
        // Its group has fewer than the others now and may come back once, but no more.
        let (_, gone) = providers.add(WALL, &record(b"a", 9, 1), group(0)).unwrap().remove(0);
        assert!(gone.is(&peer(2)));
        assert!(matches!(
            providers.add(WALL, &record(b"a", 10, 1), group(0)),
            Err(Error::MaxProviders { .. })
        ));
        providers.check();
        assert_eq!(providers.len(), (1, 8));
        // Those of no group count as one, and what has no end goes last.
        let mut providers = with(10, 4, 640);
        for n in 0..4 {
            let endless = ProviderRecord { expires: None, ..record(b"a", n, 0) };
            providers.add(WALL, &if n == 2 { record(b"a", 2, 9) } else { endless }, None).unwrap();
        }
        assert!(matches!(providers.add(WALL, &record(b"a", 5, 9), None), Err(Error::MaxProviders { .. })));
        let (_, gone) = providers.add(WALL, &record(b"a", 5, 9), group(1)).unwrap().remove(0);
        assert!(gone.is(&peer(2)));
        providers.check();
    }

    #[test]
    fn a_provider_that_moves_counts_for_its_new_group_if_there_is_room() {
        let mut providers = with(100, 64, 64);
        for n in 0..4u8 {
            providers.add(WALL, &record(&[n], 1, 2), group(1)).unwrap();
            providers.add(WALL, &record(&[n], 2, 2), group(2)).unwrap();
        }
        let counted = |providers: &ProviderIndex| [1, 2, 3].map(|n| providers.counted(group(n).unwrap()));
        // By way of another group nobody gets more than the share of that group, and of its own.
        providers.add(WALL, &record(&[0], 1, 3), group(2)).unwrap();
        assert_eq!(counted(&providers), [4, 4, 0]);
        providers.add(WALL, &record(&[0], 1, 4), group(3)).unwrap();
        providers.add(WALL, &record(&[1], 1, 4), None).unwrap();
        assert_eq!(counted(&providers), [2, 4, 1]);
        providers.check();
        assert_eq!(providers.get(WALL, &RecordKey::from(&[0]))[1].expires, Some(WALL + 4 * HOUR));
    }

    #[test]
    fn the_providers_of_a_key_are_returned_one_of_each_group_in_turn() {
        let mut providers = with(10, 64, 640);
        for n in 0..20 {
            providers.add(WALL, &record(b"a", n, 2), group(n / 8)).unwrap();
        }
        let first: Vec<_> = ids(&providers, WALL, b"a").into_iter().take(6).collect();
        assert_eq!(first, [0, 8, 16, 1, 9, 17].map(peer));
    }

    #[test]
    fn a_flood_from_one_group_does_not_keep_others_out() {
        let mut providers = ProviderIndex::new(&peer(u32::MAX), ProviderLimits::default());
        for n in 0..100_000u32 {
            drop(providers.add(WALL, &record(&n.to_be_bytes(), n % 50, 2), group(1)));
        }
        assert_eq!(providers.len(), (16 * 1024, 16 * 1024));
        for n in 0..1000u32 {
            providers.add(WALL, &record(&(n * 100).to_be_bytes(), 77, 2), group(2)).unwrap();
        }
        assert_eq!(providers.counted(group(2).unwrap()), 1000);
    }

    #[test]
    fn sybils_of_few_groups_that_came_first_do_not_keep_others_out_of_a_key() {
        let mut providers = ProviderIndex::new(&peer(u32::MAX), ProviderLimits::default());
        for n in 0..200 {
            drop(providers.add(WALL, &record(b"a", n, 48), group(n % 2)));
        }
        assert_eq!(providers.len(), (1, 32));
        providers.add(WALL, &record(b"a", 500, 1), group(500)).unwrap();
        assert!(ids(&providers, WALL, b"a")[..3].contains(&peer(500)), "it is even among the first");
        // Nor do they when they fill the key.
        for n in 200..400 {
            drop(providers.add(WALL, &record(b"a", n, 48), group(n % 4)));
        }
        assert_eq!(providers.len(), (1, 64));
        for n in 501..540 {
            providers.add(WALL, &record(b"a", n, 1), group(n)).unwrap();
        }
        providers.check();
        let honest = providers
            .get(WALL, &b"a".into())
            .into_iter()
            .filter(|record| (500..540).any(|n| record.provider == peer(n)));
        assert_eq!(honest.count(), 40);
    }

    /// The bars: with 4, 16 and 64 hostile groups and as many announcements as fill everything many times over, 99, 95 and 90 % of
    /// a thousand honest ones of 200 groups are accepted, and are there after more of them.
    fn hostile_groups(announcements: u32) {
        for hostile in [4, 16, 64] {
            let mut providers = ProviderIndex::new(&peer(u32::MAX), ProviderLimits::default());
            let flood = |providers: &mut ProviderIndex, from: u32| {
                for n in from..from + announcements / 2 {
                    let of = 1000 + n % hostile;
                    drop(providers.add(WALL, &record(&n.to_be_bytes(), of, 48), group(of)));
                }
            };
            flood(&mut providers, 0);
            assert_eq!(providers.len().0, 64 * 1024, "it is full");
            let key = |n: u32| format!("honest {n}").into_bytes();
            for n in 0..1000 {
                providers.add(WALL, &record(&key(n), n % 200, 48), group(n % 200)).unwrap();
            }
            flood(&mut providers, 1_000_000_000);
            let is_there = |n: &u32| ids(&providers, WALL, &key(*n)) == [peer(n % 200)];
            assert_eq!((0..1000).filter(is_there).count(), 1000, "{hostile} hostile groups");
            // And the other way round: who comes first is not displaced by those that fill what is left.
            assert_eq!(providers.len().0, 64 * 1024);
        }
    }

    #[test]
    fn hostile_groups_that_fill_all_there_is_keep_nobody_out() {
        hostile_groups(240_000);
    }

    #[test]
    #[ignore = "takes minutes: cargo test --release --lib ten_million -- --ignored"]
    fn ten_million_hostile_announcements_keep_nobody_out() {
        hostile_groups(10_000_000);
    }

    /// Each key of the groups that fill everything has several statements: whole keys make way.
    #[test]
    fn keys_that_attackers_share_keep_nobody_out() {
        let mut providers = ProviderIndex::new(&peer(u32::MAX), ProviderLimits::default());
        for of in 1..=8 {
            for n in 0..16 * 1024u32 {
                // Two groups for each key.
                let key = (n + 16 * 1024 * (of / 2)).to_be_bytes();
                drop(providers.add(WALL, &record(&key, of, 48), group(of)));
            }
        }
        assert_eq!(providers.len().0, 64 * 1024, "it is full");
        for n in 0..1000u32 {
            let key = format!("honest {n}").into_bytes();
            providers.add(WALL, &record(&key, 100 + n % 200, 48), group(100 + n % 200)).unwrap();
        }
        assert_eq!(providers.len().0, 64 * 1024);
        let is_there = |n: &u32| !ids(&providers, WALL, format!("honest {n}").as_bytes()).is_empty();
        assert_eq!((0..1000).filter(is_there).count(), 1000);
    }

    #[test]
    fn far_keys_of_groups_that_have_more_make_way() {
        let mut providers = with(64, 8, 64);
        for n in 0..8u8 {
            for of in 0..16 {
                drop(providers.add(WALL, &record(&[n, of], u32::from(of), 2), group(of.into())));
            }
        }
        // A sixteenth each: sixteen groups have four keys, and there is no more.
        assert_eq!(providers.len(), (64, 64));
        for n in 0..3u8 {
            let gone = providers.add(WALL, &record(&[99, n], 77, 2), group(77)).unwrap();
            assert_eq!(gone.len(), 1);
            assert!((providers.own ^ gone[0].0.tag()) & FAR != 0, "of the farther half");
            providers.check();
        }
        let fourth = providers.add(WALL, &record(&[99, 3], 77, 2), group(77));
        assert!(matches!(fourth, Err(Error::MaxProvidedKeys { .. })), "it would have as many as others");
        assert_eq!((providers.len(), providers.counted(group(77).unwrap())), ((64, 64), 3));
        // A key that several share goes as a whole, if all of them have more.
        providers.add(WALL, &record(&[99, 0], 78, 2), group(78)).unwrap_or_default();
        providers.check();
    }

    #[test]
    fn any_statements_in_any_order_leave_it_consistent() {
        let mut rng = crate::rng::Rng::from_u64(1);
        let mut providers = with(40, 8, 100);
        let mut wall = WALL;
        let (mut evicted, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut below = |n| u32::try_from(rng.below(n)).unwrap();
            let (key, n) = (vec![1; below(60) as usize / (1 + below(9) as usize)], below(30));
            let group = group(below(20)).filter(|_| n < 25);
            let mut record = record(&key, n, 0);
            match below(10) {
                0 => {
                    wall += HOUR / 4;
                    expire(&mut providers, wall);
                }
                1 | 2 => drop(providers.remove(&record.key, &peer(n))),
                kind => {
                    record.expires = (kind > 3).then_some(wall + HOUR * below(40) / 10);
                    let before = providers.get(wall, &record.key);
                    let is_known = before.iter().any(|known| known.provider == record.provider);
                    match providers.add(wall, &record, group) {
                        Ok(gone) => evicted += u32::from(!gone.is_empty()),
                        Err(_) => {
                            assert!(!is_known, "renewing always works");
                            assert_eq!(providers.get(wall, &record.key), before);
                            refused += 1;
                        }
                    }
                }
            }
            providers.check();
            let all = providers.get(wall, &record.key);
            let all = all.into_iter().map(|of| (of.provider, Addresses::collect(&of.provider, of.addresses)));
            assert!(all.eq(providers.addresses(wall, &record.key)), "the same in the same order");
        }
        assert!(evicted > 100 && refused > 100, "{evicted} {refused}");
    }

    #[test]
    fn keys_of_one_tag_do_not_disturb_each_other() {
        let mut providers = with(10, 10, 10);
        for key in [b"a", b"b"] {
            providers.add(WALL, &record(key, 1, 2), None).unwrap();
        }
        // Give both the tag of the first, as if somebody had found such keys.
        let [a, b] = [b"a", b"b"].map(|key| PackedKey::new(key));
        let twin = b.clone().tagged(a.tag());
        let all = providers.keys.remove(&b).unwrap();
        providers.ends.retain(|(_, tag, _)| *tag == a.tag());
        providers.keys.insert(twin.clone(), all.clone());
        providers.shares = providers.shares_as_stated();
        providers.check();
        providers.renew(&twin, all[0], all[0].end + 3600);
        providers.check();
        assert_eq!(providers.next_end(), Some(WALL + 2 * HOUR), "the other ends as before");
        let renewed = providers.of(&twin)[0];
        providers.renew(&twin, renewed, all[0].end);
        providers.check();
        assert!(providers.take_out(&twin, all[0]).is_some());
        providers.check();
        assert_eq!(providers.next_end(), Some(WALL + 2 * HOUR), "the other still ends");
        expire(&mut providers, WALL + 2 * HOUR);
        assert_eq!(providers.len(), (0, 0));
    }
}
