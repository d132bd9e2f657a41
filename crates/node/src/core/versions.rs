//! Which version of a state machine's rules is in force.
//!
//! A leader that could run a newer one asks the members what they can run. When all have answered,
//! it puts the highest that all can run into the log, as an entry of the host's own; each replica
//! switches when it applies that entry.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_types::codec::{Put, Reader};
use refloat_types::{Entry, EntryKind, GroupKey, Index, Member, NodeId, Now};

use super::NodeCore;
use super::envelope::Item;
use super::space::Load;
use crate::api::Lane;
use crate::machine::RestoreError;
use crate::snapshot_reader::SnapshotReader;

/// The first byte of such an entry's payload.
const SWITCH: u8 = 1;

/// The versions of one group.
#[derive(Default)]
pub(crate) struct Rules {
    /// In force, as of what is applied.
    pub(crate) in_force: u32,
    /// What this program can run.
    pub(crate) newest: u32,
    /// As leader: what the members said that they can run.
    said: BTreeMap<NodeId, (Member, u32)>,
    /// As leader: what was put into the log, and where.
    proposed: Option<(u32, Index)>,
    ask_at: Now,
}

impl Rules {
    pub(crate) fn of(newest: u32) -> Rules {
        Rules { newest, ..Rules::default() }
    }

    /// Another leader, or another term: what was said and proposed may be gone.
    pub(crate) fn forget(&mut self) {
        self.said.clear();
        self.proposed = None;
        self.ask_at = Now(0);
    }
}

/// The version that an entry of the host's own puts in force.
pub(super) fn version_in(entry: &Entry) -> Option<u32> {
    let mut reader = Reader::new(&entry.payload);
    let is_switch = entry.kind == EntryKind::Host && reader.u8("what").ok()? == SWITCH;
    if is_switch { reader.u32("version").ok() } else { None }
}

/// Why a replica stops that meets a version it cannot run.
pub(crate) fn too_new(version: u32, newest: u32, whose: &str) -> String {
    format!(
        "{whose} is of version {version} of the state machine, and this program runs versions up \
         to {newest}: start the newer program on this node"
    )
}

impl NodeCore {
    /// Looks at the groups led here of which this program could run a newer version.
    pub(super) fn tend_versions_if_due(&mut self) {
        let now = self.now();
        if self.versions_at.is_none_or(|at| now < at) {
            return;
        }
        let mut busy = false;
        for slot in 0..self.slots.len() {
            busy |= self.tend_version(slot);
        }
        self.versions_at = busy.then(|| now.after(self.config.election_timeout));
    }

    fn tend_version(&mut self, slot: usize) -> bool {
        let (now, patience) = (self.now(), 2 * self.config.election_timeout);
        let Some(group) = self.slots[slot].as_mut().filter(|group| group.is_leader()) else {
            return false;
        };
        let rules = &mut group.rules;
        if rules.newest <= rules.in_force {
            return false;
        }
        let others: Vec<Member> =
            group.core.conf().iter().filter(|member| *member != group.me).collect();
        let said = |member: &Member| {
            let heard = rules.said.get(&member.node).filter(|(who, _)| who == member);
            heard.map(|(_, version)| *version)
        };
        let least = others
            .iter()
            .map(said)
            .try_fold(rules.newest, |least, said| said.map(|version| version.min(least)));
        let waits = rules.proposed.is_some_and(|(version, _)| version > rules.in_force);
        let key = group.key;
        match least {
            Some(version) if version > rules.in_force && !waits => {
                let mut payload = vec![SWITCH];
                payload.put_u32(version);
                if self.let_in(slot, Load::of_payloads([payload.len()])).is_err() {
                    return true; // looked at again
                }
                let Some(group) = self.slots[slot].as_mut() else { return false };
                let rules = &mut group.rules;
                if let Ok((_, index)) = group.core.propose_host(now, payload.into()) {
                    tracing::info!(
                        node = %self.me.node, group = %key, version,
                        "all members can run a newer version of the state machine"
                    );
                    rules.proposed = Some((version, index));
                    self.mark(slot);
                }
            }
            _ if now >= rules.ask_at => {
                rules.ask_at = now.after(patience);
                let lacking = |member: &&Member| said(member).is_none_or(|v| v < rules.newest);
                let ask: Vec<NodeId> = others.iter().filter(lacking).map(|m| m.node).collect();
                for node in ask {
                    self.send_item(node, Lane::Urgent, &Item::VersionAsk { group: key });
                }
            }
            _ => {}
        }
        true
    }

    /// A leader asks what this replica can run.
    pub(super) fn version_asked(&mut self, from: Member, key: GroupKey) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_ref() else { return };
        let (life, version) = (group.me.incarnation, group.rules.newest);
        let item = Item::VersionSays { group: key, life, version };
        self.send_item(from.node, Lane::Urgent, &item);
    }

    /// A member says what it can run.
    pub(super) fn version_said(&mut self, member: Member, key: GroupKey, version: u32) {
        let Some(slot) = self.by_key.get(&key).copied() else { return };
        let Some(group) = self.slots[slot].as_mut() else { return };
        group.rules.said.insert(member.node, (member, version));
        self.versions_at = Some(self.now());
    }

    /// Takes a batch of entries up to one that puts another version in force, which is its last.
    /// `None`: this program cannot run that version, and the group is stopped.
    pub(super) fn up_to_a_switch(
        &mut self,
        slot: usize,
        mut entries: Vec<Entry>,
    ) -> Option<(Vec<Entry>, Option<u32>)> {
        let switch = entries.iter().position(|entry| version_in(entry).is_some());
        let Some(at) = switch else { return Some((entries, None)) };
        entries.truncate(at + 1);
        let entry = entries.last()?;
        let (version, id) = (version_in(entry)?, entry.id);
        let newest = self.slots[slot].as_ref()?.rules.newest;
        if version <= self.slots[slot].as_ref()?.rules.in_force {
            return Some((entries, None));
        }
        if version > newest {
            let whose = format!("what follows entry {}", id.index);
            self.halt_group(slot, too_new(version, newest, &whose));
            return None;
        }
        Some((entries, Some(version)))
    }
}

/// What a snapshot's payload begins with, before the machine's own bytes.
pub(crate) fn snapshot_head(version: u32) -> Bytes {
    let mut head = vec![0];
    head.put_u32(version);
    head.into()
}

/// Reads what [`snapshot_head`] wrote.
pub(crate) fn read_head(snapshot: &mut SnapshotReader<'_>) -> Result<u32, RestoreError> {
    match snapshot.array()? {
        [0] => Ok(u32::from_le_bytes(snapshot.array()?)),
        [other] => Err(RestoreError::new(format!("the snapshot begins with {other}, not with 0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_another_form_is_refused() {
        let read = |bytes: Bytes| read_head(&mut SnapshotReader::new(&mut std::iter::once(bytes)));
        assert_eq!(read(snapshot_head(7)).ok(), Some(7));
        let mut other = snapshot_head(7).to_vec();
        other[0] = 1;
        let error = read(other.into()).expect_err("of a later form").to_string();
        assert!(error.contains("begins with 1"), "{error}");
    }
}
