//! A replica with holes: what it must not do, and how it asks for what it misses.
//!
//! A hole keeps its index and term, so that everything which compares logs goes on as ever. Only
//! the content is missing, and any member that has (index, term) can give it.

use alloc::vec::Vec;

use refloat_planted::{Defect, is};
use refloat_types::{Entry, Index, IndexSet, Member, Now};

use crate::{Body, Core, HoleRange, Holes, Rights, Role};

/// The most entries asked for at once.
const WINDOW: u64 = 1024;

/// What a replica misses, and how far the healing is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Healing {
    /// The holes. One goes when its entry is durable again, or was cut or replaced.
    missing: IndexSet,
    may_be_config: IndexSet,
    /// Holes whose entry is here and on its way to the disk.
    filling: IndexSet,
    /// When to ask next, while there are holes.
    ask_at: Now,
    /// Whom to ask next, as a count.
    turn: usize,
    /// Who gave last.
    giver: Option<Member>,
    /// No giver was found for an election timeout: from then on it may campaign.
    campaign_from: Option<Now>,
    /// When a snapshot may be asked for again.
    pub(crate) snapshot_at: Now,
    /// For whom a leader waited in vain.
    pub(crate) waits_for: Vec<Member>,
    /// Something is or was missing, and the host was not told yet that it is over.
    unwell: bool,
}

impl Healing {
    pub(crate) fn new(holes: Holes, rights: Rights, now: Now) -> Healing {
        Healing {
            unwell: !holes.is_empty() || rights == Rights::FOLLOW,
            missing: holes.missing,
            may_be_config: holes.may_be_config,
            filling: IndexSet::new(),
            ask_at: now,
            turn: 0,
            giver: None,
            campaign_from: None,
            snapshot_at: now,
            waits_for: Vec::new(),
        }
    }

    pub(crate) fn missing(&self) -> &IndexSet {
        &self.missing
    }

    pub(crate) fn first(&self) -> Option<Index> {
        self.missing.first()
    }

    /// The lowest hole whose entry nobody gave yet.
    pub(crate) fn first_unfilled(&self) -> Option<Index> {
        if self.filling.is_empty() {
            return self.missing.first();
        }
        self.missing.iter().find(|at| !self.filling.contains(*at))
    }

    /// Whether this is a hole that nothing fills yet.
    pub(crate) fn lacks(&self, index: Index) -> bool {
        self.missing.contains(index) && !self.filling.contains(index)
    }

    /// Up to where everything from `first` on can be read.
    pub(crate) fn readable_from(&self, first: Index) -> Index {
        let next = self.missing.ranges().iter().find(|(_, last)| *last >= first);
        next.map_or(Index(u64::MAX), |(hole, _)| (*hole).max(first).prev())
    }

    pub(crate) fn wake_at(&self) -> Option<Now> {
        (!self.missing.is_empty()).then_some(self.ask_at)
    }

    /// Who gives is asked now.
    pub(crate) fn ask_again(&mut self, now: Now) {
        self.ask_at = self.ask_at.min(now);
    }

    /// What was to fill a hole does not.
    pub(crate) fn unfill(&mut self, index: Index) {
        self.filling.remove_range(index, index);
    }

    fn forget(&mut self, first: Index, last: Index) {
        for set in [&mut self.missing, &mut self.may_be_config, &mut self.filling] {
            set.remove_range(first, last);
        }
    }
}

impl Core {
    /// The highest index that may be acknowledged as far as holes are concerned.
    pub(crate) fn whole_to(&self) -> Index {
        if is(Defect::HolesAcked) {
            return Index(u64::MAX);
        }
        self.healing.first().map_or(Index(u64::MAX), Index::prev)
    }

    /// Whether holes let this replica campaign: late, and never if one may be a membership that
    /// is not in force yet.
    pub(crate) fn holes_allow_campaign(&self) -> bool {
        let healing = &self.healing;
        healing.missing.is_empty()
            || (healing.may_be_config.last().is_none_or(|at| at <= self.applied)
                && healing.campaign_from.is_some_and(|at| self.now >= at))
    }

    /// An election timeout passed: givers get another one.
    pub(crate) fn postpone_campaign_for_holes(&mut self) {
        if !self.healing.missing.is_empty() && self.healing.campaign_from.is_none() {
            self.healing.campaign_from = Some(self.now.after(self.config.election_timeout));
        }
    }

    /// Somebody gives, or leads: there is no reason to campaign.
    pub(crate) fn hope_for_holes(&mut self) {
        self.healing.campaign_from = None;
    }

    /// Entries turned out to be unreadable while the replica runs. A leader goes on if they are
    /// applied: they are committed, and others have them. Else it steps down.
    pub fn on_damage(&mut self, now: Now, holes: &Holes) {
        self.advance(now);
        let (from, to) = (self.log.compacted().index.next(), self.log.last().index);
        for (set, ranges) in [
            (&mut self.healing.missing, &holes.missing),
            (&mut self.healing.may_be_config, &holes.may_be_config),
        ] {
            for (first, last) in ranges.ranges() {
                set.insert_range((*first).max(from), (*last).min(to));
            }
        }
        for (first, last) in holes.missing.ranges() {
            self.healing.filling.remove_range(*first, *last);
            self.log.forget_fills(*first, *last);
        }
        if self.healing.missing.is_empty() {
            return;
        }
        self.healing.unwell = true;
        self.healing.ask_at = self.now;
        let unapplied = self.healing.missing.last().is_some_and(|at| at > self.applied);
        if self.role != Role::Follower && (unapplied || self.role != Role::Leader) {
            self.become_follower(self.term(), None);
        }
    }

    /// Asks when it is time: a leader that must resolve its holes everybody, else one after the
    /// other, the leader first.
    pub(crate) fn tick_holes(&mut self) {
        if self.healing.wake_at().is_none_or(|at| self.now < at) {
            return;
        }
        self.healing.ask_at = self.now.after(self.config.heartbeat);
        if !self.rights.may_ack {
            return;
        }
        if self.leading.resolving.is_some() {
            return self.ask_everybody();
        }
        if self.space.lacks() {
            return; // what is given now could not be written down
        }
        let members = self.givers();
        if let Some(at) = self.healing.turn.checked_rem(members.len()) {
            self.healing.turn = at + 1;
            self.ask(members[at]);
        }
    }

    fn ask_everybody(&mut self) {
        for member in self.givers() {
            self.ask(member);
        }
    }

    /// The leader, then all other members.
    pub(crate) fn givers(&self) -> Vec<Member> {
        let leader = self.leader;
        let members = self.conf.iter().filter(|m| Some(*m) != leader);
        leader.into_iter().chain(members).filter(|m| *m != self.config.me).collect()
    }

    fn ask(&mut self, whom: Member) {
        let ranges = self.hole_ranges();
        if !ranges.is_empty() {
            self.send(whom, Body::HoleAsk { ranges });
        }
    }

    /// The lowest holes that nothing fills yet, split by term, within the window.
    fn hole_ranges(&self) -> Vec<HoleRange> {
        let mut out = Vec::new();
        let mut left = WINDOW;
        for (first, last) in unfilled(&self.healing) {
            let mut at = first;
            while at <= last && left > 0 && out.len() < HoleRange::MAX {
                let term = self.log.id(at).term;
                let end = self.log.run_of(term).map_or(at, |(_, end)| end);
                let end = end.min(last).min(at + (left - 1));
                out.push(HoleRange { term, first: at, last: end });
                left -= (end - at) + 1;
                at = end.next();
            }
        }
        out
    }

    /// Entries for holes. Those that are whole and the very ones missing are written again.
    pub(crate) fn on_hole_have(&mut self, from: Member, entries: Vec<Entry>) {
        let mut useful = false;
        for entry in entries {
            if self.healing.lacks(entry.id.index)
                && self.log.contains(entry.id)
                && entry.is_intact()
            {
                useful = true;
                self.fill(entry);
            }
        }
        if useful {
            self.healing.giver = Some(from);
        }
    }

    pub(crate) fn fill(&mut self, entry: Entry) {
        let index = entry.id.index;
        if self.space.lacks() && entry.is_bulky() {
            return;
        }
        self.healing.filling.insert(index);
        self.log.fill(entry, self.applied);
        self.hope_for_holes();
        self.resolving_goes_on();
    }

    /// Entries were written again and are durable. Who gave them is asked for more.
    pub(crate) fn forget_filled_holes(&mut self, filled: &[(Index, Index)]) {
        if filled.is_empty() {
            return;
        }
        for (first, last) in filled {
            self.healing.forget(*first, *last);
        }
        self.commit_what_configs_prove();
        if let Some(giver) = self.healing.giver.take() {
            self.healing.ask_at = self.now.after(self.config.heartbeat);
            self.ask(giver);
        }
    }

    /// A cut took them.
    pub(crate) fn forget_holes_from(&mut self, cut: Index) {
        if !self.healing.missing.is_empty() {
            self.healing.forget(cut, Index(u64::MAX));
        }
    }

    /// A snapshot supplies everything up to `index`.
    pub(crate) fn forget_holes_up_to(&mut self, index: Index) {
        if !self.healing.missing.is_empty() {
            self.healing.forget(Index::ZERO, index);
        }
    }

    /// Gives the rights back when nothing is missing any more: no hole, and an end of the log
    /// that reaches what a leader had after the hello.
    pub(crate) fn heal_if_whole(&mut self) {
        if !self.healing.unwell || !self.rights.may_ack || !self.healing.missing.is_empty() {
            return;
        }
        if self.rights == Rights::FOLLOW
            && self.hello.target().is_none_or(|target| self.ackable() < target)
        {
            return;
        }
        self.healing.unwell = false;
        self.healing.waits_for.clear();
        self.hope_for_holes();
        self.rights = Rights::ALL;
        self.acked = Index::ZERO;
        self.out.healed = true;
        self.finish_resolving();
    }

    /// The store's new verdict. A leader that may no longer campaign steps down.
    pub fn set_rights(&mut self, now: Now, rights: Rights) {
        self.advance(now);
        self.rights = rights;
        self.healing.unwell |= rights == Rights::FOLLOW;
        if self.role != Role::Follower && !(rights.may_vote && rights.may_campaign) {
            self.become_follower(self.term(), None);
        }
        if self.role == Role::Follower {
            self.ack_if_news();
        }
    }
}

/// `missing` without `filling`, as ranges, as many as one question can name.
fn unfilled(healing: &Healing) -> Vec<(Index, Index)> {
    let mut out = Vec::new();
    for (first, last) in healing.missing.ranges() {
        let mut at = *first;
        for (lo, hi) in healing.filling.ranges().iter().filter(|(lo, hi)| hi >= first && lo <= last)
        {
            if at < *lo {
                out.push((at, lo.prev()));
            }
            at = hi.next();
        }
        if at <= *last {
            out.push((at, *last));
        }
        if out.len() >= HoleRange::MAX {
            break;
        }
    }
    out
}
