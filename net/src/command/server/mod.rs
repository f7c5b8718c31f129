//! Commands on the server: its size, its settings, its commands.

mod command;
mod config;

use super::container;
use super::context::{Arguments, Context, Flow, printable};
use super::spec::Spec;
use crate::core::InfoRequest;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("command", -1, command::command)
        .flags("loading stale")
        .categories("@slow @connection")
        .tips("nondeterministic_output_order")
        .since("2.8.13")
        .cost("O(N) in the number of commands")
        .summary("Returns detailed information about all commands.")
        .subcommands(&[
            Spec::new("count", 2, command::count)
                .flags("loading stale")
                .categories("@slow @connection")
                .since("2.8.13")
                .summary("Counts the commands."),
            Spec::new("list", -2, command::list)
                .flags("loading stale")
                .categories("@slow @connection")
                .tips("nondeterministic_output_order")
                .since("7.0.0")
                .cost("O(N) in the number of commands")
                .summary("Lists the names of commands."),
            Spec::new("info", -2, command::info)
                .flags("loading stale")
                .categories("@slow @connection")
                .tips("nondeterministic_output_order")
                .since("2.8.13")
                .cost("O(N) in the number of commands")
                .summary("Describes commands, in part or all."),
            Spec::new("docs", -2, command::docs)
                .flags("loading stale")
                .categories("@slow @connection")
                .tips("nondeterministic_output_order")
                .since("7.0.0")
                .cost("O(N) in the number of commands")
                .summary("Returns what the documentation says of commands."),
        ]),
    Spec::new("config", -2, container)
        .categories("@slow")
        .since("2.0.0")
        .summary("A container for server configuration commands.")
        .subcommands(&[
            Spec::new("get", -3, config::get)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .since("2.0.0")
                .cost("O(N) in the number of parameters")
                .summary("Returns the values of parameters."),
            Spec::new("set", -4, config::set)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("2.0.0")
                .cost("O(N) in the number of parameters")
                .summary("Sets parameters, all or none."),
        ]),
    Spec::new("dbsize", 1, dbsize)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("request_policy:all_shards response_policy:agg_sum")
        .summary("Returns the number of keys in the database."),
    Spec::new("flushall", -1, flushall)
        .flags("write")
        .categories("@keyspace @write @slow @dangerous")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .summary("Removes all keys from all databases."),
    Spec::new("flushdb", -1, flushall)
        .flags("write")
        .categories("@keyspace @write @slow @dangerous")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .summary("Removes all keys from the current database."),
    Spec::new("info", -1, info)
        .flags("loading stale")
        .categories("@slow @dangerous")
        .tips("nondeterministic_output request_policy:all_shards response_policy:special")
        .summary("Returns information and statistics about the server."),
];

fn dbsize(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let items = context.shard.len() as i64;
    context.reply().integer(items);
    Flow::Continue
}

/// FLUSHALL and FLUSHDB: constant time, since older versions are dead from now on; ASYNC and SYNC
/// make no difference.
fn flushall(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() > 2 || (args.len() == 2 && !args.is(1, "ASYNC") && !args.is(1, "SYNC")) {
        context.syntax_error();
        return Flow::Continue;
    }
    context.shard.flush();
    context.reply().ok();
    Flow::Continue
}

fn info(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let sections = args.from(1).map(|name| printable(name, 64).to_ascii_lowercase()).collect();
    Flow::Ask(InfoRequest::Info { sections, resp3: context.session.resp3 })
}
