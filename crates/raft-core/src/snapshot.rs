//! Snapshots: for peers that lag behind what is compacted, and from a leader (section 7).

use refloat_planted::{Defect, is};
use refloat_types::{ConfState, EntryId, Index, Member, Now};

use crate::progress::{Outcome, State};
use crate::step::LIMIT;
use crate::{Core, Role, SnapshotError, SnapshotOutcome};

/// The longest back-off, as a power of two of the first.
const MAX_DOUBLINGS: u32 = 5;

impl Core {
    /// The log at and below `up_to` is gone from the store: peers that need it need a snapshot.
    ///
    /// # Panics
    /// It was not applied yet, or the log holds another entry there.
    pub fn on_compacted(&mut self, up_to: EntryId) {
        assert!(up_to.index <= self.applied, "only what is applied can be compacted");
        self.log.compact(up_to);
        self.forget_holes_up_to(up_to.index);
        self.resolving_goes_on();
        self.heal_if_whole();
    }

    /// A snapshot of what is applied up to `up_to` is durable here. The log above an older one may
    /// be kept, but what of it cannot be read is not missed any more, as it would not be missed by
    /// a start.
    ///
    /// # Panics
    /// It was not applied yet.
    pub fn on_snapshot_made(&mut self, up_to: Index) {
        assert!(up_to <= self.applied, "only what is applied can be in a snapshot");
        self.giving.snapshot = self.giving.snapshot.max(up_to);
        self.forget_holes_up_to(up_to);
        self.resolving_goes_on();
        self.heal_if_whole();
    }

    /// What became of a snapshot wished by `send_snapshot`. `ok` means that the receiver has all
    /// of it, durable and verified; its ack follows when it is installed. Else the peer is left
    /// alone for a while, longer each time, unless it asks for itself.
    pub fn on_snapshot_sent(&mut self, now: Now, to: Member, ok: bool) {
        self.advance(now);
        let (first, patience) = (self.config.snapshot_backoff, self.config.election_timeout);
        let now = self.now;
        let Some(peer) = self.leading.peer(to) else { return };
        let State::Snapshot { outcome, .. } = &mut peer.state else { return };
        *outcome = if ok {
            Outcome::Arrived { probe_at: now.after(patience) }
        } else {
            let wait = first << peer.failures.min(MAX_DOUBLINGS);
            peer.failures = peer.failures.saturating_add(1);
            Outcome::Failed { retry_at: now.after(wait) }
        };
    }

    /// Ends back-offs and waits whose time has come.
    pub(crate) fn tick_snapshots(&mut self) {
        let now = self.now;
        for peer in &mut self.leading.progress {
            if peer.wake_at().is_some_and(|at| now >= at) {
                peer.end_wait();
                peer.poke = true;
            }
        }
    }

    /// A complete, durable, verified snapshot came from a leader. It is committed state, whoever
    /// sent it, so only its position decides. Installed, its entry is the head of the log, so that
    /// the replica can be elected in a group that writes nothing.
    ///
    /// # Errors
    /// It cannot be a snapshot of this group, or not yet, or this replica leads.
    pub fn on_snapshot_received(
        &mut self,
        now: Now,
        id: EntryId,
        conf: ConfState,
    ) -> Result<SnapshotOutcome, SnapshotError> {
        self.advance(now);
        if conf.voters.is_empty() {
            return Err(SnapshotError::Malformed("membership without voters"));
        }
        if id.index == Index::ZERO || id.index.0 >= LIMIT {
            return Err(SnapshotError::Malformed("an index that cannot be"));
        }
        if id.term > self.term() {
            return Err(SnapshotError::Malformed("a term that this replica has not seen yet"));
        }
        let cures =
            self.lost.is_some() || self.healing.first().is_some_and(|hole| hole <= id.index);
        let here = if cures { self.applied } else { self.commit };
        if id.index <= here && !is(Defect::OldSnapshotInstalled) {
            return Ok(SnapshotOutcome::Obsolete);
        }
        if id.index <= self.commit && !self.log.contains(id) {
            return Err(SnapshotError::Malformed("an entry that contradicts what is committed"));
        }
        if self.role == Role::Leader && self.leading.resolving.is_none() {
            return Err(SnapshotError::Leader);
        }
        self.install(id, conf);
        Ok(SnapshotOutcome::Install)
    }

    /// An entry is committed, as one who has it in a snapshot's reach says: an own entry that
    /// contradicts it, with all behind it, never will be, and is cut with the next turn's writes.
    /// For entries that a snapshot refers to and that are written before it.
    pub fn on_committed_elsewhere(&mut self, now: Now, id: EntryId) {
        self.advance(now);
        let known = id.index <= self.commit || id.index > self.log.last().index;
        if known || self.role == Role::Leader || self.log.contains(id) {
            return;
        }
        if self.role != Role::Follower {
            // It asked for votes with what is cut now.
            self.become_follower(self.term(), None);
        }
        self.log.cut(id.index);
        self.forget_holes_from(id.index);
    }

    fn install(&mut self, id: EntryId, conf: ConfState) {
        if !self.log.contains(id) && !is(Defect::InstallKeepsHoles) {
            // What stands behind is cut with what the snapshot contradicts.
            self.forget_holes_from(id.index.next());
        }
        self.log.install(id, self.commit);
        self.commit = self.commit.max(id.index);
        self.applied = id.index;
        self.lost = None;
        self.out.committed = id.index;
        self.conf = conf.clone();
        self.validated = self.validated.max(id.index);
        self.forget_holes_up_to(id.index);
        self.out.install = Some((id, conf));
        if self.role != Role::Follower {
            self.become_follower(self.term(), None);
        }
        self.heal_if_whole();
    }
}
