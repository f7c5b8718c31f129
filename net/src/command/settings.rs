//! What the server was told at start, or by CONFIG SET: the parameters that commands look at.

use std::sync::Arc;

use super::memcached::Credentials;
use super::rename::Renames;
use super::server::{TIMED_ARGS_MIN, TIMES_ALL_BELOW_US};
use super::spec::Spec;
use crate::cluster::ClusterView;
use crate::core::limits;

/// What one client may take, and what all may together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Arguments of a command.
    pub args_max: u32,
    /// The longest request, in bytes, if it is not that for the largest value.
    pub request_bytes_max: Option<u32>,
    /// Input that is held for a connection, in bytes.
    pub input_bytes_max: usize,
    /// Output beyond which the commands of a connection wait, in bytes.
    pub output_bytes_max: usize,
    /// Commands of a connection before others have their turn.
    pub run_commands_max: usize,
    /// Connections accepted in a second; 0: no limit.
    pub accepts_per_second: u32,
    /// How long a connection may be quiet; 0: for ever.
    pub timeout_ms: u64,
    /// How long a request may wait in the server once it was received; 0: for ever.
    pub request_age_ms: u64,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            args_max: limits::ARGS_MAX,
            request_bytes_max: None,
            input_bytes_max: usize::MAX,
            output_bytes_max: limits::OUTPUT_BYTES_HIGH,
            run_commands_max: limits::RUN_COMMANDS_MAX,
            accepts_per_second: 0,
            timeout_ms: 0,
            request_age_ms: 0,
        }
    }
}

/// See the module's page.
#[derive(Clone, Debug)]
pub struct Settings {
    /// CONFIG GET's parameters that stay as they are, by name, in alphabetical order.
    pub parameters: Vec<(&'static str, String)>,
    /// The largest value.
    pub value_bytes_max: usize,
    /// `requirepass`: what clients of the RESP port have to give; empty if nothing.
    pub password: Vec<u8>,
    /// `slowlog-log-slower-than`: from how many microseconds on commands are kept; negative: none.
    pub slowlog_threshold_us: i64,
    /// `slowlog-max-len`: how many are kept.
    pub slowlog_entries_max: usize,
    /// `latency-monitor-threshold`: from how many milliseconds on executions are events; 0: none.
    pub latency_threshold_ms: u64,
    /// Whether DEBUG is allowed.
    pub allows_debug: bool,
    /// Whether clients of the memcached port may stop the server and set its memory.
    pub memcached_admin: bool,
    /// Who may use the memcached port; `None`: everybody, or who knows the password.
    pub memcached_users: Option<Arc<Credentials>>,
    /// What clients may take.
    pub limits: ClientLimits,
    /// Commands under other names.
    pub renames: Renames,
    /// Which of the server's cores this is,
    pub core: u16,
    /// and how many there are.
    pub cores: u16,
    /// Whether a password may be changed, but not taken away: others than this host are let in.
    pub needs_password: bool,
    /// The cluster that core ports are nodes of, as this core sees it, if there are core ports.
    pub cluster: Option<Arc<ClusterView>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            parameters: Vec::new(),
            value_bytes_max: 8 << 20,
            password: Vec::new(),
            slowlog_threshold_us: 10_000,
            slowlog_entries_max: 128,
            latency_threshold_ms: 0,
            allows_debug: false,
            memcached_admin: false,
            memcached_users: None,
            limits: ClientLimits::default(),
            renames: Renames::default(),
            core: 0,
            cores: 1,
            needs_password: false,
            cluster: None,
        }
    }
}

impl Settings {
    /// Whether clients have to give a password.
    pub fn has_password(&self) -> bool {
        !self.password.is_empty()
    }

    /// Whether an execution of a command with this many arguments is timed.
    #[inline]
    pub fn times(&self, spec: &Spec, args: usize) -> bool {
        spec.is_timed
            || args >= TIMED_ARGS_MIN
            || (0..TIMES_ALL_BELOW_US).contains(&self.slowlog_threshold_us)
    }

    /// Whether an execution that took this long is kept by SLOWLOG.
    pub fn is_slow(&self, taken_us: u64) -> bool {
        u64::try_from(self.slowlog_threshold_us).is_ok_and(|least_us| taken_us >= least_us)
            && self.slowlog_entries_max > 0
    }

    /// Whether this is the password. Takes the same time wherever the two differ first; that the
    /// lengths differ may be seen from it.
    pub fn is_password(&self, given: &[u8]) -> bool {
        let pairs = given.iter().zip(&self.password);
        let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
        given.len() == self.password.len() && std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_compared_whole() {
        let settings = Settings { password: b"secret".to_vec(), ..Settings::default() };
        assert!(settings.has_password() && settings.is_password(b"secret"));
        for wrong in [&b""[..], b"secre", b"secrets", b"Secret", b"secreT"] {
            assert!(!settings.is_password(wrong), "{wrong:?}");
        }
    }
}
