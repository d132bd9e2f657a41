use super::*;
use crate::commands::ServiceOptions;
use crate::kv::{Answers, Kv, Ops};
use refloat_node::{Command, StateMachine, Status};
use refloat_types::Index;

/// Groups in memory, on one node, at once.
#[derive(Default)]
struct LocalDesk {
    groups: BTreeMap<GroupId, Kv>,
    entries: u64,
    reads: u64,
    fails: BTreeMap<GroupId, RequestError>,
    /// The most bytes of values in the answers to what was asked at once.
    longest: usize,
}

impl Desk for LocalDesk {
    async fn status(&mut self) -> Status {
        Status { node: 3, cluster_name: "test".into(), ..Status::default() }
    }

    async fn ask(&mut self, asks: &[GroupAsk]) -> Vec<GroupAnswer> {
        let answers: Vec<_> = asks.iter().map(|ask| self.one(ask)).collect();
        let len = answers.iter().flatten().flatten().map(Answer::len).sum();
        self.longest = self.longest.max(len);
        answers
    }
}

impl LocalDesk {
    fn one(&mut self, ask: &GroupAsk) -> GroupAnswer {
        if let Some(error) = self.fails.get(&ask.group) {
            return Err(error.clone());
        }
        let kv = self.groups.entry(ask.group).or_default();
        if ask.ops.iter().all(Op::is_read) {
            self.reads += 1;
            return Ok(kv.read(&ask.ops, 0, ask.room));
        }
        self.entries += 1;
        let mut payload = 0u64.to_le_bytes().to_vec();
        payload.extend_from_slice(&Ops::encode(&ask.ops, Some(ask.room as u32)));
        let replies = kv.apply(&[Command { index: Index(self.entries), payload: payload.into() }]);
        Ok(Answers::decode(&replies[0]).unwrap())
    }
}

struct World {
    desk: LocalDesk,
    service: Service,
    session: Session,
}

impl World {
    fn new() -> World {
        let service = Service::new(ServiceOptions {
            groups: 4,
            password: None,
            value_len_max: 1024,
            clients_max: 1,
            unsent_max: 1 << 20,
            data_dir: String::new(),
            port: 0,
        });
        let address = ([127, 0, 0, 1], 1).into();
        let session = Session::new(1, address, address, true);
        World { desk: LocalDesk::default(), service, session }
    }

    fn say(&mut self, lines: &[&str]) -> (String, End) {
        self.say_within(1 << 20, lines)
    }

    /// With room for so many bytes of answers, or for the next reply if that is longer.
    fn say_within(&mut self, room: usize, lines: &[&str]) -> (String, End) {
        let mut round = Round::default();
        for line in lines {
            let request: Vec<Bytes> =
                line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            round.add(&request, &mut self.session, &self.service);
        }
        let mut out = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let end = runtime.block_on(async {
            round.ask(&mut self.desk, room).await;
            loop {
                match round.write(&mut self.desk, &self.service, &mut out).await {
                    Step::Full => panic!("so long is no reply here"),
                    Step::End(end) => break end,
                    Step::Ask(needed) => round.ask_again(&mut self.desk, room.max(needed)).await,
                }
            }
        });
        assert!(round.held() == 0 || end == End::Unknown, "all of it is said");
        (String::from_utf8(out).unwrap(), end)
    }
}

#[test]
fn a_pipeline_to_one_group_is_one_entry_and_sees_its_own_writes() {
    let mut world = World::new();
    let (out, end) = world.say(&["GET {a}1", "SET {a}1 x", "GET {a}1", "INCR {a}n", "PING"]);
    assert_eq!(out, "$-1\r\n+OK\r\n$1\r\nx\r\n:1\r\n+PONG\r\n");
    assert_eq!(end, End::Open);
    assert_eq!((world.desk.entries, world.desk.reads), (1, 0));

    let (out, _) = world.say(&["GET {a}1", "EXISTS {a}1 {a}2", "GET {a}n"]);
    assert_eq!(out, "$1\r\nx\r\n:1\r\n$1\r\n1\r\n");
    assert_eq!((world.desk.entries, world.desk.reads), (1, 1));
}

#[test]
fn commands_over_all_groups_are_put_together_in_order() {
    let mut world = World::new();
    let keys: Vec<String> = (0..20).map(|n| format!("key{n}")).collect();
    let pairs: Vec<String> = keys.iter().map(|key| format!("{key} v{key}")).collect();
    assert_eq!(world.say(&[&format!("MSET {}", pairs.join(" "))]).0, "+OK\r\n");
    assert_eq!(world.desk.groups.len(), 4, "the keys are spread over all groups");
    let (out, _) = world.say(&[&format!("MGET {} none", keys.join(" ")), "DBSIZE"]);
    let values: String =
        keys.iter().map(|key| format!("${}\r\nv{key}\r\n", key.len() + 1)).collect();
    assert_eq!(out, format!("*21\r\n{values}$-1\r\n:20\r\n"));
    assert_eq!(world.say(&[&format!("DEL {} none", keys.join(" "))]).0, ":20\r\n");
}

#[test]
fn a_scan_walks_over_all_groups_and_ends() {
    let mut world = World::new();
    for n in 0..50 {
        world.say(&[&format!("SET key{n} v")]);
    }
    let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let (out, _) = world.say(&[&format!("SCAN {cursor} COUNT 7")]);
        let mut lines = out.split("\r\n").filter(|line| !line.starts_with(['*', '$']));
        cursor = lines.next().unwrap().to_owned();
        found.extend(lines.filter(|line| !line.is_empty()).map(str::to_owned));
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 50);
    assert_eq!(world.say(&["SCAN 18446744073709551615"]).0, "*2\r\n$1\r\n0\r\n*0\r\n");
}

#[test]
fn an_unknown_outcome_ends_the_connection_behind_the_replies_before_it() {
    let mut world = World::new();
    let group = group_of_slot(slot_of_key(b"{b}1"), 4);
    world.desk.fails.insert(group, RequestError::Unknown { group });
    let (out, end) = world.say(&["SET {a}1 x", "SET {b}1 x", "SET {a}2 x"]);
    assert_eq!((out.as_str(), end), ("+OK\r\n", End::Unknown));
}

#[test]
fn a_refusal_of_one_group_leaves_the_others_alone() {
    let mut world = World::new();
    let group = group_of_slot(slot_of_key(b"{b}1"), 4);
    world.desk.fails.insert(group, RequestError::NoLeader { group });
    let (out, end) = world.say(&["SET {a}1 x", "SET {b}1 x", "MGET {a}1 {b}1", "GET {a}1"]);
    let down = format!("-CLUSTERDOWN group {group} has no known leader\r\n");
    assert_eq!(out, format!("+OK\r\n{down}{down}$1\r\nx\r\n"));
    assert_eq!(end, End::Open);
    world.desk.fails.insert(group, RequestError::Busy { used: 2, limit: 1 });
    assert!(world.say(&["SET {b}1 x"]).0.starts_with("-BUSY "));
}

#[test]
fn info_tells_what_the_node_says_about_itself() {
    let mut world = World::new();
    let (out, _) = world.say(&["INFO server", "PING", "CLUSTER INFO"]);
    assert!(out.contains("# Server\r\nredis_version:") && out.contains("refloat_node:3"), "{out}");
    assert!(!out.contains("# Clients"), "{out}");
    assert!(out.contains("+PONG") && out.contains("cluster_state:fail"), "{out}");
}

#[test]
fn quit_is_answered_last_and_closes() {
    let mut world = World::new();
    assert_eq!(world.say(&["PING", "QUIT"]), ("+PONG\r\n+OK\r\n".into(), End::Close));
}

#[test]
fn t09_replies_are_the_same_however_little_room_there_is_for_them() {
    let long = "v".repeat(40);
    let request = |k: u32| {
        let (key, other) = (k * 7 % 12, k * 5 % 12);
        match k % 5 {
            0 => format!("SET {{{}}}k{key} {long}{k}", key % 3),
            1 => format!("GET {{{}}}k{other}", other % 3),
            2 => format!("SET {{{}}}k{other} {k}{long} GET", other % 3),
            3 => format!("GETDEL {{{}}}k{key}", key % 3),
            _ => format!("APPEND {{{}}}k{other} {k}", other % 3),
        }
    };
    let writes: Vec<String> = (0..200).map(request).collect();
    let mut alone = World::new();
    let expected: String = writes.iter().map(|line| alone.say(&[line]).0).collect();
    let writes: Vec<&str> = writes.iter().map(String::as_str).collect();
    let all = (0..3).flat_map(|tag| (0..12).map(move |k| format!(" {{{tag}}}k{k}")));
    let many = format!("MGET{}", all.collect::<String>());
    let reads = ["DBSIZE", &many, "GET {1}k1", "SCAN 0 COUNT 9", &many, "EXISTS {2}k2"];
    let expected_reads = alone.say(&reads).0;
    for room in [0, 1, 50, 100, 333, 4096] {
        let mut world = World::new();
        assert_eq!(world.say_within(room, &writes).0, expected, "room for {room}");
        assert_eq!(world.say_within(room, &reads).0, expected_reads, "room for {room}");
    }
}

#[test]
fn t09_answers_together_are_no_longer_than_their_room_and_one_reply() {
    let mut world = World::new();
    let value = "x".repeat(1000);
    let keys: Vec<String> = (0..40).map(|n| format!("key{n}")).collect();
    for key in &keys {
        world.say(&[&format!("SET {key} {value}")]);
    }
    world.desk.longest = 0;
    let gets: Vec<String> = keys.iter().map(|key| format!("GET {key}")).collect();
    let gets: Vec<&str> = gets.iter().map(String::as_str).collect();
    let (all, _) = world.say_within(5000, &gets);
    assert_eq!(all.matches(&value).count(), 40);
    assert!(world.desk.longest <= 5000, "{}", world.desk.longest);
    let (all, _) = world.say_within(5000, &[&format!("MGET {}", keys.join(" ")), "GET key1"]);
    assert_eq!(all.matches(&value).count(), 41);
    assert!(world.desk.longest <= 40_000, "{}", world.desk.longest);
    let mixed = ["GET key1", "SET key1 y GET", "GET key1", "GETDEL key1", "GET key1"];
    let (all, _) = world.say_within(10, &mixed);
    let bulk = format!("$1000\r\n{value}\r\n");
    assert_eq!(all, format!("{bulk}{bulk}$1\r\ny\r\n$1\r\ny\r\n$-1\r\n"));
}

#[test]
fn t09_a_reply_that_is_too_long_is_refused_as_one_and_what_follows_is_answered() {
    let mut world = World::new();
    let value = "x".repeat(1 << 20);
    world.say(&[&format!("SET a {value}")]);
    let many = format!("MGET{}", " a".repeat(65));
    let (said, _) = world.say_within(2 << 20, &["PING", &many, "STRLEN a"]);
    let refused = "-BUSY the answer is longer than 64 MiB, ask for less at once";
    assert_eq!(said, format!("+PONG\r\n{refused}\r\n:1048576\r\n"));
    assert!(world.desk.longest <= 64 << 20, "{}", world.desk.longest);
}
