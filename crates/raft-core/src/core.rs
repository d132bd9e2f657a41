//! The core itself: its state, its clock, and the turn that it wishes for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use refloat_planted::{Defect, is};
use refloat_types::{ConfState, EntryId, HardState, Index, Member, Now, Term};

use crate::giving::Giving;
use crate::hello::Greeting;
use crate::holes::Healing;
use crate::leader::Leading;
use crate::log::Log;
use crate::lost::Lost;
use crate::read::Asking;
use crate::rng::Rng;
use crate::space::Space;
use crate::{
    Alarm, Body, ConfId, Config, Fetch, Message, Persist, PersistTicket, ReadContext, ReadId,
    ReadState, Ready, RestoreError, Restored, Rights, Role, SoftState, Status,
};

/// The longest list of messages whose room is kept.
const MOST_ROOM: usize = 16;

/// One replica of one group.
///
/// Inputs change it; [`Core::ready`] says what it wishes for. It is its whole state: a clone
/// behaves as the original, equal cores behave alike, and nothing outside of it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Core {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) now: Now,
    /// The host's clock went back behind `now`, and is not there again: intervals are not known.
    pub(crate) clock_is_behind: bool,
    pub(crate) rights: Rights,
    /// The own disk does not answer: nothing that needs it is begun.
    pub(crate) disk_hangs: bool,
    /// The group goes on without this replica, as its leader says.
    pub(crate) dismissed: bool,
    /// The own disk has no space: entries are left outside.
    pub(crate) space: Space,
    /// While the state as of `applied` is lost.
    pub(crate) lost: Option<Lost>,
    pub(crate) healing: Healing,
    pub(crate) giving: Giving,
    pub(crate) hello: Greeting,
    pub(crate) hard: Hard,
    pub(crate) log: Log,
    /// As of `applied`.
    pub(crate) conf: ConfState,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) role: Role,
    /// Neither beats nor waits for beats, until something happens.
    pub(crate) quiet: bool,
    pub(crate) leader: Option<Member>,
    /// When a leader was heard last; voters keep faith for one election timeout.
    pub(crate) leader_heard_at: Now,
    pub(crate) election_at: Now,
    /// Answers of this campaign.
    pub(crate) votes: Vec<(Member, bool)>,
    /// Up to where this term's leader showed that the logs are equal.
    pub(crate) validated: Index,
    /// The last ack sent to this term's leader.
    pub(crate) acked: Index,
    pub(crate) leading: Leading,
    pub(crate) asking: Asking,
    pub(crate) out: Outbox,
}

/// Term and vote: in memory, handed out, durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Hard {
    pub(crate) now: HardState,
    handed: HardState,
    durable: HardState,
    in_flight: VecDeque<(PersistTicket, HardState)>,
}

/// Wishes of the turn, and messages that wait for the hard state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Outbox {
    pub(crate) messages: Vec<Message>,
    held: Vec<Message>,
    pub(crate) fetch: Vec<Fetch>,
    pub(crate) fetches: u64,
    pub(crate) reads: Vec<ReadState>,
    pub(crate) failed_reads: Vec<ReadId>,
    pub(crate) send_snapshot: Vec<Member>,
    pub(crate) install: Option<(EntryId, ConfState)>,
    ticket: PersistTicket,
    /// Up to where entries were handed out to be applied.
    pub(crate) committed: Index,
    soft: Option<SoftState>,
    pub(crate) healed: bool,
    pub(crate) amnesia: bool,
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) make_snapshot: bool,
}

impl Outbox {
    /// Whether nothing is wished for. Most turns end so.
    fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.fetch.is_empty()
            && self.reads.is_empty()
            && self.failed_reads.is_empty()
            && self.send_snapshot.is_empty()
            && self.install.is_none()
            && !self.healed
            && !self.amnesia
            && self.alarms.is_empty()
            && !self.make_snapshot
    }
}

impl Core {
    /// Starts a replica from what is durable, as a follower.
    ///
    /// The state before the call is behind it: no vote or ack of an earlier run is repeated
    /// unless it is in `restored`.
    ///
    /// # Errors
    /// `restored` is not one replica's state, or a setting cannot work.
    pub fn new(config: Config, restored: Restored, now: Now) -> Result<Core, RestoreError> {
        let configs = crate::config::check(&config, &restored)?;
        let mut rng = Rng::new(&config);
        let asking = Asking::new(rng.next());
        let hard = restored.hard_state;
        let misses = restored.rights != Rights::ALL || !restored.holes.is_empty();
        let hello = Greeting::new(rng.next(), config.run > 0 || misses, now);
        let log = Log::restore(&restored, configs);
        let mut core = Core {
            rng,
            now,
            clock_is_behind: false,
            rights: restored.rights,
            disk_hangs: false,
            dismissed: false,
            space: Space::default(),
            lost: None,
            healing: Healing::new(restored.holes, restored.rights, now),
            giving: Giving::default(),
            hello,
            hard: Hard { now: hard, handed: hard, durable: hard, in_flight: VecDeque::new() },
            log,
            conf: restored.conf,
            commit: restored.commit,
            applied: restored.applied,
            role: Role::Follower,
            quiet: false,
            leader: None,
            leader_heard_at: now,
            election_at: now,
            votes: Vec::new(),
            validated: Index::ZERO,
            acked: Index::ZERO,
            leading: Leading::default(),
            asking,
            out: Outbox { committed: restored.applied, ..Outbox::default() },
            config,
        };
        core.commit_what_configs_prove();
        core.reset_election_timer();
        Ok(core)
    }

    /// Time passed. Elections, beats, check quorum and give-ups happen here only.
    pub fn tick(&mut self, now: Now) {
        self.advance(now);
        self.give_up_reads();
        self.tick_holes();
        self.tick_lost();
        if self.quiet {
            return;
        }
        if self.role == Role::Leader {
            self.tick_leader();
        } else if self.now >= self.election_at {
            self.election_timeout();
        }
    }

    /// When [`Core::tick`] should be called next, unless something else happens first.
    #[must_use]
    pub fn wake_at(&self) -> Option<Now> {
        let role = match self.role {
            _ if self.quiet => None,
            Role::Leader => self.leading.wake_at(),
            _ => Some(self.election_at),
        };
        let own = [self.asking.wake_at(), self.healing.wake_at(), self.lost_wake_at()];
        own.into_iter().chain([role]).flatten().min()
    }

    /// Everything handed out up to `ticket` is durable. Held messages may leave, acks are made,
    /// a leader counts itself (thesis, 10.2.1: its own write is a vote for commit like others').
    ///
    /// # Panics
    /// The ticket was never handed out.
    pub fn on_persisted(&mut self, now: Now, ticket: PersistTicket) {
        assert!(ticket <= self.out.ticket, "only a ticket that was handed out can be durable");
        self.advance(now);
        while let Some((_, hard)) = self.hard.in_flight.pop_front_if(|(t, _)| *t <= ticket) {
            self.hard.durable = hard;
        }
        if self.hard.in_flight.is_empty() {
            self.hard.in_flight = VecDeque::new(); // votes are rare, groups are many
        }
        let filled = self.log.persisted(ticket);
        self.forget_filled_holes(&filled);
        self.heal_if_whole();
        if self.hard.is_durable() {
            self.out.messages.append(&mut core::mem::take(&mut self.out.held));
        }
        match self.role {
            Role::Leader => self.advance_commit(),
            Role::Follower => self.ack_if_news(),
            Role::Candidate if self.hard.is_durable() => self.count_own_vote(),
            Role::Candidate | Role::PreCandidate => {}
        }
    }

    /// What the core wishes for now, or `None`. To be called after every batch of inputs until it
    /// answers `None`, and followed as [`Ready`] says.
    pub fn ready(&mut self) -> Option<Ready> {
        self.start_reads();
        self.send_appends();
        let committed = self.hand_out_committed();
        let soft = self.changed_soft_state();
        let persist = self.hand_out_persist();
        let out = &mut self.out;
        if persist.is_none() && committed.is_none() && soft.is_none() && out.is_empty() {
            if self.quiet {
                // One of many groups, and it keeps no room.
                out.messages = Vec::new();
                self.log.keep_no_room();
            }
            return None;
        }
        Some(Ready {
            persist,
            messages: core::mem::take(&mut out.messages),
            fetch: core::mem::take(&mut out.fetch),
            committed,
            reads: core::mem::take(&mut out.reads),
            failed_reads: core::mem::take(&mut out.failed_reads),
            send_snapshot: core::mem::take(&mut out.send_snapshot),
            install: out.install.take(),
            soft,
            healed: core::mem::take(&mut out.healed),
            amnesia: core::mem::take(&mut out.amnesia),
            alarms: core::mem::take(&mut out.alarms),
            make_snapshot: core::mem::take(&mut out.make_snapshot),
        })
    }

    /// Takes the list of a [`Ready`]'s messages back, once they are sent: the next ones go into its
    /// room. A host need not give it.
    pub fn reuse(&mut self, mut messages: Vec<Message>) {
        let little = messages.capacity() <= MOST_ROOM;
        if self.out.messages.capacity() == 0 && little && !self.quiet {
            messages.clear();
            self.out.messages = messages;
        }
    }

    fn hand_out_persist(&mut self) -> Option<Persist> {
        let hard_changed = self.hard.now != self.hard.handed;
        let install = self.out.install.is_some();
        if !hard_changed && !install && !self.log.has_changes() {
            return None;
        }
        self.out.ticket.0 += 1;
        let ticket = self.out.ticket;
        let hard_state = hard_changed.then_some(self.hard.now);
        if hard_changed {
            self.hard.handed = self.hard.now;
            self.hard.in_flight.push_back((ticket, self.hard.now));
        }
        Some(Persist { ticket, hard_state, log: self.log.hand_out(ticket, install) })
    }

    fn hand_out_committed(&mut self) -> Option<(Index, Index)> {
        let first = self.out.committed.next();
        let last = match self.healing.first() {
            Some(_) => self.commit.min(self.healing.readable_from(first)),
            None => self.commit,
        };
        if first > last {
            return None;
        }
        self.out.committed = last;
        Some((first, last))
    }

    fn changed_soft_state(&mut self) -> Option<SoftState> {
        let soft = SoftState { role: self.role, leader: self.leader, term: self.term() };
        if self.out.soft == Some(soft) {
            return None;
        }
        self.out.soft = Some(soft);
        Some(soft)
    }

    /// What the replica knows of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            role: self.role,
            term: self.term(),
            vote: self.hard.now.vote,
            leader: self.leader,
            commit: self.commit.max(self.space.committed),
            applied: self.applied,
            last: self.log.last(),
            durable: self.log.durable(),
            compacted: self.log.compacted(),
            conf: self.conf.clone(),
            conf_id: ConfId::of(&self.conf),
            progress: self.leading.progress.iter().map(|p| p.status()).collect(),
            transfer: self.leading.transfer_target(),
            uncommitted_bytes: self.leading.uncommitted_bytes(),
            lease: self.would_answer_from_lease(),
            quiet: self.quiet,
            rights: self.rights,
            disk_hangs: self.disk_hangs,
            holes: self.healing.missing().clone(),
            waits_for: self.waits_for(),
        }
    }

    /// The membership as of the applied index; what a snapshot taken there must hold.
    #[must_use]
    pub fn conf(&self) -> &ConfState {
        &self.conf
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The leader, if known.
    #[must_use]
    pub fn leader(&self) -> Option<Member> {
        self.leader
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// What the replica may do: as given, or better since what was missing came back.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The present term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard.now.term
    }

    /// Time never goes back, whatever the host says: it stands still until the host's clock is there
    /// again. How long a lease has lasted is not known then, so none goes on.
    pub(crate) fn advance(&mut self, now: Now) {
        let was_behind = self.clock_is_behind;
        self.clock_is_behind = now < self.now && !is(Defect::ClockBackTrusted);
        if was_behind || self.clock_is_behind {
            self.leading.reads.forget_beats();
        }
        self.now = self.now.max(now);
    }

    /// Sends, or holds back until the term and vote that stand behind the message are durable.
    pub(crate) fn send(&mut self, to: Member, body: Body) {
        let (from, group) = (self.config.me, self.config.group);
        let message = Message { from, to, group, term: self.term(), body };
        if self.hard.is_durable() || is(Defect::VoteBeforeSync) {
            self.out.messages.push(message);
        } else {
            self.out.hold(message);
        }
    }

    /// Takes a higher term, with no vote in it. What was held for an older one is void.
    pub(crate) fn enter_term(&mut self, term: Term, vote: Option<Member>) {
        assert!(term > self.term(), "terms only rise");
        self.hard.now = HardState { term, vote };
        self.out.held.clear();
        self.validated = Index::ZERO;
        self.acked = Index::ZERO;
        self.space.forget_leader();
    }

    /// Raises the commit index, never beyond the log.
    pub(crate) fn commit_to(&mut self, index: Index) {
        let index = index.min(self.log.last().index);
        self.commit = self.commit.max(index);
    }
}

impl Outbox {
    /// Lets a message wait for the hard state, however long the disk takes: of each kind only the
    /// newest to each peer, which says all that the ones before did. Reads are told apart by their
    /// contexts, and go when they are given up.
    fn hold(&mut self, message: Message) {
        let kind = core::mem::discriminant(&message.body);
        if !matches!(message.body, Body::ReadIndex { .. } | Body::ReadIndexResp { .. }) {
            let same = |m: &Message| m.to == message.to && core::mem::discriminant(&m.body) == kind;
            self.held.retain(|held| !same(held));
        }
        self.held.push(message);
    }

    /// A read is given up: nobody waits for its answer.
    pub(crate) fn forget_question(&mut self, context: ReadContext) {
        let asks =
            |m: &Message| matches!(m.body, Body::ReadIndex { context: c, .. } if c == context);
        self.held.retain(|held| !asks(held));
    }

    /// Takes back every message that did not leave yet.
    pub(crate) fn void(&mut self) {
        self.messages.clear();
        self.held.clear();
    }
}

impl Hard {
    pub(crate) fn is_durable(&self) -> bool {
        self.now == self.durable
    }
}
