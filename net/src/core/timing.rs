//! How long commands take, of those that are timed: see `command::server::slowlog`.

use pinion_ring::Key;

use super::{Core, Transport};

impl<T: Transport> Core<T> {
    /// Counts the time that a connection's last command has taken, and keeps the command if that
    /// was long. `args` are what is kept of its arguments.
    pub(super) fn note_time(
        &mut self,
        key: Key,
        taken_ns: u64,
        args: impl FnOnce() -> Vec<Vec<u8>>,
    ) {
        let taken_us = taken_ns / 1_000;
        let Some(connection) = self.connections.find(key) else { return };
        let Some(number) = connection.session.last_command else { return };
        let settings = &self.options.settings;
        self.server.statistics.of(number).usec += taken_us;
        self.server.note_latency(settings, number, taken_us / 1_000);
        if settings.is_slow(taken_us) {
            let address = self.transport.addresses(&connection.socket).map(|(peer, _)| peer);
            let client = (address, connection.session.name.as_slice());
            self.server.slowlog.push(taken_us, args(), client, settings.slowlog_entries_max);
        }
    }

    /// The same for a command of another core's connection, whose address is not known here.
    pub(super) fn note_guest_time(&mut self, number: u16, taken_ns: u64, args: Vec<Vec<u8>>) {
        let (settings, taken_us) = (&self.options.settings, taken_ns / 1_000);
        self.server.statistics.of(number).usec += taken_us;
        self.server.note_latency(settings, number, taken_us / 1_000);
        if settings.is_slow(taken_us) {
            self.server.slowlog.push(taken_us, args, (None, &[]), settings.slowlog_entries_max);
        }
    }
}
