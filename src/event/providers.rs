//! Results of queries for providers.

use libp2p_identity::PeerId;

use super::Shortage;
use crate::error::{AddProviderError, GetProvidersError, ProvideReport};
use crate::peer::PeerInfo;
use crate::record::RecordKey;

/// The outcome of a step of announcing this node as a provider.
pub type AddProviderResult = Result<AddProviderOk, AddProviderError>;

/// As many peers as are enough have been told that this node provides a key.
///
/// Comes once. The others are told behind it: as long as that takes, [`Behaviour::query`](crate::Behaviour::query) shows what
/// becomes of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddProviderOk {
    /// The key.
    pub key: RecordKey,
    /// What became of each peer so far.
    pub report: ProvideReport,
}

/// The outcome of a step of searching providers.
pub type GetProvidersResult = Result<GetProvidersOk, GetProvidersError>;

/// A step of searching providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetProvidersOk {
    /// Providers were found that were not known before, or whose addresses were not.
    ///
    /// Differs from `libp2p-kad`: each comes with its addresses.
    FoundProviders {
        /// The key.
        key: RecordKey,
        /// The providers. One that comes a second time now has addresses.
        providers: Vec<PeerInfo>,
    },
    /// The search is over: all of the closest peers have been asked.
    FinishedWithNoAdditionalRecord {
        /// The closest peers that answered, nearest first.
        closest_peers: Vec<PeerId>,
        /// Why fewer of the closest have answered than were to be asked, if fewer have: somebody who was not asked may know
        /// more providers. `None` for a watch, which asks again and again.
        shortage: Option<Shortage>,
    },
}
