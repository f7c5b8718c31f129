//! What clients ask in the binary protocol: opcodes, and the lengths that each must have.

use super::{Limits, MECHANISM_BYTES_MAX, MESSAGE_BYTES_MAX, Status, Tag};

/// One request. Its slices are those of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What its replies repeat.
    pub tag: Tag,
    /// The version that the item should have; 0 for any.
    pub version: u64,
    /// Do not reply if all went well, or to a retrieval that missed.
    pub is_quiet: bool,
    /// The key, of any bytes; for a `stat` the group asked for, and for authentication the
    /// mechanism. Empty for commands without one, and for refused ones.
    pub key: &'a [u8],
    /// What is asked.
    pub command: Command<'a>,
}

/// What is asked, with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `get`, `getk`.
    Get {
        /// The reply repeats the key.
        with_key: bool,
    },
    /// `gat`, `gatk`: get, and set a new expiry time.
    GetAndTouch {
        /// See [`Command::Store`].
        exptime: u32,
        /// The reply repeats the key.
        with_key: bool,
    },
    /// `touch`.
    Touch {
        /// See [`Command::Store`].
        exptime: u32,
    },
    /// `set`, `add`, `replace`.
    Store {
        /// Which.
        verb: Verb,
        /// The client's flags, kept with the value.
        flags: u32,
        /// When the value expires: never if 0, in so many seconds if at most 30 days, else at this
        /// Unix time in seconds.
        exptime: u32,
        /// The value.
        value: &'a [u8],
    },
    /// `append`, `prepend`: flags and expiry time stay.
    Extend {
        /// `prepend`.
        is_prepend: bool,
        /// What comes to the value.
        value: &'a [u8],
    },
    /// A store whose value is too large. After a `set` the old value must go, since the client
    /// wanted it overwritten.
    StoreTooLarge {
        /// It is a `set`.
        is_set: bool,
    },
    /// `delete`.
    Delete,
    /// `increment`, `decrement`.
    Arithmetic {
        /// `decrement`.
        is_decrement: bool,
        /// By how much.
        delta: u64,
        /// What a counter begins with that is not there, and its expiry time.
        initial: Option<(u64, u32)>,
    },
    /// `flush`.
    Flush {
        /// When: at once if 0, else as an expiry time.
        delay: u32,
    },
    /// `noop`: reply.
    Noop,
    /// `version`.
    Version,
    /// `verbosity`, which changes nothing.
    Verbosity,
    /// `stat`.
    Stat,
    /// `quit`: close, after the reply.
    Quit,
    /// `sasl list mechs`.
    Mechanisms,
    /// `sasl auth`: begin, with the first message.
    Authenticate {
        /// The message.
        message: &'a [u8],
    },
    /// `sasl step`: the next message.
    Step {
        /// The message.
        message: &'a [u8],
    },
    /// Nothing that may be asked.
    Refused {
        /// The reply.
        status: Status,
        /// The connection ends after it.
        closes: bool,
    },
}

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// In any case.
    Set,
    /// If the key has no value.
    Add,
    /// If the key has a value.
    Replace,
}

/// Which command an opcode stands for.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Get { with_key: bool },
    GetAndTouch { with_key: bool },
    Touch,
    Store(Verb),
    Extend { is_prepend: bool },
    Delete,
    Arithmetic { is_decrement: bool },
    Flush,
    Noop,
    Version,
    Verbosity,
    Stat,
    Quit,
    Mechanisms,
    Authenticate,
    Step,
}

/// The expiry time by which a counter that is not there stays away.
const NO_INITIAL: u32 = u32::MAX;

impl Kind {
    /// The command, and whether it is its quiet form.
    #[inline]
    pub(super) fn of(opcode: u8) -> Option<(Kind, bool)> {
        Some(match opcode {
            0x00 => (Kind::Get { with_key: false }, false),
            0x01 => (Kind::Store(Verb::Set), false),
            0x02 => (Kind::Store(Verb::Add), false),
            0x03 => (Kind::Store(Verb::Replace), false),
            0x04 => (Kind::Delete, false),
            0x05 => (Kind::Arithmetic { is_decrement: false }, false),
            0x06 => (Kind::Arithmetic { is_decrement: true }, false),
            0x07 => (Kind::Quit, false),
            0x08 => (Kind::Flush, false),
            0x09 => (Kind::Get { with_key: false }, true),
            0x0A => (Kind::Noop, false),
            0x0B => (Kind::Version, false),
            0x0C => (Kind::Get { with_key: true }, false),
            0x0D => (Kind::Get { with_key: true }, true),
            0x0E => (Kind::Extend { is_prepend: false }, false),
            0x0F => (Kind::Extend { is_prepend: true }, false),
            0x10 => (Kind::Stat, false),
            0x11 => (Kind::Store(Verb::Set), true),
            0x12 => (Kind::Store(Verb::Add), true),
            0x13 => (Kind::Store(Verb::Replace), true),
            0x14 => (Kind::Delete, true),
            0x15 => (Kind::Arithmetic { is_decrement: false }, true),
            0x16 => (Kind::Arithmetic { is_decrement: true }, true),
            0x17 => (Kind::Quit, true),
            0x18 => (Kind::Flush, true),
            0x19 => (Kind::Extend { is_prepend: false }, true),
            0x1A => (Kind::Extend { is_prepend: true }, true),
            0x1B => (Kind::Verbosity, false),
            0x1C => (Kind::Touch, false),
            0x1D => (Kind::GetAndTouch { with_key: false }, false),
            0x1E => (Kind::GetAndTouch { with_key: false }, true),
            0x20 => (Kind::Mechanisms, false),
            0x21 => (Kind::Authenticate, false),
            0x22 => (Kind::Step, false),
            0x23 => (Kind::GetAndTouch { with_key: true }, false),
            0x24 => (Kind::GetAndTouch { with_key: true }, true),
            _ => return None,
        })
    }

    /// Whether the lengths of extras and key are those that the command must have, and whether it
    /// may have a value if it has one.
    #[inline]
    pub(super) fn accepts(self, extras_bytes: usize, key_bytes: usize, has_value: bool) -> bool {
        let has_key = key_bytes > 0;
        match self {
            Kind::Get { .. } | Kind::Delete => extras_bytes == 0 && has_key && !has_value,
            Kind::Store(_) => extras_bytes == 8 && has_key,
            Kind::Extend { .. } | Kind::Authenticate | Kind::Step => extras_bytes == 0 && has_key,
            Kind::Arithmetic { .. } => extras_bytes == 20 && has_key && !has_value,
            Kind::Touch | Kind::GetAndTouch { .. } => extras_bytes == 4 && has_key && !has_value,
            Kind::Flush => matches!(extras_bytes, 0 | 4) && !has_key && !has_value,
            Kind::Verbosity => extras_bytes == 4 && !has_key && !has_value,
            Kind::Stat => extras_bytes == 0 && !has_value,
            Kind::Noop | Kind::Version | Kind::Quit | Kind::Mechanisms => {
                extras_bytes == 0 && !has_key && !has_value
            }
        }
    }

    /// What the request becomes if it is not to wait for its value because that is too long.
    #[inline]
    pub(super) fn oversized(
        self,
        key: &[u8],
        value_bytes: u32,
        limits: &Limits,
    ) -> Option<Command<'static>> {
        match self {
            Kind::Store(_) | Kind::Extend { .. } if value_bytes > limits.value_bytes_max => {
                Some(Command::StoreTooLarge { is_set: matches!(self, Kind::Store(Verb::Set)) })
            }
            Kind::Authenticate | Kind::Step if key.len() > MECHANISM_BYTES_MAX => {
                Some(Command::Refused { status: Status::InvalidArguments, closes: false })
            }
            Kind::Authenticate | Kind::Step if value_bytes > MESSAGE_BYTES_MAX => {
                Some(Command::Refused { status: Status::TooLarge, closes: false })
            }
            _ => None,
        }
    }

    /// The request of this kind, whose lengths are right.
    #[inline]
    pub(super) fn command<'a>(self, extras: &[u8], value: &'a [u8]) -> Command<'a> {
        match self {
            Kind::Get { with_key } => Command::Get { with_key },
            Kind::GetAndTouch { with_key } => {
                Command::GetAndTouch { exptime: u32_at(extras, 0), with_key }
            }
            Kind::Touch => Command::Touch { exptime: u32_at(extras, 0) },
            Kind::Store(verb) => {
                let (flags, exptime) = (u32_at(extras, 0), u32_at(extras, 4));
                Command::Store { verb, flags, exptime, value }
            }
            Kind::Extend { is_prepend } => Command::Extend { is_prepend, value },
            Kind::Delete => Command::Delete,
            Kind::Arithmetic { is_decrement } => {
                let (delta, initial) = (u64_at(extras, 0), u64_at(extras, 8));
                let exptime = u32_at(extras, 16);
                let initial = (exptime != NO_INITIAL).then_some((initial, exptime));
                Command::Arithmetic { is_decrement, delta, initial }
            }
            Kind::Flush => Command::Flush { delay: u32_at(extras, 0) },
            Kind::Noop => Command::Noop,
            Kind::Version => Command::Version,
            Kind::Verbosity => Command::Verbosity,
            Kind::Stat => Command::Stat,
            Kind::Quit => Command::Quit,
            Kind::Mechanisms => Command::Mechanisms,
            Kind::Authenticate => Command::Authenticate { message: value },
            Kind::Step => Command::Step { message: value },
        }
    }
}

/// The number at an index of the extras; 0 where they have none (a `flush` without a delay).
#[inline]
fn u32_at(extras: &[u8], index: usize) -> u32 {
    extras[index.min(extras.len())..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[inline]
fn u64_at(extras: &[u8], index: usize) -> u64 {
    extras[index.min(extras.len())..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
