//! What commands mean, one file per family. A command is a plain function over a [`Context`]: it
//! reads its arguments, works on the shard, and writes its reply.
//!
//! - `spec` and `table`: what is known of every RESP command, and look-up by name
//! - `string`, `key`: commands on items
//! - `server`, `connection`: commands on the server and on the connection itself
//! - `script`: the scripts of lock libraries, and no others
//! - `transaction`: MULTI, EXEC and WATCH
//! - `cluster`: what a core tells as a node of a cluster
//! - `keys`: which arguments are keys
//! - `age`: requests that have waited for too long
//! - `rename`: commands under other names
//! - `settings`, `statistics`: what commands share beside items
//! - `bitmap`: commands on values as arrays of bits
//! - `task`: commands that take long and are executed in slices
//! - `slices`: reading large values that way
//! - `memcached`: the same meanings under memcached's names
//! - `large`: large values that arrive in pieces, and replies that refer to them
//! - `expiry`: times of both protocols to deadlines and back

mod age;
mod bitmap;
mod cluster;
mod connection;
mod context;
mod expiry;
mod glob;
mod key;
mod keys;
pub mod large;
pub mod memcached;
mod rename;
mod script;
mod server;
mod settings;
mod slices;
mod spec;
mod statistics;
mod string;
mod table;
mod task;
mod transaction;

pub use age::{Aged, refuse_old};
pub use context::{Arguments, Context, Flow, set_error_text};
pub use keys::{key_indices, key_slots};
pub use rename::Renames;
pub use server::{
    Base, Latency, LatencyQuestion, ServerState, SlowCommand, Slowlog, Timed, kept_args,
    write_latest,
};
pub use settings::{ClientLimits, Settings};
pub use slices::PIN_REFUSAL;
pub use spec::{KeySpec, Reach, Spec, Spread};
pub use statistics::{CommandCount, Statistics};
pub use table::{COMMANDS, find, name_of};
pub use task::{Step, Task};
pub use transaction::{Transaction, Watches, begin_exec};

/// The Redis version whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.4.0";

/// Runs a RESP command: checks that it exists, has the right number of arguments and may be
/// executed now, then calls its function, or keeps it for EXEC.
pub fn run(context: &mut Context<'_>, spec: Option<&'static Spec>, args: &Arguments<'_>) -> Flow {
    context.counters.commands += 1;
    let Some(spec) = spec else {
        context.spoil_transaction();
        context.unknown_command(args);
        return Flow::Continue;
    };
    if !spec.accepts(args.len()) {
        context.spoil_transaction();
        context.server.statistics.of(spec.number).rejected += 1;
        if spec.name == "exec" {
            transaction::abort(context);
        } else {
            context.wrong_arity(spec.name);
        }
        return Flow::Continue;
    }
    if !spec.subcommands.is_empty() && args.len() > 1 {
        return run_subcommand(context, spec, args);
    }
    execute(context, spec, spec.number, args)
}

/// Executes a command that the caller has checked, unless it may not be executed now.
#[inline]
fn execute(
    context: &mut Context<'_>,
    spec: &'static Spec,
    number: u16,
    args: &Arguments<'_>,
) -> Flow {
    context.session.last_command = Some(number);
    let session = &*context.session;
    if (!session.authenticated || session.core_port || session.transaction.is_some())
        && is_kept(context, spec, number, args)
    {
        return Flow::Continue;
    }
    let errors = context.counters.errors;
    context.server.statistics.of(number).calls += 1;
    let flow = (spec.run)(context, args);
    if context.counters.errors != errors {
        context.server.statistics.of(number).failed += 1;
    }
    flow
}

/// Whether a command is not to be executed now: it was refused, or queued.
#[inline(never)]
fn is_kept(
    context: &mut Context<'_>,
    spec: &'static Spec,
    number: u16,
    args: &Arguments<'_>,
) -> bool {
    let is_locked = !context.session.authenticated && context.settings.has_password();
    if is_locked && !spec.is_open {
        context.reject(number, "NOAUTH Authentication required.");
        return true;
    }
    cluster::is_refused(context, spec, number, args)
        || (context.session.transaction.is_some()
            && transaction::queue(context, spec, number, args))
}

/// Executes a command of a transaction, which was checked when it was queued, to its end: what takes
/// long is not put off.
pub fn run_queued(
    context: &mut Context<'_>,
    spec: &'static Spec,
    number: u16,
    args: &Arguments<'_>,
) -> Flow {
    context.counters.commands += 1;
    if let index @ 1.. = spec.first_key()
        && index < args.len()
    {
        context.first_hash = context.hash(args.at(index));
    }
    let mut flow = execute(context, spec, number, args);
    while let Flow::Later(mut task) = flow {
        flow = loop {
            if let Step::Done(flow) = task.step(context) {
                break flow;
            }
        };
    }
    if let Some(large) = context.large.take() {
        large.abort(context.shard);
    }
    flow
}

fn run_subcommand(
    context: &mut Context<'_>,
    container: &'static Spec,
    args: &Arguments<'_>,
) -> Flow {
    let Some(spec) = container.subcommand(args.at(1)) else {
        context.spoil_transaction();
        context.unknown_subcommand(&container.name.to_uppercase(), args);
        return Flow::Continue;
    };
    let number = container.number_of(spec);
    if !spec.accepts(args.len()) {
        context.spoil_transaction();
        context.server.statistics.of(number).rejected += 1;
        context.wrong_arity(&format!("{}|{}", container.name, spec.name));
        return Flow::Continue;
    }
    execute(context, spec, number, args)
}

/// The function of a container that does nothing without a subcommand: its arity asks for one.
fn container(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    context.unknown_command(args);
    Flow::Continue
}
