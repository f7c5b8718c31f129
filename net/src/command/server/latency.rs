//! LATENCY: the longest executions of commands, second by second, and its subcommands.
//!
//! While `latency-monitor-threshold` is not 0, executions that are timed (see `slowlog`) and take
//! that many milliseconds or more are events: `command`, or `fast-command` if Redis calls the
//! command fast. Of each second with an event its longest is kept, for [`SAMPLES_MAX`] such
//! seconds.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::super::context::{Arguments, Context, Flow, printable};
use crate::clock;
use crate::core::InfoRequest;
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

    /// Adds the events of another core: of a second that both know, the longer is kept.
    pub fn add(&mut self, other: &Latency) {
        for event in &other.events {
            let Some(own) = self.events.iter_mut().find(|own| own.name == event.name) else {
                self.events.push(event.clone());
                continue;
            };
            own.longest_ms = own.longest_ms.max(event.longest_ms);
            let mut samples: Vec<Sample> =
                own.samples.iter().chain(&event.samples).copied().collect();
            samples.sort_unstable_by_key(|sample| (sample.unix_s, Reverse(sample.taken_ms)));
            samples.dedup_by_key(|sample| sample.unix_s);
            own.samples = samples.split_off(samples.len().saturating_sub(SAMPLES_MAX)).into();
        }
    }

    /// Forgets these events, or all if none is named; what was forgotten.
    pub fn forget(&mut self, names: &[Vec<u8>]) -> Latency {
        let is_meant = |event: &mut Event| {
            names.is_empty() || names.iter().any(|n| n == event.name.as_bytes())
        };
        Latency { events: self.events.extract_if(.., is_meant).collect() }
    }

    fn find(&self, name: &[u8]) -> Option<&Event> {
        self.events.iter().find(|event| event.name.as_bytes() == name)
    }
}

/// What LATENCY asks, of all cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatencyQuestion {
    /// Of each event its name, its latest second, what that took, and the longest.
    Latest,
    /// The seconds of an event.
    History(Vec<u8>),
    /// The same as bars.
    Graph(Vec<u8>),
    /// What there is to say, while executions of so many milliseconds are events.
    Doctor {
        /// `latency-monitor-threshold`.
        threshold_ms: u64,
    },
    /// How many of these events were forgotten; of all, if there are none.
    Reset(Vec<Vec<u8>>),
}

fn ask(context: &Context<'_>, question: LatencyQuestion) -> Flow {
    Flow::Ask(Box::new(InfoRequest::Latency { question, resp3: context.session.resp3 }))
}

pub(super) fn latest(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    ask(context, LatencyQuestion::Latest)
}

pub(super) fn history(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    ask(context, LatencyQuestion::History(args.at(2).to_vec()))
}

pub(super) fn reset(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    ask(context, LatencyQuestion::Reset(args.from(2).map(<[u8]>::to_vec).collect()))
}

pub(super) fn graph(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    ask(context, LatencyQuestion::Graph(args.at(2).to_vec()))
}

pub(super) fn doctor(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let threshold_ms = context.settings.latency_threshold_ms;
    ask(context, LatencyQuestion::Doctor { threshold_ms })
}

impl LatencyQuestion {
    /// Writes the answer, from the events of all cores.
    pub fn answer(&self, latency: &Latency, reply: &mut Writer<'_>) {
        match self {
            LatencyQuestion::Latest => write_latest(latency, reply),
            LatencyQuestion::History(name) => write_history(latency.find(name), reply),
            LatencyQuestion::Graph(name) => match latency.find(name) {
                Some(event) => {
                    let text = draw(event, clock::unix_ms() / 1_000);
                    reply.verbatim(*b"txt", text.as_bytes());
                }
                None => {
                    let name = printable(name, 128);
                    reply.error(&format!("ERR No samples available for event '{name}'"));
                }
            },
            LatencyQuestion::Doctor { threshold_ms } => {
                reply.verbatim(*b"txt", diagnosis(latency, *threshold_ms).as_bytes());
            }
            LatencyQuestion::Reset(_) => reply.integer(latency.events.len() as i64),
        }
    }
}

fn write_latest(latency: &Latency, reply: &mut Writer<'_>) {
    reply.array(latency.events.len());
    for event in &latency.events {
        let last = event.samples.back().copied().unwrap_or(Sample { unix_s: 0, taken_ms: 0 });
        reply.array(4);
        reply.bulk(event.name.as_bytes());
        for number in [last.unix_s, last.taken_ms, event.longest_ms] {
            reply.integer(number as i64);
        }
    }
}

fn write_history(event: Option<&Event>, reply: &mut Writer<'_>) {
    let samples = event.map(|event| &event.samples);
    reply.array(samples.map_or(0, VecDeque::len));
    for sample in samples.into_iter().flatten() {
        reply.array(2);
        reply.integer(sample.unix_s as i64);
        reply.integer(sample.taken_ms as i64);
    }
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

fn diagnosis(latency: &Latency, threshold_ms: u64) -> String {
    if threshold_ms == 0 {
        return "Latency monitoring is off. \"CONFIG SET latency-monitor-threshold \
                <milliseconds>\" turns it on."
            .to_owned();
    }
    if latency.events.is_empty() {
        return format!("Nothing took {threshold_ms} ms or longer since monitoring began.");
    }
    let mut text = String::from("Executions that took long:\n");
    for event in &latency.events {
        let total_ms: u64 = event.samples.iter().map(|sample| sample.taken_ms).sum();
        let count = event.samples.len() as u64;
        text += &format!(
            "- {}: {count} seconds with such, {} ms on average, {} ms at the longest. SLOWLOG GET \
             names the commands.\n",
            event.name,
            total_ms / count.max(1),
            event.longest_ms
        );
    }
    text
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
    fn events_of_cores_become_one() {
        let event = |name, samples: &[(u64, u64)], longest_ms| {
            let sample = |&(unix_s, taken_ms): &(u64, u64)| Sample { unix_s, taken_ms };
            Event { name, samples: samples.iter().map(sample).collect(), longest_ms }
        };
        let mut one = Latency { events: vec![event("command", &[(5, 9), (7, 1)], 30)] };
        let events = vec![event("command", &[(5, 4), (6, 2), (7, 8)], 8), event("other", &[], 1)];
        one.add(&Latency { events });
        let samples: Vec<_> =
            one.events[0].samples.iter().map(|s| (s.unix_s, s.taken_ms)).collect();
        assert_eq!((samples, one.events[0].longest_ms), (vec![(5, 9), (6, 2), (7, 8)], 30));
        assert_eq!(one.forget(&[b"other".to_vec(), b"none".to_vec()]).events.len(), 1);
        assert_eq!((one.forget(&[]).events.len(), one.events.len()), (1, 0));
        let many: Vec<(u64, u64)> = (0..SAMPLES_MAX as u64).map(|s| (2 * s, 1)).collect();
        let odd: Vec<(u64, u64)> = many.iter().map(|&(s, _)| (s + 1, 2)).collect();
        let mut long = Latency { events: vec![event("command", &many, 1)] };
        long.add(&Latency { events: vec![event("command", &odd, 2)] });
        let samples = &long.events[0].samples;
        assert_eq!((samples.len(), samples[0].unix_s), (SAMPLES_MAX, SAMPLES_MAX as u64));
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
