//! [`EpollSet`]: the contract of the data ring, kept by epoll, for hosts that refuse io_uring.
//!
//! Readiness becomes completion: what may be received is received before it is reported, into
//! buffers that are lent out; a send is tried at once and goes on when the socket takes more. So
//! each request costs a system call to receive and one to send, which the ring does not need.
//!
//! - E1. A descriptor is registered exactly while something is wanted of it, so that an end that
//!   nobody waits for does not wake the core again and again (epoll is level-triggered here).
//! - E2. While received bytes are lent out nothing more is received, so no more than
//!   [`EVENTS_MAX`] buffers exist.
//! - E3. I2 and I3 of the crate's page hold as for the ring.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::accept;
use crate::event::{EndReason, Event, Key, Operation, pack, unpack};
use crate::ring::Wait;
use crate::wake::{EventFd, Waker};

/// Descriptors looked at in one `enter`.
const EVENTS_MAX: usize = 64;
/// Size of a receive buffer.
const BUFFER_BYTES: usize = 16 * 1024;
/// Connections accepted from one listener in one `enter`.
const ACCEPTS_MAX: usize = 32;

const READ: u32 = libc::EPOLLIN as u32;
const WRITE: u32 = libc::EPOLLOUT as u32;
/// Both kinds of operations find out about these by themselves.
const BROKEN: u32 = (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Bytes that were received, lent out. Give them back with [`EpollSet::give_back`].
#[derive(Debug)]
#[must_use = "nothing more is received until it is given back"]
pub struct EpollReceived {
    buffer: Box<[u8]>,
    len: usize,
}

#[derive(Debug)]
struct Sending {
    buffer: Vec<u8>,
    from: usize,
    at: usize,
    to: usize,
}

/// What is wanted of one connection.
#[derive(Debug)]
struct Slot {
    key: Key,
    fd: RawFd,
    receiving: bool,
    sending: Option<Sending>,
    /// What the kernel has been told.
    interest: u32,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    armed: bool,
}

/// One core's set of sockets. See the module's page.
#[derive(Debug)]
pub struct EpollSet {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    slots: Vec<Slot>,
    events: VecDeque<Event<OwnedFd, EpollReceived>>,
    spare: Vec<Box<[u8]>>,
    lent: usize,
    wake: Arc<EventFd>,
    enters: u64,
}

impl EpollSet {
    /// An empty set.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<EpollSet> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just returned this descriptor to us alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let wake = Arc::new(EventFd::new()?);
        let set = EpollSet {
            epoll,
            listeners: Vec::new(),
            slots: Vec::new(),
            events: VecDeque::with_capacity(EVENTS_MAX),
            spare: Vec::with_capacity(EVENTS_MAX),
            lent: 0,
            wake,
            enters: 0,
        };
        let token = pack(Operation::Wake, Key::new(0, 0));
        set.control(libc::EPOLL_CTL_ADD, set.wake.as_raw_fd(), READ, token)?;
        Ok(set)
    }

    /// Number of calls that waited or looked for events so far.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// A handle by which other threads wake this set.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// Takes a listening socket and accepts on it from now on. Returns its number in events.
    ///
    /// # Errors
    /// If the kernel cannot watch it.
    pub fn add_listener(&mut self, socket: OwnedFd) -> io::Result<u32> {
        // SAFETY: both calls take numbers alone.
        let failed = unsafe {
            let flags = libc::fcntl(socket.as_raw_fd(), libc::F_GETFL);
            flags < 0
                || libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0
        };
        if failed {
            return Err(io::Error::last_os_error());
        }
        let number = self.listeners.len() as u32;
        let token = pack(Operation::Accept, Key::new(number, 0));
        self.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), READ, token)?;
        self.listeners.push(Listener { socket, armed: true });
        Ok(number)
    }

    /// Accepts again after [`Event::AcceptFailed`]; does nothing while accepting goes on.
    pub fn rearm_accept(&mut self, listener: u32) {
        let Some(entry) = self.listeners.get_mut(listener as usize).filter(|entry| !entry.armed)
        else {
            return;
        };
        entry.armed = true;
        let fd = entry.socket.as_raw_fd();
        let token = pack(Operation::Accept, Key::new(listener, 0));
        if let Err(error) = self.control(libc::EPOLL_CTL_ADD, fd, READ, token) {
            self.accept_failed(listener, error);
        }
    }

    /// Takes a connection that waits for being accepted; none if nobody waits.
    pub fn accept_now(&mut self, listener: u32) -> Option<OwnedFd> {
        accept::accept_waiting(self.listeners.get(listener as usize)?.socket.as_fd()).ok()
    }

    /// Starts receiving on a connection; the caller keeps it open until its end is reported.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, key: Key) {
        let slot = self.slot(socket, key);
        slot.receiving = true;
        self.watch(key.index);
    }

    /// Ends receiving for a key: [`Event::ReceiveEnded`] follows, after what was received before.
    pub fn cancel_receive(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return };
        if slot.key == key && std::mem::take(&mut slot.receiving) {
            self.watch(key.index);
            self.events.push_back(Event::ReceiveEnded { key, reason: EndReason::Cancelled });
        }
    }

    /// Sends `buffer[from..to]`; the buffer comes back with [`Event::Sent`].
    ///
    /// # Panics
    /// If the range is empty or out of bounds, or a send is in flight under this index.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        key: Key,
        buffer: Vec<u8>,
        from: usize,
        to: usize,
    ) {
        assert!(!buffer[from..to].is_empty(), "an empty send never completes as progress");
        let slot = self.slot(socket, key);
        assert!(slot.sending.is_none(), "I2: one send at a time");
        slot.sending = Some(Sending { buffer, from, at: from, to });
        self.go_on_sending(key.index);
    }

    /// Receives and accepts what has come, waiting as told if nothing has.
    ///
    /// # Errors
    /// Only what no caller can mend.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        if self.lent > 0 {
            return Ok(());
        }
        let timeout_ms = match wait {
            _ if !self.events.is_empty() => 0,
            Wait::No => 0,
            Wait::Forever => -1,
            Wait::For(time) => i32::try_from(time.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX),
        };
        self.enters += 1;
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let (start, count) = (ready.as_mut_ptr(), EVENTS_MAX as i32);
        // SAFETY: the kernel fills at most as many entries as the array has.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), start, count, timeout_ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            let is_interrupted = error.kind() == io::ErrorKind::Interrupted;
            return if is_interrupted { Ok(()) } else { Err(error) };
        }
        for event in &ready[..count as usize] {
            let (flags, token) = (event.events, event.u64);
            match unpack(token) {
                Some((Operation::Accept, key)) => self.accept(key.index),
                Some((Operation::Wake, _)) => {
                    self.wake.clear();
                    self.events.push_back(Event::Woken);
                }
                Some((_, key)) => self.ready_socket(key, flags),
                None => {}
            }
        }
        Ok(())
    }

    /// Whether `enter` would find something without sleeping.
    pub fn ready(&mut self) -> bool {
        !self.events.is_empty() || self.enter(Wait::No).is_err() || !self.events.is_empty()
    }

    /// The next event of those collected by [`EpollSet::enter`].
    pub fn next_event(&mut self) -> Option<Event<OwnedFd, EpollReceived>> {
        self.events.pop_front()
    }

    /// The bytes of a loan.
    pub fn bytes<'a>(&'a self, received: &'a EpollReceived) -> &'a [u8] {
        &received.buffer[..received.len]
    }

    /// Takes a loan back.
    pub fn give_back(&mut self, received: EpollReceived) {
        self.lent -= 1;
        if self.spare.len() < EVENTS_MAX {
            self.spare.push(received.buffer);
        }
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: the call reads the event; wrong descriptors are errors.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The slot of a connection, as a fresh one if its index was another's before.
    fn slot(&mut self, socket: BorrowedFd<'_>, key: Key) -> &mut Slot {
        let (index, fd) = (key.index as usize, socket.as_raw_fd());
        let fresh = |key| Slot { key, fd, receiving: false, sending: None, interest: 0 };
        while self.slots.len() <= index {
            self.slots.push(fresh(Key::new(self.slots.len() as u32, 0)));
        }
        let slot = &mut self.slots[index];
        if slot.key != key || slot.fd != fd {
            debug_assert!(slot.interest == 0, "I3: the last tenant's operations have ended");
            *slot = fresh(key);
        }
        slot
    }

    /// Tells the kernel what is wanted of a connection now (E1).
    fn watch(&mut self, index: u32) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let wanted =
            if slot.receiving { READ } else { 0 } | if slot.sending.is_some() { WRITE } else { 0 };
        let (had, fd, key) = (slot.interest, slot.fd, slot.key);
        if wanted == had {
            return;
        }
        slot.interest = wanted;
        let operation = match (had, wanted) {
            (0, _) => libc::EPOLL_CTL_ADD,
            (_, 0) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        let token = pack(Operation::Receive, key);
        if let Err(error) = self.control(operation, fd, wanted, token) {
            self.give_up(index, &error);
        }
    }

    /// Ends what is wanted of a connection that the kernel does not watch.
    fn give_up(&mut self, index: u32, error: &io::Error) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let again = || io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
        slot.interest = 0;
        let key = slot.key;
        if let Some(sending) = slot.sending.take() {
            let result = Err(again());
            self.events.push_back(Event::Sent { key, buffer: sending.buffer, result });
        }
        if std::mem::take(&mut slot.receiving) {
            let reason = EndReason::Failed(again());
            self.events.push_back(Event::ReceiveEnded { key, reason });
        }
    }

    fn ready_socket(&mut self, key: Key, flags: u32) {
        let Some(slot) = self.slots.get(key.index as usize).filter(|slot| slot.key == key) else {
            return;
        };
        let (is_readable, is_writable) = (slot.receiving, slot.sending.is_some());
        if is_readable && flags & (READ | BROKEN) != 0 {
            self.receive_some(key);
        }
        if is_writable && flags & (WRITE | BROKEN) != 0 {
            self.go_on_sending(key.index);
        }
    }

    fn receive_some(&mut self, key: Key) {
        let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; BUFFER_BYTES].into());
        let slot = &mut self.slots[key.index as usize];
        // SAFETY: the kernel writes at most as many bytes as the buffer has; the descriptor is
        // open by I3, and a wrong one would be an error.
        let result = unsafe {
            let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            libc::recv(slot.fd, start, length, libc::MSG_DONTWAIT)
        };
        let error = io::Error::last_os_error();
        if result > 0 {
            self.lent += 1;
            let data = EpollReceived { buffer, len: result as usize };
            self.events.push_back(Event::Received { key, data, armed: true });
            return;
        }
        self.spare.push(buffer);
        let reason = match error.kind() {
            _ if result == 0 => EndReason::Eof,
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return,
            _ => EndReason::Failed(error),
        };
        slot.receiving = false;
        self.watch(key.index);
        self.events.push_back(Event::ReceiveEnded { key, reason });
    }

    fn go_on_sending(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let key = slot.key;
        let Some(sending) = &mut slot.sending else { return };
        let bytes = &sending.buffer[sending.at..sending.to];
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the kernel reads the bytes of the slice during the call.
        let result = unsafe { libc::send(slot.fd, bytes.as_ptr().cast(), bytes.len(), flags) };
        let outcome = if result < 0 {
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => None,
                // The kernel is short of memory for the moment: what was sent counts, and the
                // rest is tried again by the caller.
                _ if sending.at > sending.from => Some(Ok(sending.at - sending.from)),
                _ => Some(Err(error)),
            }
        } else {
            sending.at += result as usize;
            (sending.at == sending.to).then(|| Ok(sending.to - sending.from))
        };
        if let Some(result) = outcome
            && let Some(sending) = slot.sending.take()
        {
            self.events.push_back(Event::Sent { key, buffer: sending.buffer, result });
        }
        self.watch(index);
    }

    fn accept(&mut self, listener: u32) {
        for _ in 0..ACCEPTS_MAX {
            let Some(entry) = self.listeners.get(listener as usize) else { return };
            match accept::accept(entry.socket.as_fd()) {
                Ok(socket) => self.events.push_back(Event::Accepted { listener, socket }),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return,
                    // Gone before it was accepted.
                    Some(libc::ECONNABORTED | libc::EINTR | libc::EPROTO) => {}
                    _ => return self.accept_failed(listener, error),
                },
            }
        }
    }

    fn accept_failed(&mut self, listener: u32, error: io::Error) {
        if let Some(entry) = self.listeners.get_mut(listener as usize) {
            entry.armed = false;
            let fd = entry.socket.as_raw_fd();
            // If it was not watched, there is nothing to undo.
            let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
        }
        self.events.push_back(Event::AcceptFailed { listener, error });
    }
}
