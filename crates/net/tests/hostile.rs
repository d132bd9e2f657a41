//! Peers that break the rules, on real sockets.

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use refloat_net::{Dropped, Event, FRAME_HEADER_LEN, FrameKind, Lane, Refusal, frame_header};
use refloat_types::{ClusterId, Incarnation, NodeId};

fn noise(len: usize) -> Vec<u8> {
    let mut x = 11u64;
    let mut next = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (x >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn t01_whoever_breaks_the_handshake_is_cut_off_in_bounded_time_and_bytes() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    let hello = Raw::hello(9, 1, Lane::Urgent).encode();
    let mut long = hello.clone();
    long[10..12].copy_from_slice(&2000u16.to_le_bytes());
    let mut wrong_magic = hello.clone();
    wrong_magic[0] = b'X';
    let mut flipped = hello.clone();
    flipped[30] ^= 4;
    for (what, bytes) in [
        ("wrong magic", wrong_magic),
        ("random bytes", noise(5000)),
        ("too long", long),
        ("bit error", flipped),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("half a hello", hello[..40].to_vec()),
        ("nothing", Vec::new()),
    ] {
        let mut raw = Raw::connect(a.address());
        raw.write(&bytes);
        let took = raw.wait_closed();
        assert!(took < Duration::from_secs(3), "{what} took {took:?}");
    }
    // A trickle that never stops is still bounded by the whole handshake's time.
    let mut raw = Raw::connect(a.address());
    let began = Instant::now();
    for byte in &hello[..60] {
        raw.write(&[*byte]);
        std::thread::sleep(Duration::from_millis(20));
    }
    raw.wait_closed();
    assert!(began.elapsed() < Duration::from_secs(4));

    eventually("all counted", || a.transport.stats().handshakes_bad == 8);
    assert_eq!(a.transport.stats().bad_frames, 0);
    b.get_through(1, Lane::Urgent, &a, b"others are unaffected");
    assert_eq!(b.transport.stats().connects, 2, "their connections never broke");
}

#[test]
fn t01_bad_frames_end_their_connection_and_no_other() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    let lane = Lane::Urgent;
    let long = {
        let mut config = config(1);
        config.max_frame += 1;
        frame_header(0, FrameKind::Data, lane, &vec![0; config.max_frame])
    };
    let half = [&frame_header(0, FrameKind::Data, lane, b"whole")[..], b"wh"].concat();
    let mut damaged = [&frame_header(0, FrameKind::Data, lane, b"whole")[..], b"whole"].concat();
    damaged[FRAME_HEADER_LEN] ^= 1;
    for (what, bytes) in [
        ("too long", long.to_vec()),
        ("random bytes", noise(300)),
        ("bit error", damaged),
        ("slow", half.clone()),
        ("slow", half[..7].to_vec()),
    ] {
        let mut raw = Raw::welcomed(a.address(), &Raw::hello(9, 1, lane));
        raw.write(&bytes);
        let took = raw.wait_closed();
        assert!(took < Duration::from_secs(3), "{what} took {took:?}");
    }
    // Half a frame and then the end.
    let mut raw = Raw::welcomed(a.address(), &Raw::hello(9, 1, lane));
    raw.write(&half);
    raw.end();
    raw.wait_closed();

    eventually("all counted", || a.transport.stats().bad_frames == 5);
    assert_eq!(a.transport.stats().bad_checksums, 2, "random bytes and the bit error");
    assert!(!a.log.frames().iter().any(|f| f.starts_with(b"wh")), "nothing half was delivered");
    b.get_through(1, lane, &a, b"others are unaffected");
    assert_eq!(b.transport.stats().connects, 2, "their connections never broke");
}

#[test]
fn t01_a_slow_sender_holds_a_connection_no_longer_than_one_frame_may_take() {
    let runtime = runtime();
    let a = Node::start(&runtime, config(1));
    let mut raw = Raw::welcomed(a.address(), &Raw::hello(9, 1, Lane::Bulk));
    let body = vec![1; 1000];
    let bytes = [&frame_header(0, FrameKind::Data, Lane::Bulk, &body)[..], &body].concat();
    let began = Instant::now();
    for byte in bytes.chunks(1).take(600) {
        raw.write(byte);
        std::thread::sleep(Duration::from_millis(10));
        if a.transport.stats().bad_frames == 1 {
            break;
        }
    }
    raw.wait_closed();
    assert!(began.elapsed() < Duration::from_secs(3), "each byte bought more time");
    assert_eq!(a.transport.stats().bad_frames, 1);
}

#[test]
fn t02_wrong_cluster_node_and_incarnation_are_refused_with_both_names() {
    let runtime = runtime();
    let b = Node::start(&runtime, config(2));
    let refusal =
        |change: &dyn Fn(&mut refloat_net::Config), to: u64, life: Option<Incarnation>| {
            let mut config = config(1);
            change(&mut config);
            let a = Node::start(&runtime, config);
            let mut peer = refloat_net::Peer::new(b.address().to_string());
            peer.incarnation = life;
            refloat_net::Transport::set_peers(&a.transport, &[(NodeId(to), peer)].into());
            let (node, reason) = a.log.wait_refused();
            assert_eq!(node, NodeId(to));
            assert!(a.transport.stats().refused_by_peer > 0);
            assert!(!a.log.all().iter().any(|e| matches!(e, Event::Up { .. })));
            reason
        };
    let (two, life) = (identity(2), identity(2).member.incarnation);
    assert_eq!(
        refusal(&|c| c.identity.cluster = ClusterId(0xc2), 2, None),
        Refusal::WrongCluster { found: ClusterId(0xc2), expected: two.cluster }
    );
    assert_eq!(
        refusal(&|_| {}, 3, None),
        Refusal::WrongNode { found: NodeId(3), expected: NodeId(2) }
    );
    assert_eq!(
        refusal(&|_| {}, 2, Some(Incarnation(5))),
        Refusal::WrongIncarnation { found: Incarnation(5), expected: life }
    );
    let clone = Incarnation(0xdead);
    assert_eq!(
        refusal(
            &|c| {
                c.identity.member.node = NodeId(2);
                c.identity.member.incarnation = clone;
            },
            2,
            None
        ),
        Refusal::NodeIdInUse { found: clone, expected: life }
    );
    assert!(b.transport.stats().refused_by_us >= 4);
    assert!(b.log.all().is_empty(), "nobody who was refused was ever heard");
}

#[test]
fn a_newer_protocol_is_refused_by_name_and_not_called_damage() {
    let runtime = runtime();
    let a = Node::start(&runtime, config(1));
    let mut bytes = Raw::hello(9, 1, Lane::Urgent).encode();
    bytes[8] = 7;
    let end = bytes.len() - 4;
    let check = crc32c::crc32c(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&check);
    let mut raw = Raw::connect(a.address());
    raw.write(&bytes);
    let refusal = raw.read_reply().refusal;
    assert_eq!(refusal, Some(Refusal::NewerVersion { found: 7, expected: 1 }));
    raw.wait_closed();
}

#[test]
fn t03_connections_over_the_limit_are_closed_at_once_and_the_cluster_works() {
    let runtime = runtime();
    let mut small = config(1);
    small.max_handshakes = 4;
    small.handshake_timeout = Duration::from_secs(2);
    let (a, b) = (Node::start(&runtime, small), Node::start(&runtime, config(2)));
    b.knows(&[(1, a.address())]);
    b.get_through(1, Lane::Urgent, &a, b"before");
    let mut flood: Vec<Raw> = (0..40).map(|_| Raw::connect(a.address())).collect();
    eventually("over the limit", || a.transport.stats().accepts_over_limit >= 30);
    b.get_through(1, Lane::Urgent, &a, b"meanwhile");
    flood.iter_mut().for_each(|raw| _ = raw.wait_closed());
    let _ = Raw::welcomed(a.address(), &Raw::hello(9, 1, Lane::Urgent));
}

#[test]
fn t04_bit_error_on_the_wire_is_caught_and_the_link_comes_back() {
    let runtime = runtime();
    let (a, b) = (Node::start(&runtime, config(1)), Node::start(&runtime, config(2)));
    let broken = Arc::new(AtomicBool::new(true));
    let flip = broken.clone();
    // Bytes of frames, not of the handshake: the first frame starts behind the hello.
    let at = proxy(b.address(), move |at, bytes| {
        let target = 150usize.checked_sub(at).and_then(|n| bytes.get_mut(n));
        if let (true, Some(byte)) = (flip.load(Ordering::SeqCst), target) {
            *byte ^= 0x10;
        }
    });
    a.knows(&[(2, at)]);
    let body: &'static [u8] = &[b'z'; 100];
    let deadline = Instant::now() + PATIENCE;
    while b.transport.stats().bad_checksums == 0 {
        assert!(Instant::now() < deadline);
        let _ = a.send(2, Lane::Urgent, body);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(b.log.frames().iter().all(|f| f == body), "a changed frame was delivered");
    broken.store(false, Ordering::SeqCst);
    a.get_through(2, Lane::Urgent, &b, b"healed");
}

#[test]
fn frames_from_a_side_that_only_listens_are_never_delivered() {
    let runtime = runtime();
    let a = Node::start(&runtime, config(1));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    a.knows(&[(2, listener.local_addr().unwrap())]);
    let mut raw = Raw(listener.accept().unwrap().0);
    let mut bytes = vec![0; 90];
    std::io::Read::read_exact(&mut raw.0, &mut bytes).unwrap();
    let lane = refloat_net::Hello::decode(&bytes).unwrap().lane;
    let reply = refloat_net::Reply { from: identity(2), run: 1, refusal: None };
    raw.write(&reply.encode());
    raw.frame(0, lane, b"unasked");
    raw.wait_closed();
    eventually("counted", || a.transport.stats().bad_frames == 1);
    assert!(a.log.frames().is_empty());
}

/// A peer that shakes hands on every connection, and then reads only the lanes it is told to.
fn deaf_on_bulk(node: u64) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let mut raw = Raw(stream);
            let mut bytes = vec![0; 90];
            if std::io::Read::read_exact(&mut raw.0, &mut bytes).is_err() {
                continue;
            }
            let hello = refloat_net::Hello::decode(&bytes).unwrap();
            let reply = refloat_net::Reply { from: identity(node), run: 1, refusal: None };
            raw.write(&reply.encode());
            let mut echo = raw.0.try_clone().unwrap();
            // Keep-alives flow on both lanes, so that only the full pipe is at fault.
            std::thread::spawn(move || {
                for seq in 0.. {
                    let header = frame_header(seq, FrameKind::KeepAlive, hello.lane, b"");
                    if std::io::Write::write_all(&mut echo, &header).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            if hello.lane == Lane::Urgent {
                let count = Arc::new(raw);
                let reader = count.clone();
                std::thread::spawn(move || {
                    let mut buf = [0; 65536];
                    while matches!(std::io::Read::read(&mut &reader.0, &mut buf), Ok(1..)) {}
                });
                kept.push(count);
            } else {
                kept.push(Arc::new(raw));
            }
        }
    });
    address
}

#[test]
fn t06_a_full_bulk_lane_delays_no_urgent_frame() {
    let runtime = runtime();
    let mut settings = config(1);
    settings.queue_bytes = [1 << 20, 1 << 20];
    settings.frame_timeout = Duration::from_secs(20);
    let a = Node::start(&runtime, settings);
    a.knows(&[(2, deaf_on_bulk(2))]);
    a.log.wait_up(2);
    let chunk = bytes::Bytes::from(vec![5; 256 << 10]);
    eventually("bulk lane is full", || a.send(2, Lane::Bulk, chunk.clone()) == Err(Dropped::Full));
    let before = a.transport.stats().frames_sent;
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(a.send(2, Lane::Urgent, &b"beat"[..]), Ok(()));
    }
    eventually("urgent frames leave", || a.transport.stats().frames_sent >= before + 100);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn t07_a_peer_that_never_reads_costs_no_more_than_its_queue() {
    let runtime = runtime();
    let mut settings = config(1);
    settings.queue_bytes = [1 << 20, 1 << 20];
    let a = Node::start(&runtime, settings);
    a.knows(&[(2, deaf_on_bulk(2))]);
    a.log.wait_up(2);
    let chunk = bytes::Bytes::from(vec![5; 64 << 10]);
    let mut accepted = 0u64;
    for _ in 0..2000 {
        accepted += u64::from(a.send(2, Lane::Bulk, chunk.clone()).is_ok());
    }
    // 125 MiB were offered. What was taken fits into the queue and the kernel's buffers.
    assert!(accepted < 400, "{accepted} frames taken");
    assert!(a.transport.stats().dropped_full >= 1600);
    // Writes that get nowhere end the connection, and a new one is tried.
    eventually("reconnect", || {
        let _ = a.send(2, Lane::Bulk, chunk.clone());
        a.transport.stats().connects >= 3
    });
}
