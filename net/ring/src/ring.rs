//! [`DataRing`]: submission, and completions turned into events.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::accept;
use crate::event::{EndReason, Event, Key, Operation, pack, unpack};
use crate::features::{Feature, FeatureSet};
use crate::pool::{GROUP, Pool, Received};
use crate::setup::{RingError, RingOptions, build, require_operations};
use crate::wake::{EventFd, Waker};

/// `IORING_ENTER_GETEVENTS`: run what the kernel has deferred and report it.
const ENTER_GETEVENTS: u32 = 1;

/// How long [`DataRing::enter`] may sleep when nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    For(Duration),
    /// Until something happens.
    Forever,
}

struct Listener {
    socket: OwnedFd,
    /// Whether an accept is in flight.
    armed: bool,
}

/// One core's ring. See the crate's page for its invariants.
pub struct DataRing {
    ring: ManuallyDrop<IoUring>,
    pool: ManuallyDrop<Pool>,
    features: FeatureSet,
    listeners: Vec<Listener>,
    /// The buffer of the send in flight, by key index.
    sends: Vec<Option<Vec<u8>>>,
    wake: Arc<EventFd>,
    /// Signalled by the kernel for each completion while the ring is parked. Not the one above:
    /// that one is read by an operation whose completion would signal it again.
    parked: EventFd,
    /// Where the kernel puts the wake counter; boxed, so that it does not move with the ring.
    wake_count: ManuallyDrop<Box<u64>>,
    /// Completions copied out of the shared queue, and how many of them were handled.
    completions: Vec<cqueue::Entry>,
    handled: usize,
    /// Operations in flight that refer to memory of this ring.
    in_flight: usize,
    enters: u64,
    overflows: u64,
    /// Keeps the ring on its thread (I1).
    _not_send: std::marker::PhantomData<*const ()>,
}

impl DataRing {
    /// Sets a ring up for the calling thread, with every feature that the kernel has and the
    /// options do not hide.
    ///
    /// # Errors
    /// [`RingError`] says what is missing and what to do.
    pub fn new(options: &RingOptions) -> Result<DataRing, RingError> {
        let (ring, mut features) = build(options)?;
        require_operations(&ring)?;
        if features.has(Feature::RegisteredFd) && ring.submitter().register_ring_fd().is_err() {
            features.remove(Feature::RegisteredFd);
        }
        let (count, bytes) = (options.receive_buffers, options.receive_buffer_bytes);
        let mut pool = None;
        if features.has(Feature::BufferRing) {
            pool = Pool::new(&ring.submitter(), count, bytes, true).ok();
            if pool.is_none() {
                features.remove(Feature::BufferRing);
            }
        }
        let pool = match pool {
            Some(pool) => pool,
            None => Pool::new(&ring.submitter(), count, bytes, false).map_err(RingError::Memory)?,
        };
        let event_fd =
            || EventFd::new().map_err(|error| RingError::Failed("make an eventfd", error));
        let mut ring = DataRing {
            completions: Vec::with_capacity(ring.params().cq_entries() as usize),
            ring: ManuallyDrop::new(ring),
            pool: ManuallyDrop::new(pool),
            features,
            listeners: Vec::new(),
            sends: Vec::new(),
            wake: Arc::new(event_fd()?),
            parked: event_fd()?,
            wake_count: ManuallyDrop::new(Box::new(0)),
            handled: 0,
            in_flight: 0,
            enters: 0,
            overflows: 0,
            _not_send: std::marker::PhantomData,
        };
        for buffer in 0..count {
            ring.provide(buffer);
        }
        ring.arm_wake();
        Ok(ring)
    }

    /// The features in use.
    pub fn features(&self) -> FeatureSet {
        self.features
    }

    /// Number of `io_uring_enter` calls so far.
    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// How often the completion queue overflowed.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// A handle by which other threads wake this ring.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    /// Takes a listening socket and accepts on it from now on. Returns its number in events.
    pub fn add_listener(&mut self, socket: OwnedFd) -> u32 {
        let number = self.listeners.len() as u32;
        self.listeners.push(Listener { socket, armed: false });
        self.rearm_accept(number);
        number
    }

    /// Accepts again after [`Event::AcceptFailed`]; does nothing while an accept is in flight.
    pub fn rearm_accept(&mut self, listener: u32) {
        let Some(entry) = self.listeners.get_mut(listener as usize) else {
            return;
        };
        if std::mem::replace(&mut entry.armed, true) {
            return;
        }
        let fd = Fd(entry.socket.as_raw_fd());
        let request = if self.features.has(Feature::MultishotAccept) {
            opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build()
        };
        self.push(request.user_data(pack(Operation::Accept, Key::new(listener, 0))));
    }

    /// Takes a connection that waits for being accepted, at once; none if nobody waits.
    pub fn accept_now(&mut self, listener: u32) -> Option<OwnedFd> {
        accept::accept_waiting(self.listeners.get(listener as usize)?.socket.as_fd()).ok()
    }

    /// Starts receiving on a connection. The caller keeps the socket open until
    /// [`Event::ReceiveEnded`], or an [`Event::Received`] that is not armed, has come (I3).
    pub fn receive(&mut self, socket: BorrowedFd<'_>, key: Key) {
        let fd = Fd(socket.as_raw_fd());
        let request = if self.features.has(Feature::MultishotReceive) {
            opcode::RecvMulti::new(fd, GROUP).build()
        } else {
            opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        };
        self.push(request.user_data(pack(Operation::Receive, key)));
    }

    /// Asks the kernel to stop receiving for a key. [`Event::ReceiveEnded`] follows, perhaps after
    /// more [`Event::Received`]; a request that comes too late has no effect and may be repeated.
    pub fn cancel_receive(&mut self, key: Key) {
        let request = opcode::AsyncCancel::new(pack(Operation::Receive, key)).build();
        self.push(request.user_data(pack(Operation::Cancel, key)));
    }

    /// Sends `buffer[from..to]`. The buffer comes back with [`Event::Sent`]; until then the caller
    /// keeps the socket open (I3) and starts no second send under the same index (I2).
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
        let bytes = &buffer[from..to];
        assert!(!bytes.is_empty(), "an empty send never completes as progress");
        let request = opcode::Send::new(Fd(socket.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(pack(Operation::Send, key));
        let index = key.index as usize;
        if index >= self.sends.len() {
            self.sends.resize_with(index + 1, || None);
        }
        assert!(self.sends[index].is_none(), "one send in flight per connection");
        // Moving the Vec does not move its heap memory, to which the request refers.
        self.sends[index] = Some(buffer);
        self.push(request);
    }

    /// The bytes of a loan.
    pub fn bytes(&self, received: &Received) -> &[u8] {
        self.pool.bytes(received)
    }

    /// Returns a loan to the pool. The kernel sees it at the next [`DataRing::enter`].
    pub fn give_back(&mut self, received: Received) {
        self.provide(received.buffer);
    }

    /// How many buffers are lent out now.
    pub fn lent(&self) -> usize {
        usize::from(self.pool.lent())
    }

    /// Whether an `enter` would find something without sleeping. No system call.
    pub fn ready(&mut self) -> bool {
        let queue = self.ring.submission();
        let pending = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        pending || self.handled < self.completions.len() || !self.ring.completion().is_empty()
    }

    /// Submits what is queued and collects completions, sleeping as `wait` allows if there are
    /// none. Makes no system call if there is nothing to submit, nothing pending and no wait.
    ///
    /// # Errors
    /// Only what no caller can mend; interruption, time-out and pressure are not errors.
    pub fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.pool.publish();
        self.collect();
        let wait = if self.handled < self.completions.len() { Wait::No } else { wait };
        if wait != Wait::No || self.must_enter() {
            self.call_enter(wait)?;
            self.collect();
        }
        Ok(())
    }

    /// The next event of those collected by [`DataRing::enter`].
    pub fn next_event(&mut self) -> Option<Event> {
        while self.handled < self.completions.len() {
            let entry = &self.completions[self.handled];
            let (result, flags, user_data) = (entry.result(), entry.flags(), entry.user_data());
            self.handled += 1;
            if let Some(event) = self.event(result, flags, user_data) {
                return Some(event);
            }
        }
        self.completions.clear();
        self.handled = 0;
        None
    }

    /// A duplicate of the descriptor that becomes readable with each completion while the ring is
    /// parked: an eventfd, to be read to reset it.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn park_event(&self) -> io::Result<OwnedFd> {
        self.parked.as_fd().try_clone_to_owned()
    }

    /// Prepares to sleep outside the ring: from now on a completion signals
    /// [`DataRing::park_event`]. Check [`DataRing::ready`] afterwards, before sleeping, and call
    /// [`DataRing::unpark`] after.
    ///
    /// # Errors
    /// If the kernel refuses to register the descriptor.
    pub fn park(&mut self) -> io::Result<()> {
        self.ring.submitter().register_eventfd(self.parked.as_raw_fd())
    }

    /// Ends what [`DataRing::park`] began.
    ///
    /// # Errors
    /// If nothing was registered.
    pub fn unpark(&mut self) -> io::Result<()> {
        self.ring.submitter().unregister_eventfd()?;
        self.parked.clear();
        Ok(())
    }

    fn must_enter(&mut self) -> bool {
        let deferred_unseen =
            self.features.has(Feature::DeferTaskrun) && !self.features.has(Feature::TaskrunFlag);
        let queue = self.ring.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow() || deferred_unseen
    }

    fn call_enter(&mut self, wait: Wait) -> io::Result<()> {
        self.enters += 1;
        let result = match wait {
            Wait::For(time) => {
                let time = Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos());
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::No => {
                let pending = self.ring.submission().len() as u32;
                // SAFETY: the queued entries refer to memory that the ring owns (crate page), and
                // no argument is passed.
                unsafe {
                    self.ring.submitter().enter::<libc::sigset_t>(pending, 0, ENTER_GETEVENTS, None)
                }
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN) => Ok(()),
                // The completion queue is full: collecting it is the cure.
                Some(libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn collect(&mut self) {
        if self.ring.submission().cq_overflow() {
            self.overflows += 1;
        }
        self.completions.extend(self.ring.completion());
    }

    fn provide(&mut self, buffer: u16) {
        if let Some(request) = self.pool.provide(buffer) {
            let key = Key::new(u32::from(buffer), 0);
            self.push(request.user_data(pack(Operation::Provide, key)));
        }
    }

    fn arm_wake(&mut self) {
        let target = std::ptr::from_mut::<u64>(&mut self.wake_count).cast();
        let request = opcode::Read::new(Fd(self.wake.as_raw_fd()), target, 8).build();
        self.push(request.user_data(pack(Operation::Wake, Key::new(0, 0))));
    }

    fn push(&mut self, request: squeue::Entry) {
        self.in_flight += 1;
        loop {
            // SAFETY: every request built here refers only to the pool, to `sends`, to the wake
            // counter or to nothing, all of which outlive the ring (I4), and the buffer of a send
            // stays in `sends` until its completion.
            if unsafe { self.ring.submission().push(&request) }.is_ok() {
                return;
            }
            // The queue is full: hand it over. A failure here is full pressure in the kernel
            // (EAGAIN, EBUSY); completions are collected so that the next round can succeed.
            if self.ring.submit().is_err() {
                self.collect();
            }
        }
    }

    fn event(&mut self, result: i32, flags: u32, user_data: u64) -> Option<Event> {
        let (operation, key) = unpack(user_data)?;
        let more = cqueue::more(flags);
        if !more {
            self.in_flight -= 1;
        }
        match operation {
            Operation::Accept => self.accepted(key.index, result, more),
            Operation::Receive => self.received(key, result, flags, more),
            Operation::Send => {
                let buffer = self.sends.get_mut(key.index as usize)?.take()?;
                let result = outcome(result);
                Some(Event::Sent { key, buffer, result })
            }
            Operation::Wake => {
                self.arm_wake();
                Some(Event::Woken)
            }
            Operation::Cancel => None,
            Operation::Provide => {
                debug_assert!(result >= 0, "the kernel refused one of our buffers: {result}");
                None
            }
        }
    }

    fn accepted(&mut self, listener: u32, result: i32, more: bool) -> Option<Event> {
        let entry = self.listeners.get_mut(listener as usize)?;
        entry.armed = more;
        if result >= 0 {
            // SAFETY: the kernel has just made this descriptor for this accept, and nobody else
            // knows of it.
            let socket = unsafe { OwnedFd::from_raw_fd(result as RawFd) };
            self.rearm_accept(listener);
            return Some(Event::Accepted { listener, socket });
        }
        match -result {
            // Gone before it was accepted: nothing to report.
            libc::ECONNABORTED | libc::EINTR | libc::EPROTO if !more => self.rearm_accept(listener),
            libc::EINVAL if !more && self.features.has(Feature::MultishotAccept) => {
                self.features.remove(Feature::MultishotAccept);
                self.rearm_accept(listener);
            }
            code if !more => {
                let error = io::Error::from_raw_os_error(code);
                return Some(Event::AcceptFailed { listener, error });
            }
            _ => {}
        }
        None
    }

    fn received(&mut self, key: Key, result: i32, flags: u32, more: bool) -> Option<Event> {
        let buffer = cqueue::buffer_select(flags);
        if result > 0 {
            let data = self.pool.lend(buffer?, result as u32)?;
            return Some(Event::Received { key, data, armed: more });
        }
        if let Some(data) = buffer.and_then(|buffer| self.pool.lend(buffer, 0)) {
            // An end may still have taken a buffer.
            self.give_back(data);
        }
        let reason = match -result {
            0 => EndReason::Eof,
            libc::ENOBUFS => EndReason::NoBuffers,
            libc::ECANCELED => EndReason::Cancelled,
            libc::EINVAL if self.features.has(Feature::MultishotReceive) => {
                // The kernel lacks multishot receive: the caller's next receive is a single one.
                self.features.remove(Feature::MultishotReceive);
                EndReason::NoBuffers
            }
            code => EndReason::Failed(io::Error::from_raw_os_error(code)),
        };
        Some(Event::ReceiveEnded { key, reason })
    }
}

impl Drop for DataRing {
    fn drop(&mut self) {
        // Cancel everything and wait for it, so that the kernel lets go of our memory.
        for _ in 0..64 {
            if self.in_flight == 0 {
                break;
            }
            let _ = self.ring.submit();
            let patience = Some(Timespec::new().nsec(10_000_000));
            let everything = CancelBuilder::any().all();
            let _ = self.ring.submitter().register_sync_cancel(patience, everything);
            if self.call_enter(Wait::For(Duration::from_millis(10))).is_err() {
                break;
            }
            self.collect();
            for entry in std::mem::take(&mut self.completions) {
                if !cqueue::more(entry.flags()) {
                    self.in_flight = self.in_flight.saturating_sub(1);
                }
                if let Some((Operation::Accept, _)) = unpack(entry.user_data())
                    && entry.result() >= 0
                {
                    // SAFETY: a connection accepted too late; the descriptor is ours alone.
                    drop(unsafe { OwnedFd::from_raw_fd(entry.result()) });
                }
            }
        }
        // SAFETY: this is the only place that takes the ring, the pool and the counter, each once,
        // and self is not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.ring);
            let pool = ManuallyDrop::take(&mut self.pool);
            let wake_count = ManuallyDrop::take(&mut self.wake_count);
            if self.in_flight == 0 {
                drop(pool);
            } else {
                // I4: the kernel may still refer to this memory.
                pool.leak();
                Box::leak(wake_count);
                std::mem::forget(std::mem::take(&mut self.sends));
            }
        }
    }
}

fn outcome(result: i32) -> io::Result<usize> {
    if result >= 0 { Ok(result as usize) } else { Err(io::Error::from_raw_os_error(-result)) }
}
