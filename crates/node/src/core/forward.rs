//! Proposals on their way to a leader elsewhere: at most once.

use bytes::Bytes;
use refloat_types::{GroupId, Index, NodeId, Now};

use super::NodeCore;
use super::envelope::{Forward, ForwardError, Item};
use super::group::{Answer, Proposal};
use crate::api::{Lane, Reply};
use crate::error::RequestError;

/// The number of a forward is the run above so many bits, and a count within the run below.
const FORWARDS_PER_RUN_BITS: u32 = 40;

/// A proposal that was sent to another node.
pub(crate) struct Forwarded {
    pub(crate) group: GroupId,
    pub(crate) proposal: Proposal,
    /// When its outcome is given up as unknown.
    pub(crate) expires: Now,
}

impl Forwarded {
    pub(crate) fn bytes(&self) -> u64 {
        self.proposal.payload.len() as u64
    }
}

impl NodeCore {
    /// Sends a proposal to the leader. It is sent once; only an answer that says it was not
    /// proposed lets it be sent again.
    pub(super) fn forward(&mut self, leader: NodeId, group: GroupId, proposal: Proposal) {
        let expires = self.now().after(self.config.proposal_timeout);
        // Numbers of different runs differ: the answer to a forward of an earlier run may still
        // be on its way, and must not pass for the answer to another proposal.
        let run = self.identity.run << FORWARDS_PER_RUN_BITS;
        let peer = self.peers.entry(leader).or_default();
        peer.next_forward = peer.next_forward.max(run) + 1;
        let (id, to_run, stamp) = (peer.next_forward, peer.run, proposal.stamp);
        let forward = Forward { id, to_run, group, stamp, payload: proposal.payload.clone() };
        peer.forwarded.insert(id, Forwarded { group, proposal, expires });
        self.counters.forwarded += 1;
        let lane = if forward.payload.len() > self.config.urgent_bytes {
            Lane::Bulk
        } else {
            Lane::Urgent
        };
        self.send_item(leader, lane, &Item::Forward(forward));
    }

    /// Takes in what another node forwarded, unless it was taken in before.
    pub(super) fn take_forward(&mut self, from: NodeId, forward: Forward) {
        if forward.to_run != self.identity.run {
            // An earlier run of this node may have taken it in: only silence is true.
            self.counters.refused += 1;
            return;
        }
        let peer = self.peers.entry(from).or_default();
        let at = Index(forward.id);
        if peer.taken.contains(at) {
            return;
        }
        peer.taken.insert(at);
        if peer.taken.ranges().len() > 1024 {
            // Lost frames leave gaps. What lies in the lowest one will not be taken any more.
            let second = peer.taken.ranges()[1];
            peer.taken.insert_range(Index(0), second.1);
        }
        let len = forward.payload.len() as u64;
        let answer = Answer::Remote(from, forward.id);
        let admitted = match NodeCore::makes_space(forward.group, &forward.payload) {
            true => self.budget(len),
            false => self.admission(len),
        };
        let admitted = admitted.and_then(|()| self.find(forward.group));
        self.admit(len);
        match admitted {
            Ok(slot) => {
                self.counters.proposals += 1;
                let deadline = self.now().after(self.config.leader_wait);
                let proposal =
                    Proposal { answer, payload: forward.payload, stamp: forward.stamp, deadline };
                self.route(slot, proposal);
            }
            Err(error) => self.answer(answer, len, Err(error)),
        }
    }

    pub(super) fn forward_reply(
        &mut self,
        from: NodeId,
        id: u64,
        result: Result<(Index, Bytes), ForwardError>,
    ) {
        let Some(forwarded) = self.peers.get_mut(&from).and_then(|p| p.forwarded.remove(&id))
        else {
            return;
        };
        let (bytes, group) = (forwarded.bytes(), forwarded.group);
        let answer = forwarded.proposal.answer;
        let error = match result {
            Ok((index, payload)) => {
                return self.answer(
                    answer,
                    bytes,
                    Ok(Reply { index, payload, ..Reply::default() }),
                );
            }
            Err(error) => error,
        };
        let error = match error {
            ForwardError::NotLeader => match self.find(group) {
                // It was not proposed. Wait for the next sweep or leader rather than asking the
                // same node again at once.
                Ok(slot) => {
                    let group = self.slots[slot].as_mut().expect("found");
                    return group.parked.push_back(forwarded.proposal);
                }
                Err(error) => error,
            },
            ForwardError::Busy => RequestError::Busy {
                used: self.pending_bytes,
                limit: self.config.max_pending_bytes,
            },
            ForwardError::NoSpace => RequestError::NoSpace,
            ForwardError::Superseded => RequestError::Superseded { group },
            ForwardError::Unknown => RequestError::Unknown { group },
            ForwardError::Refused => {
                let reason = format!("node {from}, which leads it, does not take proposals");
                RequestError::Refused { group, reason }
            }
        };
        self.answer(answer, bytes, Err(error));
    }

    /// What was sent to a peer's process that is gone may have been proposed by it.
    pub(super) fn forwards_lost(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        for (_, forwarded) in std::mem::take(&mut peer.forwarded) {
            let unknown = RequestError::Unknown { group: forwarded.group };
            self.answer(forwarded.proposal.answer, forwarded.bytes(), Err(unknown));
        }
    }

    pub(super) fn sweep_forwards(&mut self) {
        let now = self.now();
        let mut expired = Vec::new();
        for peer in self.peers.values_mut() {
            // Ids ascend with time, so the oldest stand first.
            while let Some(first) = peer.forwarded.first_entry() {
                if first.get().expires > now {
                    break;
                }
                expired.push(first.remove());
            }
        }
        for forwarded in expired {
            let unknown = RequestError::Unknown { group: forwarded.group };
            self.answer(forwarded.proposal.answer, forwarded.bytes(), Err(unknown));
        }
    }
}
