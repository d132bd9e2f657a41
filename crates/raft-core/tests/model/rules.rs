//! What each step must not do.

use crate::world::{Replica, World};
use refloat_raft_core::*;
use refloat_types::*;

impl World {
    pub fn check_leader(&mut self, replica: &Replica, ready: &Ready) {
        let Some(soft) = ready.soft.filter(|soft| soft.role == Role::Leader) else { return };
        if *self.leaders.entry(soft.term).or_insert(replica.me) != replica.me {
            self.break_rule("two leaders in one term");
        }
        let mut log = replica.memory();
        if let Some(persist) = &ready.persist {
            log.persist(persist);
        }
        let lacks = |(at, (id, _, term)): (&Index, &(EntryId, Digest, Term))| {
            *term < soft.term && *at > log.base.index && log.id(*at) != Some(*id)
        };
        if self.committed.iter().any(lacks) {
            self.break_rule("a leader without what is committed");
        }
    }

    /// A snapshot takes nobody back.
    pub fn check_install(&mut self, replica: &mut Replica, at: EntryId) {
        if at.index <= replica.machine {
            self.break_rule("a snapshot over a state that is newer");
        }
        replica.machine = at.index;
    }

    /// A leader that is removed steps down when a majority of those that stay knows. (No time
    /// passes, so that it does not give up.)
    pub fn check_leaving(&mut self, before: &Replica, after: &Replica) {
        let led = before.core.role() == Role::Leader;
        let (term, conf) = (before.core.term(), after.core.conf());
        let leaves = led && after.core.role() == Role::Follower && after.core.term() == term;
        if !leaves || conf.is_voter(after.me) {
            return;
        }
        let knows = |m: Member| self.replicas.iter().any(|r| r.me == m && r.core.conf() == conf);
        if !quorum::has_quorum(conf, knows) {
            self.break_rule("a leader leaves before those that stay know it");
        }
    }

    /// What a leader begins to count is durable at its peer, which follows it, unless the peer lost
    /// it since; or the leader's own entry, as `named` says, made way for a snapshot since.
    pub fn check_counts(&mut self, n: usize, before: &[(Member, Index)], named: Option<EntryId>) {
        let leader = &self.replicas[n];
        let now = leader.counts();
        let news = now.iter().filter(|(member, at)| {
            let known = before.iter().find(|(m, _)| m == member);
            *at > known.map_or(Index::ZERO, |(_, at)| *at)
        });
        let mut peers = news.filter_map(|(m, at)| {
            self.replicas.iter().find(|peer| peer.me == *m).map(|peer| (peer, *at))
        });
        let lacks = peers.any(|(peer, at)| {
            let own = leader.memory().id(at);
            let own = own.or_else(|| self.committed.get(&at).map(|(id, ..)| *id));
            let follows = peer.disk.hard.term <= leader.core.term() && !peer.past.old_end;
            let made_way = peer.past.installed && own == named;
            let lacks = own.is_some_and(|own| peer.disk.id(at) != Some(own));
            follows && !made_way && at >= peer.disk.base.index && lacks
        });
        if lacks {
            self.break_rule("a leader counts what its peer does not have");
        }
    }

    pub fn check_committed(&mut self, entry: &Entry, term: Term) {
        let what = (entry.id, entry.digest, term);
        let known = self.committed.entry(entry.id.index).or_insert(what);
        known.2 = known.2.min(term);
        if (known.0, known.1) != (what.0, what.1) {
            self.break_rule("two entries committed at one index");
        }
    }

    /// Equal (index, term) means equal up to there.
    pub fn logs_match(&self) -> bool {
        self.replicas.iter().enumerate().all(|(n, a)| {
            self.replicas[n + 1..].iter().all(|b| {
                let (a, b) = (&a.disk, &b.disk);
                let met = a.entries.iter().rev().find(|(i, e)| b.id(**i) == Some(e.id));
                let Some((met, _)) = met else { return true };
                a.entries.range(..=*met).all(|(i, x)| b.entries.get(i).is_none_or(|y| x == y))
            })
        })
    }
}
