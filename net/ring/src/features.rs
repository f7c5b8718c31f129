//! Which optional io_uring features a ring uses, and how one hides them.

use std::fmt;
use std::str::FromStr;

/// An optional feature of the data ring, with the kernel that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Feature {
    /// `IORING_SETUP_SUBMIT_ALL` (5.18): one bad entry does not stop a batch.
    SubmitAll = 1 << 0,
    /// `IORING_SETUP_COOP_TASKRUN` (5.19): no interrupt of user code to run completions.
    CoopTaskrun = 1 << 1,
    /// `IORING_SETUP_TASKRUN_FLAG` (5.19): pending completions show in a flag in shared memory.
    TaskrunFlag = 1 << 2,
    /// `IORING_SETUP_SINGLE_ISSUER` (6.0): only one thread submits.
    SingleIssuer = 1 << 3,
    /// `IORING_SETUP_DEFER_TASKRUN` (6.1): completions run only when this thread asks for events.
    DeferTaskrun = 1 << 4,
    /// `IORING_SETUP_NO_SQARRAY` (6.6): no indirection in the submission queue.
    NoSqarray = 1 << 5,
    /// `IORING_REGISTER_RING_FDS` (5.18): `io_uring_enter` without a file table look-up.
    RegisteredFd = 1 << 6,
    /// Multishot accept (5.19): one request accepts every connection.
    MultishotAccept = 1 << 7,
    /// Multishot receive (6.0): one request receives until the connection ends.
    MultishotReceive = 1 << 8,
    /// `IORING_REGISTER_PBUF_RING` (5.19): buffers are given back through shared memory. Without
    /// it they are given back by `IORING_OP_PROVIDE_BUFFERS` requests.
    BufferRing = 1 << 9,
}

impl Feature {
    /// All features, in the order of their bits.
    pub const ALL: [Feature; 10] = [
        Feature::SubmitAll,
        Feature::CoopTaskrun,
        Feature::TaskrunFlag,
        Feature::SingleIssuer,
        Feature::DeferTaskrun,
        Feature::NoSqarray,
        Feature::RegisteredFd,
        Feature::MultishotAccept,
        Feature::MultishotReceive,
        Feature::BufferRing,
    ];

    /// The name used by flags and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Feature::SubmitAll => "submit-all",
            Feature::CoopTaskrun => "coop-taskrun",
            Feature::TaskrunFlag => "taskrun-flag",
            Feature::SingleIssuer => "single-issuer",
            Feature::DeferTaskrun => "defer-taskrun",
            Feature::NoSqarray => "no-sqarray",
            Feature::RegisteredFd => "registered-fd",
            Feature::MultishotAccept => "multishot-accept",
            Feature::MultishotReceive => "multishot-receive",
            Feature::BufferRing => "buffer-ring",
        }
    }
}

/// A set of [`Feature`]s.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FeatureSet(u16);

impl FeatureSet {
    /// No feature.
    pub const NONE: FeatureSet = FeatureSet(0);

    /// Every feature.
    pub const fn all() -> FeatureSet {
        let mut bits = 0;
        let mut i = 0;
        while i < Feature::ALL.len() {
            bits |= Feature::ALL[i] as u16;
            i += 1;
        }
        FeatureSet(bits)
    }

    /// Whether the set has the feature.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & feature as u16 != 0
    }

    /// Adds a feature.
    pub const fn insert(&mut self, feature: Feature) {
        self.0 |= feature as u16;
    }

    /// Takes a feature away.
    pub const fn remove(&mut self, feature: Feature) {
        self.0 &= !(feature as u16);
    }

    /// What is in `self` and not in `hidden`, less whatever depends on something hidden: the
    /// kernel takes DEFER_TASKRUN only with SINGLE_ISSUER, and TASKRUN_FLAG only with one of the
    /// two cooperative modes.
    #[must_use]
    pub fn without(self, hidden: FeatureSet) -> FeatureSet {
        let mut left = FeatureSet(self.0 & !hidden.0);
        if !left.has(Feature::SingleIssuer) {
            left.remove(Feature::DeferTaskrun);
        }
        if !left.has(Feature::DeferTaskrun) && !left.has(Feature::CoopTaskrun) {
            left.remove(Feature::TaskrunFlag);
        }
        left
    }
}

impl fmt::Display for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for feature in Feature::ALL.into_iter().filter(|&feature| self.has(feature)) {
            write!(f, "{separator}{}", feature.name())?;
            separator = ",";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl fmt::Debug for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A feature name that is not known.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownFeature(String);

impl fmt::Display for UnknownFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown ring feature '{}'; known are {}", self.0, FeatureSet::all())
    }
}

impl std::error::Error for UnknownFeature {}

impl FromStr for FeatureSet {
    type Err = UnknownFeature;

    /// Parses names separated by commas; the empty text is the empty set, `all` is every feature.
    fn from_str(text: &str) -> Result<FeatureSet, UnknownFeature> {
        let mut set = FeatureSet::NONE;
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "all" {
                set = FeatureSet::all();
                continue;
            }
            match Feature::ALL.into_iter().find(|feature| feature.name() == name) {
                Some(feature) => set.insert(feature),
                None => return Err(UnknownFeature(name.to_owned())),
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_named() {
        assert_eq!(FeatureSet::all().to_string().parse(), Ok(FeatureSet::all()));
        assert_eq!("".parse(), Ok(FeatureSet::NONE));
        let error = "buffer-ring,warp".parse::<FeatureSet>().unwrap_err().to_string();
        assert!(error.contains("'warp'") && error.contains("multishot-receive"), "{error}");
    }

    #[test]
    fn hiding_a_feature_hides_what_needs_it() {
        let hide = |names: &str| FeatureSet::all().without(names.parse().unwrap());
        assert!(!hide("single-issuer").has(Feature::DeferTaskrun));
        assert!(hide("single-issuer").has(Feature::TaskrunFlag));
        assert!(!hide("defer-taskrun,coop-taskrun").has(Feature::TaskrunFlag));
        assert_eq!(hide("all"), FeatureSet::NONE);
    }
}
