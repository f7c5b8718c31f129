//! EVAL, EVALSHA and SCRIPT, for the scripts of lock libraries and no others.
//!
//! There is no Lua here: a script could keep the core busy for as long as it likes. But the
//! libraries that lock by a key let the holder alone release or prolong it, and since Redis has no
//! command for that they do it by a script of a few lines, always the same. Those are recognized
//! by their text and carried out as what they mean. Any other script is refused in words.
//!
//! Spaces and the kind of quotes make no difference to what is recognized. SCRIPT LOAD and EVALSHA
//! name a script by the SHA-1 of its exact text, as in Redis.

mod recipe;

use sha1_smol::{Digest, Sha1};

use super::container;
use super::context::{Arguments, Context, Flow};
use super::spec::{KeySpec, Reach, Spec, Spread};
use crate::protocol::number;
use recipe::Recipe;

/// The family.
pub(super) const COMMANDS: &[Spec] = &[
    Spec::new("eval", -3, eval)
        .flags("noscript stale skip_monitor no_mandatory_keys movablekeys")
        .categories("@slow @scripting")
        .keys(&[KeySpec::counted("RW access update", 2)])
        .since("2.6.0")
        .reach(Reach::Keys(Spread::Together))
        .summary("Carries out a script that a lock library uses."),
    Spec::new("evalsha", -3, evalsha)
        .flags("noscript stale skip_monitor no_mandatory_keys movablekeys")
        .categories("@slow @scripting")
        .keys(&[KeySpec::counted("RW access update", 2)])
        .since("2.6.0")
        .reach(Reach::Keys(Spread::Together))
        .summary("Carries out a script that was loaded, by the SHA-1 of its text."),
    Spec::new("script", -2, container)
        .categories("@slow")
        .since("2.6.0")
        .summary("Contains commands about scripts.")
        .subcommands(&[
            Spec::new("exists", -3, exists)
                .flags("noscript")
                .categories("@slow @scripting")
                .tips("request_policy:all_shards response_policy:agg_logical_and")
                .since("2.6.0")
                .cost("O(N) in the number of names")
                .summary("Tells which scripts are loaded."),
            Spec::new("flush", -2, flush)
                .flags("noscript")
                .categories("@slow @scripting")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("2.6.0")
                .summary("Forgets all scripts."),
            Spec::new("help", 2, help)
                .flags("loading stale")
                .categories("@slow @scripting")
                .since("5.0.0")
                .summary("Tells what the subcommands do."),
            Spec::new("load", 3, load)
                .flags("noscript stale")
                .categories("@slow @scripting")
                .tips("request_policy:all_nodes response_policy:all_succeeded")
                .since("2.6.0")
                .cost("O(N) in the bytes of the script")
                .summary("Keeps a script for EVALSHA."),
        ]),
];

/// Scripts that are kept: texts of the few recipes that differ in spaces and quotes.
const LOADED_MAX: usize = 64;

/// The scripts that were loaded.
#[derive(Debug, Default)]
pub struct Scripts {
    loaded: Vec<(Digest, Recipe)>,
}

impl Scripts {
    fn find(&self, name: &[u8]) -> Option<Recipe> {
        let name = std::str::from_utf8(name).ok()?;
        let digest: Digest = name.to_ascii_lowercase().parse().ok()?;
        self.loaded.iter().find(|(known, _)| *known == digest).map(|&(_, recipe)| recipe)
    }

    /// Keeps a script; when there are too many, the oldest goes.
    fn keep(&mut self, text: &[u8], recipe: Recipe) -> Digest {
        let digest = Sha1::from(text).digest();
        if !self.loaded.iter().any(|(known, _)| *known == digest) {
            if self.loaded.len() == LOADED_MAX {
                self.loaded.remove(0);
            }
            self.loaded.push((digest, recipe));
        }
        digest
    }
}

fn refuse(context: &mut Context<'_>) {
    context.error(
        "ERR there is no Lua here: only the scripts by which lock libraries release and prolong \
         locks are known",
    );
}

fn eval(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if !keys_are_right(context, args) {
        return Flow::Continue;
    }
    match Recipe::of(args.at(1)) {
        Some(recipe) => {
            context.server.scripts.keep(args.at(1), recipe);
            recipe.run(context, args);
        }
        None => refuse(context),
    }
    Flow::Continue
}

fn evalsha(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if !keys_are_right(context, args) {
        return Flow::Continue;
    }
    match context.server.scripts.find(args.at(1)) {
        Some(recipe) => recipe.run(context, args),
        None => context.error("NOSCRIPT No matching script. Please use EVAL."),
    }
    Flow::Continue
}

/// Whether the number of keys is one that the arguments allow; answers with an error if not.
fn keys_are_right(context: &mut Context<'_>, args: &Arguments<'_>) -> bool {
    match number::parse_i64_strict(args.at(2)) {
        None => context.not_an_integer(),
        Some(..0) => context.error("ERR Number of keys can't be negative"),
        Some(count) if count > args.len() as i64 - 3 => {
            context.error("ERR Number of keys can't be greater than number of args");
        }
        Some(_) => return true,
    }
    false
}

fn load(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    match Recipe::of(args.at(2)) {
        Some(recipe) => {
            let digest = context.server.scripts.keep(args.at(2), recipe).to_string();
            context.reply().bulk(digest.as_bytes());
        }
        None => refuse(context),
    }
    Flow::Continue
}

fn exists(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    context.reply().array(args.len() - 2);
    for name in args.from(2) {
        let known = context.server.scripts.find(name).is_some();
        context.reply().integer(i64::from(known));
    }
    Flow::Continue
}

fn flush(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    if args.len() > 3 || (args.len() == 3 && !args.is(2, "ASYNC") && !args.is(2, "SYNC")) {
        context.error("ERR SCRIPT FLUSH only support SYNC|ASYNC option");
        return Flow::Continue;
    }
    context.server.scripts.loaded.clear();
    context.reply().ok();
    Flow::Continue
}

fn help(context: &mut Context<'_>, _: &Arguments<'_>) -> Flow {
    let lines = [
        "EXISTS <sha1> [<sha1> ...]",
        "    Tells which scripts are loaded.",
        "FLUSH [ASYNC|SYNC]",
        "    Forgets all scripts.",
        "LOAD <script>",
        "    Keeps a script of a lock library for EVALSHA.",
    ];
    context.help("SCRIPT", &lines);
    Flow::Continue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_kept_by_the_digest_of_their_text_and_not_too_many() {
        let mut scripts = Scripts::default();
        let first = scripts.keep(b"0", Recipe::Release).to_string();
        assert_eq!(first, "b6589fc6ab0dc82cf12099d1c2d40ab994e8410c");
        assert_eq!(scripts.find(first.to_uppercase().as_bytes()), Some(Recipe::Release));
        for number in 1..=LOADED_MAX {
            scripts.keep(number.to_string().as_bytes(), Recipe::Prolong);
        }
        assert_eq!((scripts.find(first.as_bytes()), scripts.loaded.len()), (None, LOADED_MAX));
        assert_eq!((scripts.find(b"x"), scripts.find(b"\xff")), (None, None));
    }
}
