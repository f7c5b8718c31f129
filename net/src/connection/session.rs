//! What a client has told about itself, and what that changes for its commands: its name, its
//! rights, its database, the transaction that it is collecting.
//!
//! What every command looks at is plain fields; what few clients use is allocated on demand.

use pinion_engine::Shard;

use crate::command::{Transaction, Watches};
use crate::protocol::resp;

/// What becomes of replies, as CLIENT REPLY says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// They are sent.
    #[default]
    On,
    /// They are not.
    Off,
    /// This command's is not, nor the next one's.
    SkipNext,
    /// This command's is not.
    Skip,
}

impl ReplyMode {
    /// The mode for the next command.
    fn next(self) -> ReplyMode {
        match self {
            ReplyMode::On | ReplyMode::Skip => ReplyMode::On,
            ReplyMode::Off => ReplyMode::Off,
            ReplyMode::SkipNext => ReplyMode::Skip,
        }
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Session {
    /// Number of the connection, never reused.
    pub id: u64,
    /// When it was accepted, in server milliseconds.
    pub created_ms: u64,
    /// Whether HELLO 3 has switched to RESP3.
    pub resp3: bool,
    /// Whether it has come to a core port: then it talks to a node of a cluster, which serves the
    /// slots of its core alone.
    pub core_port: bool,
    /// The host that cluster commands tell it, if it has come to a core port.
    pub host: Box<str>,
    /// Whether it has given the password, or there was none when it came.
    pub authenticated: bool,
    /// Whether the client of a memcached port has told a user's password.
    pub memcached_user: bool,
    /// Whether it has begun to do so in memcached's binary protocol, and the next message is due.
    pub sasl_begun: bool,
    /// The database that it has selected.
    pub db: u8,
    /// CLIENT NO-TOUCH: reads do not count as uses.
    pub no_touch: bool,
    /// CLIENT NO-EVICT: it is not closed when the memory for buffers is short.
    pub no_evict: bool,
    /// What becomes of replies.
    pub replies: ReplyMode,
    /// The number of the last command's specification; `None` before the first.
    pub last_command: Option<u16>,
    /// The commands after MULTI.
    pub transaction: Option<Box<Transaction>>,
    /// What WATCH has seen.
    pub watches: Watches,
    /// Memory that it takes beside itself, as [`Session::recount`] has found it.
    held_bytes: usize,
    /// CLIENT SETNAME, or HELLO's SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub library_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: Vec<u8>,
}

impl Session {
    /// The session of the connection with a number.
    pub fn new(id: u64) -> Session {
        Session { id, ..Session::default() }
    }

    /// Makes it the session of a connection to a core port, whose client is told this host.
    pub fn enter_core_port(&mut self, host: &str) {
        self.core_port = true;
        self.host = host.into();
        self.recount();
    }

    /// Memory that the session takes beside itself.
    #[inline]
    pub fn capacity_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Counts that memory again. To be called by what changes it, so that it need not be counted
    /// for each command.
    pub fn recount(&mut self) {
        let texts_bytes = self.host.len()
            + self.name.capacity()
            + self.library_name.capacity()
            + self.library_version.capacity();
        self.held_bytes = texts_bytes + self.transaction_bytes() + self.watches.memory_bytes();
    }

    /// Memory of the commands that wait for EXEC.
    #[inline]
    pub fn transaction_bytes(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.memory_bytes())
    }

    /// Whether commands are executed as they come: the client is known, and collects no
    /// transaction.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.authenticated && self.transaction.is_none()
    }

    /// The version of RESP in which replies are written.
    #[inline]
    pub fn version(&self) -> resp::Version {
        if self.resp3 { resp::Version::Resp3 } else { resp::Version::Resp2 }
    }

    /// Ends a command: whether its reply is not sent.
    #[inline]
    pub fn mutes(&mut self) -> bool {
        if self.replies == ReplyMode::On {
            return false;
        }
        self.replies = self.replies.next();
        true
    }

    /// Drops the transaction, and what the shard holds for it.
    pub fn discard(&mut self, shard: &mut Shard) {
        if let Some(transaction) = self.transaction.take() {
            transaction.abort(shard);
            self.recount();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_skipped_as_often_as_asked() {
        let mut session = Session::default();
        assert!(!session.mutes());
        session.replies = ReplyMode::SkipNext;
        assert!(session.mutes() && session.mutes() && !session.mutes());
        session.replies = ReplyMode::Off;
        assert!(session.mutes() && session.mutes());
    }
}
