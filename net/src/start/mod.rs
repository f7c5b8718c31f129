//! What happens before the first connection: options are checked against the host, ports and paths
//! are taken, and whoever started the server is told. What is wrong is told in one line that says
//! what to do about it.

mod error;
pub(crate) mod listeners;
pub(crate) mod network;
pub(crate) mod notify;
pub(crate) mod plan;

pub use error::StartError;
pub use listeners::{Address, Endpoint};
