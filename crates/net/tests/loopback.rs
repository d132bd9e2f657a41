//! Peers that keep the rules, on real sockets.

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use refloat_net::{BindError, Dropped, Event, Lane, TcpTransport, Transport};

#[test]
fn frames_arrive_in_order_with_the_name_life_and_run_of_their_sender() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    assert_eq!(b.log.wait_up(1), (identity(1).member, 1));
    let sent: Vec<String> = (0..500).map(|n| format!("frame {n}")).collect();
    for frame in &sent {
        a.send(2, Lane::Urgent, frame.clone()).unwrap();
    }
    let last = b.log.wait_frame(b"frame 499");
    let Event::Frame { from, run, lane, .. } = last else { panic!() };
    assert_eq!((from, run, lane), (identity(1).member, 1, Lane::Urgent));
    let got: Vec<_> = b.log.frames().into_iter().filter(|f| f.starts_with(b"frame")).collect();
    assert_eq!(got, sent);
}

#[test]
fn frames_of_all_lengths_arrive_whole_on_both_lanes() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    for lane in Lane::ALL {
        for len in [0, 1, 16 << 10, (16 << 10) + 1, 300_000, config(1).max_frame] {
            let body = vec![len as u8 ^ lane as u8; len];
            eventually("room", || a.send(2, lane, body.clone()) == Ok(()));
            b.log.wait("the frame", |events| {
                let is = |e: &Event| matches!(e, Event::Frame { lane: l, bytes, .. } if *l == lane && *bytes == body);
                events.iter().any(is).then_some(())
            });
        }
    }
    let long = vec![0; config(1).max_frame + 1];
    assert_eq!(a.send(2, Lane::Bulk, long), Err(Dropped::TooLong));
    assert_eq!(a.transport.stats().dropped_too_long, 1);
}

#[test]
fn many_small_frames_share_a_write() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    let before = a.transport.stats();
    for n in 0..10_000u32 {
        a.send(2, Lane::Bulk, n.to_le_bytes().to_vec()).unwrap();
    }
    b.log.wait_frame(&9_999u32.to_le_bytes());
    eventually("counted", || a.transport.stats().frames_sent >= before.frames_sent + 10_000);
    let writes = a.transport.stats().writes - before.writes;
    assert!(writes < 5_000, "{writes} writes for 10,000 frames");
}

#[test]
fn what_cannot_be_sent_is_dropped_with_its_reason_and_counted() {
    let runtime = runtime();
    let a = Node::start(&runtime, config(1));
    assert_eq!(a.send(2, Lane::Urgent, "x"), Err(Dropped::UnknownPeer));
    // Nobody listens there: attempts fail at once, and between them nothing is queued.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    a.knows(&[(2, free)]);
    eventually("between attempts", || a.send(2, Lane::Urgent, "x") == Err(Dropped::NotConnected));
    a.transport.shutdown();
    assert_eq!(a.send(2, Lane::Urgent, "x"), Err(Dropped::ShutDown));
    let stats = a.transport.stats();
    assert!(stats.dropped_not_connected >= 1 && stats.dropped_unknown_peer == 1);
}

#[test]
fn an_address_in_use_is_a_typed_error() {
    let runtime = runtime();
    let a = Node::start(&runtime, config(1));
    let mut taken = config(2);
    taken.listen = a.address().to_string();
    let result = TcpTransport::bind(taken.clone(), runtime.handle(), Arc::new(|_| {}));
    let Err(BindError { address, source, .. }) = result else { panic!("bound twice") };
    assert_eq!((address, source.kind()), (taken.listen, std::io::ErrorKind::AddrInUse));
}

#[test]
fn t08_a_peer_that_comes_back_is_reconnected_at_once_and_not_after_the_back_off() {
    let runtime = runtime();
    let mut patient = config(1);
    patient.backoff_min = Duration::from_secs(30);
    patient.backoff_max = Duration::from_secs(30);
    let a = Node::start(&runtime, patient);
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = place.local_addr().unwrap();
    drop(place);
    a.knows(&[(2, at)]);
    eventually("first attempt", || a.transport.stats().connects_failed >= 2);

    let mut restarted = config(2);
    restarted.listen = at.to_string();
    restarted.run = 8;
    let b = Node::start(&runtime, restarted);
    b.knows(&[(1, a.address())]);
    let began = Instant::now();
    a.get_through(2, Lane::Urgent, &b, b"welcome back");
    assert!(began.elapsed() < Duration::from_secs(5), "waited for the back-off");
    assert_eq!(a.log.wait_up(2), (identity(2).member, 8));
}

#[test]
fn t08_an_address_that_changes_is_followed() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    let mut moved = config(2);
    moved.run = 2;
    b.transport.shutdown();
    let b = Node::start(&runtime, moved);
    a.knows(&[(2, b.address())]);
    a.get_through(2, Lane::Urgent, &b, b"at the new address");
}

#[test]
fn down_follows_up_when_the_last_connection_is_gone() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    b.transport.shutdown();
    a.log.wait("down", |events| {
        let down = Event::Down { from: identity(2).member, run: 1 };
        events.contains(&down).then_some(())
    });
    let turns: Vec<bool> = a
        .log
        .all()
        .into_iter()
        .filter_map(|e| match e {
            Event::Up { .. } => Some(true),
            Event::Down { .. } => Some(false),
            _ => None,
        })
        .collect();
    assert_eq!(turns, [true, false], "several connections are one presence");
}

#[test]
fn a_silent_network_is_noticed_on_both_sides() {
    let runtime = runtime();
    let (a, b) = (Node::start(&runtime, config(1)), Node::start(&runtime, config(2)));
    let silent = Arc::new(AtomicBool::new(false));
    let hold = silent.clone();
    let at = proxy(b.address(), move |_, _| {
        while hold.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    a.knows(&[(2, at)]);
    a.get_through(2, Lane::Urgent, &b, b"before");
    silent.store(true, Ordering::SeqCst);
    let down = |node| {
        move |events: &[Event]| {
            let gone = Event::Down { from: identity(node).member, run: 1 };
            events.contains(&gone).then_some(())
        }
    };
    b.log.wait("receiver notices", down(1));
    a.log.wait("sender notices", down(2));
    silent.store(false, Ordering::SeqCst);
    a.get_through(2, Lane::Urgent, &b, b"after");
}

#[test]
fn a_newer_connection_of_the_same_peer_and_lane_replaces_the_older() {
    let runtime = runtime();
    let a = Node::start(&runtime, config(1));
    let hello = Raw::hello(9, 1, Lane::Urgent);
    let mut old = Raw::welcomed(a.address(), &hello);
    let mut new = Raw::welcomed(a.address(), &hello);
    let mut bulk = Raw::welcomed(a.address(), &Raw::hello(9, 1, Lane::Bulk));
    old.wait_closed();
    new.frame(0, Lane::Urgent, b"newer");
    bulk.frame(0, Lane::Bulk, b"other lane");
    a.log.wait_frame(b"newer");
    a.log.wait_frame(b"other lane");
}

#[test]
fn shutdown_ends_every_task_and_frees_the_address() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    let _half_open = Raw::connect(a.address());
    let at = a.address();
    a.transport.shutdown();
    a.transport.shutdown();
    b.transport.shutdown();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, a.transport.closed()).await.unwrap();
        tokio::time::timeout(PATIENCE, b.transport.closed()).await.unwrap();
    });
    eventually("no task is left", || runtime.handle().metrics().num_alive_tasks() == 0);
    let events = a.log.all().len();
    let mut again = config(1);
    again.listen = at.to_string();
    let _ = Node::start(&runtime, again);
    assert_eq!(a.log.all().len(), events, "nothing is delivered after the end");
}

#[test]
fn a_dropped_transport_is_shut_down() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    drop((a.transport, b.transport));
    eventually("no task is left", || runtime.handle().metrics().num_alive_tasks() == 0);
}

#[test]
fn who_has_no_identity_yet_may_ask_and_gets_the_card() {
    let runtime = runtime();
    let (a, b) = pair(&runtime);
    let address = a.address().to_string();
    // Nothing is answered before there is something to say.
    assert!(refloat_net::ask(&address, Duration::from_millis(500)).is_err());
    let card = vec![7; 40_000];
    a.transport.set_card(card.clone().into());
    assert_eq!(refloat_net::ask(&address, Duration::from_secs(2)).unwrap(), card);
    assert_eq!(a.transport.stats().handshakes_bad, 0);
    b.get_through(1, Lane::Urgent, &a, b"others are unaffected");
}
