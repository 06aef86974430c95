//! The doors of the fuzz targets: ways to what is no part of the interface.

pub use crate::addrs::door::*;
pub use crate::net::handler::door::*;
#[cfg(feature = "redb")]
pub use crate::store::door::*;
#[cfg(feature = "ipns")]
pub use crate::validate::door::*;
