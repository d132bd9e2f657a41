//! A command whose answer was lost is sent again, and applied once.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use refloat_node::sessions::{Limits, SessionClient, SessionReply, Sessions};
use refloat_node::{
    Chunks, Command, Consistency, Input, RequestError, RestoreError, SnapshotReader, StateMachine,
};
use refloat_types::{GroupId, Index};
use support::debts::{Debts, open as open_timers, told};
use support::{Cluster, Journal, journal_text};

const LIMITS: Limits = Limits { idle_ms: 60_000, open: 8, sessions: 4, reply_bytes: 1 << 20 };

/// A formed cluster of three whose machines stand behind sessions and are snapshotted often.
fn formed() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.config.snapshot_entries = 10;
    cluster.machines = Some(Arc::new(|_, _| Box::new(Sessions::new(Journal::default()))));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster
}

fn send(cluster: &mut Cluster, node: u64, payload: Bytes) -> refloat_node::Token {
    let group = GroupId(1);
    cluster.input(node, |to| Input::Propose { to, group, payload, stamp: true, forward: true })
}

/// Sends again until there is an answer, as a session does.
fn persist(cluster: &mut Cluster, node: u64, command: &Bytes) -> SessionReply {
    for _ in 0..20 {
        let token = send(cluster, node, command.clone());
        match cluster.answer(token) {
            Ok(reply) => return SessionReply::decode(&reply.payload).expect("of a session"),
            Err(error) => assert!(error.is_unknown() || error.is_retryable(), "{error}"),
        }
    }
    panic!("no answer: {:#?}", cluster.statuses());
}

fn open(cluster: &mut Cluster, node: u64, limits: &Limits) -> SessionClient {
    match persist(cluster, node, &SessionClient::register(limits)) {
        SessionReply::Opened(id) => SessionClient::opened(id, limits),
        other => panic!("{other:?}"),
    }
}

fn applied(text: &str) -> SessionReply {
    SessionReply::Applied(Bytes::from(text.to_owned()))
}

fn once(cluster: &mut Cluster, node: u64, client: &mut SessionClient, text: &str) -> SessionReply {
    let number = client.begin().expect("few are open");
    let command = client.command(number, text.to_owned().into(), false);
    let reply = persist(cluster, node, &command);
    client.answered(number);
    reply
}

/// What the machine of a node holds, read there.
fn journal(cluster: &mut Cluster, node: u64) -> String {
    let query = |machine: &mut dyn StateMachine| {
        let machine: &mut dyn std::any::Any = machine;
        let sessions: &mut Sessions<Journal> = machine.downcast_mut().expect("the tests' machine");
        journal_text(sessions.machine_mut())
    };
    cluster.ask(node, 1, Consistency::Linearizable, Box::new(query)).expect("read")
}

#[test]
fn r04_a_retry_after_a_change_of_leader_is_applied_once() {
    let mut cluster = formed();
    let leader = cluster.leader(1).expect("formed");
    let (asked, third) = (1 + leader % 3, 1 + (leader + 1) % 3);
    let mut client = open(&mut cluster, asked, &LIMITS);
    assert_eq!(once(&mut cluster, asked, &mut client, "first"), applied("1"));
    // It is committed, and the answer is lost with the leader.
    let number = client.begin().expect("none is open");
    let command = client.command(number, "second".into(), false);
    let before = cluster.applied(third, 1);
    let token = send(&mut cluster, asked, command.clone());
    assert!(
        cluster.run_until(5, |c| c.applied(third, 1) > before || c.replies.contains_key(&token))
    );
    cluster.replies.remove(&token);
    cluster.kill(leader);
    let reply = persist(&mut cluster, asked, &command);
    assert_eq!(reply, applied("2"), "the reply of the first time");
    assert_ne!(cluster.leader(1), Some(leader));
    assert_eq!(journal(&mut cluster, asked), "first\nsecond");
    client.answered(number);
    assert_eq!(once(&mut cluster, third, &mut client, "third"), applied("3"));
    assert_eq!(
        persist(&mut cluster, third, &command),
        SessionReply::Forgotten,
        "it has the answer"
    );
    assert_eq!(journal(&mut cluster, third), "first\nsecond\nthird");
}

#[test]
fn r04_every_attempt_counts_once_while_leaders_die_at_any_moment() {
    for moment in 0..25 {
        let mut cluster = formed();
        let leader = cluster.leader(1).expect("formed");
        let asked = 1 + leader % 3;
        let mut client = open(&mut cluster, asked, &LIMITS);
        let number = client.begin().expect("none is open");
        let command = client.command(number, "once".into(), false);
        let token = send(&mut cluster, asked, command.clone());
        (0..moment).for_each(|_| cluster.crank());
        cluster.kill(leader);
        // An attempt beside the first one, which may still be on its way.
        let second = persist(&mut cluster, asked, &command);
        assert_eq!(second, applied("1"), "moment {moment}");
        cluster.start(leader);
        assert!(cluster.run_until(30, |c| c.replies.contains_key(&token)), "moment {moment}");
        let first = cluster.replies.remove(&token).expect("just seen");
        if let Ok(reply) = first {
            assert_eq!(SessionReply::decode(&reply.payload), Ok(applied("1")));
        }
        assert_eq!(journal(&mut cluster, asked), "once", "moment {moment}");
    }
}

#[test]
fn r04_a_retry_after_snapshot_restart_and_install_is_applied_once() {
    let mut cluster = formed();
    let leader = cluster.leader(1).expect("formed");
    let lagging = 1 + leader % 3;
    let mut client = open(&mut cluster, leader, &LIMITS);
    cluster.run_for(300);
    cluster.kill(lagging);
    let number = client.begin().expect("none is open");
    let kept = client.command(number, "kept".into(), false);
    assert_eq!(persist(&mut cluster, leader, &kept), applied("1"));
    // The log below the snapshots is gone, so the table can only come from one.
    let mut other = open(&mut cluster, leader, &LIMITS);
    for n in 0..40 {
        once(&mut cluster, leader, &mut other, &format!("other {n}"));
    }
    cluster.run_for(500);
    cluster.start(lagging);
    let caught_up = cluster.run_until(20, |c| c.applied(lagging, 1) >= c.applied(leader, 1));
    assert!(caught_up, "{:#?}", cluster.statuses());
    assert!(cluster.nodes[&lagging].counters().snapshots_installed >= 1);
    // The one that installed it leads, then all of them start again.
    cluster.run_for(500);
    let moved = cluster.input(leader, |to| Input::Transfer {
        to,
        group: GroupId(1),
        target: refloat_types::NodeId(lagging),
    });
    cluster.answer(moved).expect("it is up to date");
    assert!(cluster.run_until(10, |c| c.leader(1) == Some(lagging)), "{:#?}", cluster.statuses());
    assert_eq!(persist(&mut cluster, lagging, &kept), applied("1"), "after the install");
    (1..=3).for_each(|node| cluster.power_cut(node));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    assert_eq!(persist(&mut cluster, leader, &kept), applied("1"), "after the restart");
    for node in 1..=3 {
        let text = journal(&mut cluster, node);
        assert_eq!(text.lines().filter(|line| *line == "kept").count(), 1);
        assert_eq!(text.lines().count(), 41);
    }
}

#[test]
fn r04_a_session_that_expired_answers_so_and_applies_nothing() {
    let mut cluster = formed();
    let leader = cluster.leader(1).expect("formed");
    let limits = Limits { idle_ms: 2_000, ..LIMITS };
    let mut client = open(&mut cluster, leader, &limits);
    assert_eq!(once(&mut cluster, leader, &mut client, "in time"), applied("1"));
    cluster.run_for(1_500);
    assert_eq!(persist(&mut cluster, leader, &client.keep_alive()), SessionReply::Noted);
    cluster.run_for(1_500);
    let number = client.begin().expect("none is open");
    let command = client.command(number, "again in time".into(), false);
    assert_eq!(persist(&mut cluster, leader, &command), applied("2"));
    cluster.run_for(2_500);
    assert_eq!(persist(&mut cluster, leader, &command), SessionReply::Expired);
    assert_eq!(persist(&mut cluster, leader, &client.keep_alive()), SessionReply::Expired);
    assert_eq!(journal(&mut cluster, 2), "in time\nagain in time");
}

#[test]
fn r04_more_sessions_or_open_commands_than_allowed_are_refused_by_type() {
    let mut cluster = formed();
    let limits = Limits { sessions: 2, open: 2, ..LIMITS };
    let mut client = open(&mut cluster, 1, &limits);
    let other = open(&mut cluster, 2, &limits);
    let full = persist(&mut cluster, 3, &SessionClient::register(&limits));
    assert_eq!(full, SessionReply::Full);
    assert_eq!(persist(&mut cluster, 1, &other.close()), SessionReply::Noted);
    open(&mut cluster, 3, &limits);
    let (first, second) = (client.begin().unwrap(), client.begin().unwrap());
    assert_eq!(client.begin(), None, "two are open");
    // One that does not obey its own limit is refused by the table.
    let beyond = client.command(second + 1, "beyond".into(), false);
    assert_eq!(persist(&mut cluster, 1, &beyond), SessionReply::TooManyOpen);
    for number in [second, first] {
        let command = client.command(number, format!("command {number}").into(), false);
        assert!(persist(&mut cluster, 1, &command).is_applied());
        client.answered(number);
    }
    assert_eq!(journal(&mut cluster, 3), "command 1\ncommand 0");
}

#[test]
fn what_goes_around_the_sessions_is_not_understood_and_moves_no_clock() {
    let mut cluster = formed();
    let client = open(&mut cluster, 1, &LIMITS);
    let reply = cluster.proposed(1, 1, "\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f} raw");
    let reply = SessionReply::decode(&reply.expect("committed").payload);
    assert_eq!(reply, Ok(SessionReply::NotUnderstood));
    assert_eq!(persist(&mut cluster, 1, &client.keep_alive()), SessionReply::Noted);
    assert_eq!(persist(&mut cluster, 1, &SessionClient::plain("plain".into())), applied("1"));
    assert_eq!(journal(&mut cluster, 1), "plain");
}

/// A formed cluster whose machines have effects, behind sessions.
fn with_debts() -> Cluster {
    let mut cluster = Cluster::new(1);
    cluster.machines = Some(Arc::new(|_, _| Box::new(Sessions::new(Debts::default()))));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    cluster
}

/// The timers that are open at a node.
fn timers(cluster: &mut Cluster, node: u64) -> String {
    let query = |machine: &mut dyn StateMachine| {
        let machine: &mut dyn std::any::Any = machine;
        let sessions: &mut Sessions<Debts> = machine.downcast_mut().expect("the tests' machine");
        Bytes::from(open_timers(sessions.machine()))
    };
    cluster.ask(node, 1, Consistency::Linearizable, Box::new(query)).expect("read")
}

#[test]
fn r04_an_attempt_that_was_applied_before_owes_no_second_effect_and_the_next_leader_owes_the_first()
{
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    let (asked, heir) = (1 + leader % 3, |c: &Cluster| c.leader(1).filter(|now| *now != leader));
    let mut client = open(&mut cluster, asked, &LIMITS);
    let number = client.begin().expect("none is open");
    let command = client.command(number, "owe a".into(), false);
    for _ in 0..3 {
        assert!(persist(&mut cluster, asked, &command).is_applied());
    }
    assert!(once(&mut cluster, asked, &mut client, "owe b").is_applied());
    cluster.run_for(500);
    assert_eq!(told(&mut cluster), [(leader, "a".to_owned()), (leader, "b".to_owned())]);
    assert!(once(&mut cluster, asked, &mut client, "done b").is_applied());
    cluster.kill(leader);
    assert!(cluster.run_until(20, |c| heir(c).is_some()));
    cluster.run_for(500);
    let heir = heir(&cluster).expect("just seen");
    assert_eq!(told(&mut cluster), [(heir, "a".to_owned())], "what is done is not owed");
    assert!(persist(&mut cluster, asked, &command).is_applied());
    cluster.run_for(500);
    assert_eq!(told(&mut cluster), []);
}

#[test]
fn r04_a_timer_behind_sessions_proposes_its_command_outlives_its_leader_and_ends_no_session() {
    let mut cluster = with_debts();
    let leader = cluster.leader(1).expect("formed");
    let asked = 1 + leader % 3;
    let mut client = open(&mut cluster, asked, &LIMITS);
    let now = cluster.time().wall_ms;
    for (name, after) in [("a", 300), ("bb", 5_000)] {
        let text = format!("later {name} {}", now + after);
        assert!(once(&mut cluster, asked, &mut client, &text).is_applied());
    }
    cluster.run_for(600);
    assert_eq!(timers(&mut cluster, asked), "bb");
    cluster.kill(leader);
    assert!(cluster.run_until(20, |c| c.leader(1).is_some_and(|now| now != leader)));
    assert_eq!(timers(&mut cluster, asked), "bb");
    let left = (now + 5_000).saturating_sub(cluster.time().wall_ms);
    cluster.run_for(left + 500);
    assert_eq!(timers(&mut cluster, asked), "");
    assert_eq!(persist(&mut cluster, asked, &client.keep_alive()), SessionReply::Noted);
}

/// A machine that would have to keep the sessions with its state, and does not.
struct OwnState;

impl StateMachine for OwnState {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        vec![Bytes::new(); batch.len()]
    }
    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::empty())
    }
    fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        Ok(())
    }
    fn applied(&self) -> Option<Index> {
        Some(Index::ZERO)
    }
}

#[test]
fn sessions_in_front_of_a_machine_that_keeps_its_own_state_stop_the_group_and_say_why() {
    let mut cluster = Cluster::new(1);
    cluster.machines = Some(Arc::new(|_, _| Box::new(Sessions::new(OwnState))));
    cluster.start_all();
    cluster.wait_for_leaders(1);
    let token = send(&mut cluster, 1, SessionClient::register(&LIMITS));
    let error = cluster.answer(token).expect_err("it cannot be");
    assert!(!matches!(error, RequestError::Superseded { .. }), "{error}");
    let told = |c: &Cluster| {
        let groups = c.nodes.values().flat_map(|node| node.status().groups);
        groups.filter_map(|g| g.waits_for).any(|why| why.contains("sessions cannot stand"))
    };
    assert!(cluster.run_until(5, told), "{:#?}", cluster.statuses());
}
