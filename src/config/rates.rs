//! The configuration of rates: how many requests of one peer are served whatever else there is to do.

use std::num::NonZeroU32;

use crate::message::MessageType;

/// The rates of requests that one peer is guaranteed, by their kind. All peers of one /24 network of IPv4 or /48 network of IPv6
/// together have eight times as much.
///
/// A rate is no cap: what is beyond it is served as long as this node keeps up. As soon as requests wait for more than 5 ms, what
/// is beyond is refused: first that of strangers, whose rates are lowered the later the node is, then that of peers of the
/// routing table.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use libp2p_kademlia::config::{Config, Limits, Rate, Rates};
///
/// let hundred = NonZeroU32::new(100).unwrap();
/// let rates = Rates { lookups: Rate { per_second: hundred, burst: hundred }, ..Rates::default() };
/// let config = Config::builder().with_limits(Limits { rates: Some(rates), ..Limits::default() }).build()?;
/// assert_eq!(config.limits().rates.unwrap().lookups.burst, hundred);
/// # Ok::<(), libp2p_kademlia::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of FIND_NODE, GET_VALUE and GET_PROVIDERS together. Default: 50 per second, 200 at once (chosen, not measured).
    pub lookups: Rate,
    /// Of PUT_VALUE. Default: 2 per second, 32 at once (chosen, not measured).
    pub puts: Rate,
    /// Of ADD_PROVIDER. Default: 500 per second, 20,000 at once: what a publisher of ten million keys sends each of ten thousand
    /// servers, once in 22 hours (calculated).
    pub announcements: Rate,
    /// Of PING. Default: 2 per second, 32 at once (chosen, not measured).
    pub pings: Rate,
}

/// A rate of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many in each second, on an average.
    pub per_second: NonZeroU32,
    /// How many at once, after as long a pause as it takes to be owed them.
    pub burst: NonZeroU32,
}

impl Rate {
    const fn of(per_second: u32, burst: u32) -> Self {
        let (Some(per_second), Some(burst)) = (NonZeroU32::new(per_second), NonZeroU32::new(burst)) else {
            return Self { per_second: NonZeroU32::MIN, burst: NonZeroU32::MIN };
        };
        Self { per_second, burst }
    }
}

impl Default for Rates {
    fn default() -> Self {
        // As the docs of the fields say.
        const LOOKUPS: Rate = Rate::of(50, 200);
        const PUTS: Rate = Rate::of(2, 32);
        const ANNOUNCEMENTS: Rate = Rate::of(500, 20_000);
        const PINGS: Rate = Rate::of(2, 32);
        Self { lookups: LOOKUPS, puts: PUTS, announcements: ANNOUNCEMENTS, pings: PINGS }
    }
}

impl Rates {
    /// Returns the rate of a kind of request.
    pub(crate) const fn of(&self, kind: MessageType) -> Rate {
        match kind {
            MessageType::FindNode | MessageType::GetValue | MessageType::GetProviders => self.lookups,
            MessageType::PutValue => self.puts,
            MessageType::AddProvider => self.announcements,
            MessageType::Ping => self.pings,
        }
    }
}
