//! All interleavings of a lane's queue and mailbox, as far as the memory model allows them.
//!
//! The two files are those of the server, on loom's atomics and cells instead of the standard
//! library's: loom tries every order of their loads and stores, with every value that a load may
//! see, and watches that no cell is touched by two threads at a time.
//!
//! That these tests can fail was seen with changed copies. Each of these changes makes some fail:
//! storing `tail` or `head` relaxed in the queue, or loading them so; dropping either fence of the
//! mailbox, setting its bit relaxed, looking at the bits before `asleep` is set.
//!
//! loom orders plain stores of two threads only in part, and so allows what no machine does where
//! one of them is an exchange. The mailbox changes `asleep` by exchanges alone.

use loom::sync::{Arc, Notify};
use loom::thread;

#[path = "../src/lane/mailbox.rs"]
pub mod mailbox;
#[path = "../src/lane/queue.rs"]
pub mod queue;

/// What the server's module of this name has, by loom.
mod sync {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::sync::Arc;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
}

use mailbox::Mailbox;
use queue::channel;

/// Switches from a thread that could go on. What goes wrong needs one or two; without a bound the
/// larger tests would take minutes.
const PREEMPTIONS_MAX: usize = 3;

fn check(model: impl Fn() + Sync + Send + 'static) {
    check_with(PREEMPTIONS_MAX, model);
}

fn check_with(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

/// A value whose memory loom watches, so that one that is dropped twice or never is found.
struct Tracked(loom::alloc::Track<usize>);

impl Tracked {
    fn new(number: usize) -> Tracked {
        Tracked(loom::alloc::Track::new(number))
    }

    fn number(&self) -> usize {
        *self.0.get_ref()
    }
}

/// The values that are to come out, in order, over a queue of so many slots.
fn pass(slots: usize, count: usize) {
    check(move || {
        let (mut sender, mut receiver) = channel(slots);
        let producer = thread::spawn(move || {
            for number in 0..count {
                let mut value = Tracked::new(number);
                while let Err(back) = sender.push(value) {
                    value = back;
                    thread::yield_now();
                }
            }
        });
        for number in 0..count {
            let value = loop {
                if let Some(value) = receiver.pop() {
                    break value;
                }
                thread::yield_now();
            };
            assert_eq!(value.number(), number, "values keep their order");
        }
        assert!(receiver.pop().is_none());
        producer.join().expect("the producer ends");
    });
}

#[test]
fn a_queue_of_one_slot_that_is_full_or_empty_at_every_step_loses_nothing() {
    pass(1, 3);
}

#[test]
fn a_queue_of_two_slots_keeps_the_order_across_its_end() {
    pass(2, 3);
}

#[test]
fn what_is_refused_comes_back_and_what_has_room_is_taken() {
    check(|| {
        let (mut sender, mut receiver) = channel(1);
        let producer = thread::spawn(move || {
            let mut pushed = Vec::new();
            for number in 0..2 {
                let had_room = sender.has_room();
                match sender.push(Tracked::new(number)) {
                    Ok(()) => pushed.push(number),
                    Err(back) => {
                        assert!(!had_room, "room stays until it is used");
                        assert_eq!(back.number(), number);
                    }
                }
            }
            pushed
        });
        let mut popped: Vec<usize> =
            (0..2).filter_map(|_| receiver.pop()).map(|value| value.number()).collect();
        let pushed = producer.join().expect("the producer ends");
        popped.extend(std::iter::from_fn(|| receiver.pop()).map(|value| value.number()));
        assert_eq!(popped, pushed);
    });
}

#[test]
fn values_that_nobody_takes_are_dropped_with_the_last_end() {
    check(|| {
        let (mut sender, mut receiver) = channel(2);
        let producer = thread::spawn(move || {
            for number in 0..2 {
                assert!(sender.push(Tracked::new(number)).is_ok(), "there are two slots");
            }
        });
        // How many are taken, and which end is dropped last, depends on the interleaving. loom
        // fails where one of the values is left over.
        if let Some(value) = receiver.pop() {
            assert_eq!(value.number(), 0);
        }
        drop(receiver);
        producer.join().expect("the producer ends");
    });
}

#[test]
fn who_posts_is_seen_or_wakes() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(1));
        let (mut sender, mut receiver) = channel(1);
        let producer = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                assert!(sender.push(7).is_ok(), "there is a slot");
                mailbox.post(0)
            })
        };
        let sleeps = mailbox.fall_asleep();
        let wakes = producer.join().expect("the producer ends");
        assert!(!sleeps || wakes, "a core sleeps, and something is there");
        assert_eq!((mailbox.take(0), receiver.pop()), (1, Some(7)));
    });
}

#[test]
fn of_two_who_post_to_a_sleeper_one_wakes_it() {
    check(|| {
        let mailbox = Arc::new(Mailbox::new(2));
        assert!(mailbox.fall_asleep());
        let other = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post(1))
        };
        let first = mailbox.post(0);
        let second = other.join().expect("the other ends");
        assert!(first ^ second, "one wakes it, and one is enough");
        assert_eq!(mailbox.take(0), 0b11);
    });
}

/// A core that takes, sleeps and is woken, until it has got all from others.
fn receive_from(producers: usize, each: usize, preemptions_max: usize) {
    check_with(preemptions_max, move || {
        let mailbox = Arc::new(Mailbox::new(producers));
        let bell = Arc::new(Notify::new());
        let mut receivers = Vec::new();
        for from in 0..producers {
            let (mut sender, receiver) = channel(each);
            receivers.push(receiver);
            let (mailbox, bell) = (Arc::clone(&mailbox), Arc::clone(&bell));
            thread::spawn(move || {
                for number in 0..each {
                    assert!(sender.push(number).is_ok(), "there is a slot for each");
                    if mailbox.post(from) {
                        bell.notify();
                    }
                }
            });
        }
        let mut got = vec![0; producers];
        while got.iter().sum::<usize>() < producers * each {
            let bits = mailbox.take(0);
            for (from, receiver) in receivers.iter_mut().enumerate() {
                // As the server does: only who has posted is looked at.
                while bits & 1 << from != 0
                    && let Some(number) = receiver.pop()
                {
                    assert_eq!(number, got[from], "values keep their order");
                    got[from] += 1;
                }
            }
            // Where a wake-up is lost, loom finds that nobody can go on.
            if bits == 0 && mailbox.fall_asleep() {
                bell.wait();
                mailbox.wake_up();
            }
        }
    });
}

#[test]
fn a_core_that_sleeps_gets_all_that_another_posts() {
    receive_from(1, 2, PREEMPTIONS_MAX);
}

#[test]
fn a_core_that_sleeps_gets_all_that_two_others_post() {
    receive_from(2, 1, 2);
}
