//! What the budget grants at which fill.

use super::*;

const LIMIT: usize = 16 << 20;

fn with_held(held_bytes: usize) -> Budget {
    Budget { held_bytes, ..Budget::new(LIMIT) }
}

#[test]
fn those_with_the_most_output_stop_first() {
    // 600 clients that take a reply of 32 KiB whenever they may, and read nothing.
    let (mut outputs, reply_bytes) = (vec![0; 600], 32 << 10);
    let mut grown = true;
    while std::mem::take(&mut grown) {
        for number in 0..outputs.len() {
            let budget = with_held(outputs.iter().sum());
            if budget.may_answer(outputs[number]) {
                outputs[number] += reply_bytes;
                grown = true;
            }
        }
    }
    let held: usize = outputs.iter().sum();
    assert!(held <= LIMIT + reply_bytes, "{held}");
    let (least, most) = (outputs.iter().min(), outputs.iter().max());
    assert!(most <= Some(&(2 * reply_bytes)), "{most:?} beside {least:?}");
}

#[test]
fn each_part_is_kept_for_those_that_it_is_for() {
    let mut idle = Connection::new((), Key::new(0, 0), 1, Protocol::Resp);
    let mut paused = Connection::new((), Key::new(1, 0), 2, Protocol::Resp);
    paused.paused = true;
    let sixteenth = LIMIT / 16;
    let replies_full = with_held(sixteenth * REPLIES);
    assert!(!replies_full.may_answer(SMALL_BYTES + 1) && replies_full.may_answer(0));
    let room = replies_full.reply_room();
    assert_eq!((room.share_bytes, room.may_wait), (SMALL_BYTES, true));
    assert!(replies_full.may_keep(&paused, sixteenth * 5));
    assert!(!replies_full.may_keep(&paused, sixteenth * 6));
    assert!(replies_full.may_keep(&idle, sixteenth * 7));
    assert!(!replies_full.may_keep(&idle, sixteenth * 8));
    let requests_full = with_held(sixteenth * REQUESTS);
    assert!(requests_full.may_keep(&paused, 100) && requests_full.may_keep(&idle, 100));
    idle.input = vec![0; SPARE_BYTES_MIN];
    assert!(!requests_full.may_keep(&idle, 1));
    assert!(requests_full.may_answer(SMALL_BYTES));
    let full = with_held(LIMIT);
    assert!(!full.may_answer(0) && !full.may_keep(&paused, 1));
    let room = with_held(0).reply_room();
    assert_eq!((room.share_bytes, room.now_bytes, room.may_wait), (LIMIT, LIMIT, false));
}

#[test]
fn a_loan_holds_replies_back_and_refuses_nobody() {
    let idle = Connection::new((), Key::new(0, 0), 1, Protocol::Resp);
    let (mut budget, free) = (with_held(LIMIT / 32), LIMIT / 8);
    budget.set_limit(LIMIT, free, free);
    assert_eq!(budget.overdraft_bytes(), 0);
    let room = budget.reply_room();
    assert_eq!((room.share_bytes, room.may_wait), (LIMIT - LIMIT / 32, false));
    assert_eq!(room.now_bytes, free / 4 * 3 - LIMIT / 32, "a larger one waits");
    budget.held_bytes = free;
    assert_eq!(budget.overdraft_bytes(), free / 2, "half of the reserve is to be made up for");
    assert!(!budget.may_answer(SMALL_BYTES + 1), "it would take from items");
    assert!(budget.may_answer(SMALL_BYTES), "that is always there");
    assert_eq!(budget.reply_room().now_bytes, SMALL_BYTES);
    assert!(!budget.may_fill(0));
    assert!(budget.may_keep(&idle, LIMIT / 4), "requests go first");
    let mut waits = Connection::new((), Key::new(1, 0), 2, Protocol::Resp);
    budget.wait(&mut waits);
    budget.set_limit(LIMIT, free, free);
    assert!(!budget.has_more(), "nothing has changed");
    budget.set_limit(LIMIT, LIMIT / 2, free);
    assert!(budget.has_more() && budget.may_answer(SMALL_BYTES + 1) && budget.may_fill(0));
}

#[test]
fn more_is_asked_for_while_replies_wait_and_the_shard_pays() {
    let (mut budget, reserve) = (with_held(0), LIMIT / 16);
    budget.set_limit(LIMIT, reserve, reserve);
    assert_eq!((budget.ask(true), budget.has_more()), (0, false), "nobody waits");
    let mut waits = Connection::new((), Key::new(1, 0), 2, Protocol::Resp);
    budget.wait(&mut waits);
    assert_eq!(budget.ask(true), reserve);
    assert!(budget.has_more());
    assert_eq!((budget.ask(false), budget.has_more()), (reserve, false), "it shrinks");
    let asked: Vec<usize> = (0..5).map(|_| budget.ask(true)).collect();
    assert_eq!(asked, [2, 4, 8, 16, 16].map(|times| times * reserve));
    assert!(!budget.has_more(), "there is no more");
    budget.set_limit(LIMIT, LIMIT, reserve);
    assert_eq!(budget.ask(true), 0, "nothing is lent");
    assert!(budget.reply_room().now_bytes == LIMIT && budget.may_answer(SMALL_BYTES + 1));
}

#[test]
fn what_connections_hold_adds_up() {
    let mut budget = with_held(0);
    let mut connection = Connection::new((), Key::new(0, 0), 1, Protocol::Memcached);
    connection.input.reserve_exact(5_000);
    connection.sending_bytes = 700;
    connection.session.name.reserve_exact(30);
    connection.session.recount();
    budget.recount(&mut connection);
    assert_eq!(budget.held_bytes, 5_730);
    budget.wait(&mut connection);
    budget.wait(&mut connection);
    assert_eq!((budget.waiting.len(), budget.unexamined), (1, 0), "it waits once");
    connection.sending_bytes = 0;
    budget.recount(&mut connection);
    assert_eq!((budget.held_bytes, budget.unexamined), (5_030, 1));
    budget.forget(&connection);
    assert_eq!(budget.held_bytes, 0);
}

#[test]
fn memory_goes_back_once_a_peak_is_long_gone() {
    let mut budget = with_held(0);
    budget.peak_since_trim_bytes = TRIM_BYTES_MIN;
    assert!(!budget.trim_is_due(100));
    assert_eq!(budget.timer_ms(), Some(100 + TRIM_AFTER_MS));
    budget.held_bytes = TRIM_BYTES_MIN / 2;
    assert!(!budget.trim_is_due(150), "it has come back");
    assert_eq!(budget.timer_ms(), None);
    budget.held_bytes = 0;
    assert!(!budget.trim_is_due(200));
    assert_eq!(budget.recent_peak_bytes(1), TRIM_BYTES_MIN);
    assert_eq!(budget.recent_peak_bytes(TRIM_BYTES_MIN + 1), TRIM_BYTES_MIN + 1);
    assert!(budget.trim_is_due(200 + TRIM_AFTER_MS));
    assert_eq!(budget.recent_peak_bytes(1), 1, "what was free is the kernel's again");
    assert!(!budget.trim_is_due(9_000) && budget.timer_ms().is_none(), "once");
}
