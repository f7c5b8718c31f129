//! A naive RESP parser, to compare the real one with.
//!
//! It starts over at every frame and every byte, copies what it finds, and keeps no state.

use super::{Command, Limits, Outcome};

/// `Ok(None)`: the stream ends within the frame.
type Frame<T> = Result<Option<T>, String>;

pub(crate) fn run(stream: &[u8], limits: &Limits) -> Outcome {
    let mut outcome = Outcome::default();
    while outcome.consumed < stream.len() {
        let rest = &stream[outcome.consumed..];
        let frame = if rest[0] == b'*' { array(rest, limits) } else { inline(rest, limits) };
        match frame {
            Ok(Some((command, length))) => {
                outcome.consumed += length;
                if !command.is_empty() {
                    outcome.commands.push(command);
                }
            }
            Ok(None) => break,
            Err(error) => {
                outcome.error = Some(error);
                break;
            }
        }
    }
    outcome
}

/// The number in the line at `at`, and where the line ends.
fn number(
    rest: &[u8],
    at: usize,
    limits: &Limits,
    kind: &str,
    length: &str,
) -> Frame<(i64, usize)> {
    let line = &rest[at..];
    let cr = line.iter().position(|&byte| byte == b'\r');
    let limit = limits.inline_bytes_max as usize;
    if cr.unwrap_or(line.len()) > limit {
        return Err(format!("too big {kind} count string"));
    }
    let Some(cr) = cr.filter(|cr| cr + 1 < line.len()) else { return Ok(None) };
    if kind == "bulk" && line[0] != b'$' {
        let shown = if line[0] == b'\r' || line[0] == b'\n' { b' ' } else { line[0] };
        let shown = [b"expected '$', got '", &[shown][..], b"'"].concat();
        return Err(shown.escape_ascii().to_string());
    }
    let text = String::from_utf8_lossy(&line[1..cr]).into_owned();
    let parsed = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    let Some(parsed) = parsed else { return Err(format!("invalid {length} length")) };
    let least = if kind == "bulk" { 0 } else { i64::MIN };
    if !(least..=i64::from(u32::MAX)).contains(&parsed) {
        return Err(format!("invalid {length} length"));
    }
    if line[cr + 1] != b'\n' {
        return Err("missing line end after length or data".into());
    }
    Ok(Some((parsed, at + cr + 2)))
}

fn array(rest: &[u8], limits: &Limits) -> Frame<(Command, usize)> {
    let Some((count, mut at)) = number(rest, 0, limits, "mbulk", "multibulk")? else {
        return Ok(None);
    };
    if count > i64::from(limits.args_max) {
        return Err("invalid multibulk length".into());
    }
    let mut command = Vec::new();
    for _ in 0..count {
        let Some((length, data)) = number(rest, at, limits, "bulk", "bulk")? else {
            return Ok(None);
        };
        if length > i64::from(limits.bulk_bytes_max) {
            return Err("invalid bulk length".into());
        }
        let end = data + length as usize;
        if end + 2 > limits.frame_bytes_max as usize {
            return Err("too big request".into());
        }
        if end + 2 > rest.len() {
            return Ok(None);
        }
        if &rest[end..end + 2] != b"\r\n" {
            return Err("missing line end after length or data".into());
        }
        command.push(rest[data..end].to_vec());
        at = end + 2;
    }
    Ok(Some((command, at)))
}

fn inline(rest: &[u8], limits: &Limits) -> Frame<(Command, usize)> {
    let lf = rest.iter().position(|&byte| byte == b'\n');
    if lf.unwrap_or(rest.len()) > limits.inline_bytes_max as usize {
        return Err("too big inline request".into());
    }
    let Some(lf) = lf else { return Ok(None) };
    let mut line = rest[..lf].to_vec();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.contains(&0) {
        return Err("NUL byte in inline request".into());
    }
    // NUL stands for the end of the line, as in C.
    line.push(0);
    Ok(Some((words(&line)?, lf + 1)))
}

fn words(line: &[u8]) -> Result<Command, String> {
    let unbalanced = || "unbalanced quotes in request".to_string();
    let blank = |byte: u8| b" \t\n\r\x0B\x0C".contains(&byte);
    let mut command = Vec::new();
    let mut at = 0;
    loop {
        while blank(line[at]) {
            at += 1;
        }
        if line[at] == 0 {
            return Ok(command);
        }
        let mut word = Vec::new();
        let mut quote = None;
        loop {
            let byte = line[at];
            match quote {
                None if b" \t\r\n\0".contains(&byte) => break,
                None if byte == b'"' || byte == b'\'' => quote = Some(byte),
                None => word.push(byte),
                Some(_) if byte == 0 => return Err(unbalanced()),
                Some(open) if byte == open => {
                    at += 1;
                    if line[at] != 0 && !blank(line[at]) {
                        return Err(unbalanced());
                    }
                    break;
                }
                Some(b'\'') if byte == b'\\' && line[at + 1] == b'\'' => {
                    at += 1;
                    word.push(b'\'');
                }
                Some(b'"') if byte == b'\\' && line[at + 1] != 0 => {
                    at += 1;
                    let digits = line.get(at + 1..at + 3).unwrap_or_default();
                    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                    word.push(match line[at] {
                        b'x' if digits.len() == 2 && is_hex => {
                            at += 2;
                            let digits = String::from_utf8_lossy(digits).into_owned();
                            u8::from_str_radix(&digits, 16).expect("two hex digits")
                        }
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'b' => 8,
                        b'a' => 7,
                        other => other,
                    });
                }
                Some(_) => word.push(byte),
            }
            at += 1;
        }
        command.push(word);
    }
}
