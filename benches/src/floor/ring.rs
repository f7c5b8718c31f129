//! The ring floor: one io_uring, one accept and one receive per connection that stay armed, and
//! one send per connection and turn.
//!
//! Invariants:
//!
//! - R1. A server is never dropped: the kernel may hold addresses of its buffers for as long as
//!   the ring is open, and the ring is open until the process ends.
//! - R2. A connection leaves its slot only when its receive has ended and its send has completed,
//!   so that a completion always meets the connection that it belongs to.
//! - R3. `sending` is not touched between a send's submission and its completion.
//!
//! A turn submits the sends of the last one and waits for one completion in the same system call.
//! Most sends complete while they are submitted, so that the call returns at once, with what else
//! has arrived; only a turn without sends sleeps.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};

use super::buffers::{BufferRing, GROUP};
use super::{CONNECTIONS_MAX, FrameCounter, OUTPUT_MAX_BYTES, Replies};

/// Operations that fit between two submissions; more cost a system call.
const SUBMISSION_ENTRIES: u32 = 1024;

/// Twice the connections, so that completions hardly ever overflow.
const COMPLETION_ENTRIES: u32 = 8192;

/// How often a turn asks for more of what the kernel has deferred, before it answers. The kernel
/// hands out 20 completions at a time.
const ROUNDS_PER_TURN_MAX: usize = 4;

/// Room that a connection's output has from the start.
const OUTPUT_BYTES_INITIAL: usize = 4096;

const _: () = assert!(COMPLETION_ENTRIES as usize >= 2 * CONNECTIONS_MAX);

/// How long a turn may sleep when nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// At most this long; zero is not at all.
    For(Duration),
    /// Until something happens.
    Forever,
}

/// What a completion is about; the low bits of its user data, above which the slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Accept = 0,
    Receive = 1,
    Send = 2,
}

struct Connection {
    socket: OwnedFd,
    counter: FrameCounter,
    /// Replies that no send has taken yet.
    output: Vec<u8>,
    /// Replies of the send under way; empty if there is none (R3).
    sending: Vec<u8>,
    sent_bytes: usize,
    receives: bool,
    is_dirty: bool,
    is_ending: bool,
}

/// A floor server on one ring. Only the thread that made it may turn it.
pub(super) struct RingServer {
    submitter: Submitter<'static>,
    submissions: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    buffers: BufferRing,
    listener: TcpListener,
    accepts: bool,
    replies: Replies,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Slots with output and no send under way.
    dirty: Vec<usize>,
}

impl RingServer {
    /// Sets up a ring and starts to accept. The server lives as long as the process (R1).
    ///
    /// # Errors
    ///
    /// The kernel's answer, for instance when io_uring is not allowed to this process.
    pub(super) fn leak(
        listener: TcpListener,
        replies: Replies,
    ) -> io::Result<&'static mut RingServer> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        let (mut submitter, submissions, completions) = Box::leak(Box::new(ring)).split();
        submitter.register_ring_fd()?;
        let buffers = BufferRing::leak(&submitter)?;
        Ok(Box::leak(Box::new(RingServer {
            submitter,
            submissions,
            completions,
            buffers,
            listener,
            accepts: false,
            replies,
            connections: Vec::new(),
            vacant: Vec::new(),
            dirty: Vec::new(),
        })))
    }

    /// One turn: submit what is to be sent, wait as told, take what has come. Returns how many
    /// completions that were.
    ///
    /// # Errors
    ///
    /// If the system refuses something that no single connection is to blame for.
    pub(super) fn turn(&mut self, wait: Wait) -> io::Result<usize> {
        if !self.accepts {
            self.accept()?;
        }
        self.flush()?;
        self.buffers.publish();
        self.submissions.sync();
        let entered = match wait {
            Wait::Forever => self.submitter.submit_and_wait(1),
            Wait::For(Duration::ZERO) => self.submitter.submit(),
            Wait::For(duration) => {
                let time = Timespec::from(duration);
                let arguments = SubmitArgs::new().timespec(&time);
                self.submitter.submit_with_args(1, &arguments)
            }
        };
        tolerate(entered)?;
        let mut count = self.drain()?;
        for _ in 0..ROUNDS_PER_TURN_MAX {
            if !self.submissions.taskrun() && !self.submissions.cq_overflow() {
                break;
            }
            self.buffers.publish();
            self.submissions.sync();
            tolerate(self.submitter.submit())?;
            count += self.drain()?;
        }
        Ok(count)
    }

    fn drain(&mut self) -> io::Result<usize> {
        self.completions.sync();
        let mut count = 0;
        while let Some(completion) = self.completions.next() {
            count += 1;
            self.complete(&completion)?;
        }
        self.completions.sync();
        Ok(count)
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (operation, slot) = unpack(completion.user_data());
        let more = cqueue::more(completion.flags());
        match operation {
            Operation::Accept => self.accepted(completion.result(), more),
            Operation::Receive => {
                let buffer = cqueue::buffer_select(completion.flags());
                self.received(slot, completion.result(), buffer, more)
            }
            Operation::Send => self.sent(slot, completion.result()),
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(self.listener.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(pack(Operation::Accept, 0));
        // SAFETY: the operation refers to no memory.
        unsafe { self.push(&entry)? };
        self.accepts = true;
        Ok(())
    }

    fn accepted(&mut self, result: i32, more: bool) -> io::Result<()> {
        self.accepts = more;
        if result < 0 {
            return match -result {
                // The peer has gone before it was accepted.
                libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => Ok(()),
                error => Err(io::Error::from_raw_os_error(error)),
            };
        }
        // SAFETY: the kernel has just handed out this descriptor, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(result) };
        if self.connections.len() == CONNECTIONS_MAX && self.vacant.is_empty() {
            return Ok(());
        }
        let stream = std::net::TcpStream::from(socket);
        // It fails only if the peer has gone, which the first receive will tell.
        let _ = stream.set_nodelay(true);
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[slot] = Some(Connection {
            socket: stream.into(),
            counter: FrameCounter::default(),
            output: Vec::with_capacity(OUTPUT_BYTES_INITIAL),
            sending: Vec::with_capacity(OUTPUT_BYTES_INITIAL),
            sent_bytes: 0,
            receives: false,
            is_dirty: false,
            is_ending: false,
        });
        self.receive(slot)
    }

    fn receive(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(()) };
        connection.receives = true;
        let entry = opcode::RecvMulti::new(Fd(connection.socket.as_raw_fd()), GROUP)
            .build()
            .user_data(pack(Operation::Receive, slot));
        // SAFETY: the operation refers to memory only through the buffer ring, which is never
        // freed.
        unsafe { self.push(&entry) }
    }

    fn received(
        &mut self,
        slot: usize,
        result: i32,
        buffer: Option<u16>,
        more: bool,
    ) -> io::Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(()) };
        connection.receives = more;
        let count = usize::try_from(result).unwrap_or(0);
        if let Some(buffer) = buffer {
            if !connection.is_ending {
                // SAFETY: this completion names the buffer with `count` bytes, and it is given
                // back below, after the last use of the slice.
                let bytes = unsafe { self.buffers.bytes(buffer, count) };
                let fed = connection.counter.feed(bytes, &self.replies, &mut connection.output);
                connection.is_ending |= fed.is_err();
            }
            // SAFETY: this completion made the buffer ours, and no slice of it is left.
            unsafe { self.buffers.give_back(buffer) };
        }
        // Without a buffer left the kernel ends the receive; there are some again by now.
        let starved = result == -libc::ENOBUFS || result == -libc::EINTR;
        if (result <= 0 && !starved) || connection.output.len() > OUTPUT_MAX_BYTES {
            connection.is_ending = true;
        }
        if connection.is_ending {
            return self.end(slot);
        }
        if !connection.output.is_empty() && connection.sending.is_empty() && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
        if more { Ok(()) } else { self.receive(slot) }
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(slot) = self.dirty.pop() {
            let Some(connection) = self.connections[slot].as_mut() else { continue };
            connection.is_dirty = false;
            if connection.is_ending || connection.output.is_empty() {
                continue;
            }
            std::mem::swap(&mut connection.output, &mut connection.sending);
            connection.sent_bytes = 0;
            self.send(slot)?;
        }
        Ok(())
    }

    fn send(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = self.connections[slot].as_ref() else { return Ok(()) };
        let rest = &connection.sending[connection.sent_bytes..];
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(connection.socket.as_raw_fd()), rest.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(pack(Operation::Send, slot));
        // SAFETY: `sending` is neither changed nor freed before this send completes (R1, R2, R3).
        unsafe { self.push(&entry) }
    }

    fn sent(&mut self, slot: usize, result: i32) -> io::Result<()> {
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(()) };
        let momentary = result == -libc::EAGAIN || result == -libc::EINTR;
        connection.sent_bytes += usize::try_from(result).unwrap_or(0);
        let is_done = connection.sent_bytes == connection.sending.len();
        if !is_done && !connection.is_ending && (result >= 0 || momentary) {
            return self.send(slot);
        }
        connection.sending.clear();
        if !is_done || connection.is_ending {
            connection.is_ending = true;
            return self.end(slot);
        }
        if !connection.output.is_empty() && !connection.is_dirty {
            connection.is_dirty = true;
            self.dirty.push(slot);
        }
        Ok(())
    }

    /// Takes a connection down as far as its operations allow; called again as they complete.
    fn end(&mut self, slot: usize) -> io::Result<()> {
        let Some(connection) = self.connections[slot].take() else { return Ok(()) };
        if !connection.receives && connection.sending.is_empty() {
            self.vacant.push(slot);
            return Ok(());
        }
        // Ends both operations; it fails only where the peer's reset has ended them already.
        let stream = std::net::TcpStream::from(connection.socket);
        let _ = stream.shutdown(std::net::Shutdown::Both);
        self.connections[slot] = Some(Connection { socket: stream.into(), ..connection });
        Ok(())
    }

    /// Queues an operation, and submits what is queued if there is no room.
    ///
    /// # Safety
    ///
    /// The memory that the operation refers to stays valid until it completes.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: the caller vouches for the memory.
            if unsafe { self.submissions.push(entry) }.is_ok() {
                return Ok(());
            }
            self.submissions.sync();
            tolerate(self.submitter.submit())?;
            self.submissions.sync();
        }
    }
}

/// A wait that ended by a signal or its timeout, or that found completions to be drained first,
/// is no failure.
fn tolerate(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

fn pack(operation: Operation, slot: usize) -> u64 {
    (slot as u64) << 2 | operation as u64
}

fn unpack(user_data: u64) -> (Operation, usize) {
    let operation = match user_data & 3 {
        0 => Operation::Accept,
        1 => Operation::Receive,
        _ => Operation::Send,
    };
    (operation, (user_data >> 2) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_gives_back_operation_and_slot() {
        for operation in [Operation::Accept, Operation::Receive, Operation::Send] {
            for slot in [0, 1, CONNECTIONS_MAX] {
                assert_eq!(unpack(pack(operation, slot)), (operation, slot));
            }
        }
    }
}
