//! Which way a key goes: the lanes of a run, and the owner of every slot.
//!
//! A *lane* is a way to a server: a target, a node of a cluster, or one target reached from such
//! source ports that a certain core takes the connection. Without steering every lane takes every
//! key. With it, every slot has one lane, and every worker has its own connections on every lane.
//!
//! - *Core ports*: one target is asked for `CLUSTER SLOTS`, and every node that it names is a
//!   lane (a server that announces its cores as nodes, or any Redis Cluster). Of several targets,
//!   target `i` of `n` owns the `i`-th of `n` equal ranges of the slots.
//! - *Source port*: the one target is asked how many cores it has. The kernel of a server that
//!   steers by source port gives a connection from port `p` to core `(p >> 1) mod cores`; so
//!   connections for core `c` are bound to such ports, and the server is asked which core it was.
//!
//! Cost per request: the slot of the key, a CRC16 of its text (some 20 ns for 16 bytes).

use std::sync::atomic::{AtomicU64, Ordering};

use pinion_router::{CoreCount, CoreIndex, SLOT_COUNT, Slot, core_of_slot, slot};

use crate::error::Error;
use crate::rng::mix64;

/// Local ports that are tried for a connection before any is taken.
pub(crate) const PORTS_TRIED_MAX: usize = 16;
/// The range of local ports where the system does not say.
const PORTS_USUAL: (u16, u16) = (32_768, 60_999);

/// The owner of every slot.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    lanes: usize,
    lane_of_slot: Vec<u16>,
}

impl Placement {
    /// Every lane owns a range, all of them alike, as the cores of a node do.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are more lanes than slots.
    pub(crate) fn even(lanes: usize) -> Result<Placement, Error> {
        let cores = CoreCount::new(lanes)
            .map_err(|_| Error::Usage(format!("--steer: {lanes} owners are too many")))?;
        let lane_of_slot = Slot::all().map(|slot| core_of_slot(slot, cores).index() as u16);
        Ok(Placement { lanes, lane_of_slot: lane_of_slot.collect() })
    }

    /// Ranges of slots (both ends included), each with its lane.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub(crate) fn of_ranges(lanes: usize, ranges: &[(u16, u16, u16)]) -> Result<Placement, String> {
        let mut owners: Vec<Option<u16>> = vec![None; usize::from(SLOT_COUNT)];
        for &(first, last, lane) in ranges {
            let range = usize::from(first)..=usize::from(last);
            let Some(slots) = owners.get_mut(range).filter(|slots| !slots.is_empty()) else {
                return Err(format!("slots {first} to {last} are no range"));
            };
            slots.fill(Some(lane));
        }
        let lane_of_slot: Option<Vec<u16>> = owners.iter().copied().collect();
        match lane_of_slot {
            Some(lane_of_slot) => Ok(Placement { lanes, lane_of_slot }),
            None => {
                let without = owners.iter().filter(|owner| owner.is_none()).count();
                Err(format!("{without} slots have no owner"))
            }
        }
    }

    /// Number of lanes.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// The lane of a key.
    #[inline]
    pub(crate) fn lane(&self, key: &[u8]) -> usize {
        usize::from(self.lane_of_slot[usize::from(slot(key).number())])
    }
}

/// The core that a connection shall reach, of how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    /// The core.
    pub(crate) core: CoreIndex,
    /// All cores of the server.
    pub(crate) cores: CoreCount,
}

impl Aim {
    /// Local ports that lead to the core, [`PORTS_TRIED_MAX`] of them, from a random one on.
    pub(crate) fn ports(self) -> impl Iterator<Item = u16> {
        static DRAWS: AtomicU64 = AtomicU64::new(0);
        let draw = DRAWS.fetch_add(1, Ordering::Relaxed);
        let random =
            mix64(draw ^ (u64::from(std::process::id()) << 32) ^ crate::sys::monotonic_ns());
        self.ports_from(random, port_range())
    }

    fn ports_from(self, random: u64, (low, high): (u16, u16)) -> impl Iterator<Item = u16> {
        // A port is 2 * (turn * cores + core), plus 0 or 1.
        let step = 2 * u32::from(self.cores.count());
        let offset = 2 * self.core.index() as u32 + (random >> 63) as u32;
        let first = u32::from(low).saturating_sub(offset).div_ceil(step);
        let turns = match (u32::from(high) + 1).saturating_sub(offset).div_ceil(step) {
            end if end > first => end - first,
            _ => 0,
        };
        let start = if turns > 0 { (random % u64::from(turns)) as u32 } else { 0 };
        let tried = (turns as usize).min(PORTS_TRIED_MAX) as u32;
        (0..tried).map(move |at| {
            let turn = first + (start + at) % turns;
            (turn * step + offset) as u16
        })
    }
}

/// The range that the system takes local ports from.
fn port_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = text.ok().and_then(|text| {
        let mut words = text.split_whitespace().map_while(|word| word.parse().ok());
        Some((words.next()?, words.next()?))
    });
    range.filter(|(low, high)| low < high).unwrap_or(PORTS_USUAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinion_router::{core_of_key, core_of_source_port};

    #[test]
    fn an_even_placement_is_that_of_the_cores() {
        for lanes in [1, 2, 3, 7, 64] {
            let placement = Placement::even(lanes).expect("few");
            let cores = CoreCount::new(lanes).expect("few");
            for number in 0..2000 {
                let key = format!("key:{number}");
                let core = core_of_key(key.as_bytes(), cores).index();
                assert_eq!(placement.lane(key.as_bytes()), core);
            }
        }
        assert!(Placement::even(20_000).is_err());
    }

    #[test]
    fn ranges_must_cover_every_slot() {
        let whole = [(0, 99, 1), (8000, 16_383, 0), (100, 7999, 2)];
        let placement = Placement::of_ranges(3, &whole).expect("all of them");
        // "foo" has slot 12182 (Redis Cluster's specification has this example).
        assert_eq!((placement.lane(b"foo"), placement.lanes()), (0, 3));
        let part = Placement::of_ranges(3, &whole[..2]).expect_err("a hole");
        assert!(part.contains("7900 slots"), "{part}");
        assert!(Placement::of_ranges(1, &[(5, 4, 0)]).is_err());
        assert!(Placement::of_ranges(1, &[(0, 16_384, 0)]).is_err());
    }

    #[test]
    fn ports_lead_to_the_core_and_stay_in_the_range() {
        let mut rng = crate::rng::Rng::new(3, 0);
        for cores in [1_u16, 2, 3, 8, 96, 1000] {
            let count = CoreCount::new(usize::from(cores)).expect("few");
            let mut parities = [0; 2];
            for core in (0..cores).step_by(usize::from(cores / 8).max(1)) {
                let aim = Aim { core: CoreIndex::new(core), cores: count };
                for _ in 0..50 {
                    let ports: Vec<u16> =
                        aim.ports_from(rng.next_u64(), (32_768, 60_999)).collect();
                    let turns = (60_999 - 32_768) / (2 * usize::from(cores));
                    assert!(ports.len() >= turns.min(PORTS_TRIED_MAX) && !ports.is_empty());
                    for &port in &ports {
                        assert!((32_768..=60_999).contains(&port), "{port}");
                        assert_eq!(core_of_source_port(port, count), aim.core, "{port}");
                    }
                    let distinct: std::collections::HashSet<_> = ports.iter().collect();
                    assert_eq!(distinct.len(), ports.len());
                    parities[usize::from(ports[0] % 2)] += 1;
                }
            }
            assert!(parities[0] > 0 && parities[1] > 0, "{parities:?}");
        }
        let many = CoreCount::new(16_384).expect("the most");
        let aim = Aim { core: CoreIndex::new(9), cores: many };
        assert_eq!(aim.ports_from(7, (100, 200)).count(), 0, "no such port");
        assert!(aim.ports().count() <= PORTS_TRIED_MAX);
    }
}
