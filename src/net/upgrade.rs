//! The upgrades: inbound the protocol's name while this node serves, none while it does not; outbound the name, whose
//! confirmation is awaited or not.

use std::convert::Infallible;
use std::future::{Ready, ready};

use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_swarm::{Stream, StreamProtocol};

/// Offers a protocol or nothing, and hands the stream on as it is.
#[derive(Clone, Debug)]
pub struct Offer(pub(super) Option<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

/// Proposes a protocol, and hands the stream on as it is.
///
/// Where negotiation is lazy a stream is there before the peer has said a word. If its word is to be awaited the name is proposed
/// twice, since only the last proposal is taken to be accepted unheard; if it comes to the second one, the first was refused.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub(super) protocol: StreamProtocol,
    pub(super) is_confirmed: bool,
}

/// One of the proposals of a [`Proposal`].
#[derive(Clone, Debug)]
pub struct Proposed {
    protocol: StreamProtocol,
    is_first: bool,
}

impl AsRef<str> for Proposed {
    fn as_ref(&self) -> &str {
        self.protocol.as_ref()
    }
}

/// The peer has refused the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer has refused the protocol")]
pub struct Refused;

impl UpgradeInfo for Proposal {
    type Info = Proposed;
    type InfoIter = std::iter::Chain<std::iter::Once<Proposed>, std::option::IntoIter<Proposed>>;

    fn protocol_info(&self) -> Self::InfoIter {
        let proposed = |is_first| Proposed { protocol: self.protocol.clone(), is_first };
        std::iter::once(proposed(true)).chain(self.is_confirmed.then(|| proposed(false)))
    }
}

impl OutboundUpgrade<Stream> for Proposal {
    type Output = Stream;
    type Error = Refused;
    type Future = Ready<Result<Stream, Refused>>;

    fn upgrade_outbound(self, stream: Stream, proposed: Proposed) -> Self::Future {
        ready(if proposed.is_first { Ok(stream) } else { Err(Refused) })
    }
}
