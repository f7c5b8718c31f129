//! The list of commands on the server.

use super::super::container;
use super::super::spec::{KeySpec, Reach, Spec};
use super::{
    command, config, cores, debug, info, keyspace, latency, memory, shutdown, slowlog, time,
};
use crate::core::Join;

/// The family.
pub(in super::super) const COMMANDS: &[Spec] = &[
    Spec::new("command", -1, command::command)
        .flags("loading stale")
        .categories("@slow @connection")
        .tips("nondeterministic_output_order")
        .since("2.8.13")
        .cost("O(N) in the number of commands")
        .summary("Describes all commands.")
        .subcommands(&[
            Spec::new("count", 2, command::count)
                .flags("loading stale")
                .categories("@slow @connection")
                .since("2.8.13")
                .summary("Counts the commands."),
            Spec::new("help", 2, command::help)
                .flags("loading stale")
                .categories("@slow @connection")
                .since("5.0.0")
                .summary("Describes the subcommands."),
            Spec::new("list", -2, command::list)
                .flags("loading stale")
                .categories("@slow @connection")
                .tips("nondeterministic_output_order")
                .since("7.0.0")
                .cost("O(N) in the number of commands")
                .summary("Lists the names of commands."),
            Spec::new("getkeysandflags", -4, command::getkeysandflags)
                .flags("loading stale")
                .categories("@slow @connection")
                .since("7.0.0")
                .cost("O(N) in the number of keys")
                .summary("Finds the keys of a command, and what it does with them."),
            Spec::new("info", -2, command::info)
                .flags("loading stale")
                .categories("@slow @connection")
                .tips("nondeterministic_output_order")
                .since("2.8.13")
                .cost("O(N) in the number of commands")
                .summary("Describes commands, these or all."),
            Spec::new("getkeys", -4, command::getkeys)
                .flags("loading stale")
                .categories("@slow @connection")
                .since("2.8.13")
                .cost("O(N) in the number of keys")
                .summary("Finds the keys of a command."),
            Spec::new("docs", -2, command::docs)
                .flags("loading stale")
                .categories("@slow @connection")
                .tips("nondeterministic_output_order")
                .since("7.0.0")
                .cost("O(N) in the number of commands")
                .summary("Tells what the documentation says of commands."),
        ]),
    Spec::new("config", -2, container)
        .categories("@slow")
        .since("2.0.0")
        .summary("Holds the commands on parameters of the server.")
        .subcommands(&[
            Spec::new("help", 2, config::help)
                .flags("loading stale")
                .categories("@slow")
                .since("5.0.0")
                .summary("Describes the subcommands."),
            Spec::new("rewrite", 2, config::rewrite)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .since("2.8.0")
                .summary("Would write the parameters to a file; fails, since there is none."),
            Spec::new("get", -3, config::get)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .since("2.0.0")
                .cost("O(N) in the number of parameters")
                .summary("Tells the values of parameters."),
            Spec::new("resetstat", 2, config::resetstat)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .since("2.0.0")
                .cost("O(N) in the number of commands")
                .reach(Reach::All(Join::First))
                .summary("Lets the counters of INFO begin anew."),
            Spec::new("set", -4, config::set)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("2.0.0")
                .cost("O(N) in the number of parameters")
                .summary("Sets parameters, all or none."),
        ]),
    Spec::new("cores", 1, cores)
        .flags("loading stale")
        .categories("@slow @dangerous")
        .tips("nondeterministic_output")
        .since("7.4.0")
        .cost("O(N) in the number of cores, on the control thread")
        .reach(Reach::Survey)
        .summary("Tells what each core of the server does and holds."),
    Spec::new("dbsize", 1, keyspace::dbsize)
        .flags("readonly fast")
        .categories("@keyspace @read @fast")
        .tips("request_policy:all_shards response_policy:agg_sum")
        .summary("Counts the keys of the database."),
    Spec::new("debug", -2, debug::debug)
        .flags("admin noscript loading stale")
        .categories("@admin @slow @dangerous")
        .cost("Depends on the subcommand")
        .reach(Reach::Debug)
        .summary("Does what test suites ask for, if the server allows it."),
    Spec::new("flushall", -1, keyspace::flushall)
        .flags("write")
        .categories("@keyspace @write @slow @dangerous")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .summary("Removes the keys of all databases."),
    Spec::new("flushdb", -1, keyspace::flushdb)
        .flags("write")
        .categories("@keyspace @write @slow @dangerous")
        .tips("request_policy:all_shards response_policy:all_succeeded")
        .summary("Removes the keys of the database."),
    Spec::new("info", -1, info)
        .flags("loading stale")
        .categories("@slow @dangerous")
        .tips("nondeterministic_output request_policy:all_shards response_policy:special")
        .cost("O(N) in the number of commands, on the control thread")
        .reach(Reach::Survey)
        .summary("Tells how the server does."),
    Spec::new("latency", -2, container)
        .categories("@slow")
        .since("2.8.13")
        .summary("Holds the commands on executions that took long.")
        .subcommands(&[
            Spec::new("reset", -2, latency::reset)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("2.8.13")
                .reach(Reach::Survey)
                .summary("Forgets latency events."),
            Spec::new("graph", 3, latency::graph)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("nondeterministic_output request_policy:all_nodes response_policy:special")
                .since("2.8.13")
                .reach(Reach::Survey)
                .summary("Draws a latency event over time."),
            Spec::new("help", 2, latency::help)
                .flags("loading stale")
                .categories("@slow")
                .since("2.8.13")
                .summary("Describes the subcommands."),
            Spec::new("history", 3, latency::history)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("nondeterministic_output request_policy:all_nodes response_policy:special")
                .since("2.8.13")
                .reach(Reach::Survey)
                .summary("Lists the seconds of a latency event."),
            Spec::new("doctor", 2, latency::doctor)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("nondeterministic_output request_policy:all_nodes response_policy:special")
                .since("2.8.13")
                .reach(Reach::Survey)
                .summary("Tells in words which latency events there were."),
            Spec::new("latest", 2, latency::latest)
                .flags("admin noscript loading stale")
                .categories("@admin @slow @dangerous")
                .tips("nondeterministic_output request_policy:all_nodes response_policy:special")
                .since("2.8.13")
                .reach(Reach::Survey)
                .summary("Tells the latest second of each latency event."),
        ]),
    Spec::new("memory", -2, container)
        .categories("@slow")
        .since("4.0.0")
        .summary("Holds the commands on memory.")
        .subcommands(&[
            Spec::new("help", 2, memory::help)
                .flags("loading stale")
                .categories("@slow")
                .since("4.0.0")
                .summary("Describes the subcommands."),
            Spec::new("doctor", 2, memory::doctor)
                .categories("@slow")
                .tips("nondeterministic_output request_policy:all_shards response_policy:special")
                .since("4.0.0")
                .reach(Reach::Survey)
                .summary("Tells in words how the memory is used."),
            Spec::new("purge", 2, memory::purge)
                .categories("@slow")
                .tips("request_policy:all_shards response_policy:all_succeeded")
                .since("4.0.0")
                .reach(Reach::Here)
                .summary("Lets the allocator give back what is free."),
            Spec::new("stats", 2, memory::stats)
                .categories("@slow")
                .tips("nondeterministic_output request_policy:all_shards response_policy:special")
                .since("4.0.0")
                .reach(Reach::Survey)
                .summary("Tells what the memory is used for."),
            Spec::new("usage", -3, memory::usage)
                .flags("readonly")
                .categories("@read @slow")
                .keys(&[KeySpec::new("RO", 2, 0, 1)])
                .since("4.0.0")
                .summary("Tells how many bytes a key and its value take."),
        ]),
    Spec::new("shutdown", -1, shutdown)
        .flags("admin noscript loading stale no_multi allow_busy")
        .categories("@admin @slow @dangerous")
        .summary("Ends the server."),
    Spec::new("slowlog", -2, container)
        .categories("@slow")
        .since("2.2.12")
        .summary("Holds the commands on the log of slow commands.")
        .subcommands(&[
            Spec::new("reset", 2, slowlog::reset)
                .flags("admin loading stale")
                .categories("@admin @slow @dangerous")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("2.2.12")
                .cost("O(N) in the number of entries")
                .summary("Forgets the slow commands."),
            Spec::new("len", 2, slowlog::len)
                .flags("admin loading stale")
                .categories("@admin @slow @dangerous")
                .tips("request_policy:all_nodes response_policy:agg_sum nondeterministic_output")
                .since("2.2.12")
                .reach(Reach::Survey)
                .summary("Counts the slow commands that are kept."),
            Spec::new("help", 2, slowlog::help)
                .flags("loading stale")
                .categories("@slow")
                .since("6.2.0")
                .summary("Describes the subcommands."),
            Spec::new("get", -2, slowlog::get)
                .flags("admin loading stale")
                .categories("@admin @slow @dangerous")
                .tips("request_policy:all_nodes nondeterministic_output")
                .since("2.2.12")
                .cost("O(N) in the number of entries")
                .reach(Reach::Survey)
                .summary("Lists the latest slow commands."),
        ]),
    Spec::new("swapdb", 3, keyspace::swapdb)
        .flags("write fast")
        .categories("@keyspace @write @fast @dangerous")
        .since("4.0.0")
        .reach(Reach::All(Join::First))
        .summary("Exchanges the keys of two databases."),
    Spec::new("time", 1, time)
        .flags("loading stale fast")
        .categories("@fast")
        .tips("nondeterministic_output")
        .since("2.6.0")
        .summary("Tells the server's time."),
];
