//! An honest client that checks every value that it alone writes, through both protocols.

use std::time::{Duration, Instant};

use super::support::random::Random;
use super::support::{Client, Reply, ok};

/// A client that knows what it has written.
pub(super) struct Witness {
    pub(super) resp: Client,
    pub(super) memcached: Client,
    pub(super) random: Random,
    /// The number of the last value of each key; `None` after a delete.
    pub(super) written: Vec<Option<u64>>,
    pub(super) steps: u64,
}

impl Witness {
    /// A value that only this key has, at this step.
    fn value(key: usize, step: u64) -> Vec<u8> {
        let mut random = Random::new(step << 16 | key as u64);
        let length = if random.one_in(50) { 300_000 } else { random.below(3_000) };
        let text = format!("{key}/{step}/");
        text.bytes().cycle().take(length).collect()
    }

    pub(super) fn step(&mut self) {
        let key = self.random.below(self.written.len());
        let name = format!("own:{key}");
        self.steps += 1;
        match self.random.below(5) {
            0 | 1 => {
                let value = Witness::value(key, self.steps);
                if self.random.one_in(2) {
                    let reply = self.resp.call_bytes(&[b"SET", name.as_bytes(), &value]);
                    assert_eq!(reply, ok());
                } else {
                    let line = format!("set {name} 0 0 {}\r\n", value.len());
                    let request = [line.as_bytes(), &value, b"\r\n"].concat();
                    assert_eq!(self.memcached.ask(request), "STORED\r\n");
                }
                self.written[key] = Some(self.steps);
            }
            2 if self.random.one_in(4) => {
                let deleted = i64::from(self.written[key].take().is_some());
                assert_eq!(self.resp.call(&["DEL", &name]), Reply::Integer(deleted));
            }
            3 => {
                let answer = self.memcached.ask(format!("get {name}\r\n"));
                let expected = match self.written[key] {
                    None => "END\r\n".to_owned(),
                    Some(step) => {
                        let value = String::from_utf8(Witness::value(key, step)).expect("text");
                        format!("VALUE {name} 0 {}\r\n{value}\r\nEND\r\n", value.len())
                    }
                };
                assert!(answer == expected, "{name}: step {:?} is lost", self.written[key]);
            }
            _ => {
                let expected = self.written[key].map(|step| Witness::value(key, step));
                let expected = expected.map_or(Reply::Null, Reply::Bulk);
                let reply = self.resp.call(&["GET", &name]);
                assert!(reply == expected, "{name}: step {:?} is lost", self.written[key]);
            }
        }
    }

    /// Steps at a fixed rate for as long as `goes_on` says. What each took, in microseconds: from
    /// when it was meant to begin, so that a stall shows in all that it has held up, and from when
    /// it did.
    pub(super) fn steps_at_rate(
        &mut self,
        per_second: u32,
        goes_on: impl Fn(Duration) -> bool,
    ) -> (Vec<u128>, Vec<u128>) {
        let (start, mut meant_us, mut begun_us) = (Instant::now(), Vec::new(), Vec::new());
        while goes_on(start.elapsed()) {
            let meant = start + Duration::from_secs(1) * meant_us.len() as u32 / per_second;
            std::thread::sleep(meant.saturating_duration_since(Instant::now()));
            let begun = Instant::now();
            self.step();
            meant_us.push(meant.elapsed().as_micros());
            begun_us.push(begun.elapsed().as_micros());
        }
        (meant_us, begun_us)
    }
}

/// Quantiles for people.
pub(super) fn percentiles(mut steps_us: Vec<u128>) -> String {
    steps_us.sort_unstable();
    let last = steps_us.len() - 1;
    let at = |permille: usize| steps_us[last * permille / 1000];
    format!("p50 {} us, p99 {} us, p99.9 {} us, max {} us", at(500), at(990), at(999), at(1000))
}
