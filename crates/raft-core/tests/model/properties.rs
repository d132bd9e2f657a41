//! What must hold in every state, and what must be met in some.

use crate::begin::Begin;
use crate::cores::Cores;
use crate::world::{Letter, Replica, World};
use refloat_raft_core::{Body, Message, Rights, Role};
use refloat_types::{Index, Now};
use stateright::Property;

pub const SAFE: &str = "elections, commits, votes, acks and completeness are safe";
pub const MATCH: &str = "logs match";
pub const COMMITTED: &str = "a proposal is committed";
pub const HEALED: &str = "a damaged replica heals";
pub const CUT: &str = "a leader cuts at a hole that nobody else ever had";
pub const REPLACED: &str = "a wiped member is replaced";
pub const PROMOTED: &str = "a new life votes";
pub const WHOLE: &str = "a replica whose overwritten end came back is whole again";
pub const TOLD: &str = "a replica that lost what it acknowledged is told";
pub const INSTALLED: &str = "a leader hears that its snapshot is installed";
pub const CURED: &str = "a hole is cured by a snapshot";
pub const HEADS: &str = "a replica whose log is a snapshot leads";
pub const LEFT: &str = "another one leads when a leader has left";
pub const OUTRUN: &str = "a replica is ahead of a snapshot on its way to it";
pub const BELOW: &str = "a leader compacts what a peer did not acknowledge";
pub const FOREIGN: &str = "a replica acknowledges an entry that its leader has not";
pub const HANDED: &str = "another one leads while a disk hangs";
pub const ANSWERED: &str = "a replica whose disk hung leads";

pub const PRE_VOTED: &str = "another one leads whom a majority would vote for";
pub const LEASED: &str = "a read is served from a lease";
pub const STALE: &str = "a read is stale by clocks that do what they must not";
pub const READ: &str = "a read is served after another one began to lead";
pub const JOINT: &str = "a leader leads a joint membership";
pub const SWAPPED: &str = "a learner took a voter's place";

pub fn all() -> Vec<Property<Cores>> {
    let mut all = vec![
        Property::always(SAFE, |_, world: &World| world.broken.is_none()),
        Property::always(MATCH, |_, world: &World| world.logs_match()),
        Property::sometimes(COMMITTED, |_, world: &World| {
            world.committed.values().any(|(id, ..)| id.index > Index(1))
        }),
    ];
    all.extend(of_damage());
    all.extend(of_lives());
    all.extend(of_snapshots());
    all.extend(of_hanging_disks());
    all.extend(of_clocks());
    all.extend(of_changes());
    all
}

fn any(world: &World, wanted: impl Fn(&Replica) -> bool) -> bool {
    world.replicas.iter().any(|r| wanted(r))
}

fn leads(replica: &Replica) -> bool {
    replica.core.role() == Role::Leader
}

fn of_damage() -> Vec<Property<Cores>> {
    vec![
        Property::sometimes(HEALED, |model: &Cores, world: &World| {
            world.left.damages < model.budget.damages
                && !any(world, |r| !r.disk.lost.is_empty())
                && world.committed.len() > 1
        }),
        Property::sometimes(CUT, |model: &Cores, world: &World| {
            world.left.damages < model.budget.damages
                && any(world, |r| leads(r) && r.clock > Now(0) && r.disk.lost.is_empty())
        }),
        Property::sometimes(WHOLE, |_, world: &World| {
            let whole =
                |r: &Replica| r.disk.rights == Rights::ALL && r.core.rights() == Rights::ALL;
            any(world, |r| r.past.old_end && !r.unnoticed && whole(r))
        }),
        Property::sometimes(TOLD, |_, world: &World| {
            any(world, |r| r.past.old_end && r.disk.rights == Rights::NONE)
        }),
    ]
}

fn lives_ended(model: &Cores, world: &World) -> bool {
    (world.left.wipes, world.left.forgets) != (model.budget.wipes, model.budget.forgets)
}

fn of_lives() -> Vec<Property<Cores>> {
    vec![
        Property::sometimes(REPLACED, |model: &Cores, world: &World| {
            lives_ended(model, world) && any(world, |r| r.core.conf().learners.len() == 1)
        }),
        Property::sometimes(LEFT, |model: &Cores, world: &World| {
            let left = |r: &Replica| world.replicas.iter().any(|m| !r.core.conf().is_voter(m.me));
            world.left.removals < model.budget.removals
                && any(world, |r| leads(r) && r.core.conf().is_voter(r.me) && left(r))
        }),
        Property::sometimes(PROMOTED, |model: &Cores, world: &World| {
            let votes = |r: &Replica| world.replicas.iter().all(|m| r.core.conf().is_voter(m.me));
            lives_ended(model, world) && any(world, votes)
        }),
    ]
}

fn of_snapshots() -> Vec<Property<Cores>> {
    vec![
        Property::sometimes(INSTALLED, |_, world: &World| {
            let knows = |leader: &Replica, r: &Replica| {
                let progress = leader.core.status().progress;
                let peer = progress.iter().find(|p| p.member == r.me);
                peer.is_some_and(|p| p.matched >= r.disk.base.index)
            };
            let leader = world.newest_leader();
            any(world, |r| r.past.installed && leader.is_some_and(|leader| knows(leader, r)))
        }),
        Property::sometimes(CURED, |model: &Cores, world: &World| {
            world.left.damages < model.budget.damages
                && any(world, |r| r.past.installed && r.disk.lost.is_empty())
        }),
        Property::sometimes(OUTRUN, |_, world: &World| {
            let streams = &world.streams;
            any(world, |r| streams.iter().any(|s| s.to == r.me && s.at.index < r.machine))
        }),
        Property::sometimes(BELOW, |model: &Cores, world: &World| {
            let behind = |r: &Replica| r.counts().iter().any(|(_, at)| *at < r.disk.base.index);
            world.left.compactions < model.budget.compactions && any(world, behind)
        }),
        Property::sometimes(FOREIGN, |model: &Cores, world: &World| {
            model.begin == Begin::Elsewhere && world.wire.iter().any(|l| is_foreign(world, l))
        }),
        Property::sometimes(HEADS, |_, world: &World| any(world, |r| r.past.installed && leads(r))),
    ]
}

fn is_foreign(world: &World, letter: &Letter) -> bool {
    let message = Message::decode(letter).expect("what was encoded");
    let Body::AppendResp { matched } = message.body else { return false };
    any(world, |r| {
        let leader = leads(r) && r.me == message.to && r.core.term() == message.term;
        leader && r.disk.id(matched.index).is_some_and(|own| own != matched)
    })
}

fn of_hanging_disks() -> Vec<Property<Cores>> {
    vec![
        Property::sometimes(HANDED, |_, world: &World| {
            let hung = world.replicas.iter().find(|r| r.hangs.is_some());
            let heir =
                |r: &Replica| leads(r) && hung.is_some_and(|h| h.core.term() < r.core.term());
            world.committed.len() > 1 && any(world, heir)
        }),
        Property::sometimes(ANSWERED, |_, world: &World| {
            any(world, |r| r.past.answered && leads(r))
        }),
    ]
}

/// Another one than at the begin leads.
fn another(world: &World) -> bool {
    any(world, |r| leads(r) && r.me.node.0 > 1)
}

fn of_clocks() -> Vec<Property<Cores>> {
    vec![
        Property::sometimes(PRE_VOTED, |_, world: &World| {
            !world.pre_votes.is_empty() && another(world) && world.committed.len() > 1
        }),
        Property::sometimes(LEASED, |_, world: &World| any(world, |r| r.past.read_at_once)),
        Property::sometimes(STALE, |_, world: &World| world.stale),
        Property::sometimes(READ, |_, world: &World| {
            another(world) && world.committed.len() > 1 && any(world, |r| r.past.reads > 0)
        }),
    ]
}

fn of_changes() -> Vec<Property<Cores>> {
    vec![
        Property::sometimes(JOINT, |_, world: &World| {
            any(world, |r| leads(r) && r.core.conf().is_joint())
        }),
        Property::sometimes(SWAPPED, |_, world: &World| {
            let fourth = |r: &Replica| r.core.conf().voters.iter().any(|m| m.node.0 == 4);
            let left = |r: &Replica| !r.core.conf().is_joint() && fourth(r);
            any(world, |r| leads(r) && left(r))
        }),
    ]
}
