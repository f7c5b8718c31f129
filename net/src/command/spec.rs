//! What is known of a command beside what it does: names, arity, keys and the facts that COMMAND
//! tells. Each family declares its own list of these, as constants.

use std::iter::StepBy;
use std::ops::Range;

use super::context::{Arguments, Context, Flow};
use crate::core::Join;

/// Which cores of a server a command concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one that was asked: the command has no keys, or is about the connection.
    Here,
    /// That of its one key, which is the argument at this index.
    Key(u8),
    /// Those of its keys.
    Keys(Spread),
    /// What its subcommand says.
    Subcommand,
    /// The one that the cursor, its first argument, belongs to.
    Cursor,
    /// All of them.
    All(Join),
    /// The one that was asked, which answers for all of them by the control thread, and after what
    /// its connection has sent before.
    Survey,
    /// What DEBUG's arguments say.
    Debug,
}

/// What becomes of a command whose keys are on several cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// It cannot be executed in parts, and is refused.
    Together,
    /// It is executed in steps, with the keys of all cores reserved.
    Jointly,
    /// Each core executes it for its keys.
    Apart(Join),
}

/// One command, or a subcommand of one.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Name in lower case, at most 16 bytes; a subcommand's without its
    /// container's.
    pub name: &'static str,
    /// Number of arguments with the name (and the container's), or at least that many if negative,
    /// as Redis counts.
    pub arity: i8,
    /// Redis's flags, separated by spaces.
    pub flags: &'static str,
    /// The access control categories, separated by spaces.
    pub categories: &'static str,
    /// Redis's hints to proxies and clients, separated by spaces.
    pub tips: &'static str,
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// The Redis version that brought it.
    pub since: &'static str,
    /// What it costs here.
    pub cost: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What it contains, if it is a container.
    pub subcommands: &'static [Spec],
    /// Its function. A container's is called without a subcommand only.
    pub run: Run,
    /// The flag `write`: it may change items.
    pub is_write: bool,
    /// The flag `no_auth`: it needs no password.
    pub is_open: bool,
    /// The flag `no_multi`: it is not queued in a transaction, but refused.
    pub is_single: bool,
    /// Whether its cost is not constant and Redis does not call it fast: its executions are timed
    /// one by one.
    pub is_timed: bool,
    /// Which cores it concerns. Follows from keys and hints, unless it is set; the table of all
    /// commands gives it, but for subcommands: see [`Spec::find_reach`].
    pub reach: Reach,
    is_reach_set: bool,
    /// Its place among all commands, subcommands behind their containers: what statistics are
    /// kept under. The table of all commands gives it.
    pub number: u16,
}

/// A command's function.
pub(super) type Run = fn(&mut Context<'_>, &Arguments<'_>) -> Flow;

/// Where keys of a command are, and what it does with them: a range from a fixed index.
#[derive(Debug)]
pub struct KeySpec {
    /// Redis's flags, separated by spaces.
    pub flags: &'static str,
    /// Index of the first key; the name has index 0.
    pub first: u8,
    /// How far behind the first the last is; negative: counted from the last argument, which is
    /// -1.
    pub last: i8,
    /// From one key to the next.
    pub step: u8,
    /// Whether the number of keys stands in the argument before the first. Then there is no last.
    pub is_counted: bool,
}

impl KeySpec {
    /// Keys from index `first` on.
    pub const fn new(flags: &'static str, first: u8, last: i8, step: u8) -> KeySpec {
        KeySpec { flags, first, last, step, is_counted: false }
    }

    /// Keys behind the argument at `index`, which holds their number.
    pub const fn counted(flags: &'static str, index: u8) -> KeySpec {
        KeySpec { flags, first: index + 1, last: 0, step: 1, is_counted: true }
    }

    /// The indices of the keys among this many arguments; none of keys that are counted.
    pub fn indices(&self, count: usize) -> StepBy<Range<usize>> {
        let first = usize::from(self.first);
        let end = if self.is_counted {
            first
        } else if self.last < 0 {
            count.saturating_sub(usize::from(self.last.unsigned_abs()) - 1)
        } else {
            (first + usize::from(self.last.unsigned_abs()) + 1).min(count)
        };
        (first..end).step_by(usize::from(self.step))
    }

    /// The indices of the keys among this many arguments, of which `number_at` reads one as a
    /// number. Where more keys are counted than there are arguments there are none.
    pub fn indices_by(
        &self,
        count: usize,
        number_at: impl FnOnce(usize) -> Option<usize>,
    ) -> StepBy<Range<usize>> {
        let first = usize::from(self.first);
        if !self.is_counted || first > count {
            return self.indices(count);
        }
        let keys = number_at(first - 1).filter(|&keys| keys <= count - first).unwrap_or(0);
        (first..first + keys).step_by(usize::from(self.step))
    }
}

/// The longest name.
pub(super) const NAME_BYTES_MAX: usize = 16;

impl Spec {
    /// A command without keys, flags or anything to tell.
    pub const fn new(name: &'static str, arity: i8, run: Run) -> Spec {
        assert!(name.len() <= NAME_BYTES_MAX && !name.is_empty());
        Spec {
            name,
            arity,
            flags: "",
            categories: "",
            tips: "",
            keys: &[],
            since: "1.0.0",
            cost: "O(1)",
            summary: "",
            subcommands: &[],
            run,
            is_write: false,
            is_open: false,
            is_single: false,
            is_timed: false,
            reach: Reach::Here,
            is_reach_set: false,
            number: 0,
        }
    }

    /// Sets Redis's flags.
    pub const fn flags(mut self, flags: &'static str) -> Spec {
        self.flags = flags;
        self.is_write = has_word(flags, "write");
        self.is_open = has_word(flags, "no_auth");
        self.is_single = has_word(flags, "no_multi");
        self.is_timed = self.is_timed && !has_word(flags, "fast");
        self
    }

    /// Sets the access control categories.
    pub const fn categories(mut self, categories: &'static str) -> Spec {
        self.categories = categories;
        self
    }

    /// Sets the hints.
    pub const fn tips(mut self, tips: &'static str) -> Spec {
        self.tips = tips;
        self
    }

    /// Sets where the keys are.
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Spec {
        self.keys = keys;
        self
    }

    /// Sets the Redis version that brought it; 1.0.0 if not.
    pub const fn since(mut self, since: &'static str) -> Spec {
        self.since = since;
        self
    }

    /// Sets what it costs; O(1) if not.
    pub const fn cost(mut self, cost: &'static str) -> Spec {
        self.cost = cost;
        self.is_timed = !has_word(self.flags, "fast");
        self
    }

    /// Sets what it does.
    pub const fn summary(mut self, summary: &'static str) -> Spec {
        self.summary = summary;
        self
    }

    /// Sets which cores it concerns.
    pub const fn reach(mut self, reach: Reach) -> Spec {
        self.reach = reach;
        self.is_reach_set = true;
        self
    }

    /// Which cores it concerns, by what was set, or else by its keys and its hints to clients of
    /// clusters, which have the same question.
    pub const fn find_reach(&self) -> Reach {
        if self.is_reach_set {
            return self.reach;
        }
        if !self.subcommands.is_empty() {
            return Reach::Subcommand;
        }
        let join = if has_word(self.tips, "response_policy:agg_sum") {
            Join::Sum
        } else if has_word(self.tips, "response_policy:all_succeeded") {
            Join::First
        } else if has_word(self.tips, "response_policy:agg_logical_and") {
            Join::Least
        } else if has_word(self.tips, "request_policy:multi_shard") {
            Join::ByKey
        } else {
            Join::Append
        };
        let is_special = has_word(self.tips, "response_policy:special")
            || has_word(self.tips, "response_policy:agg_min");
        if self.keys.len() == 1 && self.keys[0].last == 0 {
            Reach::Key(self.keys[0].first)
        } else if !self.keys.is_empty() {
            let apart = has_word(self.tips, "request_policy:multi_shard") && !is_special;
            Reach::Keys(if apart { Spread::Apart(join) } else { Spread::Together })
        } else if !is_special
            && (has_word(self.tips, "request_policy:all_shards")
                || has_word(self.tips, "request_policy:all_nodes"))
        {
            Reach::All(join)
        } else {
            Reach::Here
        }
    }

    /// Sets what it contains.
    pub const fn subcommands(mut self, subcommands: &'static [Spec]) -> Spec {
        self.subcommands = subcommands;
        self
    }

    /// Whether this many arguments, the name included, may be right.
    pub fn accepts(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 { count == arity } else { count >= arity }
    }

    /// The subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
    }

    /// The number under which statistics of a subcommand of this one are kept.
    pub fn number_of(&self, subcommand: &Spec) -> u16 {
        let index = self.subcommands.iter().position(|other| other.name == subcommand.name);
        index.map_or(self.number, |index| self.number + 1 + index as u16)
    }

    /// The index of the first key; 0 if it has none, or the arguments say how many.
    #[inline]
    pub fn first_key(&self) -> usize {
        match self.keys.first() {
            Some(keys) if !keys.is_counted => usize::from(keys.first),
            _ => 0,
        }
    }

    /// First key, last (negative: from the end) and step, as commands were described before key
    /// specifications; zeros without keys.
    pub fn key_range(&self) -> (i64, i64, i64) {
        let Some(first) = self.keys.first().filter(|keys| !keys.is_counted) else {
            return (0, 0, 0);
        };
        let last = |keys: &KeySpec| match keys.last {
            0.. => i64::from(keys.first) + i64::from(keys.last),
            negative => i64::from(negative),
        };
        let to_end = self.keys.iter().map(last).find(|&last| last < 0);
        let last = to_end.or(self.keys.iter().map(last).max()).unwrap_or(0);
        (i64::from(first.first), last, i64::from(first.step))
    }
}

/// Whether a list of words, separated by spaces, holds this one.
const fn has_word(list: &str, word: &str) -> bool {
    let (list, word) = (list.as_bytes(), word.as_bytes());
    let mut from = 0;
    while from + word.len() <= list.len() {
        let mut same = 0;
        while same < word.len() && list[from + same] == word[same] {
            same += 1;
        }
        let end = from + word.len();
        let begins = from == 0 || list[from - 1] == b' ';
        if same == word.len() && begins && (end == list.len() || list[end] == b' ') {
            return true;
        }
        from += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
        Flow::Continue
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("write fast", "write") && has_word("write fast", "fast"));
        assert!(!has_word("rewrite fast", "write") && !has_word("writes", "write"));
        assert!(Spec::new("x", 1, nothing).flags("loading no_auth").is_open);
        assert!(Spec::new("x", 1, nothing).flags("no_multi").is_single);
    }

    #[test]
    fn what_may_take_long_is_timed() {
        assert!(!Spec::new("x", 1, nothing).flags("write").is_timed);
        assert!(Spec::new("x", 1, nothing).flags("write").cost("O(N)").is_timed);
        assert!(Spec::new("x", 1, nothing).cost("O(N)").flags("write").is_timed);
        assert!(!Spec::new("x", 1, nothing).flags("readonly fast").cost("O(N)").is_timed);
        assert!(!Spec::new("x", 1, nothing).cost("O(N)").flags("readonly fast").is_timed);
    }

    #[test]
    fn keys_are_where_their_specifications_say() {
        let spec = Spec::new("bitop", -4, nothing).keys(
            const { &[KeySpec::new("OW update", 2, 0, 1), KeySpec::new("RO access", 3, -1, 1)] },
        );
        assert_eq!((spec.first_key(), spec.key_range()), (2, (2, -1, 1)));
        let all = |count| -> Vec<usize> {
            spec.keys.iter().flat_map(move |keys| keys.indices(count)).collect()
        };
        assert_eq!(all(6), [2, 3, 4, 5]);
        let pairs = KeySpec::new("OW", 1, -1, 2);
        assert_eq!(pairs.indices(5).collect::<Vec<_>>(), [1, 3]);
        let two = KeySpec::new("RO", 1, 1, 1);
        assert_eq!(two.indices(5).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(two.indices(2).collect::<Vec<_>>(), [1]);
        assert_eq!(Spec::new("ping", -1, nothing).key_range(), (0, 0, 0));
    }

    #[test]
    fn keys_may_be_counted_by_an_argument() {
        let spec = Spec::new("eval", -3, nothing).keys(const { &[KeySpec::counted("RW", 2)] });
        assert_eq!((spec.first_key(), spec.key_range()), (0, (0, 0, 0)));
        let found = |count, number| -> Vec<usize> {
            spec.keys[0].indices_by(count, |index| if index == 2 { number } else { None }).collect()
        };
        assert_eq!(found(6, Some(2)), [3, 4]);
        assert_eq!(found(6, Some(3)), [3, 4, 5]);
        for number in [Some(0), Some(4), Some(usize::MAX), None] {
            assert_eq!(found(6, number), [0; 0], "{number:?}");
        }
        assert_eq!((found(3, Some(0)), found(2, Some(1))), (vec![], vec![]));
        assert_eq!(spec.keys[0].indices(6).count(), 0);
        assert_eq!(KeySpec::new("RO", 1, -1, 1).indices_by(3, |_| None).count(), 2);
    }
}
