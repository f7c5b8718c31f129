//! What follows on what a step came to.

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
    for text in ["MSETNX 0a x 1b", "COPY 0a 1b DB 16", "COPY 0a 1b REPLACE X", "COPY 0a 1b DB"] {
        assert!(joint(text).is_none(), "{text}");
    }
}
