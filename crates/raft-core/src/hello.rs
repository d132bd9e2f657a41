//! What each run declares to its leader before its first ack, and what the leader makes of it.
//!
//! Acks name no run. Inside a run a lower one is an old message; a new run may have less than the
//! one before. So a run acknowledges nothing before the leader has heard what it starts from.

use refloat_types::{Index, Member, Now, Term};

use crate::{Alarm, Body, Core, Declared, Hello, HoleRange, Rights, Role};

/// The greeting of this run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Greeting {
    nonce: u64,
    /// What a leader remembers of an earlier run is not believed before it heard this one.
    declares: bool,
    /// A leader must be told before the first ack.
    due: bool,
    again_at: Now,
    /// The term whose leader answered last.
    heard_in: Term,
    /// The lowest last index that a leader had after it heard this run.
    target: Option<Index>,
}

impl Greeting {
    pub(crate) fn new(nonce: u64, due: bool, now: Now) -> Greeting {
        Greeting { nonce, declares: due, due, again_at: now, heard_in: Term::ZERO, target: None }
    }

    /// Whether acks may leave.
    pub(crate) fn is_over(&self) -> bool {
        !self.due
    }

    /// Whether this run is declared, so that a leader shows it anew where the logs are equal.
    pub(crate) fn declares(&self) -> bool {
        self.declares
    }

    pub(crate) fn target(&self) -> Option<Index> {
        self.target
    }
}

/// A run that a leader heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    run: u64,
    nonce: u64,
}

impl Core {
    /// A leader was heard. It is greeted until it answers; a replica that does not know its end
    /// greets each new leader, since a later one may have less.
    pub(crate) fn greet(&mut self, leader: Member) {
        let unknown = self.rights == Rights::FOLLOW && self.hello.heard_in != self.term();
        if !(self.hello.due || unknown) || self.now < self.hello.again_at {
            return;
        }
        self.hello.again_at = self.now.after(self.config.heartbeat);
        let state = match self.rights {
            Rights::NONE => Declared::Amnesia,
            Rights::FOLLOW => Declared::HeadUnknown,
            _ if self.healing.first().is_some() => Declared::Damaged,
            _ => Declared::Clean,
        };
        let durable = self.log.durable().max(self.log.compacted().index);
        let hello = Hello {
            run: self.config.run,
            nonce: self.hello.nonce,
            last: self.log.id(durable.min(self.log.last().index)),
            state,
            holes: self.healing.missing().ranges().iter().take(HoleRange::MAX).copied().collect(),
        };
        self.send(leader, Body::Hello(hello));
    }

    pub(crate) fn on_hello(&mut self, from: Member, hello: &Hello) {
        if self.role != Role::Leader {
            return;
        }
        let last = self.log.last().index;
        let regressed = match self.judge_hello(from, hello) {
            Verdict::Refused => return,
            Verdict::Sound => false,
            Verdict::Regressed => true,
        };
        self.send(from, Body::HelloReply { nonce: hello.nonce, last, regressed });
    }

    fn judge_hello(&mut self, from: Member, hello: &Hello) -> Verdict {
        let now = self.now;
        let run = Run { run: hello.run, nonce: hello.nonce };
        let Some(peer) = self.leading.peer(from) else { return Verdict::Sound };
        if peer.gone {
            return Verdict::Refused; // said before its directory was gone, as its acks
        }
        let known = peer.run.replace(run);
        let (matched, told) = (peer.matched, peer.regressed);
        match known {
            Some(known) if known == run => {
                peer.hear(now);
                return if peer.regressed { Verdict::Regressed } else { Verdict::Sound };
            }
            // A hello of a run that is over is an old message, or an old copy: no answer either way.
            Some(known) if run.run < known.run => {
                peer.run = Some(known);
                return Verdict::Refused;
            }
            Some(known) if run.run == known.run && run.run != 0 => {
                peer.run = Some(known);
                let (run, nonce) = (run.run, run.nonce);
                self.out.alarms.push(Alarm::SharedRun { member: from, run, nonce });
                return Verdict::Refused;
            }
            _ => {}
        }
        let had = self.log.term(matched).map(|_| self.log.id(matched));
        let less = hello.last.index < matched || had.is_some_and(|had| hello.last < had);
        // What it lost does not come back with its next run, and that it was told may be lost too.
        let regressed = told || less && hello.state == Declared::Clean;
        let declared = match hello.state {
            Declared::Amnesia => Index::ZERO,
            _ if regressed => Index::ZERO,
            _ => hello.holes.first().map_or(Index(u64::MAX), |(at, _)| at.prev()),
        };
        // The index alone would count entries that this log overwrote and that are back there, also
        // where the replica does not know it. An end of a higher term than what it acknowledged is
        // no proof of that: such an end may stand above it, not overwritten yet.
        let shared = self.log.shared(hello.last);
        let last =
            self.log.meet(hello.last).map_or(self.log.compacted().index.prev(), |id| id.index);
        let Some(peer) = self.leading.peer(from) else { return Verdict::Sound };
        peer.hear(now);
        peer.regressed = regressed;
        peer.restart_at(declared.min(shared), declared.min(last));
        if regressed && !told {
            let (acked, last) = (matched, hello.last);
            self.out.alarms.push(Alarm::Regression { member: from, acked, last });
        }
        if regressed {
            return Verdict::Regressed;
        }
        Verdict::Sound
    }

    pub(crate) fn on_hello_reply(&mut self, from: Member, nonce: u64, last: Index, lost: bool) {
        if self.role != Role::Follower || nonce != self.hello.nonce {
            return;
        }
        if lost {
            self.rights = Rights::NONE;
            self.out.amnesia = true;
            return;
        }
        self.hello.heard_in = self.term();
        self.hello.due = false;
        self.hello.target = Some(self.hello.target.map_or(last, |known| known.min(last)));
        self.heal_if_whole();
        if self.leader == Some(from) && self.ackable() > Index::ZERO {
            self.ack(from);
        }
    }

    /// What this run's hellos carry, so that the host knows its own again.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        self.hello.nonce
    }

    /// Goes on as another identity, because this one forgot what it had promised. What it says
    /// from now on it says as `me`, which promised nothing; what it meant to say as before is
    /// void. The log stays, as that of a replica that was away. It must not say anything before
    /// the host made the new name durable, together with its present term and no vote.
    ///
    /// # Panics
    /// It leads: who forgot has no right to.
    pub fn begin_life(&mut self, now: Now, me: Member) {
        self.advance(now);
        assert!(self.role == Role::Follower, "who forgot what it had promised does not lead");
        self.become_follower(self.term(), None);
        self.config.me = me;
        self.rights = Rights::ALL;
        self.hello = Greeting::new(self.rng.next(), true, now);
        self.hard.now.vote = None;
        (self.validated, self.acked) = (Index::ZERO, Index::ZERO);
        self.out.void();
    }

    /// The host learned that a member's node runs in another life now. What this life said is
    /// void, at once: its directory is gone, and with it what it acknowledged.
    pub fn on_not_me(&mut self, now: Now, gone: Member) {
        self.advance(now);
        self.wake_up();
        if self.leading.transfer_target() == Some(gone) {
            self.leading.transfer = None;
        }
        if let Some(peer) = self.leading.peer(gone) {
            peer.restart_at(Index::ZERO, Index::ZERO);
            peer.round = 0;
            peer.gone = true;
        }
    }
}

enum Verdict {
    Sound,
    Regressed,
    Refused,
}
