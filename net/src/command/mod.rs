//! What commands mean, one file per family. A command is a plain function over a [`Context`]: it
//! reads its arguments, works on the shard, and writes its reply.
//!
//! - `table`: every RESP command with its arity, keys and flags; look-up by name
//! - `string`, `counter`, `key`: commands on items
//! - `server`, `connection`: commands on the server and on the connection itself
//! - `memcached`: the same meanings under memcached's names
//! - `large`: large values that arrive in pieces, and replies that refer to them
//! - `expiry`: times of both protocols to deadlines and back

mod connection;
mod context;
mod counter;
mod expiry;
mod glob;
mod key;
pub mod large;
pub mod memcached;
mod server;
mod string;
mod table;

pub use context::{Arguments, Context, Flow, Settings};
pub use table::{COMMANDS, Spec, find};

/// The Redis version whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.4.0";

/// Runs a RESP command: checks that it exists and has the right number of arguments, then calls
/// its function.
pub fn run(context: &mut Context<'_>, spec: Option<&'static Spec>, args: &Arguments<'_>) -> Flow {
    context.counters.commands += 1;
    let Some(spec) = spec else {
        context.unknown_command(args);
        return Flow::Continue;
    };
    if !spec.accepts(args.len()) {
        context.wrong_arity(spec.name);
        return Flow::Continue;
    }
    (spec.run)(context, args)
}
