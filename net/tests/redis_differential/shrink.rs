//! Fewer steps that show the same: what a person looks at.

use std::time::{Duration, Instant};

use crate::real::Pair;
use crate::rules::Rules;
use crate::steps::{Difference, Session, Step, Stop, show};

/// How long may be spent on it.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What came of a run of steps.
pub(crate) enum Outcome {
    Same,
    /// An accepted difference ended it.
    Apart,
    /// The number of the step that showed a difference.
    Different(usize, Difference),
}

/// Runs steps on empty servers.
pub(crate) fn replay(
    pair: &mut Pair,
    rules: &mut Rules,
    databases: usize,
    steps: &[Step],
) -> Outcome {
    pair.revive();
    let mut session = Session::start(pair, rules, databases).expect("both servers answer");
    for (index, step) in steps.iter().enumerate() {
        match session.step(step) {
            Ok(()) => {}
            Err(Stop::Apart) => return Outcome::Apart,
            Err(Stop::Difference(difference)) => return Outcome::Different(index, difference),
        }
    }
    Outcome::Same
}

/// Leaves out all that is not needed for a difference of the same kind.
pub(crate) fn shrink(
    pair: &mut Pair,
    rules: &Rules,
    databases: usize,
    steps: &[Step],
    difference: Difference,
) -> (Vec<Step>, Difference) {
    let start = Instant::now();
    let kind = difference.kind();
    let mut best = (steps.to_vec(), difference);
    let mut attempt = |steps: &[Step], best: &mut (Vec<Step>, Difference)| -> bool {
        match replay(pair, &mut rules.clone(), databases, steps) {
            Outcome::Different(last, difference) if difference.kind() == kind => {
                *best = (steps[..=last].to_vec(), difference);
                true
            }
            _ => false,
        }
    };
    let single: Vec<Step> = steps.iter().flat_map(split).collect();
    attempt(&single, &mut best);
    let mut length = best.0.len() / 2;
    while length > 0 && start.elapsed() < TIME_MAX {
        let mut from = 0;
        while from < best.0.len() && start.elapsed() < TIME_MAX {
            let end = (from + length).min(best.0.len());
            let fewer = [&best.0[..from], &best.0[end..]].concat();
            if !attempt(&fewer, &mut best) {
                from = end;
            }
        }
        length /= 2;
    }
    best
}

/// A pipeline's commands as steps of their own.
fn split(step: &Step) -> Vec<Step> {
    match step {
        Step::Pipeline { link, commands, .. } => commands
            .iter()
            .map(|command| Step::Pipeline { link: *link, commands: vec![command.clone()], cut: 0 })
            .collect(),
        other => vec![other.clone()],
    }
}

/// Steps for a person.
pub(crate) fn listing(steps: &[Step]) -> String {
    let mut text = String::new();
    for step in steps {
        match step {
            Step::Pipeline { link, commands, .. } => {
                for command in commands {
                    text += &format!("connection {link}> {}\n", show(command));
                }
            }
            other => text += &format!("{other:?}\n"),
        }
    }
    text
}
