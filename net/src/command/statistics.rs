//! What is counted of commands, for INFO: calls and failures of each, and errors by their codes.
//!
//! Cost: a call is one addition to a line that belongs to the command; an error looks its code up
//! in a short list. Time is known of those executions alone that are timed, see `slowlog`.

use super::table::NUMBER_COUNT;

/// Error codes that are told apart; further ones are not counted. As Redis.
const ERROR_CODES_MAX: usize = 128;

/// What is counted of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandCount {
    /// Executions.
    pub calls: u64,
    /// Microseconds of the executions that were timed.
    pub usec: u64,
    /// Times that it was refused before it was executed.
    pub rejected: u64,
    /// Executions that ended with an error.
    pub failed: u64,
}

/// What is counted of all commands.
#[derive(Clone, Debug)]
pub struct Statistics {
    commands: Box<[CommandCount; NUMBER_COUNT]>,
    /// Errors by code, such as `ERR`, with how many there were.
    errors: Vec<(String, u64)>,
    /// Whether errors are not counted now, since they are those of a part of a command.
    is_partial: bool,
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics {
            commands: Box::new([CommandCount::default(); NUMBER_COUNT]),
            errors: Vec::new(),
            is_partial: false,
        }
    }
}

impl Statistics {
    /// The counts of the command with a number.
    #[inline]
    pub fn of(&mut self, number: u16) -> &mut CommandCount {
        &mut self.commands[usize::from(number)]
    }

    /// Counts an error by the first word of its text.
    pub fn count_error(&mut self, text: &str) {
        if !self.is_partial {
            self.count_errors(text.split(' ').next().unwrap_or_default(), 1);
        }
    }

    fn count_errors(&mut self, code: &str, count: u64) {
        if let Some((_, sum)) = self.errors.iter_mut().find(|(known, _)| known == code) {
            *sum += count;
        } else if self.errors.len() < ERROR_CODES_MAX {
            self.errors.push((code.to_owned(), count));
        }
    }

    /// Whether errors are those of a part of a command from now on, which are not counted.
    pub fn set_partial(&mut self, is_partial: bool) {
        self.is_partial = is_partial;
    }

    /// Adds what another core has counted.
    pub fn add(&mut self, other: &Statistics) {
        for (sum, count) in self.commands.iter_mut().zip(other.commands.iter()) {
            sum.calls += count.calls;
            sum.usec += count.usec;
            sum.rejected += count.rejected;
            sum.failed += count.failed;
        }
        for (code, count) in &other.errors {
            self.count_errors(code, *count);
        }
    }

    /// The commands that were called or refused, by number.
    pub fn commands(&self) -> impl Iterator<Item = (u16, &CommandCount)> {
        let used = |count: &CommandCount| count.calls > 0 || count.rejected > 0;
        (0u16..).zip(self.commands.iter()).filter(move |(_, count)| used(count))
    }

    /// Errors by code, in the order of their first occurrence.
    pub fn errors(&self) -> &[(String, u64)] {
        &self.errors
    }

    /// Zeroes everything.
    pub fn reset(&mut self) {
        self.commands.fill(CommandCount::default());
        self.errors.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_code_and_codes_are_bounded() {
        let mut statistics = Statistics::default();
        statistics.count_error("ERR one");
        statistics.count_error("OOM no");
        statistics.count_error("ERR two");
        assert_eq!(statistics.errors(), [("ERR".to_owned(), 2), ("OOM".to_owned(), 1)]);
        for number in 0..2 * ERROR_CODES_MAX {
            statistics.count_error(&format!("E{number} x"));
        }
        assert_eq!(statistics.errors().len(), ERROR_CODES_MAX);
        statistics.of(3).calls += 1;
        assert_eq!(statistics.commands().map(|(number, _)| number).collect::<Vec<_>>(), [3]);
        let mut sum = Statistics::default();
        sum.count_error("OOM no");
        sum.set_partial(true);
        sum.count_error("OOM no");
        sum.set_partial(false);
        sum.of(3).calls = 4;
        sum.add(&statistics);
        assert_eq!((sum.of(3).calls, &sum.errors()[0]), (5, &("OOM".to_owned(), 2)));
        statistics.reset();
        assert_eq!((statistics.commands().count(), statistics.errors().len()), (0, 0));
    }
}
