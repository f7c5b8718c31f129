//! Starts the workers of one phase together, and merges and reports what they bring.
//!
//! Every phase (filling, reading back, the run itself) opens its own connections, so that nothing
//! of one phase is left in the sockets of the next. All workers take the same instant as time 0.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Barrier, OnceLock};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::config::Protocol;
use crate::conn::Connection;
use crate::connector::{self, Fresh, Wanted};
use crate::error::Error;
use crate::hlog::LogWriter;
use crate::host::{Stolen, Throttled};
use crate::protocol::Codec;
use crate::recorder::Recorder;
use crate::series::{Collector, Cutter, Piece, Second};
use crate::source::Source;
use crate::steer::Placement;
use crate::sys::{monotonic_ns, pin_current_thread, raise_file_limit, shrink_timer_slack};
use crate::target::Targets;
use crate::verify::Verifier;
use crate::worker::{Links, Outcome, Plan, Progress, Shared, Stop, Worker};

/// Time from the agreement on the start to the start itself, so that no worker is late for it.
const START_DELAY_NS: u64 = 1_000_000;

/// Open files besides the connections: standard streams, epoll sets, reports.
const FILES_BESIDE: usize = 600;

/// Who works: connections and threads.
#[derive(Debug, Clone)]
pub(crate) struct Crew {
    pub(crate) targets: Targets,
    pub(crate) placement: Option<Placement>,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    pub(crate) pin: Vec<usize>,
    pub(crate) progress: bool,
}

/// How a phase is written down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recording {
    /// The measured phase begins so many nanoseconds after the start, and is cut into seconds.
    pub(crate) cut_from_ns: Option<u64>,
    /// Where the interval log goes.
    pub(crate) hlog: Option<PathBuf>,
}

impl Recording {
    fn start_log(&self) -> Result<Option<LogWriter>, Error> {
        let ahead = Duration::from_nanos(self.cut_from_ns.unwrap_or(0));
        let create = |path| LogWriter::create(path, SystemTime::now() + ahead);
        self.hlog.as_deref().map(create).transpose()
    }
}

/// A finished phase.
pub(crate) struct Phase {
    /// What all workers together brought.
    pub(crate) outcome: Outcome,
    /// The numbers of every second of the measured phase.
    pub(crate) seconds: Vec<Second>,
    /// The instant that offsets count from.
    pub(crate) start_ns: u64,
    /// Share of the machine's CPU time that the hypervisor took; `None` if it does not say.
    pub(crate) stolen: Option<f64>,
    /// Times that a CPU was slowed down because of heat; `None` if the machine does not say.
    pub(crate) throttled: Option<u64>,
    /// Why it ended early, if it did.
    pub(crate) stop: Stop,
}

/// What a worker sends to the reporter.
enum News {
    Piece(Piece),
    Finished(usize, u64, Box<Outcome>),
}

impl Crew {
    /// Runs one worker per plan until all have finished.
    ///
    /// # Errors
    /// If a connection cannot be opened, a thread cannot be pinned or cannot wait, or the log
    /// cannot be written.
    pub(crate) fn drive<S: Source + Send>(
        &self,
        label: &str,
        codec: &Codec,
        verifier: &Verifier,
        plans: Vec<Plan<S>>,
        recording: &Recording,
    ) -> Result<Phase, Error> {
        let workers = plans.len();
        raise_file_limit((self.connections * 2 + FILES_BESIDE) as u64);
        let hands = self.open(workers)?;
        let log = recording.start_log()?;
        let stop = AtomicU8::new(Stop::No as u8);
        let shared = Shared {
            codec,
            verifier,
            owners: self.placement.as_ref(),
            targets: self.targets.count(),
            stop: &stop,
        };
        let progress: Vec<Progress> = (0..workers).map(|_| Progress::default()).collect();
        let barrier = Barrier::new(workers);
        let start: OnceLock<u64> = OnceLock::new();
        let wires = Wires::new(workers, recording.cut_from_ns);
        let mut reporter = Reporter {
            label: self.progress.then_some(label),
            progress: &progress,
            collector: Collector::new(wires.spares, log),
            outcome: None,
        };
        let (wanted, fresh) = (wires.wanted, wires.fresh);
        let (stolen, throttled) = (Stolen::start(), Throttled::start());

        std::thread::scope(|scope| {
            scope.spawn(move || connector::serve(&self.targets, self.protocol, &wanted, &fresh));
            let mut handles = Vec::with_capacity(workers);
            let ends = plans.into_iter().zip(hands).zip(wires.links);
            for (index, ((plan, connections), links)) in ends.enumerate() {
                let (shared, progress, news) = (&shared, &progress[index], wires.news.clone());
                let (barrier, start) = (&barrier, &start);
                let cpu = self.pin.get(index % self.pin.len().max(1)).copied();
                handles.push(scope.spawn(move || {
                    let ready = prepare(cpu)
                        .and_then(|()| Worker::new(shared, progress, connections, plan, links));
                    // Nobody may leave before the barrier, or the others would wait for ever.
                    barrier.wait();
                    let start_ns = *start.get_or_init(|| monotonic_ns() + START_DELAY_NS);
                    let (outcome, links) = ready?.run(start_ns)?;
                    let second = links.cutter.second();
                    // The reporter listens until the last sender is gone.
                    let _ = news.send(News::Finished(index, second, Box::new(outcome)));
                    Ok(())
                }));
            }
            drop(wires.news);
            let reported = reporter.listen(&wires.heard);
            let worked: Result<Vec<()>, Error> = handles.into_iter().map(joined).collect();
            worked.and(reported)
        })?;
        let (recorder, seconds) = reporter.collector.into_parts()?;
        let mut outcome = reporter.outcome.unwrap_or_else(Outcome::new);
        outcome.recorder = recorder;
        let stop = Stop::from_code(stop.load(Ordering::Relaxed));
        let start_ns = start.get().copied().unwrap_or(0);
        Ok(Phase {
            outcome,
            seconds,
            start_ns,
            stolen: stolen.share(),
            throttled: throttled.events(),
            stop,
        })
    }

    /// Opens the connections, to the targets in turn, and deals them out: every worker has its
    /// share of every target.
    fn open(&self, workers: usize) -> Result<Vec<Vec<Connection>>, Error> {
        let mut hands: Vec<Vec<Connection>> = (0..workers).map(|_| Vec::new()).collect();
        let targets = self.targets.count();
        for index in 0..self.connections.max(workers) {
            let lane = index / workers % targets;
            hands[index % workers].push(self.targets.open(lane, self.protocol)?);
        }
        Ok(hands)
    }
}

/// The channels between the threads of a phase.
struct Wires {
    links: Vec<Links>,
    wanted: Receiver<Wanted>,
    fresh: Vec<Sender<Fresh>>,
    spares: Vec<Sender<Recorder>>,
    news: Sender<News>,
    heard: Receiver<News>,
}

impl Wires {
    fn new(workers: usize, cut_from_ns: Option<u64>) -> Wires {
        let (wanted_in, wanted) = channel();
        let (news, heard) = channel();
        let mut wires =
            Wires { links: Vec::new(), wanted, fresh: Vec::new(), spares: Vec::new(), news, heard };
        for worker in 0..workers {
            let (fresh_in, fresh) = channel();
            let (spares_in, spares) = channel();
            let to_reporter = wires.news.clone();
            let send = move |piece| to_reporter.send(News::Piece(piece)).is_ok();
            let cutter = Cutter::new(worker, Box::new(send), spares, cut_from_ns);
            wires.fresh.push(fresh_in);
            wires.spares.push(spares_in);
            wires.links.push(Links { worker, wanted: wanted_in.clone(), fresh, cutter });
        }
        wires
    }
}

/// The thread that started the workers: it merges what they measure, and says how it goes.
struct Reporter<'a> {
    /// What to call the phase; `None` to be quiet.
    label: Option<&'a str>,
    progress: &'a [Progress],
    collector: Collector,
    outcome: Option<Outcome>,
}

impl Reporter<'_> {
    /// Works until the last worker has gone; a line per second.
    fn listen(&mut self, heard: &Receiver<News>) -> Result<(), Error> {
        let started = Instant::now();
        let (mut second, mut done_before) = (1, 0);
        let mut result = Ok(());
        loop {
            let next = started + Duration::from_secs(second);
            match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
                // After a first failure the others must still be heard, or they would pile up.
                Ok(news) => result = result.and(self.take(news)),
                Err(RecvTimeoutError::Disconnected) => return result,
                Err(RecvTimeoutError::Timeout) => {
                    done_before = self.print(second, done_before);
                    second += 1;
                }
            }
        }
    }

    fn take(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Piece(piece) => self.collector.take(piece),
            News::Finished(worker, second, outcome) => {
                let result = self.collector.finish(worker, second, &outcome.recorder);
                match &mut self.outcome {
                    Some(total) => total.merge(*outcome),
                    None => self.outcome = Some(*outcome),
                }
                result
            }
        }
    }

    fn print(&self, second: u64, done_before: u64) -> u64 {
        let Some(label) = self.label else { return 0 };
        let sum = |field: fn(&Progress) -> u64| self.progress.iter().map(field).sum::<u64>();
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
        done
    }
}

fn joined(handle: ScopedJoinHandle<'_, Result<(), Error>>) -> Result<(), Error> {
    match handle.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
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
