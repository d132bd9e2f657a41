//! A follower's side of replication (section 5.3): what it takes, and what it acknowledges.

use alloc::vec::Vec;

use refloat_types::{Entry, EntryId, Index, Member};

use crate::step::malformed_from;
use crate::{Append, Body, Core, Role, StepError};

impl Core {
    /// AppendEntries. The ack leaves when what it covers is durable here, maybe later and
    /// together with others.
    pub(crate) fn on_append(&mut self, from: Member, append: Append) -> Result<(), StepError> {
        let Append { mut prev, commit, mut entries } = append;
        let (brings, known_commit) = (!entries.is_empty(), self.commit);
        self.hear_leader(from);
        if !self.rights.may_ack {
            return Ok(());
        }
        if prev.index < self.commit && self.contradicts_commit(&entries) {
            return Err(malformed_from(from, "an append that contradicts committed entries"));
        }
        self.leave_out_what_lacks_space(&mut entries);
        let last = prev.index + entries.len() as u64;
        let known = self.commit.min(self.whole_to());
        if prev.index < known {
            entries.drain(..entries.len().min((known - prev.index) as usize));
            prev = self.log.id(known);
        }
        if !self.log.contains(prev) || prev.index > self.whole_to() {
            if !self.follows_what_is_outside(prev) {
                self.reject(from, prev);
            }
            return Ok(());
        }
        self.merge(entries);
        self.validated = self.validated.max(last.max(prev.index));
        self.commit_what_configs_prove();
        self.commit_to(commit.min(self.validated));
        self.heal_if_whole();
        // A leader that says only what is committed was told all that there is to tell. One that
        // missed it asks at its next beat, and then has no news.
        let only_commit = !brings && self.commit > known_commit;
        let told = self.acked > Index::ZERO && self.acked == self.ackable();
        if self.ackable() >= last.min(self.whole_to()) && !(only_commit && told) {
            self.ack(from);
        }
        Ok(())
    }

    fn contradicts_commit(&self, entries: &[Entry]) -> bool {
        let known =
            |e: &&Entry| e.id.index <= self.commit && e.id.index >= self.log.compacted().index;
        entries.iter().filter(known).any(|e| !self.log.contains(e.id))
    }

    /// Takes entries that follow an entry of the log: keeps what is the same, replaces from the
    /// first that is not. A late, shorter append never cuts what a longer one brought.
    fn merge(&mut self, entries: Vec<Entry>) {
        if entries.first().is_some_and(|entry| entry.id.index > self.log.last().index) {
            return self.log.append(entries);
        }
        for entry in entries {
            let at = entry.id.index;
            if at > self.log.last().index {
                self.log.push(entry);
            } else if !self.log.contains(entry.id) {
                assert!(at > self.commit, "what is committed is never replaced");
                self.log.truncate(at);
                self.forget_holes_from(at);
                self.log.push(entry);
            } else if self.healing.lacks(at) {
                self.fill(entry);
            }
        }
    }

    fn reject(&mut self, to: Member, prev: EntryId) {
        let whole = self.whole_to();
        let hint = self.log.meet(EntryId::new(prev.term, prev.index.min(whole)));
        let known = self.commit.min(whole).max(self.log.compacted().index);
        let hint = hint.unwrap_or_else(|| self.log.id(known));
        let lost = whole < self.acked;
        self.send(to, Body::AppendReject { prev: prev.index, hint, lost });
    }

    /// The leader's beat. Its commit index never exceeds what this replica acknowledged to it;
    /// if the log does not reach there, acknowledged entries are lost, and the leader is told.
    /// It names no term, and may speak of an earlier run: in a run that is declared, only appends
    /// show what is equal.
    pub(crate) fn on_heartbeat(&mut self, from: Member, commit: Index, round: u64) {
        self.hear_leader(from);
        if !self.rights.may_ack {
            return;
        }
        let reach = self.log.last().index.min(self.whole_to());
        if commit > reach && !self.hello.is_over() {
            // The hello says it, and whether it was known. Said first and unasked, it would hide
            // a loss that nobody declared.
            return;
        }
        if commit > reach {
            let hint = self.log.id(reach.max(self.log.compacted().index));
            self.send(from, Body::AppendReject { prev: commit, hint, lost: true });
            return;
        }
        if !self.hello.declares() {
            self.validated = self.validated.max(commit);
        }
        self.commit_to(commit.min(self.validated));
        self.ack_if_news();
        let promise = self.config.lease_drift.is_some();
        self.send(from, Body::HeartbeatResp { round, promise });
    }

    /// What may be acknowledged: shown equal by this term's leader, durable, below any hole.
    pub(crate) fn ackable(&self) -> Index {
        self.validated.min(self.log.durable()).min(self.whole_to())
    }

    /// Names the last entry that may be acknowledged. While a snapshot's install is not durable,
    /// nothing that could be named is. Nothing is acknowledged before the leader has heard what
    /// this run starts from.
    pub(crate) fn ack(&mut self, leader: Member) {
        let index = self.ackable();
        if !self.rights.may_ack || !self.hello.is_over() || index < self.log.compacted().index {
            return;
        }
        self.acked = index;
        let matched = self.log.id(index);
        self.send(leader, Body::AppendResp { matched });
    }

    /// Acknowledges what became durable since the last ack.
    pub(crate) fn ack_if_news(&mut self) {
        if let (Role::Follower, Some(leader)) = (self.role, self.leader)
            && self.ackable() > self.acked
        {
            self.ack(leader);
        }
    }

    /// A membership change is proposed only when the previous one is applied; so the second of
    /// two in a log proves that the first is committed, even if a restart forgot how far.
    /// Without this, a replica could campaign with a membership two changes old.
    pub(crate) fn commit_what_configs_prove(&mut self) {
        if let [.., (proven, _), _] = self.log.configs() {
            let proven = *proven;
            self.commit_to(proven);
        }
    }
}
