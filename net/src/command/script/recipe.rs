//! The scripts that are known: by the SHA-1 of their text without spaces and with single quotes.

use sha1_smol::Sha1;

use super::super::context::{Arguments, Context};
use super::super::expiry::{self, Unit};
use crate::protocol::number;

/// What a script means. Each has one key, and the holder's token as its first argument; each
/// answers 0 and does nothing unless the key's value is that token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipe {
    /// Deletes the key. Answers 1.
    Release,
    /// Lets the key live for the milliseconds of the second argument from now. Answers 1.
    Prolong,
    /// The same, or, if the third argument is 0, adds them to the time that the key has left. Does
    /// nothing, and answers 0, if the key has no deadline. Answers 1.
    Extend,
}

/// The known scripts. A test makes the digests of the first two anew from their texts.
const KNOWN: [(&str, Recipe); 5] = [
    // The comparison and DEL within one expression, as Redis's documentation of SET has it, and
    // the same with PEXPIRE.
    ("588c09aae54753afd325984e748a4e18801f6735", Recipe::Release),
    ("54dbf8d5b825beba1c79c099bd30cabbb42c44b9", Recipe::Prolong),
    // redis-py's `Lock`: release, reacquire, extend.
    ("1179e693b29fda653472cdbc3d5eb3ba1316ffd4", Recipe::Release),
    ("44f9927bdcb1e8eac2b677d9aff29ef04afdca7a", Recipe::Prolong),
    ("f74f76b5b5a8290bbcc17f740b44fdbe5a56ff72", Recipe::Extend),
];

/// No known script is longer.
const SCRIPT_BYTES_MAX: usize = 4096;

impl Recipe {
    /// What the script of this text means, if it is known.
    pub(super) fn of(script: &[u8]) -> Option<Recipe> {
        if script.len() > SCRIPT_BYTES_MAX {
            return None;
        }
        let bare = script.iter().filter(|byte| !byte.is_ascii_whitespace());
        let bare: Vec<u8> = bare.map(|&byte| if byte == b'"' { b'\'' } else { byte }).collect();
        let digest = Sha1::from(&bare).digest().to_string();
        KNOWN.iter().find(|(known, _)| *known == digest).map(|&(_, recipe)| recipe)
    }

    /// Carries it out. The arguments are those of EVAL, with a number of keys that is right.
    pub(super) fn run(self, context: &mut Context<'_>, args: &Arguments<'_>) {
        let arguments = match self {
            Recipe::Release => 1,
            Recipe::Prolong => 2,
            Recipe::Extend => 3,
        };
        if args.at(2) != b"1" || args.len() < 4 + arguments {
            context.error("ERR this script takes one key, and its arguments");
            return;
        }
        let (key, token, now_ms) = (args.at(3), args.at(4), context.now_ms);
        let hash = context.hash(key);
        let entry = context.shard.get(hash, key, now_ms);
        let held = entry.filter(|entry| entry.value == *token);
        let Some(left_ms) =
            held.map(|entry| entry.deadline_ms().map(|at| at.saturating_sub(now_ms)))
        else {
            context.reply().integer(0);
            return;
        };
        if self == Recipe::Release {
            context.shard.delete(hash, key, None, now_ms);
            context.reply().integer(1);
            return;
        }
        let adds = self == Recipe::Extend && args.at(6) == b"0";
        if self == Recipe::Extend && left_ms.is_none() {
            context.reply().integer(0);
            return;
        }
        let Some(wanted_ms) = number::parse_i64_strict(args.at(5)) else {
            context.not_an_integer();
            return;
        };
        let total_ms = wanted_ms.saturating_add(if adds { left_ms.unwrap_or(0) as i64 } else { 0 });
        let Some(at_ms) = expiry::deadline(total_ms, Unit::Milliseconds, now_ms) else {
            context.error("ERR invalid expire time in 'pexpire' command");
            return;
        };
        match context.shard.set_deadline(hash, key, Some(at_ms), now_ms) {
            Ok(_) => context.reply().integer(1),
            Err(error) => context.set_error(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_and_quotes_make_no_difference_and_anything_else_does() {
        let release = "if redis.call('get', KEYS[1]) == ARGV[1]\nthen\n  return redis.call(\"del\", \
                       KEYS[1])\nelse return 0 end";
        assert_eq!(Recipe::of(release.as_bytes()), Some(Recipe::Release));
        let prolong = release.replace("\"del\", KEYS[1]", "'pexpire',KEYS[1] , ARGV[2]");
        assert_eq!(Recipe::of(prolong.as_bytes()), Some(Recipe::Prolong));
        assert_eq!(Recipe::of(release.replace("0", "1").as_bytes()), None);
        assert_eq!(Recipe::of(b"return 1"), None);
        assert_eq!(Recipe::of(&[b' '; SCRIPT_BYTES_MAX + 1]), None);
    }
}
