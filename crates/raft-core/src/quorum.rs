//! Majorities, of one configuration or of both halves of a joint one (section 6 of the paper).
//!
//! Pure functions of a membership and of what is known of each member. What is known is asked by
//! identity, life included: an answer of another life of a node is no answer.

use refloat_planted::{Defect, is};
use refloat_types::{ConfState, Index, Member};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteResult {
    /// Missing answers can still decide either way.
    Pending,
    /// No answers that are still missing can make it a win.
    Lost,
    /// A majority of each half said yes.
    Won,
}

/// How many of `voters` make a majority. None of an empty list: it agrees with everything, so
/// that a joint configuration with an empty half equals the other half.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    if voters == 0 { 0 } else { voters / 2 + 1 }
}

/// Whether a majority of each half answers yes.
#[must_use]
pub fn has_quorum(conf: &ConfState, yes: impl Fn(Member) -> bool) -> bool {
    let half =
        |voters: &[Member]| voters.iter().filter(|m| yes(**m)).count() >= majority(voters.len());
    half(&conf.voters) && (half(&conf.outgoing) || is(Defect::OneHalfCounted))
}

/// How an election stands, given each voter's answer, if it came.
#[must_use]
pub fn vote_result(conf: &ConfState, answer: impl Fn(Member) -> Option<bool>) -> VoteResult {
    if has_quorum(conf, |m| answer(m) == Some(true)) {
        return VoteResult::Won;
    }
    if has_quorum(conf, |m| answer(m) != Some(false)) {
        return VoteResult::Pending;
    }
    VoteResult::Lost
}

/// The highest index that a majority of each half holds (section 5.3); [`Index::ZERO`] for a
/// membership without voters, which can commit nothing.
#[must_use]
pub fn committed_index(conf: &ConfState, matched: impl Fn(Member) -> Index) -> Index {
    if conf.voters.is_empty() {
        return Index::ZERO;
    }
    let mut best = Index::ZERO;
    for voter in conf.voters.iter().chain(&conf.outgoing) {
        let candidate = matched(*voter);
        if candidate > best && has_quorum(conf, |m| matched(m) >= candidate) {
            best = candidate;
        }
    }
    best
}
