//! The two forms of a report: text for people and JSON for programs.
//!
//! Both are pure functions of the report, linear in its size.

pub(crate) mod json;
pub(crate) mod table;
