//! What an action leads to.

use crate::action::{Action, Known};
use crate::clocks::note_leader;
use crate::common::disk::Disk;
use crate::common::*;
use crate::cores::Cores;
use crate::world::{Disks, Hangs, Letter, Replica, Shared, Stream, World};
use refloat_raft_core::*;
use refloat_types::*;

impl Cores {
    pub fn restart(&self, world: &mut World, n: usize, disk: Disk) {
        let Replica { me, runs, past, unnoticed, .. } = *world.replicas[n];
        let replica = self.replica(me, disk, runs + 1);
        world.replicas[n] = Shared::new(Replica { past, unnoticed, ..replica });
        world.drive(n, Disks::Sync, |_| {});
    }

    /// Does it. Answers at which replica, or `None` if nothing can come of it.
    pub fn step(&self, world: &mut World, action: Action, disks: Disks) -> Option<usize> {
        let n = match action {
            Action::Deliver(letter) => {
                world.wire.remove(&letter);
                return deliver(world, &letter, disks);
            }
            Action::Repeat(letter) => {
                world.left.repeats -= 1;
                return deliver(world, &letter, disks);
            }
            Action::Campaign(n) => {
                world.left.campaigns -= 1;
                world.drive(n, disks, |r| {
                    r.heard = None;
                    r.core.campaign(r.clock);
                });
                n
            }
            Action::CampaignLate(n) => {
                world.left.campaigns -= 1;
                world.drive(n, disks, campaign_late);
                n
            }
            Action::Propose(n) => {
                world.left.proposals -= 1;
                let text = if world.left.proposals.is_multiple_of(2) { "a" } else { "b" };
                world.drive(n, disks, |r| drop(r.core.propose(r.clock, vec![command(text)])));
                n
            }
            Action::Sync(n) => {
                world.drive(n, disks, Replica::sync);
                n
            }
            Action::Crash(n, kept) => {
                world.left.crashes -= 1;
                let mut replica = (*world.replicas[n]).clone();
                replica.lose_all_but(kept);
                let disk = replica.disk.clone();
                world.replicas[n] = Shared::new(replica);
                self.restart(world, n, disk);
                n
            }
            Action::Wipe(n) => self.wipe(world, n),
            Action::Forget(n) => self.forget(world, n),
            Action::Replace(n, old, new) => {
                world.drive(n, disks, |r| {
                    r.core.on_not_me(r.clock, old);
                    let change = ConfChange::replace(old, new);
                    drop(r.core.propose_conf_change(r.clock, change));
                });
                n
            }
            Action::Promote(n, learner) => {
                world.left.promotions = world.left.promotions.saturating_sub(1);
                world.drive(n, disks, |r| {
                    let required = r.core.commit();
                    drop(r.core.promote(r.clock, learner, required));
                });
                n
            }
            Action::Leave(n) => {
                world.left.removals -= 1;
                world.drive(n, disks, |r| {
                    drop(r.core.propose_conf_change(r.clock, ConfChange::Remove(r.me)));
                });
                n
            }
            Action::Swap(n, out, joins) => {
                world.left.swaps -= 1;
                self.change(world, n, &[ConfStep::Promote(joins), ConfStep::Remove(out)]);
                n
            }
            Action::Drop(n, out) => {
                world.left.drops -= 1;
                self.change(world, n, &[ConfStep::Remove(out)]);
                n
            }
            Action::Pass(slow) => {
                world.left.passes -= 1;
                world.pass(slow);
                return Some(0);
            }
            Action::Fall(n) => {
                world.left.falls -= 1;
                world.fall(n);
                n
            }
            Action::Jump(n) => {
                world.left.jumps -= 1;
                world.clocks_lie = true;
                world.set_clock(n, |clock| clock.after(E));
                n
            }
            Action::Read(n) => {
                world.left.reads -= 1;
                self.read(world, n);
                n
            }
            Action::Transfer(n, to) => {
                world.left.transfers -= 1;
                world.drive(n, disks, |r| drop(r.core.transfer_leader(r.clock, to)));
                n
            }
            Action::Damage(n) => {
                world.left.damages -= 1;
                let mut disk = world.replicas[n].disk.clone();
                let at = *disk.entries.last_key_value()?.0;
                disk.lose(at.0);
                self.restart(world, n, disk);
                n
            }
            Action::Tick(n) => {
                world.drive(n, disks, |r| r.core.tick(r.clock));
                n
            }
            Action::Beat(n) => {
                world.left.beats -= 1;
                world.drive(n, disks, |r| {
                    if self.budget.passes == 0 {
                        r.clock = r.clock.after(BEAT);
                    }
                    r.core.tick(r.clock);
                });
                n
            }
            Action::Compact(n) => {
                world.left.compactions -= 1;
                world.drive(n, disks, Replica::compact);
                n
            }
            Action::Stream(stream) => return arrive(world, &stream, disks),
            Action::StreamFails(stream) => {
                world.left.repeats -= 1;
                world.streams.retain(|s| *s != stream);
                sent(world, &stream, false)?
            }
            Action::OldEnd(n, known) => self.old_end(world, n, known),
            Action::Hang(n) => {
                world.left.hangs -= 1;
                world.drive(n, disks, |r| r.hangs = Some(Hangs::Untold));
                n
            }
            Action::HangTold(n, successor) => {
                world.drive(n, disks, |r| {
                    r.hangs = Some(Hangs::Told);
                    r.core.disk_hangs(r.clock, successor);
                });
                n
            }
            Action::Answer(n) => {
                world.drive(n, disks, Replica::answer);
                n
            }
            Action::Torn(_) | Action::Lag(_) => return None,
        };
        Some(n)
    }

    fn change(&self, world: &mut World, n: usize, steps: &[ConfStep]) {
        let change =
            ConfChange::Several { steps: steps.to_vec(), transition: Transition::Implicit };
        world.drive(n, Disks::Sync, |r| drop(r.core.propose_conf_change(r.clock, change)));
    }

    fn read(&self, world: &mut World, n: usize) {
        let (name, before) = (world.must_see(), world.replicas[n].past.reads);
        world.drive(n, Disks::Sync, |r| drop(r.core.read_index(r.clock, name)));
        let mut replica = (*world.replicas[n]).clone();
        replica.past.read_at_once |= replica.past.reads > before;
        world.replicas[n] = Shared::new(replica);
    }

    fn wipe(&self, world: &mut World, n: usize) -> usize {
        world.left.wipes -= 1;
        let old = world.replicas[n].me;
        let new = Member::new(old.node, Incarnation(old.incarnation.0 + 1));
        let replica = self.replica(new, Disk::empty(conf(1..=3)), 1);
        world.replicas[n] = Shared::new(replica);
        n
    }

    fn forget(&self, world: &mut World, n: usize) -> usize {
        world.left.forgets -= 1;
        let Replica { me, runs, .. } = *world.replicas[n];
        let mut disk = world.replicas[n].disk.clone();
        disk.hard = HardState { term: disk.last().term, vote: None };
        let mut amnesiac = disk.clone();
        amnesiac.rights = Rights::NONE;
        let mut replica = self.replica(me, amnesiac, runs + 1);
        replica.disk = disk;
        replica.me = Member::new(me.node, Incarnation(me.incarnation.0 + 1));
        replica.core.begin_life(replica.clock, replica.me);
        world.replicas[n] = Shared::new(replica);
        world.drive(n, Disks::Sync, |_| {});
        n
    }

    fn old_end(&self, world: &mut World, n: usize, known: Known) -> usize {
        let mut replica = (*world.replicas[n]).clone();
        replica.disk.bring_old_back();
        replica.past.old_end = true;
        match known {
            Known::HeadUnknown => world.left.old_ends -= 1,
            Known::Unnoticed => {
                world.left.unnoticed -= 1;
                replica.disk.rights = Rights::ALL;
                replica.unnoticed = true;
            }
        }
        let disk = replica.disk.clone();
        world.replicas[n] = Shared::new(replica);
        self.restart(world, n, disk);
        n
    }
}

fn deliver(world: &mut World, letter: &Letter, disks: Disks) -> Option<usize> {
    let message = Message::decode(letter).expect("what was encoded");
    let n = world.replicas.iter().position(|r| r.me.node == message.to.node)?;
    let counted = world.replicas[n].counts();
    let named = match &message.body {
        Body::AppendResp { matched } => Some(*matched),
        _ => None,
    };
    let (before, asked) = (world.replicas[n].clone(), message.clone());
    world.drive(n, disks, |r| {
        let answers =
            matches!(message.body, Body::HelloReply { nonce, .. } if nonce == r.core.nonce());
        let term = message.term;
        drop(r.core.step(r.clock, message));
        note_leader(r, asked.from, &asked.body);
        r.unnoticed &= !(answers && term == r.core.term());
    });
    world.check_question(&before, n, &asked);
    world.check_counts(n, &counted, named);
    Some(n)
}

/// A snapshot is whole at its receiver, which may install it or not; its sender hears of it.
fn arrive(world: &mut World, stream: &Stream, disks: Disks) -> Option<usize> {
    world.streams.retain(|s| s != stream);
    let n = world.replicas.iter().position(|r| r.me == stream.to)?;
    let Stream { at, conf, .. } = stream.clone();
    let mut ok = false;
    world.drive(n, disks, |r| ok = r.core.on_snapshot_received(r.clock, at, conf).is_ok());
    sent(world, stream, ok);
    Some(n)
}

fn sent(world: &mut World, stream: &Stream, ok: bool) -> Option<usize> {
    let n = world.replicas.iter().position(|r| r.me == stream.from)?;
    world.drive(n, Disks::Sync, |r| r.core.on_snapshot_sent(r.clock, stream.to, ok));
    Some(n)
}

fn campaign_late(replica: &mut Replica) {
    replica.clock = replica.clock.after(2 * E);
    replica.core.tick(replica.clock);
    replica.clock = replica.clock.after(E);
    replica.core.campaign(replica.clock);
}
