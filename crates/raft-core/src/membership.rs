//! Changes of the membership, one step at a time (thesis, chapter 4).

use alloc::vec::Vec;
use bytes::Bytes;

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ConfState, Index, Member, Now};

use crate::{ConfChangeError, Core, Role};

/// A one-step change: the majorities of before and after always overlap (thesis, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfChange {
    /// Adds a voter that was no member.
    AddVoter(Member),
    /// Adds a learner that was no member.
    AddLearner(Member),
    /// Makes a learner a voter.
    Promote(Member),
    /// Removes a voter or a learner.
    Remove(Member),
}

const VERSION: u8 = 1;

impl ConfChange {
    /// The payload of the [`Config`](refloat_types::EntryKind::Config) entry that carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, member) = match self {
            ConfChange::AddVoter(m) => (1, m),
            ConfChange::AddLearner(m) => (2, m),
            ConfChange::Promote(m) => (3, m),
            ConfChange::Remove(m) => (4, m),
        };
        let mut out = Vec::with_capacity(26);
        out.put_u8(VERSION);
        out.put_u8(kind);
        out.put_member(*member);
        Bytes::from(out)
    }

    /// Reads what [`ConfChange::encode`] wrote.
    ///
    /// # Errors
    /// Unknown version or kind, too few or too many bytes.
    pub fn decode(bytes: &[u8]) -> Result<ConfChange, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("conf change version")? != VERSION {
            return Err(reader.invalid("conf change version"));
        }
        let kind = reader.u8("conf change kind")?;
        let member = reader.member("conf change member")?;
        let change = match kind {
            1 => ConfChange::AddVoter(member),
            2 => ConfChange::AddLearner(member),
            3 => ConfChange::Promote(member),
            4 => ConfChange::Remove(member),
            _ => return Err(reader.invalid("conf change kind")),
        };
        if reader.remaining() != 0 {
            return Err(reader.invalid("conf change end"));
        }
        Ok(change)
    }

    /// The membership after the change. Pure; the same on every replica.
    ///
    /// # Errors
    /// The change does not fit.
    pub fn apply(&self, conf: &ConfState) -> Result<ConfState, ConfChangeError> {
        if conf.is_joint() {
            return Err(ConfChangeError::Joint);
        }
        let mut next = conf.clone();
        match *self {
            ConfChange::AddVoter(m) => {
                must_be_new(conf, m)?;
                insert(&mut next.voters, m);
            }
            ConfChange::AddLearner(m) => {
                must_be_new(conf, m)?;
                insert(&mut next.learners, m);
            }
            ConfChange::Promote(m) => {
                if !remove(&mut next.learners, m) {
                    return Err(ConfChangeError::NotLearner(m));
                }
                insert(&mut next.voters, m);
            }
            ConfChange::Remove(m) => {
                if !remove(&mut next.voters, m) && !remove(&mut next.learners, m) {
                    return Err(ConfChangeError::NotMember(m));
                }
                if next.voters.is_empty() {
                    return Err(ConfChangeError::LastVoter(m));
                }
            }
        }
        Ok(next)
    }
}

fn must_be_new(conf: &ConfState, member: Member) -> Result<(), ConfChangeError> {
    match conf.member(member.node) {
        Some(known) => Err(ConfChangeError::NodeIdInUse(known)),
        None => Ok(()),
    }
}

fn insert(list: &mut Vec<Member>, member: Member) {
    let at = list.partition_point(|m| *m < member);
    list.insert(at, member);
}

fn remove(list: &mut Vec<Member>, member: Member) -> bool {
    let before = list.len();
    list.retain(|m| *m != member);
    list.len() < before
}

impl Core {
    /// The state machine applied everything up to `index`. Membership changes in it take effect
    /// now; a leader that is no voter any more steps down (thesis, 4.2.2).
    ///
    /// # Panics
    /// It was not committed.
    pub fn on_applied(&mut self, now: Now, index: Index) {
        self.advance(now);
        assert!(index <= self.commit, "only what is committed can be applied");
        if index <= self.applied {
            return;
        }
        self.applied = index;
        let changes = self.log.take_configs(index);
        if changes.is_empty() {
            return;
        }
        for (_, change) in changes {
            // The proposer checked it against this very membership; a change that does not fit
            // is one that no replica takes.
            if let Ok(next) = change.apply(&self.conf) {
                self.conf = next;
            }
        }
        if self.role != Role::Follower && !self.conf.is_voter(self.config.me) {
            self.become_follower(self.term(), None);
        }
        if self.role == Role::Leader {
            self.match_progress_to_conf();
            self.beat();
            self.advance_commit();
            self.finish_reads();
        }
    }
}
