//! The admin port before clients that talk nonsense, and all ports before too many of them.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::{Client, Cluster, Node, run};

const SMALL: &[&str] = &["--wal-file-size", "256KiB", "--votes-file-size", "64KiB"];

/// What the admin port answers: the first line, or nothing.
fn answer(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // It may be closed before all is said.
    let _ = stream.write_all(bytes);
    let mut found = Vec::new();
    let _ = stream.read_to_end(&mut found);
    String::from_utf8_lossy(&found).lines().next().unwrap_or_default().to_owned()
}

fn post(path: &str, body: &str) -> Vec<u8> {
    let kind = "Content-Type: application/json\r\nConnection: close";
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\n{kind}\r\nContent-Length: {len}\r\n\r\n{body}")
        .into()
}

#[test]
fn nonsense_at_the_admin_port_is_refused_and_the_node_goes_on() {
    let cluster = Cluster::start(1, SMALL);
    let admin = &cluster.plans[0].admin;
    let get = |line: &str| format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    let huge = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1000));
    for (bytes, code) in [
        (get("DELETE /v1/status HTTP/1.1"), "405"),
        (get("GET /v1/transfer HTTP/1.1"), "405"),
        (get("GET /v1/../etc/passwd HTTP/1.1"), "404"),
        (get("BREW /coffee"), "400"),
        (huge.into_bytes(), "431"),
        (many.into_bytes(), "431"),
        (vec![0x16, 3, 1, 0, 200], "400"),
        (post("/v1/members/add", "{"), "400"),
        (post("/v1/members/add", "{\"node\":0}"), "400"),
        (post("/v1/members/add", "{\"node\":-4}"), "400"),
        (post("/v1/members/add", "{\"node\":4,\"sudo\":true}"), "400"),
        (post("/v1/members/fly", "{\"node\":4}"), "400"),
        (post("/v1/members/add", &"[".repeat(100_000)), "400"),
        (post("/v1/members/add", &" ".repeat(3 << 20)), "400"),
        (post("/v1/transfer", "{\"node\":9,\"group\":1}"), "409"),
        (post("/v1/transfer", "{\"node\":1,\"group\":77}"), "404"),
        (post("/v1/snapshot", "{\"group\":77}"), "404"),
        (post("/v1/snapshot", "{}"), "400"),
        (post("/v1/groups/delete", "{\"group\":1}"), "400"),
        (post("/v1/groups/delete", "{\"accept_loss\":true}"), "400"),
        (post("/v1/groups/delete", "{\"group\":0,\"accept_loss\":true}"), "409"),
        (post("/v1/groups/create", "{\"group\":5}"), "409"),
        (post("/v1/groups/empty", "{\"group\":1}"), "400"),
    ] {
        let line = answer(admin, &bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(line.contains(code), "{shown:?}: {line:?}, expected {code}");
    }
    let status = run(&["status", "--admin-addr", admin]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
}

#[test]
fn clients_that_only_connect_take_no_descriptor_that_the_log_needs() {
    let cluster = Cluster::init(1, SMALL);
    let plan = &cluster.plans[0];
    let mut node = Node::when_ready(plan.spawn_after("ulimit -n 256"), plan);
    let mut client = Client::connect(&plan.client);
    assert_eq!(client.call(&["PING"]), "PONG");
    let half_asked = |_| {
        let mut stream = TcpStream::connect(&plan.admin).unwrap();
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x").unwrap();
        stream
    };
    let idle: Vec<TcpStream> = (0..300).map(half_asked).collect();
    let clients: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(&plan.client).unwrap()).collect();
    // Many log files long.
    for n in 0..400 {
        assert_eq!(client.call(&["SET", &format!("key{n}"), &"v".repeat(8000)]), "OK", "{n}");
    }
    let status = run(&["status", "--admin-addr", &plan.admin]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    drop((idle, clients));
    assert_eq!(node.signal_and_wait("TERM", Duration::from_secs(10)), Some(Some(0)));
}
