//! The Redis protocol against a real node: what clients get, and what a broken one gets.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{Client, Cluster};

#[test]
fn t09_malformed_requests_get_a_clear_error_and_hurt_nobody() {
    let cluster = Cluster::start(1, &["--max-value-size", "64KiB"]);
    let mut bystander = cluster.client(0);
    assert_eq!(bystander.say("SET k v"), "OK");

    for (bytes, error) in [
        (&b"*1\r\n+PING\r\n"[..], "-ERR Protocol error: expected '$', got '+'"),
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*2000000000\r\n", "-ERR Protocol error: invalid multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$4\r\nPINGxx", "-ERR Protocol error: a value is not followed by CRLF"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "-ERR this port speaks the Redis protocol, not HTTP",
        ),
        (b"POST / HTTP/1.1\r\n\r\n", "-ERR this port speaks the Redis protocol, not HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "-ERR Protocol error: this port has no TLS"),
        (b"SET k \"unbalanced\r\n", "-ERR Protocol error: unbalanced quotes"),
    ] {
        let mut client = cluster.client(0);
        client.send_raw(b"*1\r\n$4\r\nPING\r\n");
        client.send_raw(bytes);
        let rest = client.rest();
        let shown = bytes.escape_ascii();
        assert!(rest.starts_with("+PONG\r\n"), "{shown}: {rest:?}");
        assert!(rest[7..].starts_with(error), "{shown}: {rest:?}");
        assert_eq!(rest.matches("\r\n").count(), 2, "{shown}: one line, then closed: {rest:?}");
    }
    assert_eq!(bystander.say("GET k"), "v");
}

#[test]
fn t09_an_oversized_value_is_refused_before_it_is_sent_whole() {
    let cluster = Cluster::start(1, &["--max-value-size", "64KiB"]);
    let mut client = cluster.client(0);
    let largest = "x".repeat(64 * 1024);
    assert_eq!(client.call(&["SET", "k", &largest]), "OK");
    assert_eq!(client.call(&["GET", "k"]).len(), largest.len());

    client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$65537\r\n");
    // The client goes on sending, as clients do; the error must reach it nevertheless.
    let _ = client.stream.write_all(&vec![b'x'; 1 << 20]);
    let rest = client.rest();
    assert!(rest.contains("65537 bytes, at most 65536"), "{rest:?}");
    assert_eq!(cluster.client(0).call(&["STRLEN", "k"]), ":65536");
}

#[test]
fn t09_a_whole_frame_with_bad_content_leaves_the_connection_open() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0);
    assert_eq!(
        client.say("NOSUCH a"),
        "-ERR unknown command 'NOSUCH', with args beginning with: 'a' "
    );
    assert_eq!(client.say("GET"), "-ERR wrong number of arguments for 'get' command");
    assert_eq!(client.say("SET k text"), "OK");
    assert_eq!(client.say("INCR k"), "-ERR value is not an integer or out of range");
    assert_eq!(client.say("SET k v EX 0"), "-ERR invalid expire time in 'set' command");
    assert_eq!(client.say("GET k"), "text");
}

#[test]
fn t09_a_flood_of_pipelined_requests_is_answered_in_order_within_bounds() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0);
    let mut bytes = Vec::new();
    for n in 0..20_000 {
        bytes.extend(Client::encode(&["SET", &format!("key{}", n % 100), &n.to_string()]));
        bytes.extend(Client::encode(&["GET", &format!("key{}", n % 100)]));
    }
    let mut sender = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || sender.write_all(&bytes).unwrap());
    for n in 0..20_000 {
        assert_eq!(client.reply().unwrap(), "OK");
        assert_eq!(client.reply().unwrap(), n.to_string(), "a write is seen by the next read");
    }
    sending.join().unwrap();
}

#[test]
fn t09_a_client_that_sends_byte_by_byte_delays_nobody() {
    let cluster = Cluster::start(1, &[]);
    let mut slow = cluster.client(0);
    let mut quick = cluster.client(0);
    for byte in Client::encode(&["SET", "slow", "1"]) {
        slow.send_raw(&[byte]);
        let begin = Instant::now();
        assert_eq!(quick.say("PING"), "PONG");
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(slow.reply().unwrap(), "OK");
}

#[test]
fn every_command_does_what_its_name_says() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0);
    for (line, reply) in [
        ("PING", "PONG"),
        ("PING hello", "hello"),
        ("ECHO hello", "hello"),
        ("SET a 1", "OK"),
        ("SET a 2 NX", "nil"),
        ("SET a 2 XX GET", "1"),
        ("GET a", "2"),
        ("GET none", "nil"),
        ("MSET a 1 b 2 c 3 d 4 e 5", "OK"),
        ("MGET a b none e", "[1 2 nil 5]"),
        ("EXISTS a b none a", ":3"),
        ("DBSIZE", ":5"),
        ("DEL a none", ":1"),
        ("INCR n", ":1"),
        ("INCRBY n 41", ":42"),
        ("DECR n", ":41"),
        ("DECRBY n 1", ":40"),
        ("APPEND s ab", ":2"),
        ("APPEND s cd", ":4"),
        ("STRLEN s", ":4"),
        ("GETDEL s", "abcd"),
        ("GETDEL s", "nil"),
        ("TYPE n", "string"),
        ("TYPE none", "none"),
        ("TTL n", ":-1"),
        ("TTL none", ":-2"),
        ("EXPIRE n 100", ":1"),
        ("TTL n", ":100"),
        ("PERSIST n", ":1"),
        ("PTTL n", ":-1"),
        ("CLUSTER KEYSLOT foo", ":12182"),
        ("CLIENT SETNAME me", "OK"),
        ("CLIENT GETNAME", "me"),
        ("CONFIG GET save", "[save ]"),
        ("CONFIG GET appendonly", "[appendonly yes]"),
        ("COMMAND COUNT", ":32"),
        ("SELECT 0", "OK"),
    ] {
        assert_eq!(client.say(line), reply, "{line}");
    }
    assert!(client.say("INFO").contains("redis_version:"));
    assert!(client.say("HELLO 3").contains("proto :3"));
    assert_eq!(client.say("GET none"), "nil");
    assert!(client.say("COMMAND DOCS get").contains("summary"));
    assert_eq!(client.say("QUIT"), "OK");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_deadline_passes_for_readers_and_for_the_counters() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0);
    assert_eq!(client.say("SET k v PX 120"), "OK");
    assert_eq!(client.say("SET other v PX 120"), "OK");
    assert_eq!(client.say("GET k"), "v");
    std::thread::sleep(Duration::from_millis(130));
    assert_eq!(client.say("GET k"), "nil");
    let give_up = Instant::now() + Duration::from_secs(5);
    while client.say("DBSIZE") != ":0" {
        assert!(Instant::now() < give_up, "nobody sweeps");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn files_of_a_few_blocks_and_values_of_their_largest_size_work_together() {
    let flags =
        ["--wal-file-size", "64KiB", "--votes-file-size", "64KiB", "--snapshot-entries", "50"];
    let mut cluster = Cluster::start(1, &flags);
    let value = "x".repeat(4096);
    for n in 0..200 {
        assert_eq!(cluster.client(0).call(&["SET", &format!("key{n}"), &value]), "OK");
    }
    cluster.kill(0);
    cluster.start_one(0);
    for n in 0..200 {
        assert_eq!(cluster.client(0).call(&["GET", &format!("key{n}")]), value, "key{n}");
    }
}

#[test]
fn large_pipelines_of_large_values_are_carried_out_in_parts() {
    let cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0);
    let value = "x".repeat(1 << 20);
    let mut sender = client.stream.try_clone().unwrap();
    let requests: Vec<u8> =
        (0..24).flat_map(|n| Client::encode(&["SET", &format!("key{}", n % 6), &value])).collect();
    let sending = std::thread::spawn(move || sender.write_all(&requests).unwrap());
    (0..24).for_each(|_| assert_eq!(client.reply().unwrap(), "OK"));
    sending.join().unwrap();
    let all = client.say("MGET key0 key1 key2 key3 key4 key5");
    assert_eq!(all.len(), 6 * (1 << 20) + 7);
}

#[test]
fn a_node_with_its_hands_full_says_busy_and_goes_on() {
    let cluster = Cluster::start(1, &["--max-pending", "256B"]);
    let mut client = cluster.client(0);
    // These keys are of two groups, so that the second one finds the first one under way.
    let value = "x".repeat(500);
    let both: Vec<u8> =
        ["foo", "bar"].iter().flat_map(|key| Client::encode(&["SET", key, &value])).collect();
    client.send_raw(&both);
    let replies = [client.reply().unwrap(), client.reply().unwrap()];
    assert!(replies[0] == "OK" && replies[1].starts_with("-BUSY "), "{replies:?}");
    assert_eq!(client.say("SET k v"), "OK");
    assert_eq!(client.say("GET k"), "v");
}

#[test]
fn a_password_is_asked_for_where_one_is_set() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let cluster = Cluster::start(1, &["--client-password-file", file.to_str().unwrap()]);
    let mut client = cluster.client(0);
    assert_eq!(client.say("GET k"), "-NOAUTH Authentication required.");
    assert!(client.say("AUTH wrong").starts_with("-WRONGPASS"));
    assert_eq!(client.say("AUTH secret"), "OK");
    assert_eq!(client.say("SET k v"), "OK");
}
