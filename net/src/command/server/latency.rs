//! LATENCY: the longest executions of commands, second by second, and its subcommands.
//!
//! While `latency-monitor-threshold` is not 0, executions that are timed (see `slowlog`) and take
//! that many milliseconds or more are events: `command`, or `fast-command` if Redis calls the
//! command fast. Of each second with an event its longest is kept, for [`SAMPLES_MAX`] such
//! seconds.

use std::collections::VecDeque;

use super::super::context::{Arguments, Context, Flow, printable};
use crate::clock;
use crate::protocol::resp::Writer;

/// Seconds that are kept of an event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// The longest of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample {
    unix_s: u64,
    taken_ms: u64,
}

/// The seconds of one event.
#[derive(Clone, Debug)]
struct Event {
    name: &'static str,
    /// The oldest first.
    samples: VecDeque<Sample>,
    longest_ms: u64,
}

/// All events.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    events: Vec<Event>,
}

impl Latency {
    /// Notes an event.
    pub fn note(&mut self, name: &'static str, taken_ms: u64) {
        let unix_s = clock::unix_ms() / 1_000;
        let index = self.events.iter().position(|event| event.name == name).unwrap_or_else(|| {
            self.events.push(Event { name, samples: VecDeque::new(), longest_ms: 0 });
            self.events.len() - 1
        });
        let event = &mut self.events[index];
        event.longest_ms = event.longest_ms.max(taken_ms);
        match event.samples.back_mut() {
            Some(last) if last.unix_s == unix_s => last.taken_ms = last.taken_ms.max(taken_ms),
            _ => {
                if event.samples.len() == SAMPLES_MAX {
                    event.samples.pop_front();
                }
                event.samples.push_back(Sample { unix_s, taken_ms });
            }
        }
    }

    fn find(&self, name: &[u8]) -> Option<&Event> {
        self.events.iter().find(|event| event.name.as_bytes() == name)
    }
}

/// LATENCY LATEST: of each event its name, its latest second, what that took, and the longest.
pub(super) fn latest(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let events = &context.server.latency.events;
    let mut reply = Writer::new(context.out, context.session.version());
    reply.array(events.len());
    for event in events {
        let last = event.samples.back().copied().unwrap_or(Sample { unix_s: 0, taken_ms: 0 });
        reply.array(4);
        reply.bulk(event.name.as_bytes());
        for number in [last.unix_s, last.taken_ms, event.longest_ms] {
            reply.integer(number as i64);
        }
    }
    Flow::Continue
}

pub(super) fn history(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let samples = context.server.latency.find(args.at(2)).map(|event| &event.samples);
    let mut reply = Writer::new(context.out, context.session.version());
    reply.array(samples.map_or(0, VecDeque::len));
    for sample in samples.into_iter().flatten() {
        reply.array(2);
        reply.integer(sample.unix_s as i64);
        reply.integer(sample.taken_ms as i64);
    }
    Flow::Continue
}

/// LATENCY RESET: forgets events, all or these; how many.
pub(super) fn reset(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let events = &mut context.server.latency.events;
    let before = events.len();
    events.retain(|event| args.len() > 2 && !args.from(2).any(|n| n == event.name.as_bytes()));
    let forgotten = before - events.len();
    context.reply().integer(forgotten as i64);
    Flow::Continue
}

pub(super) fn graph(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(event) = context.server.latency.find(args.at(2)) else {
        let name = printable(args.at(2), 128);
        context.error(&format!("ERR No samples available for event '{name}'"));
        return Flow::Continue;
    };
    let text = draw(event, clock::unix_ms() / 1_000);
    context.reply().verbatim(*b"txt", text.as_bytes());
    Flow::Continue
}

/// One line a second with an event, the longest bar for the longest.
fn draw(event: &Event, unix_s: u64) -> String {
    const BAR_MAX: u64 = 60;
    let scale = event.samples.iter().map(|sample| sample.taken_ms).max().unwrap_or(1).max(1);
    let mut text = format!("{} - longest {} ms (all time)\n", event.name, event.longest_ms);
    for sample in &event.samples {
        let bar = (sample.taken_ms * BAR_MAX).div_ceil(scale).min(BAR_MAX) as usize;
        let ago_s = unix_s.saturating_sub(sample.unix_s);
        text += &format!("{ago_s:>8} s ago {:>8} ms {}\n", sample.taken_ms, "#".repeat(bar));
    }
    text
}

pub(super) fn doctor(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let text = if context.settings.latency_threshold_ms == 0 {
        "Latency monitoring is off. \"CONFIG SET latency-monitor-threshold <milliseconds>\" turns \
         it on."
            .to_owned()
    } else if context.server.latency.events.is_empty() {
        format!(
            "Nothing took {} ms or longer since monitoring began.",
            context.settings.latency_threshold_ms
        )
    } else {
        let mut text = String::from("Executions that took long:\n");
        for event in &context.server.latency.events {
            let total_ms: u64 = event.samples.iter().map(|sample| sample.taken_ms).sum();
            let count = event.samples.len() as u64;
            text += &format!(
                "- {}: {count} seconds with such, {} ms on average, {} ms at the longest. SLOWLOG \
                 GET names the commands.\n",
                event.name,
                total_ms / count.max(1),
                event.longest_ms
            );
        }
        text
    };
    context.reply().verbatim(*b"txt", text.as_bytes());
    Flow::Continue
}

pub(super) fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    context.help(
        "LATENCY",
        &[
            "DOCTOR",
            "    What there is to say about long executions, in words.",
            "GRAPH <event>",
            "    The seconds of an event as bars.",
            "HISTORY <event>",
            "    The seconds of an event, each with its longest execution.",
            "LATEST",
            "    The latest second of each event, and its longest execution of all.",
            "RESET [<event> ...]",
            "    Forgets events, all of them by default.",
        ],
    );
    Flow::Continue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_a_second_is_kept() {
        let mut latency = Latency::default();
        for taken_ms in [5, 9, 7] {
            latency.note("command", taken_ms);
        }
        let event = latency.find(b"command").expect("noted");
        assert_eq!(event.longest_ms, 9);
        let longest = event.samples.iter().map(|sample| sample.taken_ms).max();
        assert_eq!((longest, event.samples.len() <= 3), (Some(9), true));
        assert!(latency.find(b"other").is_none());
    }

    #[test]
    fn bars_are_in_proportion() {
        let samples = [(100, 50), (101, 100)];
        let samples = samples.map(|(unix_s, taken_ms)| Sample { unix_s, taken_ms });
        let event = Event { name: "command", samples: samples.into(), longest_ms: 300 };
        let text = draw(&event, 103);
        let bars: Vec<usize> = text.lines().map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [0, 30, 60]);
    }
}
