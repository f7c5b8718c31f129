//! Random arguments of every kind that the templates name, and commands made of them.

use crate::Args;
use crate::support::random::Random;
use crate::templates::{FAMILIES, Template};

/// What a stream of commands is made of.
pub(crate) struct Maker {
    pub(crate) random: Random,
    /// The templates that may be used, by family.
    families: Vec<Vec<&'static Template>>,
    /// The family on which the present round leans.
    focus: usize,
    /// What DUMP of a real server made of several values.
    payloads: Vec<Vec<u8>>,
    /// How many databases there are.
    databases: usize,
    /// Whether AUTH may be tried: Redis 7.2 does not answer a refused one if replies are pending.
    with_auth: bool,
}

/// Few, so that commands meet.
const KEYS: [&[u8]; 9] = [b"a", b"b", b"c", b"d", b"aa", b"{a}b", b"", b"\0\r\n\xff", b"[k]*"];

const INTEGERS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "10",
    "-10",
    "99",
    "127",
    "-128",
    "255",
    "1000",
    "65535",
    "2147483647",
    "-2147483648",
    "2147483648",
    "4294967295",
    "4294967296",
    "1099511627776",
    "9223372036854775806",
    "9223372036854775807",
    "-9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
];

const FLOATS: [&str; 34] = [
    "0",
    "1",
    "-1",
    "0.5",
    "3.0",
    "1.5",
    "-2.25",
    "0.1",
    "0.2",
    "-0.3",
    "3.14",
    "10.50",
    "1e3",
    "1E-3",
    "5.0e3",
    ".5",
    "5.",
    "-0",
    "-0.0",
    "1e15",
    "123456789.125",
    "0.0001",
    "99.99",
    "1000000000000",
    "9007199254740993",
    "inf",
    "-inf",
    "nan",
    "infinity",
    "0x10",
    "1e400",
    "-1e4000",
    "1e5000",
    "1.7e308",
];

/// Arguments that are wrong in most places. None is a small positive number: as a time that would
/// pass while the test runs.
const JUNK: [&str; 34] = [
    "",
    "x",
    "-1",
    "0",
    "-0",
    "00",
    "1.5",
    " 1",
    "+5",
    "01",
    "1e5",
    "nan",
    "inf",
    "0x10",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "99999999999999999999999",
    "NX",
    "XX",
    "EX",
    "PX",
    "GET",
    "KEEPTTL",
    "PERSIST",
    "REPLACE",
    "ABSTTL",
    "*",
    "\r\n",
    "\0",
    "string",
    "'quoted' \"words\"",
];

const PATTERNS: [&str; 26] = [
    "*",
    "*",
    "*",
    "?",
    "a*",
    "*a",
    "??",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[c-a]",
    "[a",
    "[",
    "\\a",
    "\\",
    "[]",
    "[^]",
    "a\\",
    "[\\a]",
    "**",
    "{a}*",
    "\\[k\\]\\*",
    "[a-]",
    "*\r*",
    "nothing",
    "",
];

impl Maker {
    pub(crate) fn new(
        seed: u64,
        missing: &[String],
        payloads: Vec<Vec<u8>>,
        databases: usize,
        with_auth: bool,
    ) -> Maker {
        let is_there = |template: &&Template| !missing.contains(&template.name());
        let families = FAMILIES.map(|family| family.iter().filter(is_there).collect());
        let random = Random::new(seed);
        Maker { random, families: families.to_vec(), focus: 0, payloads, databases, with_auth }
    }

    /// Chooses what the next commands lean on.
    pub(crate) fn turn(&mut self) {
        self.focus = self.random.below(self.families.len());
    }

    /// A command, mostly a right one.
    pub(crate) fn command(&mut self) -> Args {
        loop {
            let args = self.any_command();
            let has = |text: &[u8]| args.iter().any(|word| word.eq_ignore_ascii_case(text));
            // What a server tells of all its commands or parameters is its own.
            let tells_all = (has(b"COMMAND") && args.len() == 1) || (has(b"CONFIG") && has(b"*"));
            if !tells_all && (self.with_auth || !has(b"AUTH")) {
                return args;
            }
        }
    }

    fn any_command(&mut self) -> Args {
        if self.random.one_in(150) {
            return self.unknown();
        }
        let family = match self.random.below(3) {
            0 => self.random.below(self.families.len()),
            _ => self.focus,
        };
        let index = self.random.below(self.families[family].len());
        let template = self.families[family][index];
        let mut args = self.fill(template);
        if self.random.one_in(8) {
            self.spoil(&mut args);
        }
        args
    }

    /// A command that no server knows, or a container's.
    fn unknown(&mut self) -> Args {
        let name = self.random.pick(&["nope", "GETT", "", "CLIENT", "OBJECT", "config", "\r\n"]);
        let mut args = vec![name.as_bytes().to_vec()];
        for _ in 0..self.random.below(4) {
            args.push(self.value());
            args.last_mut().expect("it was added").truncate(1_000);
        }
        args
    }

    /// A template with its words filled in and some of its options.
    fn fill(&mut self, template: &Template) -> Args {
        let mut args = Args::new();
        self.expand(template.words, &mut args);
        if !template.options.is_empty() {
            let count = self.random.pick(&[0, 1, 1, 1, 1, 2, 2, 3, 4]);
            for _ in 0..count {
                let option = self.random.pick(template.options);
                self.expand(option, &mut args);
            }
        }
        args
    }

    /// Makes a command wrong in one place, or longer, or shorter.
    fn spoil(&mut self, args: &mut Args) {
        let place = self.random.below(args.len());
        match self.random.below(6) {
            0 => drop(args.pop()),
            1 => args.push(self.junk()),
            2 if place > 0 => {
                let again = args[place].clone();
                args.insert(place, again);
            }
            // Two spoilt places of a command may be right together, but never a short time.
            3 if args.len() > 2 => args.swap(1, 2),
            _ if place > 0 => args[place] = self.junk(),
            _ => args.push(self.junk()),
        }
        if args.is_empty() {
            args.push(b"PING".to_vec());
        }
        // Without its ABSTTL, a time of long ago has become a short one.
        let is_restore = args[0].eq_ignore_ascii_case(b"RESTORE");
        if let Some(time) = args.get_mut(2).filter(|time| is_restore && *time == b"1") {
            *time = b"0".to_vec();
        }
    }

    fn junk(&mut self) -> Vec<u8> {
        self.random.pick(&JUNK).into()
    }

    fn expand(&mut self, words: &str, args: &mut Args) {
        for word in words.split(' ') {
            match word {
                "<keys>" => (0..=self.random.below(4)).for_each(|_| args.push(self.key())),
                "<pairs>" => {
                    for _ in 0..=self.random.below(3) {
                        args.push(self.key());
                        args.push(self.value());
                    }
                }
                "<command>" => {
                    let inner = self.plain_command();
                    args.extend(inner);
                }
                kind if kind.starts_with('<') => args.push(self.argument(kind)),
                literal => {
                    let choices: Vec<&str> = literal.split('|').collect();
                    let mut word = self.random.pick(&choices).to_owned();
                    if self.random.one_in(4) {
                        word.make_ascii_lowercase();
                    }
                    args.push(word.into_bytes());
                }
            }
        }
    }

    /// A command for COMMAND GETKEYS, which is not of that kind itself.
    fn plain_command(&mut self) -> Args {
        let family = self.random.below(5);
        let index = self.random.below(self.families[family].len());
        let mut args = self.fill(self.families[family][index]);
        if self.random.one_in(6) {
            args.pop();
        }
        args
    }

    fn argument(&mut self, kind: &str) -> Vec<u8> {
        let random = &mut self.random;
        let text = match kind {
            "<key>" => return self.key(),
            "<value>" => return self.value(),
            "<payload>" => return self.payload(),
            "<int>" if random.one_in(3) => (random.below(2_000) as i64 - 1_000).to_string(),
            "<int>" => random.pick(&INTEGERS).to_owned(),
            "<float>" => random.pick(&FLOATS).to_owned(),
            "<index>" => random.pick(&INDICES).to_string(),
            "<offset>" if random.one_in(40) => random.pick(&FAR_OFFSETS).to_string(),
            "<offset>" => random.below(40).to_string(),
            "<bit>" if random.one_in(40) => random.pick(&FAR_BITS).to_string(),
            "<bit>" => random.below(200).to_string(),
            "<bits>" => self.field_offset(),
            "<type>" => self.field_type(),
            "<seconds>" | "<millis>" => self.time(),
            "<at>" => random.pick(&["4102444800", "4102444801", "5000000000", "1", "-1"]).into(),
            "<at-ms>" => {
                random.pick(&["4102444800000", "4102444800001", "5000000000000", "1"]).into()
            }
            "<db>" => self.database(),
            "<pattern>" => random.pick(&PATTERNS).to_owned(),
            "<cursor>" => random.pick(&["0", "0", "0", "x", "-1", "18446744073709551616"]).into(),
            "<count>" => random.pick(&["1", "10", "1000", "0", "-1", "x"]).into(),
            "<name>" => random.pick(&["me", "default", "", "two words", "caf\u{e9}", "x\n"]).into(),
            other => panic!("no kind of argument is called {other}"),
        };
        text.into_bytes()
    }

    fn key(&mut self) -> Vec<u8> {
        match self.random.below(60) {
            0 => vec![b'k'; 300],
            1 => vec![b'K'; 40_000],
            2..40 => self.random.pick(&KEYS[..4]).to_vec(),
            _ => self.random.pick(&KEYS).to_vec(),
        }
    }

    pub(crate) fn value(&mut self) -> Vec<u8> {
        match self.random.below(1_000) {
            0 => vec![b'm'; 1 << 20],
            1..8 => self.random.bytes(100_000),
            8..20 => {
                let length = self.random.pick(&[32_767, 32_768, 32_769, 65_536, 16_384]);
                vec![b'v'; length]
            }
            20..250 => self.random.pick(&INTEGERS).into(),
            250..350 => self.random.pick(&FLOATS).into(),
            350..400 => Vec::new(),
            400..500 => self.random.pick(&JUNK).into(),
            500..600 => {
                let length = self.random.pick(&[20, 44, 45, 63, 64, 127, 128, 300, 1_000]);
                vec![b'w'; length]
            }
            _ => {
                let length = self.random.below(24);
                self.random.bytes(length)
            }
        }
    }

    /// A payload of DUMP, sometimes a broken one.
    fn payload(&mut self) -> Vec<u8> {
        let index = self.random.below(self.payloads.len());
        let mut payload = self.payloads[index].clone();
        if self.random.one_in(4) {
            let at = self.random.below(payload.len());
            match self.random.below(4) {
                0 => payload.truncate(at),
                1 => payload[at] ^= 1 << self.random.below(8),
                2 => payload.insert(at, b'x'),
                _ => payload = self.value(),
            }
        }
        payload
    }

    /// A duration in seconds or milliseconds. Those that are good last longer than any test, and
    /// hardly ever come twice, since which of two is greater must not hang on the hour.
    fn time(&mut self) -> String {
        match self.random.below(12) {
            0 => self.random.pick(&["0", "-1", "-100000", "9223372036854775807"]).into(),
            1 => self.random.pick(&["-9223372036854775808", "9223372036854775", "x"]).into(),
            _ => ((100 + self.random.below(1_000_000)) * 1_000).to_string(),
        }
    }

    fn database(&mut self) -> String {
        match self.random.below(12) {
            0 => self.random.pick(&["-1", "16", "x", "1.0", "99999999999", ""]).into(),
            _ => self.random.below(self.databases.min(4)).to_string(),
        }
    }

    fn field_type(&mut self) -> String {
        match self.random.below(20) {
            0 => self.random.pick(&["u64", "i65", "u0", "i0", "x8", "8", "u", "i08", "U8"]).into(),
            1..8 => self.random.pick(&["u8", "i8", "u1", "i16", "u63", "i64", "u32"]).into(),
            _ => {
                let sign = self.random.pick(&["u", "i"]);
                format!("{sign}{}", 1 + self.random.below(63))
            }
        }
    }

    fn field_offset(&mut self) -> String {
        match self.random.below(30) {
            0 => self.random.pick(&["-1", "#-1", "x", "#", "#x", "4294967296", "1e3"]).into(),
            1 => self.random.pick(&FAR_BITS).to_string(),
            2..8 => format!("#{}", self.random.below(12)),
            _ => self.random.below(140).to_string(),
        }
    }
}

const INDICES: [i64; 24] = [
    0,
    0,
    0,
    -1,
    -1,
    -1,
    1,
    2,
    3,
    5,
    8,
    -2,
    -3,
    -9,
    20,
    100,
    -100,
    40_000,
    100_000,
    -100_000,
    1 << 32,
    -(1 << 32),
    i64::MAX,
    i64::MIN,
];

/// Around the sizes at which values are kept differently, and the largest.
const FAR_OFFSETS: [i64; 8] =
    [32_760, 70_000, 500_000, (8 << 20) - 1, 8 << 20, (8 << 20) + 1, -1, i64::MAX];

const FAR_BITS: [i64; 8] =
    [262_143, 262_144, 600_000, (64 << 20) - 1, 64 << 20, (1 << 32) - 1, 1 << 32, -1];
