//! A core: one thread, one shard, and the connections that it serves.
//!
//! [`Core::turn`] is the whole data path, from bytes to bytes, as plain synchronous code:
//!
//! ```text
//! transport.enter ─► events ─► parse every complete command ─► hash keys, prefetch lines
//!        ▲                                                              │
//!        └── one send per connection ◄── replies ◄── execute ◄── prefetch items
//! ```
//!
//! - `turn`: events, and what a turn does in which order
//! - `batch`: commands parsed and not yet executed
//! - `execute`: executing them
//! - `budget`: the memory of all buffers
//! - `lending`: what of it items may use meanwhile
//! - `tasks`: commands that are executed in slices
//! - `exec`: transactions, and what else commands ask of the core
//! - `clients`, `pause`: looks at all connections, and holding them back
//! - `timing`, `rates`: how long commands take, and how many come
//! - `snapshot`, `sums`: what a core tells of itself, and what all of them tell together
//! - `fills`: reads that wait until another client has fetched the value
//! - `stream`: large values on their way from connections to the shard
//! - `away`: such values for the shard of another core
//! - `accept`, `quiet`: how connections come, and how those end that nothing happens on
//! - `output`: sending, back-pressure, the end of a connection
//! - `transport`: what moves the bytes
//! - `idle` and `driver`: who calls the turn, and how it waits
//! - `inbox`: messages between the core and the control thread
//! - `lanes`: the ends of the lanes to other cores; `foreign`: what goes over them
//! - `route`: which core a command goes to; `cross`: asking another one; `guest`: being asked
//! - `behind`: what waits behind a guest's command that takes long
//! - `lent`: replies with large values that other cores fetch in pieces
//! - `gather`, `join`: commands that several cores execute, a part each
//! - `joint`, `jointly`: commands over several cores that cannot be executed in parts; `visit` and
//!   `reserve`: the cores of their keys
//! - `check`: whether all of this holds together, for tests
//! - `context`: what a command works with
//!
//! Invariants:
//! - I1. Nothing outside the turn that received it refers to a receive buffer: a batch is executed,
//!   and its loans are given back, before the turn ends.
//! - I2. Commands of a connection are executed in the order of their bytes, each once.
//! - I3. A connection leaves the slab only when no operation on its socket is in flight.
//! - I4. One send per connection in flight, of at most [`limits::SEND_BYTES_MAX`] bytes.

mod accept;
mod age;
mod away;
mod batch;
mod behind;
mod budget;
mod check;
mod clients;
mod context;
mod counters;
mod cross;
mod driver;
#[expect(unsafe_code, reason = "glommio takes descriptors of others only as raw numbers")]
mod eventfd;
mod exec;
mod execute;
mod fills;
mod foreign;
mod gather;
mod guest;
mod idle;
mod inbox;
mod join;
mod joint;
mod jointly;
mod lanes;
mod lending;
mod lent;
pub mod limits;
mod node;
mod output;
mod pause;
mod quiet;
mod rates;
mod reserve;
mod route;
mod snapshot;
mod stream;
mod sums;
mod tasks;
mod timing;
mod transport;
mod turn;
mod visit;

pub use budget::BufferFigures;
pub use check::LaneCensus;
pub use clients::{ClientAction, ClientFilter, ClientsQuery};
pub use counters::{Counters, LaneCounters, MemcachedCounters};
pub(crate) use driver::GLOMMIO_LOCKED_BYTES_MIN;
pub use driver::{Driver, run, run_bare};
pub use idle::{IdleMode, Ladder, Rest};
pub use inbox::{
    CoreHandle, CoreMessage, Findings, Inbox, InfoRequest, Question, Reload, Request, Wanted,
    Weight,
};
pub use join::Join;
pub use lanes::{Crew, LaneSizes, Lanes, join_cores, join_cores_by};
pub use rates::RateFigures;
pub use snapshot::Snapshot;
pub(crate) use snapshot::items_bytes;
pub use tasks::Sliced;
pub use transport::Transport;
pub use turn::{Core, CoreOptions, ListenerKind, Turn};
