//! What commands mean, one file per family. A command is a plain function over a [`Context`]: it
//! reads its arguments, works on the shard, and writes its reply.
//!
//! - `spec` and `table`: what is known of every RESP command, and look-up by name
//! - `string`, `key`: commands on items
//! - `server`, `connection`: commands on the server and on the connection itself
//! - `bitmap`: commands on values as arrays of bits
//! - `task`: commands that take long and are executed in slices
//! - `slices`: reading large values that way
//! - `memcached`: the same meanings under memcached's names
//! - `large`: large values that arrive in pieces, and replies that refer to them
//! - `expiry`: times of both protocols to deadlines and back

mod bitmap;
mod connection;
mod context;
mod expiry;
mod glob;
mod key;
pub mod large;
pub mod memcached;
mod server;
mod slices;
mod spec;
mod string;
mod table;
mod task;

pub use context::{Arguments, Context, Flow, Settings};
pub use spec::{KeySpec, Spec};
pub use table::{COMMANDS, find};
pub use task::{Step, Task};

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
    if !spec.subcommands.is_empty() && args.len() > 1 {
        return run_subcommand(context, spec, args);
    }
    (spec.run)(context, args)
}

fn run_subcommand(context: &mut Context<'_>, container: &Spec, args: &Arguments<'_>) -> Flow {
    let Some(spec) = container.subcommand(args.at(1)) else {
        context.unknown_subcommand(&container.name.to_uppercase(), args);
        return Flow::Continue;
    };
    if !spec.accepts(args.len()) {
        context.wrong_arity(&format!("{}|{}", container.name, spec.name));
        return Flow::Continue;
    }
    (spec.run)(context, args)
}

/// The function of a container that does nothing without a subcommand: its arity asks for one.
fn container(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    context.unknown_command(args);
    Flow::Continue
}
