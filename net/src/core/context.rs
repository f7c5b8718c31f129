//! What a command works with, put together from the parts of a core: in one place, since a command
//! may be executed for a connection of this core, for one of another, in slices, or in a
//! transaction.

/// Makes a [`Context`](crate::command::Context) of a core, a session and an output; the rest is
/// what the ways of executing a command differ in.
macro_rules! context {
    ($core:ident, $session:expr, $out:expr, {
        room: $room:expr,
        first_hash: $hash:expr,
        large: $large:expr,
    }) => {{
        let room: $crate::core::budget::ReplyRoom = $room;
        $crate::command::Context {
            shard: &mut $core.shard,
            now_ms: $core.now_ms,
            session: $session,
            out: $out,
            counters: &mut $core.counters,
            settings: &mut $core.options.settings,
            server: &mut $core.server,
            memory: &mut $core.options.memory,
            room_bytes: room.share_bytes,
            room_now_bytes: room.now_bytes,
            reply_may_wait: room.may_wait,
            first_hash: $hash,
            large: $large,
            pins: &mut $core.pins,
        }
    }};
}

pub(super) use context;
