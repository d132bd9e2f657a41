//! Answers to replicas with holes, in every role.

use alloc::vec::Vec;

use refloat_types::{Entry, Index, Member};

use crate::{Body, Core, Fetch, FetchId, Fetched, HoleRange, Rights};

/// Fetches under way for others. One question per member is answered at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Giving {
    under_way: Vec<(FetchId, Member)>,
    /// Up to where a snapshot of the host reaches, as it said last. The log may reach below it.
    pub(crate) snapshot: Index,
}

/// The most fetches for others at a time.
const MAX_GIFTS: usize = 4 * HoleRange::MAX;

impl Core {
    /// What is here is fetched and given. What is compacted is said to be. That something was
    /// never here is said only by a replica that misses nothing: no vote and no ack of an older
    /// leader can follow, since the answer carries this replica's durable term.
    pub(crate) fn on_hole_ask(&mut self, from: Member, ranges: &[HoleRange]) {
        if self.giving.under_way.iter().any(|(_, to)| *to == from) {
            return;
        }
        let compacted = self.log.compacted().index;
        let whole = self.rights == Rights::ALL;
        let mut here = Vec::new();
        let mut never = Vec::new();
        for range in ranges {
            let first = range.first.max(compacted.next());
            let have = self.log.run_of(range.term).unwrap_or((Index(1), Index::ZERO));
            let (lo, hi) = (have.0.max(first), have.1.min(range.last));
            here.extend(self.readable(lo, hi));
            if !whole {
                continue;
            }
            let sides = if lo > hi {
                [(first, range.last), (Index(1), Index::ZERO)]
            } else {
                [(first, lo.prev()), (hi.next(), range.last)]
            };
            never.extend(
                sides
                    .iter()
                    .flat_map(|(first, last)| self.readable(*first, *last))
                    .map(|(first, last)| HoleRange { term: range.term, first, last }),
            );
        }
        if ranges.iter().any(|range| range.first <= compacted) {
            self.send(from, Body::HoleCompacted { up_to: compacted });
        }
        if !never.is_empty() {
            never.truncate(HoleRange::MAX);
            self.send(from, Body::HoleNeverHad { ranges: never });
        }
        here.truncate(HoleRange::MAX);
        let max_bytes = (self.config.max_append_bytes / here.len().max(1)).max(1);
        for (first, last) in here {
            self.give(from, first, last, max_bytes);
        }
    }

    /// `first..=last` without the own holes, as ranges.
    fn readable(&self, first: Index, last: Index) -> Vec<(Index, Index)> {
        let mut out = Vec::new();
        let mut at = first;
        let holes = self.healing.missing().ranges();
        for (lo, hi) in holes.iter().filter(|(lo, hi)| *hi >= first && *lo <= last) {
            if at < *lo {
                out.push((at, lo.prev()));
            }
            at = hi.next();
        }
        if at <= last {
            out.push((at, last));
        }
        out
    }

    fn give(&mut self, to: Member, first: Index, last: Index, max_bytes: usize) {
        let handed = self.log.handed();
        if first > handed {
            let mut entries = self.log.copy(first, max_bytes as u64);
            entries.truncate((last - first) as usize + 1);
            self.send(to, Body::HoleHave { entries });
        } else if self.giving.under_way.len() < MAX_GIFTS {
            self.out.fetches += 1;
            let id = FetchId(self.out.fetches);
            self.giving.under_way.push((id, to));
            self.out.fetch.push(Fetch { id, first, last: last.min(handed), max_bytes });
        }
    }

    /// `false` if the fetch was for something else.
    pub(crate) fn on_gift(&mut self, fetch: FetchId, result: &mut Fetched) -> bool {
        let Some(at) = self.giving.under_way.iter().position(|(id, _)| *id == fetch) else {
            return false;
        };
        let (_, to) = self.giving.under_way.remove(at);
        match result {
            Fetched::Entries(entries) => {
                let mut entries = core::mem::take(entries);
                entries.retain(|e: &Entry| self.log.contains(e.id));
                if !entries.is_empty() {
                    self.send(to, Body::HoleHave { entries });
                }
            }
            Fetched::Compacted { up_to } => {
                self.giving.snapshot = self.giving.snapshot.max(*up_to);
                let up_to = self.snapshot_reaches();
                self.send(to, Body::HoleCompacted { up_to });
            }
            Fetched::Failed => {}
        }
        true
    }

    /// Up to where a snapshot here surely reaches: maybe further than what is compacted.
    fn snapshot_reaches(&self) -> Index {
        self.log.compacted().index.max(self.giving.snapshot)
    }

    /// Somebody needs what is compacted, and has no leader to send it.
    pub(crate) fn on_snapshot_ask(&mut self, from: Member, index: Index) {
        if self.snapshot_reaches() < index {
            self.out.make_snapshot |= self.applied >= index && self.lost.is_none();
        } else if !self.out.send_snapshot.contains(&from) {
            self.out.send_snapshot.push(from);
        }
    }
}
