//! Commands that change keys of several cores at once, as a list of steps that the core which asks
//! lets the others do, one after the other:
//!
//! ```text
//! reserve the keys of each core, in ascending order
//!   MSETNX              unless one exists: write on each core; if one refuses, take the rest back
//!   RENAME, COPY        read the source, piece by piece if it is large; write the target
//! give the keys back
//! ```
//!
//! - J1. Keys are reserved core by core in ascending order, and on a core in the order of their
//!   bytes. So no two of these commands wait for each other.
//! - J2. Nobody else reads or writes a reserved key by its name, so nobody sees half of it done. A
//!   walk over keys (SCAN, DBSIZE) may.
//! - J3. Whatever a step comes to, all keys that were reserved are given back: the last steps see
//!   to that, and no step waits for a client.
//! - J4. What a flush has removed does not come back: if one has passed over a key since it was
//!   reserved, a value that was moved is removed.
//!
//! This is the state alone: [`Joint::next`] takes what a step came to, and says which is next.
//!
//! Cost: two messages to each other core for its keys, and two for each of the steps between; a
//! value is copied to the heap, [`JOINT_PIECE_BYTES`] of it at a time if it is large.

use pinion_engine::{Condition, DATABASES, Deadline, Marks, Refusal, SetError, SetOptions, Stored};

use super::limits::{COPY_TRIES_MAX, JOINT_PIECE_BYTES};
use crate::command::{self, Arguments, Spec};
use crate::protocol::number;

/// A key as it is reserved: in whichever database.
pub(super) type ReservedKey = Box<[u8]>;

/// What a core is asked to do.
#[derive(Debug)]
pub(crate) enum Step {
    /// To reserve keys, which are in order.
    Reserve(Vec<ReservedKey>),
    /// To read an item, or the beginning of it.
    Read {
        /// Whose.
        key: ReservedKey,
        /// Whether it counts as a read that hits or misses.
        is_counted: bool,
    },
    /// To read on, from this byte of the value.
    ReadOn(usize),
    /// To store items; if one cannot be, those before it go.
    Write(Vec<(ReservedKey, Vec<u8>)>, SetOptions),
    /// To take the next bytes of a large value of `value_bytes`.
    Append {
        /// Whose.
        key: ReservedKey,
        /// All of its bytes.
        value_bytes: usize,
        /// The next ones.
        piece: Vec<u8>,
    },
    /// To make a large value that has come that of its key.
    Finish(SetOptions),
    /// To give keys back.
    Release {
        /// The keys, in order.
        keys: Vec<ReservedKey>,
        /// What is deleted first. If it has another version by now, nothing is done.
        delete: Option<(ReservedKey, u64)>,
        /// What was written and is taken back, always or if a flush has passed.
        undo: Vec<ReservedKey>,
        /// Whether it is always.
        is_undone: bool,
    },
}

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Found {
    /// The keys are reserved.
    Reserved {
        /// Whether one of them exists.
        is_present: bool,
    },
    /// There is no such item.
    Absent,
    /// An item, and its value's first bytes.
    Item {
        /// On which terms it is stored.
        terms: Terms,
        /// Its version.
        version: u64,
        /// All bytes of its value,
        value_bytes: usize,
        /// and the first of them.
        piece: Vec<u8>,
    },
    /// Further bytes.
    Piece(Vec<u8>),
    /// Too many large values are being read.
    Refused,
    /// The outcome of storing something.
    Stored(Result<Stored, SetError>),
    /// The bytes are taken, or the value refused.
    Appended(Result<(), SetError>),
    /// The keys are given back.
    Released {
        /// Whether a flush has passed since they were reserved.
        was_flushed: bool,
    },
    /// They are not: what was to be deleted has changed.
    Changed,
}

/// What goes along with a value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) flags: u32,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) marks: Marks,
}

/// A step, the core that is asked for it, and the database that it is about, if that is not the one
/// that the client has selected.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) core: usize,
    pub(super) db: Option<u8>,
    pub(super) step: Step,
}

/// The reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Integer(i64),
    Error(String),
}

/// What one core has of a command.
#[derive(Debug)]
struct Part {
    core: usize,
    /// In order, each once.
    keys: Vec<ReservedKey>,
    /// What MSETNX writes there.
    items: Vec<(ReservedKey, Vec<u8>)>,
    /// What was written there.
    written: Vec<ReservedKey>,
    is_reserved: bool,
}

/// A value that goes from one key to another.
#[derive(Debug)]
struct Move {
    /// The parts, by index.
    source: usize,
    target: usize,
    target_db: Option<u8>,
    replaces: bool,
    is_copy: bool,
    /// RENAME answers otherwise than RENAMENX and COPY.
    answers_ok: bool,
    tries: u32,
    /// The item as it was read.
    terms: Terms,
    version: u64,
    value_bytes: usize,
    moved_bytes: usize,
}

#[derive(Debug)]
enum Work {
    SetAll,
    Move(Move),
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Begun,
    Reserving(usize),
    Reading,
    Appending,
    Writing(usize),
    Releasing(usize),
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Joint {
    /// In ascending order of their cores.
    parts: Vec<Part>,
    work: Work,
    stage: Stage,
    answer: Answer,
    /// Whether what was written is taken back.
    is_undone: bool,
}

impl Joint {
    /// What a command comes to whose keys are on several cores. `None` if it will be refused for
    /// its arguments, whatever its keys are.
    pub(super) fn of(
        spec: &Spec,
        args: &Arguments<'_>,
        place: impl Fn(&[u8]) -> usize,
    ) -> Option<Joint> {
        if spec.name == "msetnx" {
            return Joint::set_all(args, place);
        }
        let (key, target) = (args.at(1), args.at(2));
        let mut parts = vec![Part::new(place(key), key), Part::new(place(target), target)];
        parts.sort_by_key(|part| part.core);
        let index_of = |core| parts.iter().position(|part| part.core == core);
        let mut work = Move {
            source: index_of(place(key))?,
            target: index_of(place(target))?,
            target_db: None,
            replaces: spec.name == "rename",
            is_copy: spec.name == "copy",
            answers_ok: spec.name == "rename",
            tries: 0,
            terms: Terms::default(),
            version: 0,
            value_bytes: 0,
            moved_bytes: 0,
        };
        if work.is_copy {
            work.read_options(args)?;
        }
        Some(Joint::new(parts, Work::Move(work)))
    }

    fn set_all(args: &Arguments<'_>, place: impl Fn(&[u8]) -> usize) -> Option<Joint> {
        if args.len().is_multiple_of(2) {
            return None;
        }
        let mut parts: Vec<Part> = Vec::new();
        for index in (1..args.len()).step_by(2) {
            let (key, core) = (args.at(index), place(args.at(index)));
            let at = parts.iter().position(|part| part.core == core).unwrap_or_else(|| {
                parts.push(Part::new(core, key));
                parts.len() - 1
            });
            parts[at].keys.push(key.into());
            parts[at].items.push((key.into(), args.at(index + 1).to_vec()));
        }
        for part in &mut parts {
            part.keys.sort_unstable();
            part.keys.dedup();
        }
        parts.sort_by_key(|part| part.core);
        Some(Joint::new(parts, Work::SetAll))
    }

    fn new(parts: Vec<Part>, work: Work) -> Joint {
        Joint { parts, work, stage: Stage::Begun, answer: Answer::Ok, is_undone: false }
    }

    /// Memory that it holds.
    pub(super) fn memory_bytes(&self) -> usize {
        let part_bytes = |part: &Part| {
            let keys = part.keys.iter().map(|key| key.len()).sum::<usize>();
            keys + part.items.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        };
        size_of::<Joint>() + self.parts.iter().map(part_bytes).sum::<usize>() + JOINT_PIECE_BYTES
    }

    /// The first step.
    pub(super) fn begin(&mut self) -> Ask {
        self.reserve(0)
    }

    /// Takes what the last step came to, and says which is next; the reply if that was all.
    pub(super) fn next(&mut self, found: Found) -> Result<Ask, Answer> {
        match (self.stage, found) {
            (Stage::Reserving(index), Found::Reserved { is_present }) => {
                self.parts[index].is_reserved = true;
                Ok(self.reserved(index, is_present))
            }
            (Stage::Reading | Stage::Appending, found) => Ok(self.moved(found)),
            (Stage::Writing(index), Found::Stored(outcome)) => Ok(self.stored(index, &outcome)),
            (Stage::Releasing(at), found) => self.released(at, &found),
            (stage, found) => {
                debug_assert!(false, "{found:?} answers no step of {stage:?}");
                self.fail("ERR internal error");
                self.release(0)
            }
        }
    }

    fn reserve(&mut self, index: usize) -> Ask {
        self.stage = Stage::Reserving(index);
        let part = &self.parts[index];
        Ask { core: part.core, db: None, step: Step::Reserve(part.keys.clone()) }
    }

    fn reserved(&mut self, index: usize, is_present: bool) -> Ask {
        match &self.work {
            Work::SetAll if is_present => self.end(Answer::Integer(0)),
            _ if index + 1 < self.parts.len() => self.reserve(index + 1),
            Work::SetAll => self.write(0),
            Work::Move(_) => self.read(),
        }
    }

    fn read(&mut self) -> Ask {
        self.stage = Stage::Reading;
        let Work::Move(work) = &self.work else { return self.fail("ERR internal error") };
        let part = &self.parts[work.source];
        let (key, is_counted) = (part.keys[0].clone(), work.is_copy && work.tries == 0);
        Ask { core: part.core, db: None, step: Step::Read { key, is_counted } }
    }

    /// What follows a step of moving a value.
    fn moved(&mut self, found: Found) -> Ask {
        let Work::Move(work) = &mut self.work else { return self.fail("ERR internal error") };
        match found {
            Found::Absent if work.is_copy => self.end(Answer::Integer(0)),
            Found::Absent => self.fail("ERR no such key"),
            Found::Refused => self.fail(command::PIN_REFUSAL),
            Found::Item { terms, version, value_bytes, piece } => {
                (work.terms, work.version) = (terms, version);
                (work.value_bytes, work.moved_bytes) = (value_bytes, piece.len());
                if piece.len() == value_bytes {
                    let (options, target) = (work.options(), work.target);
                    self.stage = Stage::Writing(target);
                    let key = self.parts[target].keys[0].clone();
                    return self.to_target(Step::Write(vec![(key, piece)], options));
                }
                self.append(piece)
            }
            Found::Piece(piece) => {
                work.moved_bytes += piece.len();
                self.append(piece)
            }
            Found::Appended(Err(error)) => self.fail(&command::set_error_text(&error)),
            Found::Appended(Ok(())) if work.moved_bytes == work.value_bytes => {
                let options = work.options();
                self.stage = Stage::Writing(work.target);
                self.to_target(Step::Finish(options))
            }
            Found::Appended(Ok(())) => {
                self.stage = Stage::Reading;
                let core = self.parts[work.source].core;
                Ask { core, db: None, step: Step::ReadOn(work.moved_bytes) }
            }
            found => {
                debug_assert!(false, "{found:?} does not come of moving a value");
                self.fail("ERR internal error")
            }
        }
    }

    fn append(&mut self, piece: Vec<u8>) -> Ask {
        self.stage = Stage::Appending;
        let Work::Move(work) = &self.work else { return self.fail("ERR internal error") };
        let (key, value_bytes) = (self.parts[work.target].keys[0].clone(), work.value_bytes);
        self.to_target(Step::Append { key, value_bytes, piece })
    }

    fn to_target(&self, step: Step) -> Ask {
        let (index, db) = match &self.work {
            Work::Move(work) => (work.target, work.target_db),
            Work::SetAll => (0, None),
        };
        Ask { core: self.parts[index].core, db, step }
    }

    fn write(&mut self, index: usize) -> Ask {
        self.stage = Stage::Writing(index);
        let part = &mut self.parts[index];
        let items = std::mem::take(&mut part.items);
        let options = SetOptions { flags: Some(0), ..SetOptions::default() };
        Ask { core: part.core, db: None, step: Step::Write(items, options) }
    }

    fn stored(&mut self, index: usize, outcome: &Result<Stored, SetError>) -> Ask {
        match outcome {
            Err(error) => return self.fail(&command::set_error_text(error)),
            Ok(Stored::ConditionFailed(Refusal::Present | Refusal::VersionMismatch)) => {
                return self.end(Answer::Integer(0));
            }
            Ok(_) => self.parts[index].written = self.parts[index].keys.clone(),
        }
        match &self.work {
            Work::SetAll if index + 1 < self.parts.len() => self.write(index + 1),
            Work::Move(work) if work.answers_ok => self.end(Answer::Ok),
            _ => self.end(Answer::Integer(1)),
        }
    }

    /// Ends with an error, and takes back what was written.
    fn fail(&mut self, text: &str) -> Ask {
        self.is_undone = true;
        self.end(Answer::Error(text.to_owned()))
    }

    fn end(&mut self, answer: Answer) -> Ask {
        self.answer = answer;
        match self.release(0) {
            Ok(ask) => ask,
            // There is a reserved part at least: nothing comes before the first.
            Err(_) => self.reserve(0),
        }
    }

    /// The parts in the order in which they are given back: the source first, since what comes of
    /// that tells what becomes of the target.
    fn part_at(&self, at: usize) -> Option<usize> {
        let source = if let Work::Move(work) = &self.work { work.source } else { 0 };
        let count = self.parts.len();
        (at < count).then(|| (source + at) % count)
    }

    fn release(&mut self, mut at: usize) -> Result<Ask, Answer> {
        while let Some(index) = self.part_at(at) {
            if self.parts[index].is_reserved {
                self.stage = Stage::Releasing(at);
                return Ok(self.give_back(index));
            }
            at += 1;
        }
        Err(self.answer.clone())
    }

    fn give_back(&mut self, index: usize) -> Ask {
        let is_done = !matches!(self.answer, Answer::Error(_) | Answer::Integer(0));
        let (mut delete, mut db, mut undoes) = (None, None, self.is_undone);
        let part = &self.parts[index];
        if let Work::Move(work) = &self.work {
            if index == work.source && is_done && !work.is_copy {
                delete = Some((part.keys[0].clone(), work.version));
            }
            if index == work.target {
                db = work.target_db;
                // If a flush has passed, what was moved is removed (J4).
                undoes = true;
            }
        }
        let undo = if undoes { part.written.clone() } else { Vec::new() };
        let (keys, is_undone) = (part.keys.clone(), self.is_undone);
        Ask { core: part.core, db, step: Step::Release { keys, delete, undo, is_undone } }
    }

    fn released(&mut self, at: usize, found: &Found) -> Result<Ask, Answer> {
        if let Found::Released { was_flushed } = found {
            if let Some(index) = self.part_at(at) {
                self.parts[index].is_reserved = false;
            }
            self.is_undone |= *was_flushed && matches!(self.work, Work::Move(_));
            return self.release(at + 1);
        }
        let Work::Move(work) = &mut self.work else { return self.release(at + 1) };
        // A command that had begun before has changed the source: what was moved is old.
        work.tries += 1;
        if work.tries < COPY_TRIES_MAX {
            return Ok(self.read());
        }
        Ok(self.fail("ERR the value changes faster than it can be moved"))
    }
}

impl Move {
    /// Reads what COPY is told beside its keys.
    fn read_options(&mut self, args: &Arguments<'_>) -> Option<()> {
        let mut index = 3;
        while index < args.len() {
            if args.is(index, "REPLACE") {
                self.replaces = true;
            } else if args.is(index, "DB") && index + 1 < args.len() {
                index += 1;
                let number = number::parse_i64_strict(args.at(index))?;
                let db = u8::try_from(number).ok().filter(|&db| usize::from(db) < DATABASES)?;
                self.target_db = Some(db);
            } else {
                return None;
            }
            index += 1;
        }
        Some(())
    }

    fn options(&self) -> SetOptions {
        // What is there at a second try was written by the first.
        let is_forced = self.replaces || self.tries > 0;
        SetOptions {
            condition: if is_forced { Condition::Always } else { Condition::IfAbsent },
            flags: Some(self.terms.flags),
            deadline: self.terms.deadline_ms.map_or(Deadline::None, Deadline::At),
            version: None,
            marks: if self.is_copy { Marks::NONE } else { self.terms.marks },
        }
    }
}

impl Part {
    fn new(core: usize, key: &[u8]) -> Part {
        let (items, written) = (Vec::new(), Vec::new());
        Part { core, keys: vec![key.into()], items, written, is_reserved: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::resp;

    /// The command on cores that the first byte of each key names.
    fn joint(text: &str) -> Option<Joint> {
        let frame = format!("{text}\r\n").into_bytes();
        let mut args = resp::Args::new();
        let limits = resp::Limits::default();
        let parsed = resp::parse(&frame, &mut resp::Progress::default(), &mut args, &limits);
        assert!(matches!(parsed, resp::Parse::Complete { .. }), "{text}");
        let args = Arguments::new(&frame, &args);
        let spec = command::find(args.at(0)).expect("a command");
        Joint::of(spec, &args, |key| usize::from(key[0] - b'0'))
    }

    fn item(version: u64, bytes: usize) -> Found {
        let piece = vec![b'v'; bytes.min(JOINT_PIECE_BYTES)];
        Found::Item { terms: Terms::default(), version, value_bytes: bytes, piece }
    }

    const RESERVED: Found = Found::Reserved { is_present: false };
    const STORED: Found = Found::Stored(Ok(Stored::Stored { version: 9 }));
    const RELEASED: Found = Found::Released { was_flushed: false };

    /// Begins a command on two cores, up to where it has reserved all keys; the step that follows.
    fn reserved(joint: &mut Joint) -> Ask {
        let first = joint.begin();
        assert!(matches!(first.step, Step::Reserve(_)));
        let second = joint.next(RESERVED).expect("a step");
        assert!(matches!(second.step, Step::Reserve(_)) && first.core < second.core, "J1");
        joint.next(RESERVED).expect("a step")
    }

    #[test]
    fn keys_are_reserved_in_order_and_the_source_goes_before_they_are_given_back() {
        let mut joint = joint("RENAME 2a 1b").expect("a plan");
        let ask = reserved(&mut joint);
        assert!(ask.core == 2 && matches!(ask.step, Step::Read { .. }));
        let ask = joint.next(item(7, 10)).expect("a step");
        assert!(ask.core == 1 && matches!(ask.step, Step::Write(..)));
        let ask = joint.next(STORED).expect("a step");
        assert_eq!(ask.core, 2);
        let Step::Release { delete: Some((key, 7)), .. } = ask.step else { panic!("{ask:?}") };
        assert_eq!(&*key, b"2a");
        // What changed the source after it was read is moved, too.
        let ask = joint.next(Found::Changed).expect("a step");
        assert!(matches!(ask.step, Step::Read { .. }));
        joint.next(item(8, 10)).expect("a step");
        let ask = joint.next(STORED).expect("a step");
        assert!(matches!(ask.step, Step::Release { delete: Some((_, 8)), .. }));
        // A flush has passed: the target goes, and nobody has seen it.
        let ask = joint.next(Found::Released { was_flushed: true }).expect("a step");
        let Step::Release { undo, is_undone: true, .. } = ask.step else { panic!("{ask:?}") };
        assert_eq!((ask.core, undo.len()), (1, 1));
        assert_eq!(joint.next(RELEASED).expect_err("the end"), Answer::Ok);
    }

    #[test]
    fn a_large_value_goes_in_pieces() {
        let mut joint = joint("COPY 0a 1b DB 3").expect("a plan");
        reserved(&mut joint);
        let bytes = JOINT_PIECE_BYTES + 1;
        let ask = joint.next(item(1, bytes)).expect("a step");
        assert!(ask.db == Some(3) && matches!(ask.step, Step::Append { .. }));
        let ask = joint.next(Found::Appended(Ok(()))).expect("a step");
        assert!(matches!(ask.step, Step::ReadOn(JOINT_PIECE_BYTES)));
        joint.next(Found::Piece(vec![b'v'])).expect("a step");
        let ask = joint.next(Found::Appended(Ok(()))).expect("a step");
        assert!(ask.db == Some(3) && matches!(ask.step, Step::Finish(_)));
        let ask = joint.next(STORED).expect("a step");
        assert!(matches!(ask.step, Step::Release { delete: None, .. }));
        joint.next(RELEASED).expect("a step");
        assert_eq!(joint.next(RELEASED).expect_err("the end"), Answer::Integer(1));
    }

    #[test]
    fn what_is_reserved_is_given_back_whatever_comes() {
        let mut taken = joint("MSETNX 1a x 0b y 2c z").expect("a plan");
        taken.begin();
        let ask = taken.next(Found::Reserved { is_present: true }).expect("a step");
        assert!(ask.core == 0 && matches!(ask.step, Step::Release { .. }));
        assert_eq!(taken.next(RELEASED).expect_err("the end"), Answer::Integer(0));

        let mut full = joint("MSETNX 1a x 0b y 1c z").expect("a plan");
        reserved(&mut full);
        full.next(STORED).expect("a step");
        let ask = full.next(Found::Stored(Err(SetError::NoSpace))).expect("a step");
        let Step::Release { undo, is_undone: true, .. } = ask.step else { panic!("{ask:?}") };
        assert_eq!((ask.core, undo.len()), (0, 1), "what was written first goes");
        let ask = full.next(RELEASED).expect("a step");
        assert!(ask.core == 1 && matches!(ask.step, Step::Release { .. }));
        let Answer::Error(text) = full.next(RELEASED).expect_err("the end") else { panic!() };
        assert!(text.starts_with("OOM"));

        let mut absent = joint("RENAMENX 0a 1b").expect("a plan");
        reserved(&mut absent);
        absent.next(Found::Absent).expect("a step");
        absent.next(RELEASED).expect("a step");
        let text = "ERR no such key".to_owned();
        assert_eq!(absent.next(RELEASED).expect_err("the end"), Answer::Error(text));
    }

    #[test]
    fn what_is_wrong_in_itself_is_left_to_the_command() {
        for text in ["MSETNX 0a x 1b", "COPY 0a 1b DB 16", "COPY 0a 1b REPLACE X", "COPY 0a 1b DB"]
        {
            assert!(joint(text).is_none(), "{text}");
        }
    }
}
