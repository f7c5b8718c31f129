//! Starts the workers of one phase together, prints the progress line, and merges what they bring.
//!
//! Every phase (filling, reading back, the run itself) opens its own connections, so that nothing
//! of one phase is left in the sockets of the next. All workers take the same instant as time 0.

use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use crate::config::Protocol;
use crate::conn::{Connection, Target};
use crate::error::Error;
use crate::protocol::Codec;
use crate::source::Source;
use crate::sys::{monotonic_ns, pin_current_thread, raise_file_limit, shrink_timer_slack};
use crate::verify::Verifier;
use crate::worker::{Outcome, Plan, Progress, Shared, Stop, Worker};

/// Time from the agreement on the start to the start itself, so that no worker is late for it.
const START_DELAY_NS: u64 = 1_000_000;

/// Open files besides the connections: standard streams, epoll sets, reports.
const FILES_BESIDE: usize = 600;

/// Who works: connections and threads.
#[derive(Debug, Clone)]
pub(crate) struct Crew {
    pub(crate) target: Target,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    pub(crate) pin: Vec<usize>,
    pub(crate) progress: bool,
}

/// A finished phase.
pub(crate) struct Phase {
    /// What all workers together recorded.
    pub(crate) outcome: Outcome,
    /// The instant that offsets count from.
    pub(crate) start_ns: u64,
    /// Why it ended early, if it did.
    pub(crate) stop: Stop,
}

impl Crew {
    /// Runs one worker per plan until all have finished.
    ///
    /// # Errors
    /// If a connection cannot be opened, or a thread cannot be pinned or cannot wait.
    pub(crate) fn drive<S: Source + Send>(
        &self,
        label: &str,
        codec: &Codec,
        verifier: &Verifier,
        plans: Vec<Plan<S>>,
    ) -> Result<Phase, Error> {
        let workers = plans.len();
        raise_file_limit((self.connections + FILES_BESIDE) as u64);
        let mut hands: Vec<Vec<Connection>> = (0..workers).map(|_| Vec::new()).collect();
        for index in 0..self.connections.max(workers) {
            hands[index % workers].push(Connection::open(&self.target, self.protocol)?);
        }
        let stop = AtomicU8::new(Stop::No as u8);
        let shared = Shared { codec, verifier, stop: &stop };
        let progress: Vec<Progress> = (0..workers).map(|_| Progress::default()).collect();
        let barrier = Barrier::new(workers);
        let start: OnceLock<u64> = OnceLock::new();
        let (sender, finished) = channel::<()>();

        let outcomes = std::thread::scope(|scope| {
            let mut handles = Vec::with_capacity(workers);
            for (index, (plan, connections)) in plans.into_iter().zip(hands).enumerate() {
                let (shared, progress, sender) = (&shared, &progress[index], sender.clone());
                let (barrier, start) = (&barrier, &start);
                let cpu = self.pin.get(index % self.pin.len().max(1)).copied();
                handles.push(scope.spawn(move || {
                    // Dropped with the thread: the reporter sees that everybody has finished.
                    let _sender = sender;
                    let ready = prepare(cpu)
                        .and_then(|()| Worker::new(shared, progress, connections, plan));
                    // Nobody may leave before the barrier, or the others would wait for ever.
                    barrier.wait();
                    let start_ns = *start.get_or_init(|| monotonic_ns() + START_DELAY_NS);
                    ready?.run(start_ns)
                }));
            }
            drop(sender);
            if self.progress {
                report_progress(label, &progress, &finished);
            }
            handles
                .into_iter()
                .map(|handle| match handle.join() {
                    Ok(outcome) => outcome,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect::<Result<Vec<Outcome>, Error>>()
        })?;
        let outcome = merge(outcomes);
        let stop = Stop::from_code(stop.load(Ordering::Relaxed));
        Ok(Phase { outcome, start_ns: start.get().copied().unwrap_or(0), stop })
    }
}

fn prepare(cpu: Option<usize>) -> Result<(), Error> {
    shrink_timer_slack();
    match cpu {
        Some(cpu) => pin_current_thread(cpu)
            .map_err(|error| Error::io(format!("cannot pin a thread to CPU {cpu}"), error)),
        None => Ok(()),
    }
}

/// Prints a line per second until the last worker has dropped its sender.
fn report_progress(label: &str, workers: &[Progress], finished: &Receiver<()>) {
    let sum = |field: fn(&Progress) -> u64| workers.iter().map(field).sum::<u64>();
    let started = Instant::now();
    let mut done_before = 0;
    for second in 1_u64.. {
        let next = started + Duration::from_secs(second);
        let left = next.saturating_duration_since(Instant::now());
        if finished.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let done = sum(|worker| worker.done.load(Ordering::Relaxed));
        let hits = sum(|worker| worker.hits.load(Ordering::Relaxed));
        let misses = sum(|worker| worker.misses.load(Ordering::Relaxed));
        let errors = sum(|worker| worker.errors.load(Ordering::Relaxed));
        let backlog = sum(|worker| worker.backlog.load(Ordering::Relaxed));
        let hit_percent = 100.0 * hits as f64 / (hits + misses).max(1) as f64;
        // A closed standard error must not end the run.
        let _ = writeln!(
            std::io::stderr(),
            "{label} {second:>4} s  {:>9} requests/s  hits {hit_percent:.2} %  errors {errors}  \
             backlog {backlog}",
            done - done_before
        );
        done_before = done;
    }
}

fn merge(outcomes: Vec<Outcome>) -> Outcome {
    let mut outcomes = outcomes.into_iter();
    let mut total = outcomes.next().expect("a phase has at least one worker");
    for mut outcome in outcomes {
        total.recorder.merge(&outcome.recorder);
        total.pace.merge(&outcome.pace);
        total.cpu_ns += outcome.cpu_ns;
        total.last_sent_ns = total.last_sent_ns.max(outcome.last_sent_ns);
        total.last_done_ns = total.last_done_ns.max(outcome.last_done_ns);
        total.unanswered += outcome.unanswered;
        total.connections_lost += outcome.connections_lost;
        total.first_error = total.first_error.or(outcome.first_error);
        total.wrong_count += outcome.wrong_count;
        total.wrong.append(&mut outcome.wrong);
    }
    total
}
