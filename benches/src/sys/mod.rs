//! The system calls that the standard library does not offer, behind safe functions.
//!
//! Invariant: unsafe code of this crate lives in the files of this module and in
//! `floor/buffers.rs` and `floor/ring.rs`, nowhere else. Each function is one system call or
//! one read of `/proc`, and allocates at most its result.

#[expect(unsafe_code, reason = "what a child does between fork and exec is unsafe to say")]
pub mod child;
#[expect(unsafe_code, reason = "clocks and affinity masks are read through pointers")]
pub mod cpu;
#[expect(unsafe_code, reason = "epoll is reached through libc")]
pub mod epoll;
pub mod proc;
#[expect(unsafe_code, reason = "socket options are read through pointers")]
pub mod tcp;
