//! The same work for many inputs on a few threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// As many threads as there are CPUs for this process.
pub(super) fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Calls `work` for each input, on `jobs` threads, and returns the results in the order of the
/// inputs. Ends early, with the error of the first input that has one, if `work` fails.
pub(super) fn map<T: Sync, R: Send, E: Send>(
    inputs: &[T],
    jobs: usize,
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(inputs.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, inputs.len().max(1)) {
            scope.spawn(|| {
                while let Some(index) = claim(&next, inputs.len()) {
                    let result = work(&inputs[index]);
                    if result.is_err() {
                        next.store(inputs.len(), Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|&(index, _)| index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn claim(next: &AtomicUsize, count: usize) -> Option<usize> {
    let claimed = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |index| {
        (index < count).then_some(index + 1)
    });
    claimed.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_inputs() {
        let inputs: Vec<u64> = (0..100).collect();
        for jobs in [0, 1, 3, 200] {
            let squares: Result<Vec<u64>, ()> = map(&inputs, jobs, |&input| Ok(input * input));
            assert_eq!(squares.unwrap(), inputs.iter().map(|i| i * i).collect::<Vec<_>>());
        }
        assert_eq!(map(&[], 2, |&input: &u64| Ok::<u64, ()>(input)), Ok(vec![]));
    }

    #[test]
    fn a_failure_ends_the_work() {
        let inputs: Vec<u64> = (0..1_000).collect();
        let fails = |&input: &u64| if input == 7 { Err(input) } else { Ok(input) };
        assert_eq!(map(&inputs, 2, fails), Err(7));
    }
}
