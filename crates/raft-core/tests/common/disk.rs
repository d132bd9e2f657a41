//! A replica's durable state, or what it will be.

use std::collections::BTreeMap;

use refloat_raft_core::{Fetch, Fetched, Holes, Persist, Restored, Rights};
use refloat_types::*;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    pub hard: HardState,
    pub base: EntryId,
    pub base_conf: ConfState,
    pub entries: BTreeMap<Index, Entry>,
    /// Entries whose place is known and whose content is lost; `true` if they may be changes of
    /// the membership.
    pub lost: BTreeMap<Index, (EntryId, bool)>,
    /// What the store thinks of itself.
    pub rights: Rights,
    /// The end of the log that was overwritten last, if `keeps_old`.
    pub old: Vec<Entry>,
    /// Whether the write that overwrote it may be lost.
    pub keeps_old: bool,
    /// Answer every fetch so.
    pub fetch_fails: bool,
}

impl Disk {
    pub fn empty(conf: ConfState) -> Disk {
        Disk {
            hard: HardState::default(),
            base: EntryId::ZERO,
            base_conf: conf,
            entries: BTreeMap::new(),
            lost: BTreeMap::new(),
            rights: Rights::ALL,
            old: Vec::new(),
            keeps_old: false,
            fetch_fails: false,
        }
    }

    pub fn with_log(conf: ConfState, term: u64, entries: Vec<Entry>) -> Disk {
        let hard = HardState { term: Term(term), vote: None };
        let entries = entries.into_iter().map(|e| (e.id.index, e)).collect();
        Disk { hard, entries, ..Disk::empty(conf) }
    }

    pub fn last(&self) -> EntryId {
        let lost = self.lost.last_key_value().map(|(_, (id, _))| *id);
        let last = self.entries.last_key_value().map(|(_, e)| e.id);
        last.max(lost).unwrap_or(self.base)
    }

    pub fn id(&self, index: Index) -> Option<EntryId> {
        if index == self.base.index {
            return Some(self.base);
        }
        let lost = self.lost.get(&index).map(|(id, _)| *id);
        self.entries.get(&index).map(|e| e.id).or(lost)
    }

    pub fn persist(&mut self, persist: &Persist) {
        if let Some(hard) = persist.hard_state {
            assert!(hard.term >= self.hard.term, "terms only rise on disk");
            self.hard = hard;
        }
        for op in persist.log.iter().flatten() {
            self.change(op);
        }
    }

    fn change(&mut self, op: &LogOp) {
        if let LogOp::Append { prev, entries } = op {
            assert!(!entries.is_empty(), "an append brings something");
            assert!(prev.index >= self.base.index, "an append below the snapshot");
            assert_eq!(self.id(prev.index), Some(*prev), "an append follows what is there");
        }
        if let Some(from) = op.cut_from() {
            assert!(from > self.base.index, "nothing below the snapshot is cut");
            let old = self.entries.split_off(&from);
            let lost = self.lost.split_off(&from);
            if self.keeps_old && !(old.is_empty() && lost.is_empty()) {
                self.old = if lost.is_empty() { old.into_values().collect() } else { Vec::new() };
            }
        }
        for entry in op.entries() {
            assert!(entry.is_intact(), "digests travel with entries");
            self.lost.remove(&entry.id.index);
            self.entries.insert(entry.id.index, entry.clone());
        }
    }

    /// The content of an entry rots; where it stood is known.
    pub fn lose(&mut self, index: u64) {
        let entry = self.entries.remove(&Index(index)).expect("an entry to lose");
        self.lost.insert(entry.id.index, (entry.id, entry.kind == EntryKind::Config));
    }

    /// The write that overwrote the end of the log is lost, with all that followed: what it
    /// overwrote is there again, and the store knows that something is missing.
    pub fn bring_old_back(&mut self) -> bool {
        let old = std::mem::take(&mut self.old);
        let Some(first) = old.first().map(|e| e.id.index) else { return false };
        self.entries.split_off(&first);
        self.lost.split_off(&first);
        self.entries.extend(old.into_iter().map(|e| (e.id.index, e)));
        self.rights = Rights::FOLLOW;
        true
    }

    pub fn compact(&mut self, at: EntryId, conf: ConfState) {
        if self.old.first().is_some_and(|e| e.id.index <= at.index) {
            self.old.clear();
        }
        self.entries = self.entries.split_off(&at.index.next());
        self.lost = self.lost.split_off(&at.index.next());
        self.base = at;
        self.base_conf = conf;
    }

    /// As a store does it: what does not continue the snapshot must have been cut before.
    pub fn install(&mut self, at: EntryId, conf: ConfState) {
        let continues = self.id(at.index) == Some(at);
        if !continues {
            self.old.clear();
        }
        self.compact(at, conf);
        assert!(continues || self.entries.is_empty(), "entries that do not continue a snapshot");
    }

    pub fn range(&self, first: Index, last: Index) -> Vec<Entry> {
        let found: Vec<Entry> = self.entries.range(first..=last).map(|(_, e)| e.clone()).collect();
        assert_eq!(found.len() as u64, (last - first) + 1, "{first:?}..={last:?} can be read");
        found
    }

    pub fn fetch(&self, fetch: &Fetch) -> Fetched {
        if self.fetch_fails {
            return Fetched::Failed;
        }
        if fetch.first <= self.base.index {
            return Fetched::Compacted { up_to: self.base.index };
        }
        let hole = self.lost.range(fetch.first..=fetch.last).next().map(|(at, _)| *at);
        if hole == Some(fetch.first) {
            return Fetched::Failed;
        }
        let mut entries = self.range(fetch.first, hole.map_or(fetch.last, Index::prev));
        let mut bytes = 0;
        let fits = |e: &&Entry| {
            bytes += e.payload.len();
            bytes <= fetch.max_bytes
        };
        let count = entries.iter().take_while(fits).count().max(1);
        entries.truncate(count);
        Fetched::Entries(entries)
    }

    /// What a store hands to a new core, with nothing remembered of commit.
    pub fn restored(&self) -> Restored {
        let mut terms: Vec<EntryId> = Vec::new();
        let lost = self.lost.values().map(|(id, _)| *id);
        let mut ids: Vec<EntryId> = self.entries.values().map(|e| e.id).chain(lost).collect();
        ids.sort_unstable();
        for id in ids {
            if terms.last().is_none_or(|run| run.term != id.term) {
                terms.push(id);
            }
        }
        let config_holes = self.lost.iter().filter(|(_, (_, config))| *config);
        let holes = Holes {
            missing: self.lost.keys().copied().collect(),
            may_be_config: config_holes.map(|(at, _)| *at).collect(),
        };
        let config = |e: &&Entry| e.kind == EntryKind::Config;
        Restored {
            hard_state: self.hard,
            conf: self.base_conf.clone(),
            snapshot: self.base,
            terms,
            last: self.last(),
            commit: self.base.index,
            applied: self.base.index,
            configs: self.entries.values().filter(config).cloned().collect(),
            rights: self.rights,
            holes,
        }
    }
}
