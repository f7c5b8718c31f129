//! What was measured in each second: cut off by the workers, put together by the reporter thread.
//!
//! A worker records into a [`Recorder`] of its own. When a second of the measured phase is over it
//! sends the recorder away and goes on with another one, so the send path knows no lock and no
//! shared counter. The reporter merges the parts of a second when every worker has delivered
//! it, writes it to the interval log, and keeps a line of numbers of it; the histograms of the
//! whole run are the sum of the seconds.
//!
//! Invariants:
//! - I1. Every recorded request is in exactly one part, and every part is merged exactly once.
//! - I2. A second is closed when all workers have sent a later part, or have finished.
//!
//! Cost: a comparison per turn of a worker; per second and worker one message, and on the reporter
//! some 200 us to merge a used histogram. Memory: a few recorders per worker, a line per second.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};

use hdrhistogram::Histogram;

use crate::error::Error;
use crate::hlog::LogWriter;
use crate::recorder::{Class, ClassRecord, Recorder, quantile_ns};

/// Length of a part.
pub(crate) const INTERVAL_NS: u64 = 1_000_000_000;

/// What one worker measured in one second.
pub(crate) struct Piece {
    worker: usize,
    /// The second, counted from the start of the measured phase.
    second: u64,
    recorder: Recorder,
}

/// Sends a piece to the reporter; false if nobody listens any more.
pub(crate) type SendPiece = Box<dyn Fn(Piece) -> bool + Send>;

/// The worker's end: decides when a second is over.
pub(crate) struct Cutter {
    worker: usize,
    send: SendPiece,
    spares: Receiver<Recorder>,
    /// The start of the measured phase, in nanoseconds after the start of the run; `None` if the
    /// phase is not cut.
    from_ns: Option<u64>,
    second: u64,
    next_cut_ns: u64,
}

impl Cutter {
    /// A cutter for worker `worker` of a phase that is measured from `from_ns` on.
    pub(crate) fn new(
        worker: usize,
        send: SendPiece,
        spares: Receiver<Recorder>,
        from_ns: Option<u64>,
    ) -> Cutter {
        Cutter { worker, send, spares, from_ns, second: 0, next_cut_ns: u64::MAX }
    }

    /// The run starts at `start_ns`.
    pub(crate) fn start(&mut self, start_ns: u64) {
        if let Some(from_ns) = self.from_ns {
            self.next_cut_ns = start_ns.saturating_add(from_ns).saturating_add(INTERVAL_NS);
        }
    }

    /// Sends `recorder` away if its second is over, and leaves an empty one in its place.
    #[inline]
    pub(crate) fn cut(&mut self, now_ns: u64, recorder: &mut Recorder) {
        if now_ns >= self.next_cut_ns {
            self.hand_over(now_ns, recorder);
        }
    }

    #[cold]
    fn hand_over(&mut self, now_ns: u64, recorder: &mut Recorder) {
        let empty = self.spares.try_recv().unwrap_or_else(|_| Recorder::new());
        let full = std::mem::replace(recorder, empty);
        let piece = Piece { worker: self.worker, second: self.second, recorder: full };
        // A reporter that has gone is a phase that has failed already.
        let _ = (self.send)(piece);
        let passed = (now_ns - self.next_cut_ns) / INTERVAL_NS + 1;
        self.second += passed;
        self.next_cut_ns += passed * INTERVAL_NS;
    }

    /// The second that is not over.
    pub(crate) fn second(&self) -> u64 {
        self.second
    }
}

/// The numbers of one second, over all classes of the mix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Second {
    /// The second, counted from the start of the measured phase.
    pub second: u64,
    /// Requests whose replies came in it.
    pub requests: u64,
    /// Keys of reads that had a value.
    pub hits: u64,
    /// Keys of reads that had none.
    pub misses: u64,
    /// Requests that were refused or given up.
    pub errors: u64,
    /// Median response time, where enough requests came.
    pub p50_ns: Option<u64>,
    /// 99th percentile of the response times, where enough requests came.
    pub p99_ns: Option<u64>,
    /// 99.9th percentile of the response times, where enough requests came.
    pub p999_ns: Option<u64>,
    /// Longest response time; `None` without requests.
    pub max_ns: Option<u64>,
    /// 99th percentile of the lag, where enough requests came.
    pub lag_p99_ns: Option<u64>,
}

impl Second {
    fn of(second: u64, total: &ClassRecord) -> Second {
        let response: &Histogram<u64> = &total.response;
        Second {
            second,
            requests: total.count(),
            hits: total.hits,
            misses: total.misses,
            errors: total.errors,
            p50_ns: quantile_ns(response, 0.5),
            p99_ns: quantile_ns(response, 0.99),
            p999_ns: quantile_ns(response, 0.999),
            max_ns: (!response.is_empty()).then(|| response.max()),
            lag_p99_ns: quantile_ns(&total.lag, 0.99),
        }
    }
}

/// The reporter's end: puts the pieces together.
pub(crate) struct Collector {
    /// The first second that each worker has not delivered; `u64::MAX` once it has finished.
    open_from: Vec<u64>,
    spares: Vec<Sender<Recorder>>,
    waiting: BTreeMap<u64, Recorder>,
    total: Recorder,
    seconds: Vec<Second>,
    log: Option<LogWriter>,
}

impl Collector {
    /// A collector for as many workers as there are `spares`, through which emptied recorders go
    /// back.
    pub(crate) fn new(spares: Vec<Sender<Recorder>>, log: Option<LogWriter>) -> Collector {
        Collector {
            open_from: vec![0; spares.len()],
            spares,
            waiting: BTreeMap::new(),
            total: Recorder::new(),
            seconds: Vec::new(),
            log,
        }
    }

    /// Takes a piece, and closes the seconds that it completes (I2).
    ///
    /// # Errors
    /// If the log cannot be written.
    pub(crate) fn take(&mut self, piece: Piece) -> Result<(), Error> {
        let Piece { worker, second, mut recorder } = piece;
        self.open_from[worker] = second + 1;
        self.add(second, &recorder);
        recorder.clear();
        // A worker that has finished needs it no more.
        let _ = self.spares[worker].send(recorder);
        self.close()
    }

    /// A worker has finished with what it measured in its last second.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub(crate) fn finish(
        &mut self,
        worker: usize,
        second: u64,
        recorder: &Recorder,
    ) -> Result<(), Error> {
        self.open_from[worker] = u64::MAX;
        self.add(second, recorder);
        self.close()
    }

    fn add(&mut self, second: u64, recorder: &Recorder) {
        if recorder.classes().iter().any(|record| !record.is_untouched()) {
            self.waiting.entry(second).or_insert_with(Recorder::new).merge(recorder);
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        let open_from = self.open_from.iter().copied().min().unwrap_or(u64::MAX);
        while let Some(entry) = self.waiting.first_entry() {
            if *entry.key() >= open_from {
                break;
            }
            let (second, recorder) = entry.remove_entry();
            let mix = mix_of(&recorder);
            if let Some(log) = &mut self.log {
                log.write(second, &recorder, &mix)?;
            }
            self.seconds.push(Second::of(second, &mix));
            self.total.merge(&recorder);
        }
        Ok(())
    }

    /// The sum of all seconds, and their lines.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub(crate) fn into_parts(self) -> Result<(Recorder, Vec<Second>), Error> {
        debug_assert!(self.waiting.is_empty(), "every worker has finished");
        if let Some(log) = self.log {
            log.finish()?;
        }
        Ok((self.total, self.seconds))
    }
}

/// All classes of the mix together: everything but the fills.
pub(crate) fn mix_of(recorder: &Recorder) -> ClassRecord {
    let mut total = ClassRecord::new();
    for (class, record) in Class::ALL.into_iter().zip(recorder.classes()) {
        if class != Class::Fill {
            total.merge(record);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn seconds_close_when_every_worker_has_passed_them() {
        let (pieces_in, pieces) = channel();
        let (spares_in, mut spares): (Vec<_>, Vec<_>) = (0..2).map(|_| channel()).unzip();
        let mut cutters: Vec<Cutter> = (0..2)
            .map(|worker| {
                let to: std::sync::mpsc::Sender<Piece> = pieces_in.clone();
                let send = Box::new(move |piece| to.send(piece).is_ok());
                let mut cutter = Cutter::new(worker, send, spares.remove(0), Some(500));
                cutter.start(1_000);
                cutter
            })
            .collect();
        let mut collector = Collector::new(spares_in, None);
        let mut recorders = [Recorder::new(), Recorder::new()];
        let end_ns = |second: u64| 1_500 + second * INTERVAL_NS;
        let drain = |collector: &mut Collector| {
            while let Ok(piece) = pieces.try_recv() {
                collector.take(piece).expect("no log");
            }
            collector.seconds.len()
        };
        recorders[0].class(Class::Get).record(0, 10, 100);
        recorders[1].class(Class::Set).record(0, 10, 200);
        cutters[0].cut(end_ns(1) - 1, &mut recorders[0]);
        assert_eq!(drain(&mut collector), 0, "the second is not over");
        cutters[0].cut(end_ns(1), &mut recorders[0]);
        assert_eq!(drain(&mut collector), 0, "the other worker has not delivered it");
        assert!(recorders[0].classes()[0].is_untouched());
        // The other one slept over a whole second.
        cutters[1].cut(end_ns(2) + 5, &mut recorders[1]);
        assert_eq!((drain(&mut collector), cutters[1].second()), (1, 2));
        cutters[1].cut(end_ns(3) - 1, &mut recorders[1]);
        assert_eq!(cutters[1].second(), 2, "a second that was slept over moves the next cut, too");
        recorders[0].class(Class::Get).record(0, 10, 300);
        recorders[0].class(Class::Fill).record(0, 10, 9000);
        for worker in 0..2 {
            let second = cutters[worker].second();
            collector.finish(worker, second, &recorders[worker]).expect("no log");
        }
        let (total, seconds) = collector.into_parts().expect("no log");
        let counts: Vec<(u64, u64)> = seconds.iter().map(|s| (s.second, s.requests)).collect();
        assert_eq!(counts, [(0, 2), (1, 1)], "fills are no requests of the mix");
        assert_eq!(seconds[0].max_ns, Some(200));
        assert_eq!(mix_of(&total).count(), 3);
        assert_eq!(total.classes()[Class::Fill as usize].count(), 1);
    }
}
