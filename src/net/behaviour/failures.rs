//! What a failed dial of the swarm means to the node, and what a connection is refused for.
//!
//! Knows errors only.

use std::fmt;
use std::io;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::TransportError;
use libp2p_swarm::DialError;

use crate::addrs::without_peer;
use crate::dht::{DialFailure, Unreached};

/// The cause of a connection that was denied: who is there is banned, or no member of the network.
#[derive(Debug)]
pub(super) struct BannedConnection;

impl fmt::Display for BannedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer is banned, or no member of the network")
    }
}

impl std::error::Error for BannedConnection {}

/// Says what a failed dial means to the node.
pub(super) fn dial_failure(error: &DialError) -> DialFailure {
    match error {
        DialError::LocalPeerId { address } => DialFailure::Own { address: without_peer(address.clone()).0 },
        DialError::NoAddresses => DialFailure::NoAddresses,
        DialError::DialPeerConditionFalse(_) => DialFailure::UnderWay,
        DialError::Aborted => DialFailure::Refused,
        // That is this node itself, and no limit that others would meet as well.
        DialError::Denied { cause } if cause.downcast_ref::<BannedConnection>().is_some() => {
            DialFailure::Refused
        }
        DialError::Denied { .. } => DialFailure::Denied,
        DialError::WrongPeerId { obtained, address } => {
            DialFailure::WrongPeer { address: without_peer(address.clone()).0, met: *obtained }
        }
        DialError::Transport(errors) => {
            let unsupported = errors.iter().filter_map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => Some(without_peer(address.clone()).0),
                TransportError::Other(_) => None,
            });
            let why = errors.iter().rev().find_map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => None,
                TransportError::Other(error) => Some(unreached(address, error)),
            });
            DialFailure::Unreachable { unsupported: unsupported.collect(), why: why.unwrap_or_default() }
        }
    }
}

/// Says what a transport's error means, as far as its text tells.
///
/// A swarm boxes whatever its transports return, and what they are composed of hands on the text of the system's error but
/// not the error itself. The number in that text is the system's, whatever the language.
fn unreached(address: &Multiaddr, error: &io::Error) -> Unreached {
    let text = error.to_string();
    let number = text.split_once("(os error ").and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
    let kind = number.map_or(error.kind(), |number| io::Error::from_raw_os_error(number).kind());
    let is_name = |protocol| {
        matches!(protocol, Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_))
    };
    if kind == io::ErrorKind::ConnectionRefused {
        Unreached::Refused
    } else if address.iter().next().is_some_and(is_name) && format!("{error:?}").contains("Resolve") {
        // That it was the resolver only the name of its error shows.
        Unreached::NotResolved(text.into())
    } else {
        Unreached::Other(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of a transport as a swarm has it.
    #[derive(Debug)]
    enum Boxed {
        Transport(io::Error),
        ResolveError(&'static str),
    }

    impl std::fmt::Display for Boxed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Transport(error) => error.fmt(f),
                Self::ResolveError(text) => text.fmt(f),
            }
        }
    }

    impl std::error::Error for Boxed {}

    #[test]
    fn what_a_transport_says_is_understood() {
        let [ip, name] = ["/ip4/127.0.0.1/tcp/1", "/dns/example.org/tcp/1"].map(|at| at.parse().unwrap());
        let refused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = std::net::TcpStream::connect(refused).unwrap_err();
        let refused = io::Error::other(Boxed::Transport(refused));
        assert_eq!(unreached(&ip, &refused), Unreached::Refused);
        assert_eq!(unreached(&name, &refused), Unreached::Refused, "the name was resolved");
        let nameless = io::Error::other(Boxed::ResolveError("no records found"));
        assert_eq!(unreached(&name, &nameless), Unreached::NotResolved("no records found".into()));
        let broken = io::Error::other(Boxed::Transport(io::Error::other("no handshake")));
        assert_eq!(unreached(&name, &broken), Unreached::Other("no handshake".into()));
    }
}
