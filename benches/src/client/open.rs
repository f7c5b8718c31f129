//! The open loop: requests leave at times fixed beforehand, and latency counts from those times.
//!
//! A request that the client sends late, because it or the server was busy, is charged for the
//! delay, so that a stall shows in every request that it held up. How late the client itself was
//! is recorded beside it; a run whose lag is not far below its latencies says little.

use std::ops::Range;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;

use super::closed::Client;
use super::replies::Pending;
use super::{ClientError, Prng};
use crate::sys::cpu;

/// Sends between two looks for replies, so that a client in arrears does not overlook them.
const SENDS_PER_TURN_MAX: usize = 16;

/// Requests that may be under way before the server counts as unable to keep up.
const PENDING_MAX: usize = 1 << 18;

/// A client in arrears by more than this gives up the rest of its schedule.
const LAG_MAX_NS: u64 = 1_000_000_000;

/// How long before the next send a hybrid pace stops to sleep: longer than a wake-up takes.
const SPIN_NS: u64 = 100_000;

/// Longest latency that is told apart, in nanoseconds; anything above counts as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// When requests are meant to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// At equal distances.
    Even,
    /// As a Poisson process, as independent users do.
    Poisson,
}

/// How the client waits for its next send and for replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// Ask again and again: the most exact, and a CPU for itself.
    Spin,
    /// Spin while a reply is due or a send is near, sleep otherwise.
    Hybrid,
    /// Always sleep: the only pace that may share its CPU with the server.
    Block,
}

/// Connections that share a schedule and are reported together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// How many connections; they take turns.
    pub connections: usize,
    /// Requests that leave at once.
    pub pipeline: usize,
    /// Requests per second of the whole group.
    pub rate_per_s: f64,
}

/// An open-loop run.
#[derive(Clone, Debug)]
pub struct OpenPlan {
    /// The groups; their connections together are the client's.
    pub groups: Vec<Group>,
    /// From the first to the last intended send.
    pub duration: Duration,
    /// When requests are meant to be sent.
    pub arrivals: Arrivals,
    /// How the client waits.
    pub pace: Pace,
}

/// What a group of connections saw.
#[derive(Clone, Debug)]
pub struct GroupOutcome {
    /// Nanoseconds from the intended send to the last byte of the reply.
    pub latency_ns: Histogram<u64>,
}

/// What an open-loop run came to.
#[derive(Clone, Debug)]
pub struct OpenOutcome {
    /// By group, in the order of the plan.
    pub groups: Vec<GroupOutcome>,
    /// Nanoseconds by which sends left later than intended; one value per batch.
    pub lag_ns: Histogram<u64>,
    /// Requests that were answered, all by hits.
    pub requests: u64,
    /// From the first intended send to the last reply, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of the client's thread, in nanoseconds.
    pub client_cpu_ns: u64,
    /// Segments in which the replies came; on loopback, the server's sends.
    pub reply_segments: u64,
    /// The server or the client did not keep up, and the rest of the schedule was dropped.
    pub is_overrun: bool,
}

/// The intended sends of one group.
struct Schedule {
    /// Relative to the start; a fraction, so that rounding does not add up.
    due_ns: f64,
    batch_interval_ns: f64,
    arrivals: Arrivals,
    prng: Prng,
    connections: Range<usize>,
    next_connection: usize,
    pipeline: usize,
}

impl Schedule {
    fn new(group: &Group, first: usize, arrivals: Arrivals, seed: u64) -> Schedule {
        let mut schedule = Schedule {
            due_ns: 0.0,
            batch_interval_ns: group.pipeline as f64 / group.rate_per_s * 1e9,
            arrivals,
            prng: Prng::new(seed),
            connections: first..first + group.connections,
            next_connection: first,
            pipeline: group.pipeline,
        };
        // Groups of equal rates do not beat in step.
        schedule.due_ns = schedule.prng.unit() * schedule.batch_interval_ns;
        schedule
    }

    /// Moves on to the next batch and returns the connection of this one.
    fn advance(&mut self) -> usize {
        self.due_ns += match self.arrivals {
            Arrivals::Even => self.batch_interval_ns,
            Arrivals::Poisson => -(1.0 - self.prng.unit()).ln() * self.batch_interval_ns,
        };
        let connection = self.next_connection;
        self.next_connection = match connection + 1 {
            next if next == self.connections.end => self.connections.start,
            next => next,
        };
        connection
    }
}

/// A run under way.
struct Run {
    schedules: Vec<Schedule>,
    group_of: Vec<usize>,
    start_ns: u64,
    pending: usize,
    outcome: OpenOutcome,
}

impl Client {
    /// Runs a plan and waits for the last replies.
    ///
    /// # Errors
    ///
    /// If the plan does not fit the client's connections or names no rate, if a reply is no hit,
    /// or if the server goes away or silent. A server that merely cannot keep up is no error but
    /// an [`OpenOutcome::is_overrun`].
    pub fn run_open_loop(&mut self, plan: &OpenPlan) -> Result<OpenOutcome, ClientError> {
        self.check(plan)?;
        let mut run = Run::new(plan, self.seed)?;
        let segments = self.reply_segments()?;
        let cpu_ns = cpu::thread_cpu_ns();
        run.start_ns = cpu::monotonic_ns();
        self.forgive_silence(run.start_ns);
        let mut end_ns = plan.duration.as_nanos() as f64;
        loop {
            let due_ns = self.send_due(&mut run, &mut end_ns)?;
            if due_ns.is_none() && run.pending == 0 {
                break;
            }
            if run.pending == 0 {
                self.forgive_silence(cpu::monotonic_ns());
            }
            let timeout = plan.pace.timeout(run.pending, due_ns);
            if !self.wait(timeout)? {
                continue;
            }
            let mut index = 0;
            while let Some(token) = self.receive_ready_of(&mut run, index)? {
                index += 1;
                self.connections[token].flush(&self.epoll)?;
            }
        }
        let mut outcome = run.outcome;
        outcome.elapsed_ns = cpu::monotonic_ns() - run.start_ns;
        outcome.client_cpu_ns = cpu::thread_cpu_ns() - cpu_ns;
        outcome.reply_segments = self.reply_segments_since(&segments)?;
        Ok(outcome)
    }

    fn check(&self, plan: &OpenPlan) -> Result<(), ClientError> {
        let refuse = |text: &str| Err(ClientError::Workload(text.to_string()));
        let planned: usize = plan.groups.iter().map(|group| group.connections).sum();
        if planned != self.connections.len() {
            return refuse("the groups of a plan must have all connections of the client");
        }
        for group in &plan.groups {
            let fits = group.connections > 0 && (1..=PENDING_MAX).contains(&group.pipeline);
            if !fits || !group.rate_per_s.is_finite() || group.rate_per_s <= 0.0 {
                return refuse("a group needs connections, a batch and a rate above 0");
            }
        }
        Ok(())
    }

    /// Sends what is due, within bounds, and returns how many nanoseconds the next batch is away;
    /// `None` if the schedule is over.
    fn send_due(&mut self, run: &mut Run, end_ns: &mut f64) -> Result<Option<u64>, ClientError> {
        for _ in 0..SENDS_PER_TURN_MAX {
            let next = run.schedules.iter_mut().min_by(|a, b| a.due_ns.total_cmp(&b.due_ns));
            let Some(schedule) = next.filter(|schedule| schedule.due_ns < *end_ns) else {
                return Ok(None);
            };
            let intended_ns = run.start_ns + schedule.due_ns as u64;
            let now_ns = cpu::monotonic_ns();
            if intended_ns > now_ns {
                return Ok(Some(intended_ns - now_ns));
            }
            let lag_ns = now_ns - intended_ns;
            if lag_ns > LAG_MAX_NS || run.pending + schedule.pipeline > PENDING_MAX {
                run.outcome.is_overrun = true;
                *end_ns = 0.0;
                return Ok(None);
            }
            record(&mut run.outcome.lag_ns, lag_ns);
            run.pending += schedule.pipeline;
            let pipeline = schedule.pipeline;
            let connection = &mut self.connections[schedule.advance()];
            for _ in 0..pipeline {
                let operation = self.requests.append(&mut connection.output);
                connection.pending.push_back(Pending::new(operation, intended_ns));
            }
            connection.flush(&self.epoll)?;
        }
        Ok(Some(0))
    }

    fn receive_ready_of(
        &mut self,
        run: &mut Run,
        index: usize,
    ) -> Result<Option<usize>, ClientError> {
        // Past the last, any group will do: nothing completes.
        let readiness = self.epoll.ready(index);
        let group = readiness.map_or(0, |readiness| run.group_of[readiness.token as usize]);
        let latency_ns = &mut run.outcome.groups[group].latency_ns;
        let mut answered = 0;
        let token = self.receive_ready(index, |pending, now_ns| {
            answered += 1;
            record(latency_ns, now_ns.saturating_sub(pending.intended_ns()));
        })?;
        run.pending -= answered;
        run.outcome.requests += answered as u64;
        Ok(token)
    }
}

impl Run {
    fn new(plan: &OpenPlan, seed: u64) -> Result<Run, ClientError> {
        let mut seeds = Prng::new(seed);
        let (mut schedules, mut group_of, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for (index, group) in plan.groups.iter().enumerate() {
            let first = group_of.len();
            schedules.push(Schedule::new(group, first, plan.arrivals, seeds.next_u64()));
            group_of.resize(first + group.connections, index);
            groups.push(GroupOutcome { latency_ns: histogram()? });
        }
        let outcome = OpenOutcome {
            groups,
            lag_ns: histogram()?,
            requests: 0,
            elapsed_ns: 0,
            client_cpu_ns: 0,
            reply_segments: 0,
            is_overrun: false,
        };
        Ok(Run { schedules, group_of, start_ns: 0, pending: 0, outcome })
    }
}

impl Pace {
    /// How long to wait, with so many requests under way and the next batch so far away.
    fn timeout(self, pending: usize, due_ns: Option<u64>) -> Option<Duration> {
        /// Without a next batch, look up now and then whether the server has fallen silent.
        const LOOK_UP_NS: u64 = 100_000_000;
        let due_ns = due_ns.unwrap_or(LOOK_UP_NS);
        let timeout_ns = match self {
            Pace::Spin => 0,
            Pace::Hybrid if pending > 0 => 0,
            Pace::Hybrid => due_ns.saturating_sub(SPIN_NS),
            Pace::Block => due_ns,
        };
        Some(Duration::from_nanos(timeout_ns))
    }
}

fn histogram() -> Result<Histogram<u64>, ClientError> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
        .map_err(|error| ClientError::Workload(error.to_string()))
}

fn record(histogram: &mut Histogram<u64>, value_ns: u64) {
    histogram.saturating_record(value_ns);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Group = Group { connections: 3, pipeline: 2, rate_per_s: 1000.0 };

    #[test]
    fn even_batches_keep_their_distance_and_take_turns() {
        let mut schedule = Schedule::new(&GROUP, 5, Arrivals::Even, 1);
        let start_ns = schedule.due_ns;
        assert!((0.0..2e6).contains(&start_ns));
        let connections: Vec<usize> = (0..7).map(|_| schedule.advance()).collect();
        assert_eq!(connections, [5, 6, 7, 5, 6, 7, 5]);
        assert!((schedule.due_ns - start_ns - 7.0 * 2e6).abs() < 1.0);
    }

    #[test]
    fn random_batches_come_at_the_rate_asked_and_unevenly() {
        let mut schedule = Schedule::new(&GROUP, 0, Arrivals::Poisson, 1);
        let mut gaps_ns = Vec::new();
        for _ in 0..100_000 {
            let before_ns = schedule.due_ns;
            schedule.advance();
            gaps_ns.push(schedule.due_ns - before_ns);
        }
        let count = gaps_ns.len() as f64;
        let mean_ns = gaps_ns.iter().sum::<f64>() / count;
        let variance = gaps_ns.iter().map(|gap| (gap - mean_ns).powi(2)).sum::<f64>() / count;
        assert!((mean_ns / 2e6 - 1.0).abs() < 0.02, "{mean_ns}");
        // Exponential gaps spread as far as their mean.
        assert!((variance.sqrt() / mean_ns - 1.0).abs() < 0.03, "{}", variance.sqrt());
    }

    #[test]
    fn only_a_pace_that_may_burn_the_cpu_does() {
        let far = Some(1_000_000);
        assert_eq!(Pace::Spin.timeout(0, far), Some(Duration::ZERO));
        assert_eq!(Pace::Hybrid.timeout(1, far), Some(Duration::ZERO));
        assert_eq!(Pace::Hybrid.timeout(0, far), Some(Duration::from_micros(900)));
        assert_eq!(Pace::Hybrid.timeout(0, Some(50_000)), Some(Duration::ZERO));
        assert_eq!(Pace::Block.timeout(1, far), Some(Duration::from_millis(1)));
    }

    #[test]
    fn latencies_above_the_range_count_as_the_largest() {
        let mut latency_ns = histogram().unwrap();
        record(&mut latency_ns, u64::MAX);
        assert_eq!(latency_ns.len(), 1);
        assert!(latency_ns.max() >= LATENCY_MAX_NS);
    }
}
