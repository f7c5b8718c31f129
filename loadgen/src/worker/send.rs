//! The sending half of a worker: what is due goes to a connection with room, one send each.
//!
//! With several targets that own keys, a request waits for a connection to the owner of its key,
//! and those behind it wait, too: the order of the schedule is kept (I1 of the parent module).

use super::{Arrivals, Stop, Worker};
use crate::conn::Pending;
use crate::protocol::Op;
use crate::recorder::Class;
use crate::source::Source;
use crate::sys::{monotonic_ns, thread_cpu_ns};
use crate::verify::Verifier;

impl<S: Source> Worker<'_, S> {
    /// Sends whatever may be sent now.
    pub(super) fn issue(&mut self, now_ns: u64) {
        while let Some(fill) = self.fills.front() {
            let (op, key) = (fill.op, fill.key);
            let (intended_ns, measured) = (fill.intended_ns, fill.measured);
            let Some(index) = self.free_for(op, key) else { return };
            self.fills.pop_front();
            let mut pending = Pending::new(op, Class::Fill, key);
            (pending.intended_ns, pending.measured) = (intended_ns, measured);
            self.submit(index, op, pending, now_ns);
        }
        if !self.exhausted {
            match self.arrivals {
                Arrivals::Open { .. } => self.issue_open(now_ns),
                Arrivals::Closed { .. } => self.issue_closed(now_ns),
            }
            if self.exhausted {
                self.last_sign_ns = now_ns;
            }
        }
    }

    fn issue_open(&mut self, now_ns: u64) {
        loop {
            let Arrivals::Open { schedule, backlog_max_ns } = &self.arrivals else { return };
            let Some(due) = schedule.peek() else {
                self.exhausted = true;
                return;
            };
            let intended_ns = self.start_ns + due.due_ns;
            if intended_ns > now_ns {
                return;
            }
            if now_ns - intended_ns > *backlog_max_ns {
                self.shared.stop(Stop::Overloaded);
                return;
            }
            if !self.has_room() || !self.submit_next(due.due_ns, intended_ns, due.measured, now_ns)
            {
                return;
            }
            if let Arrivals::Open { schedule, .. } = &mut self.arrivals {
                schedule.advance();
            }
        }
    }

    fn issue_closed(&mut self, now_ns: u64) {
        let Arrivals::Closed { measure_from_ns, end_ns, requests_max } = self.arrivals else {
            return;
        };
        let offset_ns = now_ns.saturating_sub(self.start_ns);
        let measured = offset_ns >= measure_from_ns;
        let mut left = requests_max;
        while !self.exhausted {
            if offset_ns >= end_ns || left == 0 {
                self.exhausted = true;
                break;
            }
            if !self.has_room() || !self.submit_next(offset_ns, now_ns, measured, now_ns) {
                break;
            }
            left -= u64::from(measured);
        }
        if let Arrivals::Closed { requests_max, .. } = &mut self.arrivals {
            *requests_max = left;
        }
    }

    /// Submits the next request of the source; false if it must wait, or if there is none.
    #[inline]
    fn submit_next(
        &mut self,
        offset_ns: u64,
        intended_ns: u64,
        measured: bool,
        now_ns: u64,
    ) -> bool {
        if self.next.is_none() {
            self.next = self.source.next(offset_ns, &mut self.keys);
        }
        let Some(op) = self.next else {
            self.exhausted = true;
            return false;
        };
        let key = self.keys[0];
        let Some(index) = self.free_for(op, key) else { return false };
        self.next = None;
        let mut pending = Pending::new(op, class_of(op), key);
        (pending.intended_ns, pending.measured) = (intended_ns, measured);
        self.submit(index, op, pending, now_ns);
        true
    }

    /// A connection with room that may take `key`, taken off its line (I2).
    #[inline]
    fn free_for(&mut self, op: Op, key: u64) -> Option<usize> {
        let lane = match self.shared.owners {
            None => 0,
            Some(owners) => {
                self.key_text.clear();
                self.shared.codec.form(op).append(key, &mut self.key_text);
                owners.lane(&self.key_text)
            }
        };
        while let Some(index) = self.free[lane].pop_front() {
            let connection = &mut self.connections[index as usize];
            connection.offered = false;
            if connection.has_room(self.pipeline) {
                return Some(index as usize);
            }
        }
        None
    }

    /// Puts a connection that has room at the end of its line (I2).
    #[inline]
    pub(super) fn offer(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.offered && connection.has_room(self.pipeline) {
            connection.offered = true;
            let lane = if self.shared.owners.is_some() { connection.lane } else { 0 };
            self.free[lane].push_back(index as u32);
        }
    }

    /// Encodes a request; the keys of a read are in `keys`, and `pending` has the first.
    #[inline]
    fn submit(&mut self, index: usize, op: Op, mut pending: Pending, now_ns: u64) {
        let (codec, verifier): (_, &Verifier) = (self.shared.codec, self.shared.verifier);
        let connection = &mut self.connections[index];
        let key = u64::from(pending.key);
        let intended_ns = pending.intended_ns;
        let measured = pending.measured;
        pending.issued_ns = now_ns;
        match op {
            Op::Get if self.keys.len() > 1 => {
                let keys = &self.keys;
                let floor = |key| verifier.before_read(key);
                connection.push_read(pending, keys, floor, |out| codec.append_multiget(keys, out));
            }
            Op::Get => {
                pending.version = verifier.before_read(key);
                connection.push(pending, |out| codec.append_get(key, out));
            }
            Op::Touch => {
                let ttl_ms = verifier.before_touch(key);
                connection.push(pending, |out| codec.append_touch(key, ttl_ms, out));
            }
            Op::Incr => {
                pending.set_above(verifier.before_incr(key));
                connection.push(pending, |out| codec.append_incr(key, out));
            }
            Op::Create => connection.push(pending, |out| codec.append_create(key, out)),
            Op::Set | Op::Delete => {
                let stamp = verifier.before_write(key);
                (pending.version, pending.base) = (stamp.version, stamp.base);
                connection.push(pending, |out| match op {
                    Op::Delete => codec.append_delete(key, out),
                    _ => codec.append_set(key, stamp, verifier.values(), out),
                });
            }
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index as u32);
        }
        if self.outstanding == 0 {
            // The server could not give a sign of life while nothing was asked.
            self.last_sign_ns = self.last_sign_ns.max(intended_ns);
        }
        self.outstanding += 1;
        if measured && self.measured_from.is_none() {
            let polling_ns = self.pacer.cost().polling_ns;
            self.measured_from = Some((thread_cpu_ns(), monotonic_ns(), polling_ns));
        }
        self.offer(index);
    }

    /// One send for every connection that has something new to say.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &index in &dirty {
            self.connections[index as usize].dirty = false;
            self.flush(index as usize);
            self.offer(index as usize);
        }
        dirty.clear();
        self.dirty = dirty;
    }

    /// Sends what the kernel takes, and watches for room if that is not all.
    pub(super) fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.open {
            return;
        }
        if let Err(error) = connection.flush() {
            self.give_up(index, &format!("cannot send: {error}"));
            return;
        }
        let blocked = connection.unsent_bytes() > 0;
        if blocked != connection.writes_watched {
            connection.writes_watched = blocked;
            let watched = self.epoll.watch_writes(connection.fd(), index as u32, blocked);
            if let Err(error) = watched {
                self.give_up(index, &format!("cannot watch: {error}"));
            }
        }
    }
}

fn class_of(op: Op) -> Class {
    match op {
        Op::Get => Class::Get,
        Op::Set => Class::Set,
        Op::Delete => Class::Delete,
        Op::Touch => Class::Touch,
        Op::Incr => Class::Incr,
        Op::Create => Class::Fill,
    }
}
