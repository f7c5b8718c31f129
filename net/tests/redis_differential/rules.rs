//! The differences that are right, each with its reason. There are no others.

use std::collections::BTreeMap;

use crate::Args;
use crate::real::Pair;
use crate::wire::Node;

/// Two replies to a command that are not equal.
pub(crate) struct Case<'a> {
    /// The command's name in lower case; a subcommand's behind a bar.
    name: String,
    args: &'a Args,
    ours: &'a Node,
    theirs: &'a Node,
}

/// An accepted difference.
pub(crate) struct Rule {
    name: &'static str,
    reason: &'static str,
    applies: fn(&Case<'_>) -> bool,
    /// Whether the servers may hold different data from here on.
    drifts: bool,
    /// Whether it is due to a Redis before 7.2 alone, whose commands this server follows.
    is_old: bool,
}

const fn rule(name: &'static str, reason: &'static str, applies: fn(&Case<'_>) -> bool) -> Rule {
    Rule { name, reason, applies, drifts: false, is_old: false }
}

impl Rule {
    const fn old(mut self) -> Rule {
        self.is_old = true;
        self
    }

    const fn drifting(mut self) -> Rule {
        self.drifts = true;
        self
    }
}

/// All accepted differences.
const RULES: &[Rule] = &[
    rule(
        "times",
        "both take the time when they execute a command, not at the same moment",
        |case| {
            let tolerance = match case.name.as_str() {
                "ttl" | "expiretime" => 20,
                "pttl" | "pexpiretime" => 20_000,
                // They are approximate here, and RESTORE does not set them.
                "object|idletime" => u64::MAX,
                _ => return false,
            };
            let (Some(ours), Some(theirs)) = (case.ours.integer(), case.theirs.integer()) else {
                return false;
            };
            let is_time = |time: i64| time > 0 || (time == 0 && case.name == "object|idletime");
            is_time(ours) && is_time(theirs) && ours.abs_diff(theirs) <= tolerance
        },
    ),
    rule("keys in any order", "KEYS promises no order", |case| {
        case.name == "keys" && same_set(case.ours, case.theirs)
    }),
    rule("parameters in any order", "CONFIG GET promises no order", |case| {
        case.name == "config|get" && same_pairs(case.ours, case.theirs)
    }),
    rule("a page of SCAN", "cursors and pages are a server's own", |case| {
        let is_page = |node: &Node| {
            matches!(node.many(), Some([Node::Bulk(_, cursor), Node::Many(b'*', _)])
                if cursor.iter().all(u8::is_ascii_digit))
        };
        case.name == "scan" && is_page(case.ours) && is_page(case.theirs)
    }),
    rule("any key", "RANDOMKEY chooses any; a step of its own looks whether it is one", |case| {
        case.name == "randomkey" && case.ours.bulk().is_some() && case.theirs.bulk().is_some()
    }),
    rule("who answers HELLO", "the name, the version and the connection's number differ", |case| {
        case.name == "hello" && same_hello(case.ours, case.theirs)
    }),
    rule("numbers of connections", "each server counts its own", |case| {
        case.name == "client|id" && case.ours.integer().is_some() && case.theirs.integer().is_some()
    }),
    rule("arity of COMMAND GETKEYSANDFLAGS", "until 7.2 it wants one argument more", |case| {
        let text = "ERR wrong number of arguments for 'command|getkeysandflags' command";
        case.name == "command|getkeysandflags" && case.theirs.error().as_deref() == Some(text)
    })
    .old()
    .drifting(),
    rule("name of a refused HELLO", "until 7.2 it stays", |case| {
        case.name == "client|getname" && case.theirs.error().is_none()
    })
    .old(),
    rule("refusals of HELLO", "until 7.2 each option acts when it is read", |case| {
        case.name == "hello" && case.theirs.error().is_some()
    })
    .old()
    .drifting(),
    rule("encodings", "Redis's tell how a value was written, ours what SET would make", |case| {
        let is_one =
            |node: &Node| [&b"int"[..], b"embstr", b"raw"].map(Some).contains(&node.bulk());
        case.name == "object|encoding" && is_one(case.theirs) && is_one(case.ours)
    }),
    rule(
        "deadlines in thousands of years, compared",
        "those beyond 47 bits of milliseconds are all the same here",
        |case| {
            let is_far = |time: &Vec<u8>| {
                let time: Option<i64> = std::str::from_utf8(time).ok().and_then(|t| t.parse().ok());
                time.is_some_and(|time| time >= 140_000_000_000)
            };
            case.name.contains("expire")
                && case.args.len() > 3
                && is_far(&case.args[2])
                && case.ours.integer().is_some()
                && case.theirs.integer().is_some()
        },
    )
    .drifting(),
    rule(
        "values that grew in vain",
        "a BITFIELD that writes nothing may still lengthen the value, which counts as a change here",
        |case| {
            let is_absent = matches!(case.ours, Node::Absent(_) | Node::Line(b'_', _));
            case.name == "exec" && case.theirs.many().is_some() && is_absent
        },
    )
    .drifting(),
    rule(
        "keys that came and went",
        "a watched key that is as it was, absent, is unchanged here",
        |case| {
            let is_absent = matches!(case.theirs, Node::Absent(_) | Node::Line(b'_', _));
            case.name == "exec" && case.ours.many().is_some() && is_absent
        },
    )
    .drifting(),
    rule("expired keys in DBSIZE", "Redis counts those that nobody has looked at yet", |case| {
        let counts = (case.ours.integer(), case.theirs.integer());
        case.name == "dbsize" && matches!(counts, (Some(ours), Some(theirs)) if ours < theirs)
    }),
    rule(
        "memory of LCS",
        "Redis ties it to the longest value, ours has a bound of its own",
        |case| {
            let is_refused = |node: &Node| {
                node.error().is_some_and(|text| text.starts_with("ERR Insufficient memory"))
            };
            case.name == "lcs" && is_refused(case.theirs)
        },
    ),
    rule("references", "Redis shares small numbers, and queued arguments", |case| {
        case.name == "object|refcount"
            && case.ours.integer() == Some(1)
            && case.theirs.integer().is_some_and(|count| count > 1)
    }),
    rule("deadlines in thousands of years", "ours have 47 bits of milliseconds", |case| {
        let far_ms = match case.name.as_str() {
            "ttl" | "expiretime" => 140_000_000_000,
            "pttl" | "pexpiretime" => 140_000_000_000_000,
            _ => return false,
        };
        let is_far = |node: &Node| node.integer().is_some_and(|time| time >= far_ms);
        is_far(case.ours) && is_far(case.theirs)
    }),
    rule("names of connections with a NUL", "7.2 sees no further than to the NUL", |case| {
        let has_nul = case.args.iter().any(|word| word.contains(&0));
        case.name == "client|setname" && has_nul && case.theirs.is_simple("OK")
    })
    .drifting(),
    rule(
        "bits of absent keys",
        "until 7.2 wrong arguments are not looked at without a key",
        |case| {
            let nothing = matches!(
                (case.name.as_str(), case.theirs.integer()),
                ("bitcount", Some(0)) | ("bitpos", Some(0 | -1))
            );
            nothing && case.ours.error().is_some()
        },
    )
    .old(),
    rule("numbers beyond a double", "their floats have 80 bits, and a wider range", |case| {
        let is_beyond = case.theirs.bulk().is_some_and(|text| text.len() > 300)
            || case.theirs.error().is_some_and(|text| text.contains("NaN or Infinity"));
        let text = "ERR value is not a valid float";
        case.name == "incrbyfloat" && is_beyond && case.ours.error().as_deref() == Some(text)
    })
    .drifting(),
    rule(
        "reads of far bits",
        "they are 0 up to 512 MiB here, whatever the largest value",
        |case| {
            let is_far = |node: &Node| node.error().is_some_and(|text| text.contains("bit offset"));
            ["getbit", "bitfield", "bitfield_ro"].contains(&case.name.as_str())
                && is_far(case.theirs)
                && !is_far(case.ours)
        },
    )
    .drifting(),
    rule("fields across the end", "Redis lets a field begin in the last byte and go on", |case| {
        let is_far = case.ours.error().is_some_and(|text| text.contains("bit offset"));
        case.name == "bitfield" && is_far && case.theirs.many().is_some()
    })
    .drifting(),
    rule("NULs in errors", "Redis writes them as texts that end at a NUL", |case| {
        let (Some(ours), Some(theirs)) = (case.ours.error(), case.theirs.error()) else {
            return false;
        };
        ours.split_once('\0').is_some_and(|(start, _)| theirs.starts_with(start))
    }),
    rule("long keys", "they end at 65,535 bytes here, and at the largest value there", |case| {
        let text = "ERR the key is longer than 65535 bytes";
        case.ours.error().as_deref() == Some(text)
            && case.args.iter().any(|word| word.len() > 65_535)
    })
    .drifting(),
    rule("number of commands", "Redis has more of them", |case| {
        case.name == "command|count"
            && case.ours.integer().is_some_and(|count| count > 0)
            && case.theirs.integer().is_some()
    }),
];

/// What the rules say of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// Accepted, but the servers may hold different data now.
    Apart,
    Different,
}

/// The table, and how often each rule was needed.
#[derive(Clone)]
pub(crate) struct Rules {
    /// Whether the Redis is one before 7.2.
    is_old: bool,
    uses: BTreeMap<&'static str, u64>,
}

impl Rules {
    pub(crate) fn of(pair: &Pair) -> Rules {
        Rules { is_old: pair.version() < (7, 2), uses: BTreeMap::new() }
    }

    pub(crate) fn judge(&mut self, case: &Case<'_>) -> Verdict {
        let applies = |rule: &&Rule| (!rule.is_old || self.is_old) && (rule.applies)(case);
        let Some(rule) = RULES.iter().find(applies) else {
            return Verdict::Different;
        };
        *self.uses.entry(rule.name).or_default() += 1;
        if rule.drifts { Verdict::Apart } else { Verdict::Accepted }
    }

    /// Prints which rules were needed how often, and why they are there.
    pub(crate) fn report(&self) {
        for rule in RULES {
            let uses = self.uses.get(rule.name).copied().unwrap_or(0);
            println!("accepted {uses} times: {} ({})", rule.name, rule.reason);
        }
    }
}

impl<'a> Case<'a> {
    pub(crate) fn new(args: &'a Args, ours: &'a Node, theirs: &'a Node) -> Case<'a> {
        let lower = |word: &Vec<u8>| String::from_utf8_lossy(word).to_ascii_lowercase();
        let mut name = lower(&args[0]);
        if let ("client" | "command" | "config" | "memory" | "object", Some(second)) =
            (name.as_str(), args.get(1))
        {
            name = format!("{name}|{}", lower(second));
        }
        Case { name, args, ours, theirs }
    }
}

fn same_set(ours: &Node, theirs: &Node) -> bool {
    let (Node::Many(kind, ours), Node::Many(other, theirs)) = (ours, theirs) else { return false };
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    ours.sort();
    theirs.sort();
    kind == other && ours == theirs
}

fn same_pairs(ours: &Node, theirs: &Node) -> bool {
    let (Node::Many(kind, ours), Node::Many(other, theirs)) = (ours, theirs) else { return false };
    let sorted = |nodes: &[Node]| {
        let mut pairs: Vec<Vec<Node>> = nodes.chunks(2).map(<[Node]>::to_vec).collect();
        pairs.sort();
        pairs
    };
    kind == other && sorted(ours) == sorted(theirs)
}

fn same_hello(ours: &Node, theirs: &Node) -> bool {
    let (Node::Many(kind, ours), Node::Many(other, theirs)) = (ours, theirs) else { return false };
    let Some((ours, rest)) = ours.split_at_checked(theirs.len()) else { return false };
    let rest_is_ours = match rest {
        [] => true,
        [name, _] => name.bulk() == Some(b"pinion_version"),
        _ => false,
    };
    let is_own = |name: &Node| {
        name.bulk().is_some_and(|name| [&b"server"[..], b"version", b"id"].contains(&name))
    };
    let same = |(ours, theirs): (&[Node], &[Node])| match (ours, theirs) {
        ([name, value], [other, theirs]) => name == other && (value == theirs || is_own(name)),
        _ => false,
    };
    kind == other && rest_is_ours && ours.chunks(2).zip(theirs.chunks(2)).all(same)
}
