//! The arrivals against their definitions, on a simulated clock.

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn table(times: Times, end: End) -> Timetable {
    Timetable { times, measure_from_ns: 0, end }
}

fn process(segments: &[(u64, u64)], cyclic: bool, spread: Spread) -> Times {
    let segments =
        segments.iter().map(|&(length_ns, millihertz)| Segment { length_ns, millihertz }).collect();
    Times::Process { segments, cyclic, spread }
}

fn all(table: &Timetable, worker: usize, workers: usize) -> Vec<Due> {
    let mut schedule = Schedule::new(table, worker, workers);
    let mut dues = Vec::new();
    while let Some(due) = schedule.peek() {
        dues.push(due);
        schedule.advance();
    }
    dues
}

#[test]
fn an_even_process_is_the_steady_schedule() {
    for millihertz in [1_000, 333_333, 60_000_000, 7_777_777] {
        let end = End::Requests(10_000);
        let steady = all(&table(Times::Steady(Rate { millihertz }), end), 0, 1);
        let even = process(&[(u64::MAX, millihertz)], false, Spread::Even);
        assert_eq!(all(&table(even, end), 0, 1), steady, "{millihertz}");
    }
}

#[test]
fn the_workers_share_every_kind_of_schedule() {
    let burst = process(&[(1_000_000, 90_000_000), (2_000_000, 0)], true, Spread::Even);
    let poisson = process(&[(u64::MAX, 10_000_000)], false, Spread::Poisson(7));
    let listed = Times::Listed((0..5000).map(|k| k * k).collect());
    for times in [burst, poisson, listed, Times::Steady(Rate { millihertz: 12_345_678 })] {
        let table = Timetable { times, measure_from_ns: 20_000_000, end: End::Requests(300) };
        let whole = all(&table, 0, 1);
        assert_eq!(whole.iter().filter(|due| due.measured).count(), 300);
        let shares: Vec<Vec<Due>> = (0..3).map(|worker| all(&table, worker, 3)).collect();
        for (index, due) in whole.iter().enumerate() {
            assert_eq!(shares[index % 3][index / 3], *due, "{:?}", table.times);
        }
        assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), whole.len());
        assert!(whole.windows(2).all(|pair| pair[0].due_ns <= pair[1].due_ns));
    }
}

#[test]
fn steps_have_their_rates_and_lose_no_fraction() {
    // 10.5 requests in the first step, 20.5 in the second, 31 together.
    let steps = process(&[(SECOND_NS, 10_500), (SECOND_NS, 20_500)], false, Spread::Even);
    let dues = all(&table(steps, End::AtNs(2 * SECOND_NS)), 0, 1);
    assert_eq!(dues.len(), 31);
    assert_eq!(dues.iter().filter(|due| due.due_ns < SECOND_NS).count(), 11);
    let second = &dues[11..];
    assert!(second.windows(2).all(|p| (p[1].due_ns - p[0].due_ns).abs_diff(48_780_487) <= 1));
}

#[test]
fn bursts_come_in_their_time_and_keep_the_mean_rate() {
    // 10 ms of every 100 ms, at ten times the mean of 2,000 per second.
    let burst = process(&[(10_000_000, 20_000_000), (90_000_000, 0)], true, Spread::Even);
    let dues = all(&table(burst, End::AtNs(10 * SECOND_NS)), 0, 1);
    assert_eq!(dues.len(), 20_000);
    assert!(dues.iter().all(|due| due.due_ns % 100_000_000 < 10_000_000));
    // A rate far below one request per burst passes over the silent cycles at once.
    let rare = process(&[(1_000, 10), (1_000, 0)], true, Spread::Even);
    let dues = all(&table(rare, End::Requests(5)), 0, 1);
    assert!(dues.windows(2).all(|p| (p[1].due_ns - p[0].due_ns).abs_diff(200 * SECOND_NS) <= 2000));
}

#[test]
fn poisson_gaps_pass_the_chi_square_test() {
    let (rate, count) = (5_000_u64, 200_000_u64);
    for seed in [1, 2, 3] {
        let poisson = process(&[(u64::MAX, rate * 1000)], false, Spread::Poisson(seed));
        let dues = all(&table(poisson, End::Requests(count)), 0, 1);
        let gap_ns = SECOND_NS as f64 / rate as f64;
        let mut bins = [0_u64; 20];
        let mut before_ns = 0;
        for due in &dues {
            let gap = (due.due_ns - before_ns) as f64 / gap_ns;
            before_ns = due.due_ns;
            // Equal probabilities: the distribution function of an exponential gap is uniform.
            bins[(((1.0 - (-gap).exp()) * 20.0) as usize).min(19)] += 1;
        }
        let expected = count as f64 / 20.0;
        let chi: f64 = bins.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
        // The 99.9 % point of chi-square with 19 degrees of freedom.
        assert!(chi < 43.8, "seed {seed}: {chi} {bins:?}");
        // Counts per second are Poisson, too: their variance is their mean.
        let seconds = (dues.last().expect("dues").due_ns / SECOND_NS) as usize;
        let mut counts = vec![0.0_f64; seconds];
        for due in dues.iter().filter(|due| (due.due_ns / SECOND_NS) < seconds as u64) {
            counts[(due.due_ns / SECOND_NS) as usize] += 1.0;
        }
        let mean = counts.iter().sum::<f64>() / seconds as f64;
        let variance =
            counts.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / (seconds as f64 - 1.0);
        assert!((0.3..3.0).contains(&(variance / mean)), "seed {seed}: {variance} {mean}");
    }
}

/// A tool that fills all its connections when a timer fires makes bursts of its own. Here a worker
/// that wakes late, by up to 0.3 ms, sends what is due and no more.
#[test]
fn late_wakings_make_no_bursts() {
    let (rate, connections, workers) = (100_000_u64, 80_u64, 2);
    for spread in [Spread::Even, Spread::Poisson(5)] {
        let times = process(&[(u64::MAX, rate * 1000)], false, spread);
        let table = table(times, End::AtNs(SECOND_NS));
        let mut sent_ns: Vec<u64> = Vec::new();
        for worker in 0..workers {
            let mut schedule = Schedule::new(&table, worker, workers);
            let mut rng = crate::rng::Rng::new(9, worker as u64);
            let mut now_ns = 0;
            while let Some(due) = schedule.peek() {
                now_ns = now_ns.max(due.due_ns) + rng.below(300_000);
                while schedule.peek().is_some_and(|due| due.due_ns <= now_ns) {
                    sent_ns.push(now_ns);
                    schedule.advance();
                }
            }
        }
        sent_ns.sort_unstable();
        assert!(sent_ns.len() > 98_000);
        let mut first = 0;
        let expected = rate / 1000;
        for last in 0..sent_ns.len() {
            while sent_ns[last] - sent_ns[first] >= 1_000_000 {
                first += 1;
            }
            let window = (last - first + 1) as u64;
            assert!(window <= 2 * expected + connections, "{window} sends within 1 ms");
        }
    }
}

#[test]
fn the_backlog_of_a_process_is_estimated_by_its_mean_gap() {
    let even = process(&[(u64::MAX, 1_000_000)], false, Spread::Even);
    let mut schedule = Schedule::new(&table(even, End::Requests(100)), 1, 2);
    assert_eq!((schedule.gap_ns(), schedule.backlog(999_999)), (2_000_000, 0));
    assert_eq!(schedule.backlog(5_000_000), 3);
    schedule.advance();
    assert_eq!(schedule.backlog(5_000_000), 2);
}

#[test]
fn a_sine_swings_around_its_mean() {
    let (mean, amplitude) = (Rate { millihertz: 8_000_000 }, Rate { millihertz: 6_000_000 });
    for start_ns in [0, 300_000_000] {
        let segments = sine(mean, amplitude, SECOND_NS, start_ns);
        assert_eq!(segments.iter().map(|segment| segment.length_ns).sum::<u64>(), SECOND_NS);
        let times = Times::Process { segments, cyclic: true, spread: Spread::Even };
        let end = End::AtNs(start_ns + 4 * SECOND_NS);
        let dues = all(&table(times, end), 0, 1);
        let within = |from_ns: u64, to_ns: u64| {
            let due = |due: &&Due| (start_ns + from_ns..start_ns + to_ns).contains(&due.due_ns);
            dues.iter().filter(due).count() as f64
        };
        assert!((within(0, 4 * SECOND_NS) - 32_000.0).abs() <= 2.0, "{}", dues.len());
        // The integral of each eighth of a wave, in every wave.
        for part in 0..32 {
            let (from, to) = (f64::from(part) / 8.0, f64::from(part + 1) / 8.0);
            let tau = std::f64::consts::TAU;
            let swing = 6_000.0 * ((tau * from).cos() - (tau * to).cos()) / tau;
            let expected = 8_000.0 / 8.0 + swing;
            let seen = within((from * 1e9) as u64, (to * 1e9) as u64);
            assert!((seen - expected).abs() <= 6.0, "{start_ns} {part}: {seen} {expected}");
        }
    }
}
