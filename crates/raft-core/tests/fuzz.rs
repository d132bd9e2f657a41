//! The decoders of this crate, fed with bytes that nobody wrote.

mod common;

use common::disk::Disk;
use common::*;
use refloat_fuzz::{Target, note, run};
use refloat_raft_core::*;
use refloat_types::*;

fn some_bodies() -> Vec<Body> {
    let (last, index, term) = (EntryId::new(Term(2), Index(2)), Index(2), Term(2));
    let ranges = vec![HoleRange { term, first: Index(1), last: index }];
    let entries = log_of(&[1, 2]);
    let context = ReadContext { run: 7, seq: 9 };
    let hello =
        Hello { run: 3, nonce: 5, last, state: Declared::Damaged, holes: vec![(index, index)] };
    vec![
        Body::PreVote { campaign: term, last },
        Body::PreVoteResp { campaign: term, granted: true },
        Body::Vote { last, transfer: false },
        Body::VoteResp { granted: true },
        Body::Append(Append { prev: EntryId::ZERO, commit: index, entries: entries.clone() }),
        Body::AppendResp { matched: last },
        Body::AppendReject { prev: index, hint: last, lost: true },
        Body::Heartbeat { commit: index, round: 1 },
        Body::HeartbeatResp { round: 1, promise: true },
        Body::Quiet { last },
        Body::TimeoutNow,
        Body::ReadIndex { context, counts: true },
        Body::ReadIndexResp { context, index: Some(index) },
        Body::Behind,
        Body::Hello(hello),
        Body::HelloReply { nonce: 5, last: index, regressed: false },
        Body::HoleAsk { ranges: ranges.clone() },
        Body::HoleHave { entries },
        Body::HoleCompacted { up_to: index },
        Body::HoleNeverHad { ranges },
        Body::SnapshotAsk { index },
    ]
}

/// A message is read back as it was written; no core panics over it, in whichever role.
fn message(bytes: &[u8]) {
    let message = match Message::decode(bytes) {
        Ok(message) => message,
        Err(error) => return note(error),
    };
    let mut again = Vec::new();
    message.encode(&mut again);
    assert_eq!(Message::decode(&again).as_ref(), Ok(&message));
    for campaigns in [false, true] {
        let mut config = settings(message.to);
        config.group = message.group;
        config.pre_vote = !campaigns;
        let voters = [message.to, message.from, member(9)];
        let mut disk = Disk::with_log(ConfState::of_voters(voters), 2, log_of(&[1, 2]));
        disk.lose(2);
        let mut core = Core::new(config, disk.restored(), Now(0)).expect("a sound disk");
        if campaigns {
            core.tick(Now(3 * E));
            core.campaign(Now(3 * E));
        }
        if let Err(error) = core.step(Now(3 * E), message.clone()) {
            note(error);
        }
        let _ = core.ready();
    }
}

#[test]
fn fuzz_message() {
    let encode = |body: Body| {
        let message = Message { from: member(1), to: member(2), group: GROUP, term: Term(3), body };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        bytes
    };
    run(&Target::new("message", message, some_bodies().into_iter().map(encode).collect()));
}

/// A change is read back as it was written, and leads to a membership or to a refusal.
fn conf_change(bytes: &[u8]) {
    let change = match ConfChange::decode(bytes) {
        Ok(change) => change,
        Err(error) => return note(error),
    };
    let again = change.encode();
    assert_eq!(ConfChange::decode(&again).as_ref(), Ok(&change));
    match change.apply(&conf(1..=3)) {
        Ok(after) => {
            let mut bytes = Vec::new();
            after.encode(&mut bytes);
            assert_eq!(ConfState::decode(&mut codec::Reader::new(&bytes)), Ok(after));
        }
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_conf_change() {
    let (one, new) = (member(1), member(7));
    let steps = vec![ConfStep::AddVoter(new), ConfStep::Remove(one), ConfStep::Demote(member(2))];
    let changes = [
        ConfChange::AddVoter(new),
        ConfChange::AddLearner(new),
        ConfChange::Promote(new),
        ConfChange::Remove(one),
        ConfChange::replace(one, life(1, 1)),
        ConfChange::Leave,
        ConfChange::Several { steps, transition: Transition::Explicit },
    ];
    let seeds = changes.iter().map(|change| change.encode().to_vec()).collect();
    run(&Target::new("conf-change", conf_change, seeds));
}
