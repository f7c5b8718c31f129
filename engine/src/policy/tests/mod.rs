//! The policies over an exact store.

mod store;
mod traces;
