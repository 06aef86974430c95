//! The provider records of a store on disk: held in memory, and which rows of the file have to follow.
//!
//! Knows how a row looks; when it is written is the store's affair.

use libp2p_identity::PeerId;

use super::super::provided::{self, Provided};
use super::super::providers::{Displaced, ProviderIndex};
use super::super::{ProviderLimits, Result, not_theirs};
use super::batch::Row;
use super::fields::{
    end_millis, from_end_millis, from_millis, millis, read_addresses, short, write_addresses,
};
use crate::addrs::{Addresses, IpGroup};
use crate::record::{ProviderRecord, RecordKey};
use crate::time::SystemTime;
use crate::validate::InvalidRecord;

/// A row of the table.
///
/// Its key: length of the key of the content, two bytes · that key · provider. Its value: owner (0 other, 1 own) · end in
/// milliseconds since 1970, 0 for none · group, led by its length, one byte · when the addresses were announced, likewise ·
/// addresses, each led by its length, two bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StatementRow {
    record: ProviderRecord,
    is_own: bool,
    group: Option<IpGroup>,
    announced: SystemTime,
}

fn row_key(key: &[u8], provider: &PeerId) -> Result<Vec<u8>> {
    let len = u16::try_from(key.len()).map_err(|_| InvalidRecord::new("the key is too long"))?;
    Ok([&len.to_be_bytes()[..], key, &provider.to_bytes()].concat())
}

impl StatementRow {
    fn value(&self) -> Vec<u8> {
        let group = self.group.map_or_else(Vec::new, IpGroup::to_bytes);
        let mut bytes = vec![u8::from(self.is_own)];
        bytes.extend_from_slice(&end_millis(self.record.expires).to_be_bytes());
        bytes.push(short(&group));
        bytes.extend_from_slice(&group);
        bytes.extend_from_slice(&millis(self.announced).to_be_bytes());
        write_addresses(&self.record.addresses, &mut bytes);
        bytes
    }

    fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (len, rest) = key.split_first_chunk::<2>()?;
        let (key, provider) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        let (owner, rest) = value.split_first()?;
        let (end, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first()?;
        let (group, rest) = rest.split_at_checked(usize::from(*len))?;
        let (announced, addresses) = rest.split_first_chunk::<8>()?;
        let record = ProviderRecord {
            key: RecordKey::from(key),
            provider: PeerId::from_bytes(provider).ok()?,
            expires: from_end_millis(*end)?,
            addresses: read_addresses(addresses)?,
        };
        let group = match group {
            [] => None,
            bytes => Some(IpGroup::from_bytes(bytes)?),
        };
        let announced = from_millis(*announced)?;
        (*owner <= 1).then_some(Self { record, is_own: *owner == 1, group, announced })
    }
}

/// The provider records of a file.
#[derive(Debug)]
pub(super) struct Statements {
    local: PeerId,
    provided: Provided,
    pub(super) others: ProviderIndex,
    /// What has changed since it was taken out: a row, or nothing in place of one.
    changed: Vec<Row>,
}

impl Statements {
    pub(super) fn new(local: PeerId, limits: ProviderLimits) -> Self {
        Self {
            local,
            provided: Provided::new(local, limits.max_own_keys),
            others: ProviderIndex::new(&local, limits),
            changed: Vec::new(),
        }
    }

    /// Takes a row in that stands in the file, and returns whether it could be understood; what is beyond the bounds is a
    /// change.
    pub(super) fn load(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(row) = StatementRow::read(key, value) else { return false };
        let is_local = row.record.provider == self.local;
        let added = match row.is_own {
            // What has ended goes with the first call that says what time it is.
            false if !is_local => self.others.restore(row.announced, &row.record, row.group),
            true if is_local => self.provided.add(&row.record).map(|()| Displaced::new()),
            // The node has another identity than it had when the file did not say so.
            _ => Err(not_theirs()),
        };
        match added {
            Ok(gone) => gone.iter().for_each(|(key, peer)| self.forget(key.as_bytes(), &peer.unpacked())),
            Err(_) => self.changed.push((key.to_vec(), None)),
        }
        true
    }

    /// Takes out which rows have changed.
    pub(super) fn take(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.changed)
    }

    fn forget(&mut self, key: &[u8], provider: &PeerId) {
        // What has no row has not been taken in.
        if let Ok(row) = row_key(key, provider) {
            self.changed.push((row, None));
        }
    }

    /// Takes a statement of the node in.
    pub(super) fn add(&mut self, record: ProviderRecord) -> Result<()> {
        let key = row_key(record.key.as_ref(), &record.provider)?;
        self.provided.add(&record)?;
        // What is kept is bounded and clean; so it is written.
        if let Some(record) = self.provided.get(&record.key) {
            let row = StatementRow { record, is_own: true, group: None, announced: SystemTime::UNIX_EPOCH };
            self.changed.push((key, Some(row.value())));
        }
        Ok(())
    }

    /// Takes a statement of another in.
    pub(super) fn add_from(
        &mut self,
        wall: SystemTime,
        record: ProviderRecord,
        group: Option<IpGroup>,
    ) -> Result<()> {
        row_key(record.key.as_ref(), &record.provider)?;
        for (key, peer) in self.others.add(wall, &record, group)? {
            self.forget(key.as_bytes(), &peer.unpacked());
        }
        self.changed_of(record);
        Ok(())
    }

    /// Lets so many at most end at `latest` that would end later, and returns whether there may be more.
    pub(super) fn shorten(&mut self, latest: SystemTime, most: usize) -> bool {
        for _ in 0..most {
            let Some(record) = self.others.shorten(latest) else { return false };
            self.changed_of(record);
        }
        true
    }

    /// Takes down the row of a statement of another as it is now.
    fn changed_of(&mut self, mut record: ProviderRecord) {
        let Ok(row_key) = row_key(record.key.as_ref(), &record.provider) else {
            // What has no row has not been taken in.
            return;
        };
        if let Some((group, known)) = self.others.standing(&record.key, &record.provider) {
            // What is known of the provider is saved with each statement: any of them may be the one that is left.
            record.addresses = known.addresses.clone().into_vec();
            let row = StatementRow { record, is_own: false, group, announced: known.announced };
            self.changed.push((row_key, Some(row.value())));
        }
    }

    /// Drops so many at most of what has ended, and returns whether there may be more.
    pub(super) fn drop_ended(&mut self, wall: SystemTime, most: usize) -> bool {
        for _ in 0..most {
            let Some((key, peer)) = self.others.pop_ended(wall) else { return false };
            self.forget(key.as_bytes(), &peer.unpacked());
        }
        true
    }

    pub(super) fn get(&self, wall: SystemTime, key: &RecordKey) -> Vec<ProviderRecord> {
        self.provided.get(key).into_iter().chain(self.others.get(wall, key)).collect()
    }

    pub(super) fn addresses(&self, wall: SystemTime, key: &RecordKey) -> Vec<(PeerId, Addresses)> {
        provided::first(self.provided.addresses(key), self.others.addresses(wall, key))
    }

    pub(super) fn provided(&self) -> provided::Iter<'_> {
        self.provided.iter()
    }

    pub(super) fn remove(&mut self, key: &RecordKey, provider: &PeerId) {
        let is_own = *provider == self.local;
        if if is_own { self.provided.remove(key) } else { self.others.remove(key, provider) } {
            self.forget(key.as_ref(), provider);
        }
    }
}
