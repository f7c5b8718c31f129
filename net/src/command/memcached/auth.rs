//! Who may use the memcached port: users and their passwords, from a file, or without one the user
//! `default` with the password of `--requirepass`, if there is one.
//!
//! As in memcached (its `-Y`), a client's first request must be a `set` of any key whose data is
//! `user password`. Until then every other request is refused. In the binary protocol the same
//! users tell their passwords by SASL: see `binary`.
//!
//! Source: `doc/protocol.txt` of memcached, "Authentication".

use crate::command::Settings;
use crate::command::connection::unlock;
use crate::command::context::{Context, Flow};
use crate::connection::Session;
use crate::protocol::memcached::{Request, Store, StoreVerb, Writer};

use super::server_error;

pub(super) const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated";

/// Users that a file may name.
const USERS_MAX: usize = 256;
/// The longest line, as in memcached.
const LINE_BYTES_MAX: usize = 256;

/// Users and passwords.
#[derive(Debug)]
pub struct Credentials {
    users: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Credentials {
    /// Reads the lines of a file: `user:password`. Empty lines are passed over.
    ///
    /// # Errors
    /// Says which line is wrong, or that there is no user.
    pub fn parse(text: &[u8]) -> Result<Credentials, String> {
        let mut users = Vec::new();
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let wrong = |why: &str| Err(format!("line {}: {why}", number + 1));
            let mut parts = line.splitn(2, |&byte| byte == b':');
            let (Some(user), Some(password)) = (parts.next(), parts.next()) else {
                return wrong("it is not 'user:password'");
            };
            // The request that tells them separates them by spaces.
            if user.is_empty() || password.is_empty() || line.contains(&b' ') {
                return wrong("user and password must not be empty or hold spaces");
            }
            if line.len() > LINE_BYTES_MAX || users.len() == USERS_MAX {
                return wrong("lines have 256 bytes at most, and so many users are allowed");
            }
            users.push((user.to_vec(), password.to_vec()));
        }
        if users.is_empty() {
            return Err("it names no user".to_owned());
        }
        Ok(Credentials { users })
    }

    /// Whether a user has this password. The time that it takes does not tell how much of one is
    /// right.
    fn check(&self, user: &[u8], password: &[u8]) -> bool {
        let mut found = false;
        for (known_user, known_password) in &self.users {
            found |= same(known_user, user) & same(known_password, password);
        }
        found
    }
}

fn same(known: &[u8], given: &[u8]) -> bool {
    let mut differs = known.len() ^ given.len();
    for (index, &byte) in given.iter().enumerate() {
        let other = known.get(index).copied().unwrap_or(0);
        differs |= usize::from(byte ^ other);
    }
    std::hint::black_box(differs) == 0
}

/// Whether a client of the memcached port may do anything.
#[inline]
pub fn is_authenticated(settings: &Settings, session: &Session) -> bool {
    match settings.memcached_users {
        Some(_) => session.memcached_user,
        None => session.authenticated || !settings.has_password(),
    }
}

/// Whether there is anything that a client has to know.
pub(super) fn is_wanted(settings: &Settings) -> bool {
    settings.memcached_users.is_some() || settings.has_password()
}

/// Takes back what a client has shown to know.
pub(super) fn forget(context: &mut Context<'_>) {
    context.session.memcached_user = false;
    context.session.authenticated = !context.settings.has_password();
    context.session.sasl_begun = false;
}

/// Lets a client in if user and password are right; whether they are.
pub(super) fn is_right(context: &mut Context<'_>, user: &[u8], password: &[u8]) -> bool {
    let is_right = match &context.settings.memcached_users {
        Some(users) => users.check(user, password),
        None => unlock(context, user, password),
    };
    context.session.memcached_user |= is_right;
    is_right
}

/// Answers a request of a client that is not known yet.
pub(super) fn first(context: &mut Context<'_>, request: &Request<'_>) -> Flow {
    let data = match *request {
        Request::Quit => return Flow::Close,
        Request::Store(Store { verb: StoreVerb::Set, data, .. }) => data,
        _ => {
            server_error(context, UNAUTHENTICATED);
            return Flow::Continue;
        }
    };
    let mut words = data.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let (Some(user), Some(password)) = (words.next(), words.next()) else {
        server_error(context, "CLIENT_ERROR bad authentication token format");
        return Flow::Continue;
    };
    context.counters.memcached.auth_commands += 1;
    if is_right(context, user, password) {
        Writer::new(context.out).line("STORED");
    } else {
        context.counters.memcached.auth_errors += 1;
        server_error(context, "CLIENT_ERROR authentication failure");
    }
    Flow::Continue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_user_a_line() {
        let users = Credentials::parse(b"ann:one\r\n\nbob:two:three\n").expect("two users");
        assert!(users.check(b"ann", b"one") && users.check(b"bob", b"two:three"));
        for (user, password) in [("ann", "two:three"), ("ann", "on"), ("ann", "onee"), ("", "")] {
            assert!(!users.check(user.as_bytes(), password.as_bytes()), "{user} {password}");
        }
        let many = "a:b\n".repeat(USERS_MAX + 1);
        for text in ["", "\n", "ann", "ann:one\n:two", "ann:", "ann:o ne", many.as_str()] {
            assert!(Credentials::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let error = Credentials::parse(b"a:b\nx\n").expect_err("no password");
        assert!(error.starts_with("line 2: "), "{error}");
    }
}
