//! Effects of state machines: the leader's alone, from its first own entry on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{Now, Term};

use super::NodeCore;
use super::group::{Answer, Group, Proposal};
use crate::api::Output;
use crate::effects::Effect;

/// The most timers of one group: what exceeds it is a machine that does not cancel.
const MAX_TIMERS: usize = 1 << 16;
/// A timer whose command did not get through is due again after so many microseconds.
const RETRY: u64 = 100_000;

/// What one group's machine wants done beside its state.
#[derive(Default)]
pub(crate) struct Reign {
    /// The machine has such wishes at all.
    pub(crate) has_effects: bool,
    /// The term in which this replica carries them out.
    pub(crate) term: Option<Term>,
    timers: BTreeMap<u64, (Now, Bytes)>,
    /// Timers that were due, until what they proposed is applied.
    fired: BTreeMap<u64, Bytes>,
    /// Timers by time.
    due: BTreeSet<(Now, u64)>,
}

impl Reign {
    pub(crate) fn of(has_effects: bool) -> Reign {
        Reign { has_effects, ..Reign::default() }
    }

    /// Nothing is carried out any more.
    pub(crate) fn end(&mut self) {
        self.term = None;
        self.timers.clear();
        self.due.clear();
        self.fired.clear();
    }

    fn set(&mut self, id: u64, at: Now, command: Bytes) {
        self.cancel(id);
        self.timers.insert(id, (at, command));
        self.due.insert((at, id));
    }

    fn cancel(&mut self, id: u64) {
        if let Some((at, _)) = self.timers.remove(&id) {
            self.due.remove(&(at, id));
        }
        self.fired.remove(&id);
    }

    fn next_due(&mut self, now: Now) -> Option<(u64, Bytes)> {
        let (at, id) = self.due.first().copied().filter(|(at, _)| *at <= now)?;
        self.due.remove(&(at, id));
        let (_, command) = self.timers.remove(&id)?;
        self.fired.insert(id, command.clone());
        Some((id, command))
    }

    /// What a timer proposed was applied, or not: then it is due again, at `again`. `false`: there
    /// is no such timer any more. Whoever leads no more has none.
    fn answered(&mut self, id: u64, applied: bool, again: Now) -> bool {
        let command = self.fired.remove(&id).filter(|_| !applied);
        let is_due = command.is_some();
        command.into_iter().for_each(|command| self.set(id, again, command));
        is_due
    }

    /// When the next timer is due.
    pub(crate) fn wake_at(&self) -> Option<Now> {
        self.due.first().map(|(at, _)| *at)
    }
}

impl Group {
    /// Whether the job that applies up to an entry of this term is followed by the beginning of
    /// effects, by what was added, or by nothing.
    pub(crate) fn begins_to_reign(&self, applied: Term) -> bool {
        let leads = self.is_leader() && applied == self.term();
        self.reign.has_effects && leads && self.reign.term != Some(applied)
    }
}

impl NodeCore {
    /// What a machine wants done behind a job; `begun` in the term in which it begins to lead.
    pub(super) fn carry_effects(&mut self, slot: usize, begun: Option<Term>, effects: Vec<Effect>) {
        let (now, wall) = (self.now(), self.time.wall_ms);
        let Some(group) = self.slots[slot].as_mut() else { return };
        let leads = group.is_leader();
        if let Some(term) = begun.filter(|term| leads && *term == group.term()) {
            group.reign.end();
            group.reign.term = Some(term);
        }
        let reigns = leads && group.reign.term == Some(group.term());
        if !reigns && !is(Defect::EffectsOfAll) {
            return;
        }
        let key = group.key;
        for effect in effects {
            match effect {
                Effect::Notice(payload) => self.out.push(Output::Notice { group: key, payload }),
                Effect::Timer { id, at_ms, command } => {
                    let wait = at_ms.saturating_sub(wall).saturating_mul(1_000);
                    group.reign.set(id, now.after(wait), command);
                }
                Effect::Cancel { id } => group.reign.cancel(id),
            }
        }
        if group.reign.timers.len() > MAX_TIMERS {
            let text = format!("the state machine has more than {MAX_TIMERS} timers");
            return self.halt_group(slot, text);
        }
        self.mark(slot);
    }

    /// Proposes what the timers that are due say.
    pub(super) fn fire_machine_timers(&mut self, slot: usize) {
        let (now, patience) = (self.now(), self.config.leader_wait);
        let mut due = Vec::new();
        if let Some(group) = self.slots[slot].as_mut() {
            due.extend(std::iter::from_fn(|| group.reign.next_due(now)));
        }
        for (id, payload) in due {
            self.admit(payload.len() as u64);
            let answer = Answer::Timer(slot, id);
            let deadline = now.after(patience);
            self.route(slot, Proposal { answer, payload, stamp: false, deadline });
        }
    }

    /// How a timer's proposal ended. What did not get through, or may not have, is due again.
    pub(super) fn timer_answered(&mut self, slot: usize, id: u64, applied: bool) {
        let again = self.now().after(RETRY);
        let Some(group) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        if group.reign.answered(id, applied, again) {
            self.mark(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired() -> Reign {
        let mut reign = Reign::of(true);
        reign.set(7, Now(5), Bytes::from_static(b"due"));
        assert_eq!(reign.next_due(Now(5)), Some((7, Bytes::from_static(b"due"))));
        reign
    }

    #[test]
    fn what_a_timer_proposed_in_vain_is_due_again_unless_it_was_cancelled_or_set_anew_meanwhile() {
        let mut reign = fired();
        assert!(reign.answered(7, false, Now(9)));
        assert_eq!(reign.wake_at(), Some(Now(9)));
        let mut reign = fired();
        assert!(!reign.answered(7, true, Now(9)));
        assert_eq!(reign.wake_at(), None);
        let mut reign = fired();
        reign.cancel(7);
        assert!(!reign.answered(7, false, Now(9)));
        assert_eq!(reign.wake_at(), None);
        let mut reign = fired();
        reign.set(7, Now(20), Bytes::from_static(b"anew"));
        assert!(!reign.answered(7, false, Now(9)));
        assert_eq!(reign.wake_at(), Some(Now(20)));
    }

    #[test]
    fn nothing_is_due_again_at_one_that_leads_no_more() {
        let mut reign = fired();
        reign.end();
        assert!(!reign.answered(7, false, Now(9)));
        assert_eq!(reign.wake_at(), None);
    }
}
