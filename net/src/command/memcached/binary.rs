//! The commands of the binary protocol: the same meanings as those of the text, in other words.
//!
//! Who has yet to tell a password is refused anything but to do so, and to ask for the version;
//! then the connection ends, as memcached has it. The one mechanism is PLAIN (RFC 4616), with the
//! users of `--memcached-auth`, or the user `default` and the password of `--requirepass`. Without
//! either, the commands on passwords are unknown, as in a memcached without SASL.

use pinion_engine::{Condition, Deadline, Deleted, Refusal, SetError, SetOptions, Stored};

use super::text::{Counted, change_deadline, count, extend, flush_all};
use super::{VERSION, auth, is_authenticated, stats};
use crate::command::age;
use crate::command::context::{Context, Flow};
use crate::command::expiry;
use crate::command::large::REFER_BYTES_MIN;
use crate::protocol::memcached::binary::{
    Command, MESSAGE_BYTES_MAX, Parse, Progress, Reply, Request, Status, Verb, parse,
};
use crate::protocol::memcached::{Limits, StatForm, Tokens};
use crate::protocol::number::Decimal;

/// The mechanism of authentication.
const MECHANISM: &[u8] = b"PLAIN";

/// Runs the request in `frame`, which a parser has found whole.
pub fn run(context: &mut Context<'_>, frame: &[u8], limits: &Limits) -> Flow {
    context.counters.commands += 1;
    let is_known = is_authenticated(context.settings, context.session);
    let mut limits = *limits;
    if !is_known {
        limits.value_bytes_max = limits.value_bytes_max.min(MESSAGE_BYTES_MAX);
    }
    let Parse::Complete { request, .. } = parse(frame, &mut Progress::default(), &limits) else {
        // The password was taken away in the moment since the request was found, which stands
        // there without its value as it would have been too large.
        return Flow::Close;
    };
    if is_known || is_open(&request.command) {
        return execute(context, &request);
    }
    error(context, &request, Status::AuthError);
    Flow::Close
}

/// Refuses a request that is too old. `None` if it is to be executed all the same: it does nothing
/// but mark the end of others, or its client is not known yet.
pub fn refuse_old(context: &mut Context<'_>, frame: &[u8], limits: &Limits) -> Option<Flow> {
    let Parse::Complete { request, .. } = parse(frame, &mut Progress::default(), limits) else {
        return None;
    };
    let is_mark = matches!(
        request.command,
        Command::Noop | Command::Version | Command::Quit | Command::Refused { .. }
    );
    if is_mark || !is_authenticated(context.settings, context.session) {
        return None;
    }
    context.counters.request_age_refusals += 1;
    context.counters.errors += 1;
    let text = age::words(context.settings.limits.request_age_ms);
    Reply::to(request.tag, Status::TemporaryFailure).write(context.out, text.as_bytes());
    Some(Flow::Continue)
}

/// Whether a command is for those who are not known yet.
fn is_open(command: &Command<'_>) -> bool {
    use Command::{Authenticate, Mechanisms, Refused, Step, Version};
    match command {
        Mechanisms | Authenticate { .. } | Step { .. } | Version => true,
        // Lengths that cannot be are told to anybody, and names and messages that are too long.
        Refused { status, closes } => *closes == (*status == Status::UnknownCommand),
        _ => false,
    }
}

fn execute(context: &mut Context<'_>, request: &Request<'_>) -> Flow {
    match request.command {
        Command::Get { with_key } => {
            return retrieve(context, request, None, with_key.then_some(request.key));
        }
        Command::GetAndTouch { exptime, with_key } => {
            return retrieve(context, request, Some(exptime), with_key.then_some(request.key));
        }
        Command::Touch { exptime } => touch(context, request, exptime),
        Command::Store { verb, flags, exptime, value } => {
            let deadline = expiry::memcached_deadline(i64::from(exptime), context.now_ms);
            let options = SetOptions {
                condition: condition(verb, request.version),
                flags: Some(flags),
                deadline: deadline.map_or(Deadline::None, Deadline::At),
                ..SetOptions::default()
            };
            store(context, request, value, &options);
        }
        Command::Extend { is_prepend, value } => extended(context, request, value, is_prepend),
        Command::StoreTooLarge { is_set } => {
            context.counters.memcached.sets += 1;
            context.counters.memcached.store_too_large += 1;
            if is_set {
                context.shard.delete(context.first_hash, request.key, None, context.now_ms);
            }
            error(context, request, Status::TooLarge);
        }
        Command::Delete => delete(context, request),
        Command::Arithmetic { is_decrement, delta, initial } => {
            arithmetic(context, request, is_decrement, delta, initial);
        }
        Command::Flush { delay } => {
            success(context, request, 0);
            return flush_all(context, i64::from(delay));
        }
        Command::Noop | Command::Verbosity => success(context, request, 0),
        Command::Version => {
            Reply::to(request.tag, Status::Success).write(context.out, VERSION.as_bytes());
        }
        Command::Stat => {
            return stats::run(context, Tokens::new(request.key), StatForm::Binary(request.tag));
        }
        Command::Quit => {
            success(context, request, 0);
            return Flow::Close;
        }
        Command::Mechanisms if auth::is_wanted(context.settings) => {
            Reply::to(request.tag, Status::Success).write(context.out, MECHANISM);
        }
        Command::Authenticate { message } if auth::is_wanted(context.settings) => {
            authenticate(context, request, message);
        }
        Command::Step { message } if auth::is_wanted(context.settings) => {
            step(context, request, message);
        }
        Command::Mechanisms | Command::Authenticate { .. } | Command::Step { .. } => {
            error(context, request, Status::UnknownCommand);
        }
        Command::Refused { closes: false, .. } if !auth::is_wanted(context.settings) => {
            error(context, request, Status::UnknownCommand);
        }
        Command::Refused { status, closes } => {
            error(context, request, status);
            return if closes { Flow::Close } else { Flow::Continue };
        }
    }
    Flow::Continue
}

/// Answers that all went well, unless that is not wanted.
fn success(context: &mut Context<'_>, request: &Request<'_>, version: u64) {
    if !request.is_quiet {
        Reply { version, ..Reply::to(request.tag, Status::Success) }.write(context.out, b"");
    }
}

fn error(context: &mut Context<'_>, request: &Request<'_>, status: Status) {
    context.counters.errors += 1;
    Reply::to(request.tag, status).write(context.out, status.text().as_bytes());
}

/// Reads; with an expiry time it also sets that, and with a key it is told.
fn retrieve(
    context: &mut Context<'_>,
    request: &Request<'_>,
    touch: Option<u32>,
    key_told: Option<&[u8]>,
) -> Flow {
    let (start, key, hash) = (context.out.len(), request.key, context.first_hash);
    let Some(entry) = context.shard.get(hash, key, context.now_ms) else {
        context.counters.misses += 1;
        if touch.is_some() {
            context.counters.memcached.touch_misses += 1;
        }
        missed(context, request, key_told);
        return Flow::Continue;
    };
    let (flags, value_bytes) = (entry.flags().to_be_bytes(), entry.value.len());
    let has_room = value_bytes <= context.room_now_bytes;
    let reply = Reply {
        version: entry.version(),
        extras: &flags,
        key: key_told.unwrap_or_default(),
        ..Reply::to(request.tag, Status::Success)
    };
    let refuse = |context: &mut Context<'_>| error(context, request, Status::OutOfMemory);
    if let Some(bytes) = entry.value.as_slice() {
        if !has_room {
            return context.without_room(start, refuse);
        }
        reply.write(context.out, bytes);
    } else {
        reply.write_head(context.out, value_bytes);
        if has_room && context.out.len() + value_bytes <= REFER_BYTES_MIN {
            entry.value.chunks().for_each(|chunk| context.out.extend_from_slice(chunk));
        } else if context.refer_to(hash, key).is_err() {
            context.take_back(start);
            refuse(context);
            return Flow::Continue;
        }
    }
    context.counters.hits += 1;
    if let Some(exptime) = touch {
        // The value is answered even if the new deadline has passed.
        context.counters.memcached.touch_hits += 1;
        change_deadline(context, hash, key, i64::from(exptime));
    }
    Flow::Continue
}

/// A miss tells the key if a hit would have, and then nothing else.
fn missed(context: &mut Context<'_>, request: &Request<'_>, key_told: Option<&[u8]>) {
    if request.is_quiet {
        return;
    }
    let reply = Reply::to(request.tag, Status::NotFound);
    match key_told {
        Some(key) => Reply { key, ..reply }.write(context.out, b""),
        None => reply.write(context.out, Status::NotFound.text().as_bytes()),
    }
}

fn touch(context: &mut Context<'_>, request: &Request<'_>, exptime: u32) {
    let (key, hash) = (request.key, context.first_hash);
    let found = context.shard.peek(hash, key, context.now_ms);
    let found = found.map(|entry| (entry.flags().to_be_bytes(), entry.version()));
    context.counters.memcached.count_touch(found.is_some());
    let Some((extras, version)) = found else {
        return missed(context, request, None);
    };
    change_deadline(context, hash, key, i64::from(exptime));
    let reply = Reply { version, extras: &extras, ..Reply::to(request.tag, Status::Success) };
    reply.write(context.out, b"");
}

/// A version is the condition of any store; only without one the verbs differ.
fn condition(verb: Verb, version: u64) -> Condition {
    match (version, verb) {
        (0, Verb::Set) => Condition::Always,
        (0, Verb::Add) => Condition::IfAbsent,
        (0, Verb::Replace) => Condition::IfPresent,
        (version, _) => Condition::IfVersion(version),
    }
}

fn store(context: &mut Context<'_>, request: &Request<'_>, value: &[u8], options: &SetOptions) {
    let outcome = context.store(context.first_hash, request.key, value, options);
    context.counters.memcached.count_store(&outcome, request.version != 0);
    match outcome {
        Ok(Stored::Stored { version }) => success(context, request, version),
        Ok(Stored::ConditionFailed(Refusal::Absent)) => error(context, request, Status::NotFound),
        Ok(Stored::ConditionFailed(Refusal::Present | Refusal::VersionMismatch)) => {
            error(context, request, Status::Exists);
        }
        Err(failure) => {
            context.count_long_key(&failure);
            if options.condition == Condition::Always {
                // The client wanted the old value overwritten.
                context.shard.delete(context.first_hash, request.key, None, context.now_ms);
            }
            error(context, request, status_of(&failure));
        }
    }
}

fn status_of(error: &SetError) -> Status {
    match error {
        SetError::ValueTooLong { .. } | SetError::TooLarge => Status::TooLarge,
        SetError::NoSpace => Status::OutOfMemory,
        _ => Status::InvalidArguments,
    }
}

fn extended(context: &mut Context<'_>, request: &Request<'_>, value: &[u8], is_prepend: bool) {
    let (key, hash) = (request.key, context.first_hash);
    let found = context.shard.peek(hash, key, context.now_ms).map(|entry| entry.version());
    if found.is_some_and(|version| request.version != 0 && version != request.version) {
        context.counters.memcached.sets += 1;
        return error(context, request, Status::Exists);
    }
    let outcome = extend(context, key, value, is_prepend);
    context.counters.memcached.count_store(&outcome, false);
    match outcome {
        Ok(Stored::Stored { version }) => success(context, request, version),
        Ok(Stored::ConditionFailed(_)) | Err(_) => error(context, request, Status::NotStored),
    }
}

fn delete(context: &mut Context<'_>, request: &Request<'_>) {
    let wanted = Some(request.version).filter(|&version| version != 0);
    let deleted = context.shard.delete(context.first_hash, request.key, wanted, context.now_ms);
    match deleted {
        Deleted::Deleted => {
            context.counters.memcached.delete_hits += 1;
            success(context, request, 0);
        }
        Deleted::Absent => {
            context.counters.memcached.delete_misses += 1;
            error(context, request, Status::NotFound);
        }
        Deleted::VersionMismatch => error(context, request, Status::Exists),
    }
}

fn arithmetic(
    context: &mut Context<'_>,
    request: &Request<'_>,
    is_decrement: bool,
    delta: u64,
    initial: Option<(u64, u32)>,
) {
    let counted = count(context, request.key, delta, is_decrement, request.version);
    let (number, version) = match counted {
        Counted::Done { number, version } => (number, version),
        Counted::Absent => {
            let Some((number, exptime)) = initial else {
                context.counters.memcached.count_arithmetic(is_decrement, false);
                return error(context, request, Status::NotFound);
            };
            match begin_counter(context, request, number, exptime) {
                Ok(Stored::Stored { version }) => (number, version),
                Ok(Stored::ConditionFailed(_)) => {
                    return error(context, request, Status::NotStored);
                }
                Err(_) => return error(context, request, Status::OutOfMemory),
            }
        }
        Counted::NotANumber => return error(context, request, Status::NotANumber),
        Counted::OtherVersion => return error(context, request, Status::Exists),
        Counted::Failed(_) => return error(context, request, Status::OutOfMemory),
    };
    if !request.is_quiet {
        let reply = Reply { version, ..Reply::to(request.tag, Status::Success) };
        reply.write(context.out, &number.to_be_bytes());
    }
}

fn begin_counter(
    context: &mut Context<'_>,
    request: &Request<'_>,
    number: u64,
    exptime: u32,
) -> Result<Stored, SetError> {
    let deadline = expiry::memcached_deadline(i64::from(exptime), context.now_ms);
    let options = SetOptions {
        condition: Condition::IfAbsent,
        flags: Some(0),
        deadline: deadline.map_or(Deadline::None, Deadline::At),
        ..SetOptions::default()
    };
    let (hash, digits) = (context.first_hash, Decimal::new(number));
    context.shard.set(hash, request.key, digits.as_bytes(), &options, context.now_ms)
}

/// The first message of PLAIN may come with the request, or be asked for.
fn authenticate(context: &mut Context<'_>, request: &Request<'_>, message: &[u8]) {
    auth::forget(context);
    if request.key == MECHANISM && message.is_empty() {
        context.session.sasl_begun = true;
        return Reply::to(request.tag, Status::AuthContinue).write(context.out, b"");
    }
    check(context, request, message, request.key == MECHANISM);
}

fn step(context: &mut Context<'_>, request: &Request<'_>, message: &[u8]) {
    let has_begun = std::mem::take(&mut context.session.sasl_begun);
    check(context, request, message, has_begun);
}

/// Checks a message of PLAIN: who is acted for, the user and the password, NULs between.
fn check(context: &mut Context<'_>, request: &Request<'_>, message: &[u8], may_be: bool) {
    let mut words = message.splitn(3, |&byte| byte == 0);
    let is_right = match (words.next(), words.next(), words.next()) {
        // Nobody acts for another user.
        (Some(acts_for), Some(user), Some(password)) => {
            (acts_for.is_empty() || acts_for == user)
                && may_be
                && auth::is_right(context, user, password)
        }
        _ => false,
    };
    context.counters.memcached.auth_commands += 1;
    if is_right {
        return Reply::to(request.tag, Status::Success).write(context.out, b"Authenticated");
    }
    context.counters.memcached.auth_errors += 1;
    error(context, request, Status::AuthError);
}
