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
        let last = prev.index + entries.len() as u64;
        self.hear_leader(from);
        if prev.index < self.commit {
            if self.contradicts_commit(&entries) {
                return Err(malformed_from(from, "an append that contradicts committed entries"));
            }
            entries.drain(..entries.len().min((self.commit - prev.index) as usize));
            prev = self.log_id(self.commit);
        }
        if !self.log.contains(prev) || self.rights.ack_up_to.is_some_and(|max| prev.index > max) {
            self.reject(from, prev);
            return Ok(());
        }
        self.merge(entries);
        self.validated = self.validated.max(last.max(prev.index));
        self.commit_what_configs_prove();
        self.commit_to(commit.min(self.validated));
        let due = self.rights.ack_up_to.map_or(last, |max| last.min(max));
        if self.ackable() >= due {
            self.ack(from);
        }
        Ok(())
    }

    fn contradicts_commit(&self, entries: &[Entry]) -> bool {
        let known =
            |e: &&Entry| e.id.index <= self.commit && e.id.index >= self.log.compacted().index;
        entries.iter().filter(known).any(|e| !self.log.contains(e.id))
    }

    fn log_id(&self, index: Index) -> EntryId {
        let term = self.log.term(index).expect("the log reaches from compacted to last");
        EntryId::new(term, index)
    }

    /// Takes entries that follow an entry of the log: keeps what is the same, replaces from the
    /// first that is not. A late, shorter append never cuts what a longer one brought.
    fn merge(&mut self, entries: Vec<Entry>) {
        let rewrite_above = self.rights.ack_up_to.unwrap_or(Index(u64::MAX));
        for entry in entries {
            let at = entry.id.index;
            if at > self.log.last().index {
                self.log.push(entry);
            } else if !self.log.contains(entry.id) {
                assert!(at > self.commit, "what is committed is never replaced");
                self.log.truncate(at);
                self.forget_holes_from(at);
                self.log.push(entry);
            } else if at > rewrite_above {
                self.log.fill(entry);
            }
        }
    }

    fn reject(&mut self, to: Member, prev: EntryId) {
        let top = self.rights.ack_up_to.map_or(prev.index, |max| prev.index.min(max));
        let hint = self.log.meet(EntryId::new(prev.term, top));
        let hint = hint.unwrap_or_else(|| self.log_id(self.commit));
        self.send(to, Body::AppendReject { prev: prev.index, hint, lost: false });
    }

    /// The leader's beat. Its commit index never exceeds what this replica acknowledged to it;
    /// if the log does not reach there, acknowledged entries are lost, and the leader is told.
    pub(crate) fn on_heartbeat(&mut self, from: Member, commit: Index, round: u64) {
        self.hear_leader(from);
        let reach = self.log.last().index;
        let reach = self.rights.ack_up_to.map_or(reach, |max| max.min(reach));
        if commit > reach {
            let hint = self.log_id(reach.max(self.log.compacted().index));
            self.send(from, Body::AppendReject { prev: commit, hint, lost: true });
            return;
        }
        self.validated = self.validated.max(commit);
        self.commit_to(commit);
        self.ack_if_news();
        self.send(from, Body::HeartbeatResp { round });
    }

    /// What may be acknowledged: shown equal by this term's leader, durable, below any hole.
    fn ackable(&self) -> Index {
        let index = self.validated.min(self.log.durable());
        self.rights.ack_up_to.map_or(index, |max| index.min(max))
    }

    /// Names the last entry that may be acknowledged. While a snapshot's install is not durable,
    /// nothing that could be named is.
    fn ack(&mut self, leader: Member) {
        let index = self.ackable();
        if index < self.log.compacted().index {
            return;
        }
        self.acked = index;
        let matched = self.log_id(index);
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

    /// Entries were written again and are durable: the first hole lies higher now.
    pub(crate) fn forget_filled_holes(&mut self, filled: Vec<(Index, Index)>) {
        for (first, last) in filled {
            let Some(max) = self.rights.ack_up_to else { return };
            if self.rights.may_vote && first <= max.next() && last > max {
                let whole = last >= self.suspect_to;
                self.rights.ack_up_to = if whole { None } else { Some(last) };
            }
        }
    }

    /// All holes lay above `ack_up_to`; a cut there took them all.
    fn forget_holes_from(&mut self, cut: Index) {
        if self.rights.may_vote && self.rights.ack_up_to.is_some_and(|max| cut <= max.next()) {
            self.rights.ack_up_to = None;
        }
    }

    /// A snapshot supplies everything up to `index`.
    pub(crate) fn forget_holes_up_to(&mut self, index: Index) {
        let Some(max) = self.rights.ack_up_to else { return };
        if !self.rights.may_vote {
            return;
        }
        let covered = index >= self.suspect_to;
        self.rights.ack_up_to = if covered { None } else { Some(max.max(index)) };
    }
}
