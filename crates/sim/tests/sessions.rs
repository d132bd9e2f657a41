//! Exactly once, in clusters that go wrong: whatever is sent again, in whatever order, through
//! whatever is cut, killed, wiped and restored, is applied at one index and has one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_node::sessions::{Limits, SessionClient, SessionReply, Sessions};
use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};
use refloat_sim::{FaultRates, Settings, Simulation};
use refloat_types::GroupId;
use refloat_vfs::Rng;

/// A few sessions are hit again and again, by attempts at a few numbers of each.
const SESSIONS: u64 = 40;
const NUMBERS: u64 = 5;
const LIMITS: Limits = Limits { idle_ms: 50_000, open: 4, sessions: 12, reply_bytes: 200 };

/// A command of a session: group, session, number.
type Key = (u64, u64, u64);

/// The invariant, over all replicas and all their lives.
#[derive(Default)]
struct ExactlyOnce {
    /// Where each command was applied, by whichever replica.
    applied: BTreeMap<Key, u64>,
    /// Where it was asked for, and had its answer.
    answers: BTreeMap<Key, BTreeMap<u64, SessionReply>>,
    fault: Option<String>,
}

impl ExactlyOnce {
    fn applied(&mut self, key: Key, index: u64) {
        let first = *self.applied.entry(key).or_insert(index);
        if first != index {
            let text = format!("{key:?} was applied at {first} and at {index}");
            self.fault.get_or_insert(text);
        }
    }

    fn answered(&mut self, key: Key, index: u64, reply: &SessionReply) {
        if let SessionReply::Applied(bytes) = reply {
            let found = bytes.first_chunk().map(|at| u64::from_le_bytes(*at));
            let at = self.applied.get(&key).copied();
            if found != at {
                let text = format!("{key:?} was applied at {at:?}, and told to be at {found:?}");
                self.fault.get_or_insert(text);
            }
        }
        let known = self.answers.entry(key).or_default().entry(index).or_insert(reply.clone());
        if known != reply {
            let text =
                format!("{key:?} asked for at {index} has two answers: {known:?}, {reply:?}");
            self.fault.get_or_insert(text);
        }
    }

    /// How many answers of a kind were given.
    fn count(&self, wanted: impl Fn(&SessionReply) -> bool) -> usize {
        self.answers.values().flat_map(BTreeMap::values).filter(|reply| wanted(reply)).count()
    }
}

/// Tells what is applied, and replies with its index.
struct Inner {
    group: u64,
    once: Arc<Mutex<ExactlyOnce>>,
    commands: u64,
}

impl StateMachine for Inner {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let one = |command: &Command| {
            self.commands += 1;
            if let Some((session, number)) = named(&command.payload) {
                self.once.lock().applied((self.group, session, number), command.index.0);
            }
            Bytes::copy_from_slice(&command.index.0.to_le_bytes())
        };
        batch.iter().map(one).collect()
    }

    fn snapshot(&mut self) -> Chunks {
        Box::new(std::iter::once(Bytes::copy_from_slice(&self.commands.to_le_bytes())))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.commands = u64::from_le_bytes(snapshot.array()?);
        Ok(())
    }
}

/// Compares the answers that the sessions of a replica give.
struct Watched {
    sessions: Sessions<Inner>,
    group: u64,
    once: Arc<Mutex<ExactlyOnce>>,
}

impl StateMachine for Watched {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let replies = self.sessions.apply(batch);
        for (command, reply) in batch.iter().zip(&replies) {
            let Some((session, number)) = named(&command.payload) else { continue };
            let reply = SessionReply::decode(reply).expect("of a session");
            self.once.lock().answered((self.group, session, number), command.index.0, &reply);
        }
        replies
    }

    fn snapshot(&mut self) -> Chunks {
        self.sessions.snapshot()
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        self.sessions.restore(snapshot)
    }
}

const NAME: &[u8; 8] = b"command ";

/// Session and number, with which a command of these tests ends.
fn named(payload: &Bytes) -> Option<(u64, u64)> {
    let (rest, number) = payload.split_last_chunk()?;
    let (rest, session) = rest.split_last_chunk()?;
    rest.ends_with(NAME).then(|| (u64::from_le_bytes(*session), u64::from_le_bytes(*number)))
}

/// What one of very many clients sends: it knows nothing of what the others were told, so numbers
/// come in any order, many times, with floors high and low, also of sessions that never were.
fn command(rng: &mut Rng) -> Bytes {
    let session = 1 + rng.below(SESSIONS);
    let mut client = SessionClient::opened(session, &Limits { open: u32::MAX, ..LIMITS });
    let body = match rng.below(100) {
        0..30 => SessionClient::register(&LIMITS),
        30..32 => client.keep_alive(),
        32..33 => client.close(),
        _ => {
            let number = rng.below(NUMBERS);
            let floor = rng.below(number + 1).saturating_sub(rng.below(2 * NUMBERS));
            for _ in 0..=number {
                let _ = client.begin();
            }
            (0..floor).for_each(|below| client.answered(below));
            let mut payload = NAME.to_vec();
            payload.extend_from_slice(&session.to_le_bytes());
            payload.extend_from_slice(&number.to_le_bytes());
            client.command(number, payload.into(), false)
        }
    };
    // Clocks of leaders that differ wildly; the latest counts, so later ones are ever rarer.
    let magnitude = 10 + rng.below(8);
    let stamp = rng.below(1 << magnitude);
    [&stamp.to_le_bytes()[..], &body].concat().into()
}

fn run(settings: &Settings, seeds: std::ops::Range<u64>) -> (usize, usize, usize) {
    let (mut applied, mut again, mut expired) = (0, 0, 0);
    for seed in seeds {
        let once = Arc::new(Mutex::new(ExactlyOnce::default()));
        let watch = Arc::clone(&once);
        let simulation =
            Simulation::new(settings.clone()).commands(command).machine(move |GroupId(group)| {
                let once = Arc::clone(&watch);
                let inner = Inner { group, once: Arc::clone(&once), commands: 0 };
                Box::new(Watched { sessions: Sessions::new(inner), group, once })
            });
        let report = simulation.run(seed);
        assert!(report.violation.is_none(), "{report}");
        let once = once.lock();
        assert_eq!(once.fault, None, "seed {seed}");
        applied += once.applied.len();
        again += once.count(SessionReply::is_applied) - once.applied.len();
        expired += once.count(|reply| *reply == SessionReply::Expired);
    }
    (applied, again, expired)
}

#[test]
fn r04_exactly_once_holds_through_crashes_partitions_snapshots_and_wiped_disks() {
    // Groups that come and go under one id would be several histories under one name.
    let faults =
        FaultRates { kills: 1.0, partitions: 1.0, group_churn: 0.0, ..FaultRates::default() };
    let settings =
        Settings { fault_us: 2_000_000, snapshot_entries: 20, faults, ..Settings::default() };
    let (applied, again, expired) = run(&settings, 1..33);
    println!("{applied} commands applied, {again} attempts answered again, {expired} expired");
    assert!(applied > 200 && again > 100 && expired > 100, "{applied}, {again}, {expired}");
}
