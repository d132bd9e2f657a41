use std::time::Instant;

use super::*;
use crate::kv::{Answer, Condition, Expiry, Fault, Op};
use crate::resp::Protocol;

fn service(password: Option<&'static str>) -> Service {
    Service::new(ServiceOptions {
        groups: 4,
        password: password.map(|text| Bytes::from_static(text.as_bytes())),
        value_len_max: 1024,
        clients_max: 10,
        unsent_max: 1 << 20,
        data_dir: "/data".into(),
        port: 6371,
    })
}

fn session(authenticated: bool) -> Session {
    let address = ([127, 0, 0, 1], 5000).into();
    Session::new(7, address, address, authenticated)
}

fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn ask(line: &str) -> Outcome {
    let service = service(None);
    let mut session = session(true);
    dispatch(&mut Context { session: &mut session, service: &service }, &words(line))
}

fn error(line: &str) -> String {
    match ask(line) {
        Outcome::Reply(Reply::Error(text)) => text.into_owned(),
        other => panic!("{line}: {other:?}"),
    }
}

fn ops(line: &str) -> Vec<Op> {
    match ask(line) {
        Outcome::Ask(ask) => ask.ops,
        other => panic!("{line}: {other:?}"),
    }
}

fn merged(line: &str, answers: Vec<Answer>) -> Reply {
    match ask(line) {
        Outcome::Ask(ask) => (ask.merge)(answers, &service(None)),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn t09_wrong_requests_get_the_words_of_redis() {
    for (line, text) in [
        ("nosuch", "ERR unknown command 'nosuch', with args beginning with: "),
        ("nosuch a b", "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' "),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("GET a b", "ERR wrong number of arguments for 'get' command"),
        ("set a", "ERR wrong number of arguments for 'set' command"),
        ("mset a b c", "ERR wrong number of arguments for 'mset' command"),
        ("incrby a x", "ERR value is not an integer or out of range"),
        ("decrby a -9223372036854775808", "ERR decrement would overflow"),
        ("set a b nx xx", "ERR syntax error"),
        ("set a b ex", "ERR syntax error"),
        ("set a b ex 1 px 1", "ERR syntax error"),
        ("set a b keepttl ex 1", "ERR syntax error"),
        ("set a b bogus", "ERR syntax error"),
        ("set a b ex x", "ERR value is not an integer or out of range"),
        ("set a b ex 0", "ERR invalid expire time in 'set' command"),
        ("set a b ex 9223372036854775807", "ERR invalid expire time in 'set' command"),
        ("scan x", "ERR invalid cursor"),
        ("scan 0 count 0", "ERR syntax error"),
        ("scan 0 match", "ERR syntax error"),
        ("client nosuch", "ERR unknown subcommand 'nosuch'. Try CLIENT HELP."),
        ("client setname", "ERR wrong number of arguments for 'client|setname' command"),
        ("hello 4", "NOPROTO unsupported protocol version"),
        ("select 1", "ERR DB index is out of range"),
    ] {
        assert_eq!(error(line), text, "{line}");
    }
}

#[test]
fn long_names_and_arguments_are_quoted_in_part() {
    let long = "x".repeat(1000);
    let text = error(&format!("{long} {long} {long}"));
    assert!(text.len() < 400, "{text}");
}

#[test]
fn set_and_its_options_become_one_operation() {
    let expected = |condition, get, expiry| {
        vec![Op::Set { key: "a".into(), value: "b".into(), condition, get, expiry }]
    };
    use Condition::{Always, IfAbsent, IfPresent};
    for (line, operation) in [
        ("set a b", expected(Always, false, Expiry::Never)),
        ("SET a b NX EX 10", expected(IfAbsent, false, Expiry::In(10_000))),
        ("set a b get xx px 5", expected(IfPresent, true, Expiry::In(5))),
        ("set a b pxat 7 nx get", expected(IfAbsent, true, Expiry::At(7))),
        ("set a b exat 7", expected(Always, false, Expiry::At(7000))),
        ("set a b keepttl", expected(Always, false, Expiry::Keep)),
    ] {
        assert_eq!(ops(line), operation, "{line}");
    }
}

#[test]
fn answers_become_replies() {
    let n = Answer::Number;
    assert_eq!(merged("del a b c", vec![n(1), n(0), n(1)]), Reply::Int(2));
    assert_eq!(merged("mset a 1 b 2", vec![Answer::Done, Answer::Done]), Reply::OK);
    assert_eq!(
        merged("mget a b", vec![Answer::Value("1".into()), Answer::Nothing]),
        Reply::Array(vec![Reply::text("1"), Reply::Null])
    );
    assert_eq!(merged("ttl a", vec![n(1499)]), Reply::Int(1));
    assert_eq!(merged("ttl a", vec![n(1500)]), Reply::Int(2));
    assert_eq!(merged("ttl a", vec![n(-2)]), Reply::Int(-2));
    assert_eq!(
        merged("incr a", vec![Answer::Fault(Fault::NotInteger)]),
        Reply::error("ERR value is not an integer or out of range")
    );
    let end = crate::kv::cursor::start_of(refloat_types::GroupId(5));
    assert_eq!(
        merged("scan 0", vec![Answer::Keys { next: end, keys: vec!["k".into()] }]),
        Reply::Array(vec![Reply::text("0"), Reply::Array(vec![Reply::text("k")])])
    );
}

#[test]
fn without_the_password_only_asking_for_entry_is_allowed() {
    let service = service(Some("secret"));
    let mut session = session(false);
    let mut say = |line: &str| match dispatch(
        &mut Context { session: &mut session, service: &service },
        &words(line),
    ) {
        Outcome::Reply(Reply::Error(text)) => text.split(' ').next().unwrap_or_default().to_owned(),
        Outcome::Reply(reply) => format!("{reply:?}"),
        other => format!("{other:?}"),
    };
    assert_eq!(say("get a"), "NOAUTH");
    assert_eq!(say("hello 3"), "NOAUTH");
    assert_eq!(say("auth wrong"), "WRONGPASS");
    assert_eq!(say("auth secretx"), "WRONGPASS");
    assert_eq!(say("auth someone secret"), "WRONGPASS");
    assert_eq!(say("ping"), "NOAUTH");
    assert_eq!(say("auth default secret"), format!("{:?}", Reply::OK));
    assert_eq!(say("ping"), format!("{:?}", Reply::Simple("PONG")));
}

#[test]
fn hello_switches_the_protocol_and_names_the_connection() {
    let service = service(None);
    let mut session = session(true);
    let mut context = Context { session: &mut session, service: &service };
    let outcome = dispatch(&mut context, &words("hello 3 setname me"));
    assert!(matches!(outcome, Outcome::Reply(Reply::Map(_))), "{outcome:?}");
    assert_eq!(session.protocol, Protocol::Resp3);
    assert_eq!(session.name, "me");
    let line = service.clients.get(7).unwrap().line();
    assert!(line.contains("id=7") && line.contains("name=me"), "{line}");
    assert!(service.clients.get(7).unwrap().since <= Instant::now());
}

#[test]
fn what_benchmarks_ask_first_is_answered_in_pairs() {
    for (line, value) in [("config get save", ""), ("CONFIG GET appendonly", "yes")] {
        let Outcome::Reply(Reply::Map(pairs)) = ask(line) else { panic!("{line}") };
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs[0].1, Reply::text(value));
    }
}
