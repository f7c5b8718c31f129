//! The log by itself: appending, passing, epochs, pages.

use super::{Cleaning, Log, NO_SEGMENT, State, Tail};
use crate::config::Cost;
use crate::item::{Header, StoredDeadline, Version};
use crate::policy::Queue;

const SEGMENT_BYTES: usize = 4 << 10;
const PAGE_BYTES: usize = 1 << 10;

fn log(segments: usize) -> Log {
    Log::new(segments, SEGMENT_BYTES, Cost::Bytes, false).unwrap()
}

fn header(value_bytes: usize, version: Version) -> Header {
    Header {
        dead: false,
        paged: value_bytes > PAGE_BYTES,
        key_bytes: 3,
        value_bytes,
        version,
        flags: 0,
        deadline: StoredDeadline::None,
        plane: false,
        space: 0,
        marks: crate::request::Marks::default(),
    }
}

fn append(log: &mut Log, header: &Header) -> u64 {
    let item_bytes = log.item_bytes(header);
    assert!(log.open_pages(header.pages(PAGE_BYTES)));
    assert!(log.open_head(Queue::Window, item_bytes));
    let offset = log.append(Queue::Window, item_bytes, log.cost_of(header));
    header.encode(log.at_mut(offset, item_bytes));
    if header.paged {
        let value = vec![header.version.number() as u8; header.value_bytes];
        log.write_pages(log.page_ids_offset(offset, header), &value);
    }
    offset
}

fn check(log: &Log) {
    log.check(|offset, header| Ok(!header.dead && !log.is_flushed(offset, header))).unwrap();
}

#[test]
fn items_stay_within_segments_and_come_back_in_order() {
    let mut log = log(8);
    let sizes = [100, 1_000, 900, 1_000, 1_000, 500, 1_000, 17];
    let offsets: Vec<u64> = sizes
        .iter()
        .enumerate()
        .map(|(n, &bytes)| append(&mut log, &header(bytes, Version::Counted(n as u64 + 1))))
        .collect();
    assert_eq!(log.segments_in_use(), 2);
    check(&log);
    let mut passed = Vec::new();
    loop {
        match log.tail(Queue::Window) {
            Tail::Empty => break,
            Tail::SegmentFreed => {}
            Tail::Item(offset, header) => {
                passed.push(offset);
                log.bury(offset, &header, State::Live);
                log.pass_dead(offset, &header);
            }
        }
        check(&log);
    }
    assert_eq!(passed, offsets);
    assert_eq!((log.segments_in_use(), log.cost(), log.live_items()), (0, 0, 0));
}

#[test]
fn the_reservation_ends_with_an_answer() {
    let mut log = log(2);
    let big = header(1_000, Version::Counted(1));
    for _ in 0..8 {
        append(&mut log, &big);
    }
    assert!(!log.open_head(Queue::Window, 1_012));
    assert!(!log.open_pages(1));
}

#[test]
fn a_copy_keeps_the_deadline() {
    let mut log = log(4);
    for deadline_ms in [5_000, 60 * 86_400_000] {
        let deadline = StoredDeadline::shortest(Some(deadline_ms), 1_000);
        append(&mut log, &Header { deadline, ..header(10, Version::Counted(1)) });
        let Tail::Item(offset, found) = log.tail(Queue::Window) else {
            panic!("an item is at the tail")
        };
        let moved = advance(&mut log, Queue::Window, Queue::Protected);
        assert_ne!(moved, offset);
        let header = log.header(moved);
        assert_eq!((header, header.deadline), (found, deadline));
        assert_eq!(log.state(moved, &header, deadline_ms - 1), State::Live);
        assert_eq!(log.state(moved, &header, deadline_ms), State::Expired);
        check(&log);
    }
}

#[test]
fn a_flush_spares_what_comes_after_it_wide_versions_included() {
    let mut log = log(8);
    let old = append(&mut log, &header(10, Version::Counted(1)));
    let old_wide = append(&mut log, &header(10, Version::Wide(u64::MAX)));
    let old_paged = append(&mut log, &header(5_000, Version::Counted(2)));
    log.flush(3);
    assert_eq!((log.live_items(), log.live_bytes()), (0, 0));
    let new = append(&mut log, &header(10, Version::Counted(4)));
    let new_wide = append(&mut log, &header(10, Version::Wide(1)));
    for (offset, state) in [
        (old, State::Flushed),
        (old_wide, State::Flushed),
        (old_paged, State::Flushed),
        (new, State::Live),
        (new_wide, State::Live),
    ] {
        assert_eq!(log.state(offset, &log.header(offset), 0), state);
    }
    check(&log);
    assert!(log.tail_is_flushed(Queue::Window));
    while log.tail_is_flushed(Queue::Window) {
        if let Tail::Item(offset, header) = log.tail(Queue::Window) {
            log.bury(offset, &header, State::Flushed);
            log.pass_dead(offset, &header);
        }
    }
    check(&log);
    assert_eq!((log.page_bytes_used(), log.dead_bytes(), log.live_items()), (0, 0, 2));
}

#[test]
fn pages_come_from_the_fullest_segment_and_empty_segments_go_back() {
    let mut log = log(16);
    let paged: Vec<u64> =
        (1..=4).map(|n| append(&mut log, &header(3 * PAGE_BYTES, Version::Counted(n)))).collect();
    assert_eq!(log.segments_in_use(), 1 + 3);
    assert_eq!(log.page_bytes_used(), 12 * PAGE_BYTES as u64);
    // The second item has pages in the first and the second segment.
    log.bury(paged[1], &log.header(paged[1]), State::Live);
    check(&log);
    let refill = append(&mut log, &header(PAGE_BYTES + 1, Version::Counted(9)));
    assert_eq!(log.segments_in_use(), 1 + 3);
    check(&log);
    for &offset in [paged[0], paged[2], paged[3], refill].iter() {
        log.bury(offset, &log.header(offset), State::Live);
        check(&log);
    }
    assert_eq!((log.segments_in_use(), log.page_bytes_used()), (1, 0));
    assert!(log.page_lists.iter().all(|&first| first == NO_SEGMENT));
}

#[test]
fn gathering_empties_sparse_segments() {
    let mut log = log(32);
    // Segments of four pages, one item each; then three items of four go.
    let items: Vec<u64> = (0..32)
        .map(|n| append(&mut log, &header(PAGE_BYTES + 1, Version::Counted(n + 1))))
        .collect();
    for (n, &offset) in items.iter().enumerate() {
        if n % 2 == 1 {
            log.bury(offset, &log.header(offset), State::Live);
        }
    }
    assert!(log.pages_are_sparse());
    let before = log.segments_in_use();
    for &offset in items.iter().step_by(2) {
        let header = log.header(offset);
        assert!(log.gather_pages(offset, &header, 1 << 20) <= 2 * PAGE_BYTES);
        check(&log);
        let ids_offset = log.page_ids_offset(offset, &header);
        for index in 0..2 {
            let start = log.page_id(ids_offset, index) as usize * PAGE_BYTES;
            let count = if index == 0 { PAGE_BYTES } else { 1 };
            let page = &log.memory()[start..start + count];
            assert!(page.iter().all(|&byte| byte == header.version.number() as u8));
        }
    }
    assert!(log.segments_in_use() <= before - 7, "{before} then {}", log.segments_in_use());
}

/// Passes the item at the tail of a queue by a copy to the head of another.
fn advance(log: &mut Log, from: Queue, to: Queue) -> u64 {
    let Tail::Item(offset, header) = log.tail(from) else { panic!("{from:?} has an item") };
    assert!(log.open_head(to, log.item_bytes(&header)));
    log.pass_by_copy(offset, &header, to)
}

#[test]
fn items_change_queues_one_by_one_and_by_the_segment() {
    let mut log = log(16);
    for n in 1..=16 {
        append(&mut log, &header(1_000, Version::Counted(n)));
    }
    // Four items to a segment.
    assert!(!log.relabel_tail(Queue::Window, Queue::Probation, 4 * 1_013 - 1));
    assert!(log.relabel_tail(Queue::Window, Queue::Probation, 4 * 1_013));
    check(&log);
    let moved = advance(&mut log, Queue::Window, Queue::Protected);
    assert_eq!(log.queue_of(moved), Queue::Protected);
    assert_eq!(log.queue_cost(Queue::Protected), 1_013);
    assert!(!log.relabel_tail(Queue::Window, Queue::Probation, u64::MAX), "partly passed");
    for _ in 0..3 {
        advance(&mut log, Queue::Window, Queue::Probation);
    }
    assert_eq!(log.tail(Queue::Window), Tail::SegmentFreed);
    assert!(log.relabel_tail(Queue::Window, Queue::Probation, u64::MAX));
    assert!(!log.relabel_tail(Queue::Window, Queue::Probation, u64::MAX), "the head stays");
    check(&log);
    let costs = Queue::ALL.map(|queue| log.queue_cost(queue) / 1_013);
    assert_eq!(costs, [4, 11, 1]);
    assert!(log.head_left_bytes(Queue::Probation) > 1_000, "the head with room is still the head");
    let mut versions = Vec::new();
    while let Tail::Item(_, header) = log.tail(Queue::Probation) {
        versions.push(header.version.number());
        advance(&mut log, Queue::Probation, Queue::Protected);
        log.tail(Queue::Probation);
        check(&log);
    }
    assert_eq!(versions, [1, 2, 3, 4, 9, 10, 11, 12, 6, 7, 8]);
}

#[test]
fn the_cleaner_closes_holes_and_keeps_the_order() {
    let mut log = log(64);
    let items: Vec<u64> =
        (0..80).map(|n| append(&mut log, &header(500, Version::Counted(n + 1)))).collect();
    for (n, &offset) in items.iter().enumerate() {
        if n % 2 == 0 {
            log.bury(offset, &log.header(offset), State::Live);
        }
    }
    let before = log.segments_in_use();
    loop {
        match log.clean(true) {
            Cleaning::Nothing => break,
            Cleaning::Moved => {}
            Cleaning::Item(offset, header) if header.dead => log.pass_dead(offset, &header),
            Cleaning::Item(offset, header) => {
                log.clean_copy(offset, &header, true).unwrap();
            }
        }
        check(&log);
        if log.dead_bytes() <= 500 * 4 {
            break;
        }
    }
    assert!(log.segments_in_use() <= before / 2 + 2, "{before}, {}", log.segments_in_use());
    let mut versions = Vec::new();
    loop {
        match log.tail(Queue::Window) {
            Tail::Empty => break,
            Tail::SegmentFreed => {}
            Tail::Item(offset, header) => {
                if !header.dead {
                    versions.push(header.version.number());
                    log.bury(offset, &header, State::Live);
                }
                log.pass_dead(offset, &header);
            }
        }
        check(&log);
    }
    assert_eq!(versions, (0..80).filter(|n| n % 2 == 1).map(|n| n + 1).collect::<Vec<u64>>());
}
