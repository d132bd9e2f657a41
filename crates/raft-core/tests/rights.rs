//! What a replica may do, and whom it takes for itself.

mod common;

use common::disk::Disk;
use common::*;
use refloat_raft_core::*;
use refloat_types::*;

fn restored(terms: &[u64], rights: Rights) -> Restored {
    let disk = Disk::with_log(conf(1..=3), *terms.last().unwrap(), log_of(terms));
    Restored { rights, ..disk.restored() }
}

#[test]
fn t02_what_is_not_meant_for_this_life_or_epoch_is_refused() {
    let mut c = Cluster::of(3);
    let good = Message {
        from: member(2),
        to: member(1),
        group: GROUP,
        term: Term(1),
        body: Body::Heartbeat { commit: Index(0), round: 0 },
    };
    let before = c.status(1);
    let now = c.now;
    for bad in [
        Message { to: life(1, 1), ..good.clone() },
        Message { to: member(2), ..good.clone() },
        Message { group: GroupKey::new(GROUP.id, Epoch(2)), ..good.clone() },
        Message { group: GroupKey::new(GroupId(1), GROUP.epoch), ..good.clone() },
    ] {
        let error = c.node(1).core().step(now, bad).unwrap_err();
        assert_eq!(error, StepError::NotMe { group: GROUP, me: member(1) });
    }
    assert_eq!(c.status(1), before);
    c.node(1).core().step(now, good).unwrap();
}

#[test]
fn rights_a_replica_that_may_not_vote_answers_nobody_and_follows() {
    let mut c = Cluster::of(3);
    c.crash(3);
    let nothing = Restored { rights: Rights::NONE, ..Restored::empty(conf(1..=3)) };
    c.restart_with(3, nothing);
    c.crash(2);
    c.now = c.now.after(2 * E);
    c.with_core(1, Core::campaign);
    c.stabilize();
    assert_ne!(c.status(1).role, Role::Leader, "the ghost of node 3 elects nobody");
    c.restart(2);
    c.elect(1);
    c.crash(2);
    c.propose(1, "x").unwrap();
    c.stabilize();
    assert!(c.status(1).commit < c.status(1).last.index, "nor does it commit");
    assert_eq!(c.node(1).progress(3).matched, Index(0));
    c.now = c.now.after(9 * E);
    c.with_core(3, Core::tick);
    assert_eq!(c.status(3).role, Role::Follower);
}

#[test]
fn rights_without_the_right_to_vote_no_vote_and_no_pre_vote_is_answered() {
    let mut c = Cluster::of(2);
    let nothing = Restored { rights: Rights::NONE, ..Restored::empty(conf(1..=2)) };
    c.restart_with(1, nothing);
    let last = EntryId::new(Term(1), Index(9));
    let ask = |term, body| Message { from: member(2), to: member(1), group: GROUP, term, body };
    c.deliver_one(ask(Term(1), Body::PreVote { campaign: Term(2), last }));
    c.deliver_one(ask(Term(2), Body::Vote { last, transfer: true }));
    c.deliver_one(ask(Term(1), Body::Vote { last, transfer: true }));
    assert_eq!((c.wire.len(), c.status(1).vote), (0, None));
    c.with_core(1, |core, now| core.set_rights(now, Rights::ALL));
    c.deliver_one(ask(Term(2), Body::Vote { last, transfer: true }));
    assert_eq!((c.wire.len(), c.status(1).vote), (1, Some(member(2))));
}

fn holes<const N: usize>(at: [u64; N]) -> Holes {
    Holes { missing: at.into_iter().map(Index).collect(), ..Holes::default() }
}

#[test]
fn restored_state_that_cannot_be_is_refused() {
    let good = restored(&[1, 1, 2], Rights::ALL);
    let new = |restored: Restored| Core::new(settings(member(1)), restored, Now(0)).map(|_| ());
    assert_eq!(new(good.clone()), Ok(()));
    let last = EntryId::new(Term(2), Index(4));
    let bad = [
        Restored { commit: Index(4), ..good.clone() },
        Restored { applied: Index(2), commit: Index(1), ..good.clone() },
        Restored { snapshot: EntryId::new(Term(1), Index(1)), ..good.clone() },
        Restored { terms: vec![], ..good.clone() },
        Restored { last: EntryId::new(Term(1), Index(3)), ..good.clone() },
        Restored { hard_state: HardState { term: Term(1), vote: None }, ..good.clone() },
        Restored { configs: vec![entry(1, 2)], ..good.clone() },
        Restored { holes: holes([4]), ..good.clone() },
        Restored { holes: holes([0]), ..good.clone() },
        Restored {
            holes: Holes { may_be_config: holes([2]).missing, ..holes([1]) },
            ..good.clone()
        },
    ];
    for restored in bad {
        let error = new(restored.clone()).expect_err(&format!("{restored:?}"));
        assert!(error.to_string().starts_with("restore replica: "));
    }
    assert_eq!(new(Restored { last, ..good }), Ok(()));
}
