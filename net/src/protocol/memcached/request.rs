//! What memcached clients ask, as slices of their lines.
//!
//! Invariants: a key has 1 to [`KEY_BYTES_MAX`](super::KEY_BYTES_MAX) bytes, none of them a space
//! or a control character. (In a meta command with the flag `b` it is still base64.) All keys of
//! a retrieval are known to be good when the request is handed out.

use super::super::scan::find_byte;

/// The reply, without its line end, to a request whose value exceeds the limit.
pub const VALUE_TOO_LARGE: &str = "SERVER_ERROR object too large for cache";

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// `get` and `gets`.
    Get {
        /// At least one key.
        keys: Keys<'a>,
        /// `gets`: the reply carries the versions.
        with_version: bool,
    },
    /// `gat` and `gats`: get, and set a new expiry time.
    GetAndTouch {
        /// Seconds as memcached counts them: see [`Store::exptime`].
        exptime: i64,
        /// There may be none; the reply is then an empty one.
        keys: Keys<'a>,
        /// `gats`: the reply carries the versions.
        with_version: bool,
    },
    /// `set`, `add`, `replace`, `append`, `prepend` and `cas`.
    Store(Store<'a>),
    /// One of them whose value is too large: reply [`VALUE_TOO_LARGE`]. After a `set` the old
    /// value must go, since the client wanted it overwritten.
    StoreTooLarge {
        /// Which.
        verb: StoreVerb,
        /// The key.
        key: &'a [u8],
        /// Do not reply.
        noreply: bool,
    },
    /// `delete`.
    Delete {
        /// The key.
        key: &'a [u8],
        /// Do not reply.
        noreply: bool,
    },
    /// `incr` and `decr`.
    Arithmetic {
        /// `decr`.
        is_decrement: bool,
        /// The key.
        key: &'a [u8],
        /// By how much.
        delta: u64,
        /// Do not reply.
        noreply: bool,
    },
    /// `touch`.
    Touch {
        /// The key.
        key: &'a [u8],
        /// Seconds as memcached counts them: see [`Store::exptime`].
        exptime: i64,
        /// Do not reply.
        noreply: bool,
    },
    /// `flush_all`.
    FlushAll {
        /// When: at once if 0 or less, else as [`Store::exptime`].
        delay: i64,
        /// Do not reply.
        noreply: bool,
    },
    /// `version`.
    Version,
    /// `verbosity`.
    Verbosity {
        /// The level asked for.
        level: u32,
        /// Do not reply.
        noreply: bool,
    },
    /// `stats`.
    Stats {
        /// Which, possibly with arguments; empty for the general ones.
        args: Tokens<'a>,
    },
    /// `shutdown`, `cache_memlimit` and commands on memcached's inner parts.
    Administration {
        /// Which.
        verb: Administration,
        /// Its arguments.
        args: Tokens<'a>,
        /// Do not reply.
        noreply: bool,
    },
    /// `quit`: close, without a reply of its own.
    Quit,
    /// A meta command with a key.
    Meta(Meta<'a>),
    /// `mn`: reply `MN`.
    MetaNoop,
}

impl<'a> Request<'a> {
    /// Whether the client wants no reply. Meta commands say so by a flag, which spares nominal
    /// replies only and is not looked at here.
    #[must_use]
    pub fn noreply(&self) -> bool {
        match *self {
            Self::Store(Store { noreply, .. })
            | Self::StoreTooLarge { noreply, .. }
            | Self::Delete { noreply, .. }
            | Self::Arithmetic { noreply, .. }
            | Self::Touch { noreply, .. }
            | Self::FlushAll { noreply, .. }
            | Self::Verbosity { noreply, .. }
            | Self::Administration { noreply, .. } => noreply,
            Self::Get { .. }
            | Self::GetAndTouch { .. }
            | Self::Version
            | Self::Stats { .. }
            | Self::Quit
            | Self::Meta(_)
            | Self::MetaNoop => false,
        }
    }

    #[inline]
    pub(super) fn with_data(mut self, data: &'a [u8]) -> Self {
        match &mut self {
            Self::Store(store) => store.data = data,
            Self::Meta(meta) => meta.data = MetaData::Block(data),
            _ => debug_assert!(false, "a request without data"),
        }
        self
    }
}

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// In any case.
    Set,
    /// If the key has no value.
    Add,
    /// If the key has a value.
    Replace,
    /// Behind the present value, keeping flags and expiry time.
    Append,
    /// Before the present value, keeping flags and expiry time.
    Prepend,
    /// If the value still has this version.
    Cas {
        /// The version that a `gets` returned.
        version: u64,
    },
}

/// A request to store a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// How.
    pub verb: StoreVerb,
    /// The key.
    pub key: &'a [u8],
    /// The client's flags, kept with the value.
    pub flags: u32,
    /// When the value expires: never if 0, at once if negative, in so many seconds if at most 30
    /// days, else at this Unix time in seconds.
    pub exptime: i64,
    /// The value.
    pub data: &'a [u8],
    /// Do not reply.
    pub noreply: bool,
}

/// The commands of an administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Administration {
    /// `shutdown`
    Shutdown,
    /// `cache_memlimit`
    MemoryLimit,
    /// `slabs`
    Slabs,
    /// `lru`
    Lru,
    /// `lru_crawler`
    LruCrawler,
    /// `watch`
    Watch,
}

/// A meta command with a key. Its flags are not interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which.
    pub verb: MetaVerb,
    /// The key as sent.
    pub key: &'a [u8],
    /// The words behind the key and, for [`MetaVerb::Set`], the length.
    pub flags: Tokens<'a>,
    /// The data block of [`MetaVerb::Set`].
    pub data: MetaData<'a>,
}

/// The meta commands that have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVerb {
    /// `mg`
    Get,
    /// `ms`
    Set,
    /// `md`
    Delete,
    /// `ma`
    Arithmetic,
    /// `me`
    Debug,
}

/// The data block of a meta command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaData<'a> {
    /// The command has none.
    None,
    /// The block.
    Block(&'a [u8]),
    /// It exceeds the limit: reply [`VALUE_TOO_LARGE`], and the old value must go.
    TooLarge {
        /// Its length.
        length_bytes: u32,
    },
}

/// The keys of a retrieval, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    first: &'a [u8],
    rest: Tokens<'a>,
    left: usize,
}

impl<'a> Keys<'a> {
    pub(super) const NONE: Self = Self { first: &[], rest: Tokens::new(&[]), left: 0 };

    /// `count` keys, at least 1: `first`, and those in `rest`.
    #[inline]
    pub(super) fn new(first: &'a [u8], rest: &'a [u8], count: usize) -> Self {
        Self { first, rest: Tokens::new(rest), left: count }
    }

    /// The same, knowing that the rest holds `count - 1`.
    #[inline]
    pub(super) fn with_count(self, count: usize) -> Self {
        Self { left: count, ..self }
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let key = self.first;
        if self.left != 0 {
            self.first = self.rest.next().unwrap_or_default();
        }
        Some(key)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Keys<'_> {}

/// The words of a line, in order; they are separated by one or more spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// The words of a text.
    #[inline]
    #[must_use]
    pub const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// What follows the words taken so far.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let end = find_byte(self.rest, b' ').unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(token)
    }
}
