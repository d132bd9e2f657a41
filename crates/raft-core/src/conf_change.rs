//! Membership changes as pure functions of a membership (section 6 of the paper; thesis,
//! chapter 4).

use alloc::vec::Vec;
use bytes::Bytes;

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ConfState, Member, NodeId};

use crate::ConfChangeError;

/// One step of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfStep {
    /// Adds a voter that was no member.
    AddVoter(Member),
    /// Adds a learner that was no member.
    AddLearner(Member),
    /// Makes a learner a voter.
    Promote(Member),
    /// Makes a voter a learner.
    Demote(Member),
    /// Removes a voter or a learner.
    Remove(Member),
}

/// How several steps become one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Transition {
    /// At once if at most one voter changes; else through a joint membership, which the leader
    /// leaves by itself.
    Auto = 0,
    /// Through a joint membership, which the leader leaves by itself.
    Implicit = 1,
    /// Through a joint membership, until [`ConfChange::Leave`] is proposed.
    Explicit = 2,
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfChange {
    /// Adds a voter that was no member. The majorities of before and after a change of one voter
    /// always overlap (thesis, 4.1).
    AddVoter(Member),
    /// Adds a learner that was no member.
    AddLearner(Member),
    /// Makes a learner a voter.
    Promote(Member),
    /// Makes a voter a learner.
    Demote(Member),
    /// Removes a voter or a learner.
    Remove(Member),
    /// Several steps, in this order, as one entry.
    Several {
        /// At least one, at most [`ConfChange::MAX_STEPS`].
        steps: Vec<ConfStep>,
        /// Whether and how a joint membership is passed.
        transition: Transition,
    },
    /// Leaves a joint membership.
    Leave,
    /// The record of a recovery that accepted a loss: one voter goes on alone. Whoever else
    /// belonged to the group stays listed as a learner, in the life that is lost, so that it is
    /// known who is to come back. It is written by an operator's tool into a log that is at rest,
    /// and never proposed.
    Recover {
        /// Who goes on.
        voter: Member,
        /// The epoch of the cluster that began with it.
        epoch: u32,
    },
}

const VERSION: u8 = 1;
const SEVERAL: u8 = 6;
const LEAVE: u8 = 7;
const RECOVER: u8 = 8;

impl ConfChange {
    /// The most steps of one change.
    pub const MAX_STEPS: usize = 64;

    /// Removes one life of a node and adds another as a learner, as one entry.
    #[must_use]
    pub fn replace(old: Member, new: Member) -> ConfChange {
        let steps = [ConfStep::Remove(old), ConfStep::AddLearner(new)].to_vec();
        ConfChange::Several { steps, transition: Transition::Auto }
    }

    fn single(&self) -> Option<ConfStep> {
        Some(match *self {
            ConfChange::AddVoter(m) => ConfStep::AddVoter(m),
            ConfChange::AddLearner(m) => ConfStep::AddLearner(m),
            ConfChange::Promote(m) => ConfStep::Promote(m),
            ConfChange::Demote(m) => ConfStep::Demote(m),
            ConfChange::Remove(m) => ConfStep::Remove(m),
            ConfChange::Several { .. } | ConfChange::Leave | ConfChange::Recover { .. } => {
                return None;
            }
        })
    }

    /// The payload of the [`Config`](refloat_types::EntryKind::Config) entry that carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(26);
        out.put_u8(VERSION);
        match self {
            ConfChange::Several { steps, transition } => {
                out.put_u8(SEVERAL);
                out.put_u8(*transition as u8);
                let count = u32::try_from(steps.len()).expect("a change has few steps");
                out.put_u32(count);
                steps.iter().for_each(|step| step.encode(&mut out));
            }
            ConfChange::Leave => out.put_u8(LEAVE),
            ConfChange::Recover { voter, epoch } => {
                out.put_u8(RECOVER);
                out.put_member(*voter);
                out.put_u32(*epoch);
            }
            single => single.single().iter().for_each(|step| step.encode(&mut out)),
        }
        Bytes::from(out)
    }

    /// Reads what [`ConfChange::encode`] wrote.
    ///
    /// # Errors
    /// Unknown version or kind, too few or too many bytes, no steps or too many.
    pub fn decode(bytes: &[u8]) -> Result<ConfChange, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.u8("conf change version")? != VERSION {
            return Err(reader.invalid("conf change version"));
        }
        let change = match reader.u8("conf change kind")? {
            SEVERAL => decode_several(&mut reader)?,
            LEAVE => ConfChange::Leave,
            RECOVER => ConfChange::Recover {
                voter: reader.member("conf change voter")?,
                epoch: reader.u32("conf change epoch")?,
            },
            kind => match decode_step(&mut reader, kind)? {
                ConfStep::AddVoter(m) => ConfChange::AddVoter(m),
                ConfStep::AddLearner(m) => ConfChange::AddLearner(m),
                ConfStep::Promote(m) => ConfChange::Promote(m),
                ConfStep::Demote(m) => ConfChange::Demote(m),
                ConfStep::Remove(m) => ConfChange::Remove(m),
            },
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
        match self {
            ConfChange::Leave => return leave(conf),
            ConfChange::Recover { voter, .. } => return Ok(alone(conf, *voter)),
            _ => {}
        }
        if conf.is_joint() {
            return Err(ConfChangeError::Joint);
        }
        match self {
            ConfChange::Several { steps, transition } => several(conf, steps, *transition),
            single => match single.single() {
                Some(step) => simple(conf, &[step]),
                None => Err(ConfChangeError::NotJoint),
            },
        }
    }
}

impl ConfStep {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, member) = match self {
            ConfStep::AddVoter(m) => (1, m),
            ConfStep::AddLearner(m) => (2, m),
            ConfStep::Promote(m) => (3, m),
            ConfStep::Remove(m) => (4, m),
            ConfStep::Demote(m) => (5, m),
        };
        out.put_u8(kind);
        out.put_member(*member);
    }

    /// Changes `conf`, of which only what the change leads to is looked at: who is on the way out
    /// is no member any more.
    fn apply(self, conf: &mut ConfState) -> Result<(), ConfChangeError> {
        match self {
            ConfStep::AddVoter(m) => {
                must_be_new(conf, m)?;
                insert(&mut conf.voters, m);
            }
            ConfStep::AddLearner(m) => {
                must_be_new(conf, m)?;
                add_learner(conf, m);
            }
            ConfStep::Promote(m) => {
                if !remove(&mut conf.learners, m) && !remove(&mut conf.learners_next, m) {
                    return Err(ConfChangeError::NotLearner(m));
                }
                insert(&mut conf.voters, m);
            }
            ConfStep::Demote(m) => {
                if !remove(&mut conf.voters, m) {
                    return Err(ConfChangeError::NotVoter(m));
                }
                add_learner(conf, m);
            }
            ConfStep::Remove(m) => {
                let known = remove(&mut conf.voters, m)
                    || remove(&mut conf.learners, m)
                    || remove(&mut conf.learners_next, m);
                if !known {
                    return Err(ConfChangeError::NotMember(m));
                }
            }
        }
        Ok(())
    }
}

fn several(
    conf: &ConfState,
    steps: &[ConfStep],
    transition: Transition,
) -> Result<ConfState, ConfChangeError> {
    if steps.is_empty() || steps.len() > ConfChange::MAX_STEPS {
        return Err(ConfChangeError::Steps(steps.len()));
    }
    if transition == Transition::Auto {
        let next = simple(conf, steps);
        if next.as_ref().is_ok_and(|next| voters_changed(conf, next) <= 1) || next.is_err() {
            return next;
        }
    }
    let mut next = conf.clone();
    next.outgoing.clone_from(&conf.voters);
    next.auto_leave = transition != Transition::Explicit;
    apply_all(next, steps)
}

fn simple(conf: &ConfState, steps: &[ConfStep]) -> Result<ConfState, ConfChangeError> {
    apply_all(conf.clone(), steps)
}

fn apply_all(mut next: ConfState, steps: &[ConfStep]) -> Result<ConfState, ConfChangeError> {
    for step in steps {
        step.apply(&mut next)?;
    }
    if next.voters.is_empty() { Err(ConfChangeError::NoVoters) } else { Ok(next) }
}

fn leave(conf: &ConfState) -> Result<ConfState, ConfChangeError> {
    if !conf.is_joint() {
        return Err(ConfChangeError::NotJoint);
    }
    let mut next = conf.clone();
    next.outgoing.clear();
    next.auto_leave = false;
    for member in core::mem::take(&mut next.learners_next) {
        insert(&mut next.learners, member);
    }
    Ok(next)
}

/// How many voters come or go.
fn voters_changed(a: &ConfState, b: &ConfState) -> usize {
    let only =
        |a: &ConfState, b: &ConfState| a.voters.iter().filter(|m| !b.voters.contains(m)).count();
    only(a, b) + only(b, a)
}

/// The membership in which one voter goes on without the others, whatever was decided half-way.
fn alone(conf: &ConfState, voter: Member) -> ConfState {
    let mut alone = ConfState::of_voters([voter]);
    let others = conf.voters.iter().chain(&conf.learners).chain(&conf.learners_next);
    for other in others.filter(|other| other.node != voter.node) {
        if known(&alone, other.node).is_none() {
            insert(&mut alone.learners, *other);
        }
    }
    alone
}

fn must_be_new(conf: &ConfState, member: Member) -> Result<(), ConfChangeError> {
    match known(conf, member.node) {
        Some(known) => Err(ConfChangeError::NodeIdInUse(known)),
        None => Ok(()),
    }
}

fn known(conf: &ConfState, node: NodeId) -> Option<Member> {
    let lists = [&conf.voters, &conf.learners, &conf.learners_next];
    lists.into_iter().flatten().copied().find(|m| m.node == node)
}

/// Who still votes in the half that is being left becomes a learner when it is left.
fn add_learner(conf: &mut ConfState, member: Member) {
    let votes = conf.outgoing.contains(&member);
    insert(if votes { &mut conf.learners_next } else { &mut conf.learners }, member);
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

fn decode_several(reader: &mut Reader<'_>) -> Result<ConfChange, DecodeError> {
    let transition = match reader.u8("conf change transition")? {
        0 => Transition::Auto,
        1 => Transition::Implicit,
        2 => Transition::Explicit,
        _ => return Err(reader.invalid("conf change transition")),
    };
    let count = reader.count(25, "conf change steps")?;
    if count == 0 || count > ConfChange::MAX_STEPS {
        return Err(reader.invalid("conf change steps"));
    }
    let mut steps = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = reader.u8("conf change kind")?;
        steps.push(decode_step(reader, kind)?);
    }
    Ok(ConfChange::Several { steps, transition })
}

fn decode_step(reader: &mut Reader<'_>, kind: u8) -> Result<ConfStep, DecodeError> {
    if !(1..=5).contains(&kind) {
        return Err(reader.invalid("conf change kind"));
    }
    let member = reader.member("conf change member")?;
    Ok(match kind {
        1 => ConfStep::AddVoter(member),
        2 => ConfStep::AddLearner(member),
        3 => ConfStep::Promote(member),
        4 => ConfStep::Remove(member),
        _ => ConfStep::Demote(member),
    })
}

/// A name for what a membership says, life and role of each member included; equal memberships
/// have one name. FNV-1a of the byte form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfId(pub u64);

impl ConfId {
    /// The name of a membership.
    #[must_use]
    pub fn of(conf: &ConfState) -> ConfId {
        let mut bytes = Vec::new();
        conf.encode(&mut bytes);
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        ConfId(bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix))
    }
}
