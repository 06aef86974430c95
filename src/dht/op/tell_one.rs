//! Tells one peer that this node provides a key.

use libp2p_identity::PeerId;

use super::add_provider::{
    AddProviderError, AddProviderInfo, AddProviderOk, AddProviderResult, ProvideReport,
};
use super::machine::{After, Ask, End, FilteredAnswer, Machine, Step, View};
use crate::addrs::Addresses;
use crate::dht::peers::Urgency;
use crate::error::RequestError;
use crate::event::{ProgressStep, QueryStats};
use crate::message::Request;
use crate::record::RecordKey;
use crate::time::Instant;

/// Announces this node at one peer: one that has come after the others were told, or the next nearest for one that has no room.
///
/// # States
/// ```text
/// new --asked--> waiting --sent or failed--> over
/// ```
#[derive(Debug)]
pub(in crate::dht) struct TellOne {
    key: RecordKey,
    to: PeerId,
    /// Where it was found; nothing of a newcomer, which is known.
    addresses: Addresses,
    is_newcomer: bool,
    is_asked: bool,
    outcome: Option<Result<(), RequestError>>,
}

impl TellOne {
    pub(in crate::dht) fn new(key: RecordKey, to: PeerId) -> Self {
        Self { key, to, addresses: Addresses::empty(), is_newcomer: true, is_asked: false, outcome: None }
    }

    /// Announces it at the next nearest.
    pub(in crate::dht) const fn spilled(key: RecordKey, to: PeerId, addresses: Addresses) -> Self {
        Self { key, to, addresses, is_newcomer: false, is_asked: false, outcome: None }
    }

    /// Returns whether the peer could not be told.
    const fn has_failed(&self) -> bool {
        matches!(self.outcome, Some(Err(_)))
    }

    /// Nobody sees it: the application did not ask.
    fn report(&self) -> ProvideReport {
        let mut report = ProvideReport::default();
        match self.outcome {
            None => report.pending.push(self.to),
            Some(Ok(())) => report.sent.push(self.to),
            Some(Err(error)) => report.failed.push((self.to, error)),
        }
        report
    }
}

impl<R: From<AddProviderResult>, I: From<AddProviderInfo>> Machine<R, I> for TellOne {
    fn next(&mut self, _: Instant, _: &mut View<'_>) -> Step<R> {
        if !std::mem::replace(&mut self.is_asked, true) {
            // Who provides is filled in as it leaves.
            let request = Request::AddProvider { key: self.key.clone(), providers: Vec::new() };
            let (to, addresses) = (self.to, self.addresses.clone());
            return Step::Ask(Ask { to, addresses, request, lookup: 0, urgency: Urgency::Patient });
        }
        let (key, report) = (self.key.clone(), self.report());
        match self.outcome {
            None => Step::Wait(None),
            Some(_) => Step::Done(R::from(Ok(AddProviderOk { key, report }))),
        }
    }

    fn answered(&mut self, _: &PeerId, _: u16, _: FilteredAnswer) {}

    fn sent(&mut self, _: &PeerId, _: u16) {
        self.outcome = Some(Ok(()));
    }

    fn failed(&mut self, _: &PeerId, _: u16, error: RequestError) {
        self.outcome = Some(Err(error));
    }

    fn end(&mut self, _: &View<'_>, why: End) -> R {
        let (key, report) = (self.key.clone(), Box::new(self.report()));
        R::from(Err(AddProviderError::Query { cause: why.cause(), key, report }))
    }

    fn outlives(&self) -> bool {
        true
    }

    fn announces(&self) -> Option<&RecordKey> {
        Some(&self.key)
    }

    fn after(&self, _: Instant, _: &View<'_>) -> After {
        if self.is_newcomer { After::Told(self.to, !self.has_failed()) } else { After::Nothing }
    }

    fn is_light(&self) -> bool {
        true
    }

    fn info(&self, _: ProgressStep) -> I {
        I::from(AddProviderInfo {
            key: self.key.clone(),
            sent: usize::from(matches!(self.outcome, Some(Ok(())))),
            report: self.report(),
        })
    }

    fn count(&self, stats: &mut QueryStats) {
        stats.requests += u32::from(self.is_asked);
        stats.success += u32::from(matches!(self.outcome, Some(Ok(()))));
        stats.failure += u32::from(self.has_failed());
    }
}
