//! Named workloads: what a preset sets, and what a flag beside it overrides.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{KeyDist, KeySize, Mix, Multiget, RunConfig, Ttl, ValueSize};

/// A named workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// 95 reads to 5 writes, Zipf, values of some hundred bytes.
    ReadHeavy,
    /// Sessions: read, touched and rewritten, with half an hour to live.
    Session,
    /// As many writes as reads.
    WriteHeavy,
    /// Facebook's ETC pool: 30 reads to a write, its keys, mostly small values with a long tail,
    /// read through, several keys at a time.
    Etc,
    /// Zipf with a fifth of the requests walking through all keys.
    ScanPolluted,
    /// A fifth of the load on one key, the worst case for a shard per core.
    HotKey,
}

impl Preset {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Preset); 6] = [
        ("read-heavy", Preset::ReadHeavy),
        ("session", Preset::Session),
        ("write-heavy", Preset::WriteHeavy),
        ("etc", Preset::Etc),
        ("scan-polluted", Preset::ScanPolluted),
        ("hot-key", Preset::HotKey),
    ];

    /// Sets what the workload consists of; everything else in `config` stays.
    pub fn apply(self, config: &mut RunConfig) {
        let zipf = KeyDist::Zipf(0.99);
        let mix = |get, set, touch| Mix { get, set, touch, ..Mix::default() };
        (config.key_dist, config.mix, config.value_size) = match self {
            Preset::ReadHeavy => {
                (zipf, mix(95, 5, 0), ValueSize::Lognormal { median: 250.0, sigma: 0.7 })
            }
            Preset::Session => (
                KeyDist::Zipf(0.7),
                mix(70, 20, 10),
                ValueSize::Lognormal { median: 800.0, sigma: 0.5 },
            ),
            Preset::WriteHeavy => (zipf, mix(50, 50, 0), ValueSize::range(64, 1024)),
            Preset::Etc => (zipf, mix(30, 1, 0), ValueSize::Etc),
            Preset::ScanPolluted => (
                KeyDist::Scan { s: 0.99, share: 0.2 },
                mix(9, 1, 0),
                ValueSize::Lognormal { median: 250.0, sigma: 0.7 },
            ),
            Preset::HotKey => (zipf, mix(9, 1, 0), ValueSize::fixed(64)),
        };
        match self {
            Preset::Session => config.ttl = Some(Ttl::fixed(Duration::from_secs(1800))),
            Preset::Etc => {
                config.read_through = true;
                config.key_size = KeySize::Etc;
                config.multiget = Multiget { keys_min: 1, keys_max: 4 };
            }
            Preset::ScanPolluted => config.read_through = true,
            Preset::HotKey => config.hot_one = 0.2,
            Preset::ReadHeavy | Preset::WriteHeavy => {}
        }
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Preset, String> {
        let found = Preset::ALL.iter().find(|(name, _)| *name == text);
        let names = || Preset::ALL.map(|(name, _)| name).join(", ");
        found.map(|&(_, preset)| preset).ok_or_else(|| format!("expected one of {}", names()))
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Preset::ALL.iter().find(|(_, preset)| preset == self).map_or("", |(n, _)| n);
        f.write_str(name)
    }
}
