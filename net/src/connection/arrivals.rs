//! When the bytes came that a connection has received and not executed: for `--request-age`.
//!
//! Input is a queue: bytes are added at its end and executed from its front. So a byte is named by
//! how many came behind it, and what is taken from the front changes nothing here.
//!
//! - A1. Marks are in the order of arrival, and the last one ends with the input.
//! - A2. Bytes that came within one part in [`PARTS`] of the age have one mark, with the time of
//!   the latest of them. So a byte never seems older than it is, and younger by that part at most.
//! - A3. There are [`MARKS_MAX`] marks at most: when there is no place for another, the two oldest
//!   become one. Unless the age has been raised, all their bytes are too old anyway.
//!
//! Cost: a few comparisons for each receive whose bytes stay, as many for a question; 250 bytes,
//! which are there only while bytes wait and an age is set.

/// Marks in the time that a request may wait.
const PARTS: u64 = 8;
/// See A3: those of the age, one that has begun before it, and one of what is too old.
const MARKS_MAX: usize = PARTS as usize + 2;

/// Bytes that came within a short time.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    bytes: usize,
    first_ms: u64,
    last_ms: u64,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Arrivals {
    marks: [Mark; MARKS_MAX],
    count: usize,
}

impl Arrivals {
    /// Notes `bytes` that came at `now_ms` behind `kept_bytes` of the input.
    pub fn push(&mut self, bytes: usize, kept_bytes: usize, now_ms: u64, age_ms: u64) {
        self.forget_executed(kept_bytes);
        let width_ms = (age_ms / PARTS).max(1);
        if let Some(last) = self.marks[..self.count].last_mut()
            && now_ms < last.first_ms + width_ms
        {
            last.bytes += bytes;
            last.last_ms = now_ms;
            return;
        }
        if self.count == MARKS_MAX {
            self.marks[1].bytes += self.marks[0].bytes;
            self.forget(1);
        }
        self.marks[self.count] = Mark { bytes, first_ms: now_ms, last_ms: now_ms };
        self.count += 1;
    }

    /// Cuts the marks down to what the input still holds.
    fn forget_executed(&mut self, kept_bytes: usize) {
        let (mut executed, mut gone) = (0, 0);
        let marked: usize = self.marks[..self.count].iter().map(|mark| mark.bytes).sum();
        if marked > kept_bytes {
            executed = marked - kept_bytes;
        }
        for mark in &mut self.marks[..self.count] {
            if mark.bytes > executed {
                mark.bytes -= executed;
                break;
            }
            executed -= mark.bytes;
            gone += 1;
        }
        self.forget(gone);
    }

    fn forget(&mut self, oldest: usize) {
        self.marks.copy_within(oldest..self.count, 0);
        self.count -= oldest;
    }

    /// When the byte came, at the latest, that has so many behind it in the input; `None` if
    /// nothing was noted. Bytes before the first that were noted came no later than that one.
    pub fn of(&self, bytes_behind: usize) -> Option<u64> {
        let mut bytes = 0;
        let marks = &self.marks[..self.count];
        let covers = |mark: &&Mark| {
            bytes += mark.bytes;
            bytes > bytes_behind
        };
        let found = marks.iter().rev().find(covers).or(marks.first());
        found.map(|mark| mark.last_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn a_byte_is_as_old_as_what_came_with_it() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.of(0), None);
        arrivals.push(10, 0, 1_000, 800);
        arrivals.push(5, 10, 1_099, 800);
        arrivals.push(20, 15, 1_100, 800);
        assert_eq!((arrivals.of(0), arrivals.of(19)), (Some(1_100), Some(1_100)));
        assert_eq!((arrivals.of(20), arrivals.of(34)), (Some(1_099), Some(1_099)));
        assert_eq!(arrivals.of(1_000), Some(1_099), "what stood before was there by then");
        // All but 3 bytes were executed.
        arrivals.push(1, 3, 1_900, 800);
        assert_eq!((arrivals.of(0), arrivals.of(1)), (Some(1_900), Some(1_100)));
        assert_eq!((arrivals.count, arrivals.of(3)), (2, Some(1_100)));
        arrivals.push(7, 0, 2_500, 800);
        assert_eq!((arrivals.count, arrivals.of(6)), (1, Some(2_500)));
    }

    /// Against a queue that remembers every byte: never older, and younger by a part of the age
    /// at most while the byte is young enough.
    #[test]
    fn no_byte_seems_older_than_it_is() {
        const AGE_MS: u64 = 400;
        let seed = 0x5EED_A6E5_u64;
        println!("seed {seed}");
        let mut state = seed;
        let mut random = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % end
        };
        let (mut arrivals, mut input, mut now_ms) = (Arrivals::default(), VecDeque::new(), 1);
        for _ in 0..20_000 {
            now_ms += random(40) * random(3);
            let taken = random(input.len() as u64 + 1) * random(2);
            input.drain(..taken as usize);
            let bytes = random(20) as usize + 1;
            arrivals.push(bytes, input.len(), now_ms, AGE_MS);
            input.extend(std::iter::repeat_n(now_ms, bytes));
            assert!(arrivals.count <= MARKS_MAX);
            let behind = random(input.len() as u64) as usize;
            let came_ms = input[input.len() - 1 - behind];
            let told_ms = arrivals.of(behind).expect("it was noted");
            assert!(told_ms >= came_ms, "{told_ms} for {came_ms} at {now_ms}");
            if now_ms - came_ms <= AGE_MS {
                assert!(told_ms - came_ms < AGE_MS / PARTS, "{told_ms} for {came_ms} at {now_ms}");
            } else {
                let limit_ms = AGE_MS + AGE_MS / PARTS;
                let is_old = now_ms - told_ms > AGE_MS;
                assert!(is_old || now_ms - came_ms <= limit_ms, "{told_ms}, {came_ms}, {now_ms}");
            }
        }
    }
}
