//! Effects of the machine behind the sessions: its own, but for what its timers propose.

use bytes::Bytes;
use refloat_planted::{Defect, is};

use super::client::SessionClient;
use super::machine::{Sessions, with_stamp};
use crate::effects::{Effect, Effects};
use crate::machine::StateMachine;

/// What the machine adds is asked for behind each of its batches, of which one batch of entries
/// may bring several, and none for entries that the sessions answer by themselves. So an attempt
/// at a command that was applied before adds nothing.
impl<M: StateMachine> Effects for Sessions<M> {
    fn begin(&mut self) -> Vec<Effect> {
        self.new_effects.clear();
        let owed = self.machine.effects().map(Effects::begin).unwrap_or_default();
        owed.into_iter().map(in_front).collect()
    }

    fn take(&mut self) -> Vec<Effect> {
        if is(Defect::EffectsTakenTwice) {
            return self.new_effects.clone();
        }
        std::mem::take(&mut self.new_effects)
    }
}

/// A timer proposes its command in the form of these entries. It is nobody's command, and brings no
/// time: that of the entries before it goes on to count.
pub(super) fn in_front(effect: Effect) -> Effect {
    match effect {
        Effect::Timer { id, at_ms, command } => {
            Effect::Timer { id, at_ms, command: timed_out(command) }
        }
        other => other,
    }
}

fn timed_out(command: Bytes) -> Bytes {
    with_stamp(0, &SessionClient::plain(command))
}
