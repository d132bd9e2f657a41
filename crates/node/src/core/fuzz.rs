//! The decoders of frames between nodes and of what group 0 keeps, fed with bytes that nobody wrote.

use bytes::Bytes;
use refloat_fuzz::{Target, note, run};
use refloat_log_store::identity::Lineage;
use refloat_types::{ClusterId, ConfState, GroupId, Incarnation, Index, Member, NodeId};

use super::catalog::{Catalog, GroupCommand};
use super::envelope::tests::{RUN, all_items};
use super::envelope::{FrameWriter, decode};
use crate::card::{Card, CardMember};
use crate::machine::StateMachine;
use crate::snapshot_reader::SnapshotReader;

/// A frame is read back as it was written.
fn envelope(bytes: &[u8]) {
    let (header, items) = match decode(&Bytes::copy_from_slice(bytes)) {
        Ok(read) => read,
        Err(error) => return note(error),
    };
    if items.is_empty() {
        return note("no items");
    }
    let mut writer = FrameWriter::default();
    items.iter().for_each(|item| writer.put_item(header.run, header.to, item));
    let again = decode(&writer.take()).expect("what was written");
    assert_eq!(again, (header, items));
}

#[test]
fn fuzz_envelope() {
    let to = Member::new(NodeId(1), Incarnation(9));
    let mut seeds = Vec::new();
    let mut all = FrameWriter::default();
    for item in all_items() {
        let mut one = FrameWriter::default();
        one.put_item(RUN, to, &item);
        all.put_item(RUN, to, &item);
        seeds.push(one.take().to_vec());
    }
    seeds.push(all.take().to_vec());
    run(&Target::new("envelope", envelope, seeds));
}

fn member(node: u64) -> Member {
    Member::new(NodeId(node), Incarnation(70 + u128::from(node)))
}

fn commands() -> Vec<GroupCommand> {
    let life = Some(Incarnation(5));
    let conf = ConfState::of_voters([member(1), member(2)]);
    vec![
        GroupCommand::Create { group: GroupId(7), conf },
        GroupCommand::Seeded,
        GroupCommand::Place {
            member: member(3),
            instead_of: life,
            address: "b:1".into(),
            learner: true,
        },
        GroupCommand::Expect { node: NodeId(4), learner: false },
        GroupCommand::Promote { node: NodeId(3) },
        GroupCommand::Dismiss { node: NodeId(3), life },
        GroupCommand::Delete { group: GroupId(7) },
    ]
}

/// A command is read back as it was written, and changes the catalog or does not.
fn group_command(bytes: &[u8]) {
    match GroupCommand::decode(bytes) {
        Ok(command) => assert_eq!(GroupCommand::decode(&command.encode()), Ok(command)),
        Err(error) => note(error),
    }
    let mut catalog = Catalog::default();
    for command in commands() {
        catalog.apply_one(Index(1), &command.encode());
    }
    note(catalog.apply_one(Index(9), bytes).is_some());
}

#[test]
fn fuzz_group_command() {
    let seeds = commands().iter().map(|command| command.encode().to_vec()).collect();
    run(&Target::new("group-command", group_command, seeds));
}

/// What a snapshot of group 0 says is what the next one says.
fn catalog(bytes: &[u8]) {
    let read = |bytes: Bytes| {
        let mut catalog = Catalog::default();
        let mut pieces = std::iter::once(bytes);
        catalog.restore(&mut SnapshotReader::new(&mut pieces)).map(|()| catalog)
    };
    match read(Bytes::copy_from_slice(bytes)) {
        Ok(mut first) => {
            let mut pieces = first.snapshot();
            let again = read(pieces.next().expect("one piece")).expect("what was written");
            assert_eq!(again, first);
        }
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_catalog() {
    let mut catalog_now = Catalog::default();
    let mut seeds = Vec::new();
    for (index, command) in (1..).zip(commands()) {
        catalog_now.apply_one(Index(index), &command.encode());
        seeds.extend(catalog_now.snapshot().map(|piece| piece.to_vec()));
    }
    run(&Target::new("catalog", catalog, seeds));
}

fn card(bytes: &[u8]) {
    match Card::decode(bytes) {
        Ok(card) => assert_eq!(Card::decode(&card.encode()), Ok(card)),
        Err(error) => note(error),
    }
}

#[test]
fn fuzz_card() {
    let one = |node, life| CardMember {
        node: NodeId(node),
        life,
        address: format!("node{node}:1"),
        alive: node == 1,
    };
    let card_of_two = Card {
        cluster: ClusterId(7),
        lineage: Lineage::default().next(Incarnation(3)),
        cluster_name: "demo".into(),
        groups: 4,
        founders: vec![member(1)],
        members: vec![one(1, Some(Incarnation(9))), one(2, None)],
        expected: vec![NodeId(4)],
    };
    run(&Target::new("card", card, vec![card_of_two.encode().to_vec()]));
}
