//! Checks of the network stack: queues of connections and packets, TCP's habits, busy polling.
//!
//! Some of these settings belong to the network namespace: a container has its own.

use super::{set_sysctl, sysctl};
use crate::check::{Check, Finding, Group, Remedy};
use crate::host::{Host, Unreadable};

const SOMAXCONN: &str = "/proc/sys/net/core/somaxconn";
const SYN_BACKLOG: &str = "/proc/sys/net/ipv4/tcp_max_syn_backlog";
const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const IDLE_SLOW_START: &str = "/proc/sys/net/ipv4/tcp_slow_start_after_idle";
const AUTOCORKING: &str = "/proc/sys/net/ipv4/tcp_autocorking";
const BUSY_POLL: &str = "/proc/sys/net/core/busy_poll";
const BUSY_READ: &str = "/proc/sys/net/core/busy_read";
const SOFTNET: &str = "/proc/net/softnet_stat";
const BACKLOG: &str = "/proc/sys/net/core/netdev_max_backlog";

/// Enough for all clients of a large site to reconnect within one turn of a busy server.
const BACKLOG_WANTED: i64 = 4096;

/// What `netdev_max_backlog` should be raised to, if packets were lost to it.
const DEVICE_BACKLOG_WANTED: i64 = 5000;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "somaxconn",
        group: Group::Network,
        wanted: "4096 or more",
        why: "It bounds how many new connections may wait to be accepted; those beyond it are \
              dropped, and try again a second later.",
        sources: &[SOMAXCONN],
        inspect: |host| {
            let action = "Raise the bound before the server starts";
            sysctl(host, SOMAXCONN, |value| value >= BACKLOG_WANTED, BACKLOG_WANTED, action)
        },
    },
    Check {
        name: "tcp-syn-backlog",
        group: Group::Network,
        wanted: "4096 or more, or SYN cookies",
        why: "Without SYN cookies it bounds how many connections may be half open when many \
              clients reconnect at once; those beyond it try again a second later.",
        sources: &[SYN_BACKLOG, SYN_COOKIES],
        inspect: syn_backlog,
    },
    Check {
        name: "tcp-slow-start-after-idle",
        group: Group::Network,
        wanted: "0",
        why: "After a pause a connection forgets its congestion window, so that the next large \
              reply takes several round trips.",
        sources: &[IDLE_SLOW_START],
        inspect: |host| {
            sysctl(host, IDLE_SLOW_START, |value| value == 0, 0, "Keep the window over a pause")
        },
    },
    Check {
        name: "tcp-autocorking",
        group: Group::Network,
        wanted: "0",
        why: "A small reply waits while an earlier packet of its connection is still in the \
              device's queue; the server already sends once per turn.",
        sources: &[AUTOCORKING],
        inspect: |host| {
            sysctl(host, AUTOCORKING, |value| value == 0, 0, "Let small replies go at once")
        },
    },
    Check {
        name: "busy-poll",
        group: Group::Network,
        wanted: "0",
        why: "It makes every poll, select and epoll call of the host spin, which the server does \
              not use, and takes CPU time from it.",
        sources: &[BUSY_POLL],
        inspect: |host| {
            let action = "Leave busy polling to the programs that ask for it";
            sysctl(host, BUSY_POLL, |value| value == 0, 0, action)
        },
    },
    Check {
        name: "busy-read",
        group: Group::Network,
        wanted: "0",
        why: "It makes the sockets of all programs spin for as many microseconds when they are \
              read, which takes CPU time from the server.",
        sources: &[BUSY_READ],
        inspect: |host| {
            let action = "Leave busy polling to the programs that ask for it";
            sysctl(host, BUSY_READ, |value| value == 0, 0, action)
        },
    },
    Check {
        name: "packet-drops",
        group: Group::Network,
        wanted: "no packets dropped since boot",
        why: "A packet that finds the CPU's input queue full is lost; the last of a request \
              comes again only after 200 ms.",
        sources: &[SOFTNET, BACKLOG],
        inspect: packet_drops,
    },
];

fn syn_backlog(host: &Host) -> Result<Finding, Unreadable> {
    let length: i64 = host.read_as(SYN_BACKLOG)?;
    // With cookies the length of the accept queue is the only bound.
    if host.read_as::<u8>(SYN_COOKIES).is_ok_and(|cookies| cookies != 0) {
        return Ok(Finding::ok(format!("{length}, not used with SYN cookies")));
    }
    let action = "Raise the bound before the server starts";
    sysctl(host, SYN_BACKLOG, |value| value >= BACKLOG_WANTED, BACKLOG_WANTED, action)
}

fn packet_drops(host: &Host) -> Result<Finding, Unreadable> {
    let text = host.read(SOFTNET)?;
    // One line per CPU; the second column counts packets dropped, in hexadecimal.
    let mut dropped: u64 = 0;
    for line in text.lines() {
        let column = line.split_whitespace().nth(1);
        let count = column.and_then(|column| u32::from_str_radix(column, 16).ok());
        dropped += u64::from(count.ok_or_else(|| Unreadable::content(SOFTNET, line))?);
    }
    if text.is_empty() {
        return Err(Unreadable::content(SOFTNET, ""));
    }
    let found = format!("{dropped} dropped");
    if dropped == 0 {
        return Ok(Finding::ok(found));
    }
    let length: i64 = host.read_as(BACKLOG)?;
    let found = format!("{found}, queues of {length}");
    let wanted = DEVICE_BACKLOG_WANTED.max(length.saturating_mul(2));
    let remedy = Remedy::with("Lengthen the queues, and look again", set_sysctl(BACKLOG, wanted));
    Ok(Finding::advise(found, remedy))
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::outcome;
    use crate::fixture::Tree;

    #[test]
    fn each_sysctl_has_a_bound_and_a_command() {
        for (name, path, fine, poor, command) in [
            ("somaxconn", "net/core/somaxconn", "4096", "4095", "net.core.somaxconn=4096"),
            (
                "tcp-syn-backlog",
                "net/ipv4/tcp_max_syn_backlog",
                "8192",
                "2048",
                "net.ipv4.tcp_max_syn_backlog=4096",
            ),
            (
                "tcp-slow-start-after-idle",
                "net/ipv4/tcp_slow_start_after_idle",
                "0",
                "1",
                "net.ipv4.tcp_slow_start_after_idle=0",
            ),
            ("tcp-autocorking", "net/ipv4/tcp_autocorking", "0", "1", "net.ipv4.tcp_autocorking=0"),
            ("busy-poll", "net/core/busy_poll", "0", "50", "net.core.busy_poll=0"),
            ("busy-read", "net/core/busy_read", "0", "50", "net.core.busy_read=0"),
        ] {
            let path = format!("proc/sys/{path}");
            let with = |value: &str| outcome(name, &Tree::new().file(&path, value));
            assert_eq!(with(fine), ("ok", fine.to_owned(), None), "{name}");
            let expected = Some(format!("sudo sysctl -w {command}"));
            assert_eq!(with(poor), ("advise", poor.to_owned(), expected), "{name}");
            assert_eq!(with("x").0, "unknown", "{name}");
        }
    }

    #[test]
    fn cookies_make_the_syn_backlog_irrelevant() {
        let with = |cookies: &str| {
            let tree = Tree::new()
                .file("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n")
                .file("proc/sys/net/ipv4/tcp_syncookies", cookies);
            outcome("tcp-syn-backlog", &tree)
        };
        assert_eq!(with("1\n"), ("ok", "128, not used with SYN cookies".to_owned(), None));
        assert_eq!(with("0\n").0, "advise");
    }

    #[test]
    fn drops_are_summed_over_cpus() {
        let with = |text: &str| {
            let tree = Tree::new()
                .file("proc/net/softnet_stat", text)
                .file("proc/sys/net/core/netdev_max_backlog", "4000\n");
            outcome("packet-drops", &tree)
        };
        assert_eq!(with("0000b72 00000000 1\n00000001 00000000 0\n").1, "0 dropped");
        let (verdict, found, command) = with("1 0000000a 0\n1 00000006 0\n");
        assert_eq!((verdict, found.as_str()), ("advise", "16 dropped, queues of 4000"));
        let expected = "sudo sysctl -w net.core.netdev_max_backlog=8000";
        assert_eq!(command.as_deref(), Some(expected));
        for text in ["", "1\n", "1 x\n", "1 1ffffffff\n"] {
            assert_eq!(with(text).0, "unknown", "{text:?}");
        }
    }
}
