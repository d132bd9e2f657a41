//! Looking at a directory that somebody may be writing to.

use std::error::Error;

use refloat_vfs::Vfs;

use crate::boot::{Examination, examine};
use crate::error::BootError;
use crate::options::Options;
use crate::state::GroupState;

/// Told what is being read, for who wants to show it.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// A writer that is faster than the reader can make each look differ from the one before.
const LOOKS: usize = 6;
/// A doubt about all others: it does not become certain by being seen twice.
const MOVED: &str = "log files came or went meanwhile";

/// As [`examine`], beside a running node too. A reader that is overtaken by the writer sees
/// contradictions that are none: a batch that was not there yet and the one behind it that is, a
/// file that was listed and is released by now. None of them can be seen twice.
///
/// # Errors
/// As [`examine`].
pub fn look(
    vfs: &dyn Vfs,
    options: &Options,
    progress: Progress<'_>,
) -> Result<Examination, BootError> {
    settled(|| {
        progress("both logs, segments and snapshots");
        let seen = examine(vfs, options);
        let doubts = doubts_of(&seen);
        (seen, doubts)
    })
}

/// Repeats a look until it finds nothing doubtful, or twice the same.
pub(super) fn settled<T>(
    mut attempt: impl FnMut() -> (Result<T, BootError>, Vec<String>),
) -> Result<T, BootError> {
    let mut before: Option<Vec<String>> = None;
    for _ in 1..LOOKS {
        let (seen, doubts) = attempt();
        let at_rest = !doubts.iter().any(|doubt| doubt == MOVED);
        if doubts.is_empty() || at_rest && before.as_ref() == Some(&doubts) {
            return seen;
        }
        before = Some(doubts);
    }
    attempt().0
}

/// What a look found that may be an illusion; empty if there is nothing.
pub(super) fn doubts_of(seen: &Result<Examination, BootError>) -> Vec<String> {
    let examination = match seen {
        Ok(examination) => examination,
        Err(error) => return vec![in_words(error)],
    };
    let report = examination.report();
    let unclean = report.groups.iter().filter(|group| group.state != GroupState::Clean);
    let groups = unclean.map(|g| format!("{}@{} {} {:?}", g.group, g.epoch, g.state, g.waits_for));
    let mut doubts: Vec<String> = report.damage.iter().cloned().chain(groups).collect();
    if report.moved && !doubts.is_empty() {
        doubts.push(MOVED.to_owned());
    }
    doubts
}

/// An error with its causes.
pub(super) fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(looks: &[&[&str]]) -> (usize, Result<usize, BootError>) {
        let mut n = 0;
        let result = settled(|| {
            let doubts = looks[n.min(looks.len() - 1)].iter().map(ToString::to_string).collect();
            n += 1;
            (Ok(n), doubts)
        });
        (n, result)
    }

    #[test]
    fn a_doubt_counts_when_it_is_seen_twice_in_a_row_and_looking_ends() {
        assert_eq!(run(&[&[]]).0, 1, "nothing wrong: one look");
        assert_eq!(run(&[&["a"], &[]]).0, 2, "an illusion");
        assert_eq!(run(&[&["a"], &["a"]]).0, 2, "real");
        assert_eq!(run(&[&["a"], &["b"], &["b"]]).0, 3);
        assert_eq!(run(&[&["a", MOVED], &["a", MOVED], &["a"], &["a"]]).0, 4, "not at rest");
        let (looks, result) = run(&[&["a"], &["b"], &["a"], &["b"], &["a"], &["b"], &["a"]]);
        assert_eq!((looks, result.unwrap()), (LOOKS, LOOKS), "bounded");
    }
}
