//! The state machine in front of another one.

use bytes::Bytes;
use refloat_planted::{Defect, is};
use refloat_types::{Index, IndexSet};

use super::effects::in_front;
use super::table::{Table, Verdict};
use super::wire::{Request, SessionReply};
use crate::effects::{Effect, Effects, Versions};
use crate::machine::{Chunks, Command, RestoreError, StateMachine, split_stamp};
use crate::snapshot_reader::SnapshotReader;

const SNAPSHOT_MAGIC: [u8; 4] = *b"RFST";
const SNAPSHOT_VERSION: u8 = 1;

/// A state machine whose commands are applied exactly once: see [the module](crate::sessions).
///
/// ```
/// # use bytes::Bytes;
/// # use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};
/// # #[derive(Default)] struct Counter(u64);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> { vec![Bytes::new(); batch.len()] }
/// #     fn snapshot(&mut self) -> Chunks { Box::new(std::iter::empty()) }
/// #     fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> { Ok(()) }
/// # }
/// use std::time::Duration;
/// use refloat_node::{Config, Node};
/// use refloat_node::sessions::{Limits, Sessions};
/// use refloat_types::GroupId;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let node = Node::builder(Config::default(), "data").machine(|_| Sessions::new(Counter::default()));
/// let group = node.tcp(None).start().await?.group(GroupId(1));
/// let session = group.session(Limits::default(), Duration::from_secs(10)).await?;
/// let reply = session.propose("+1").await?; // applied once, whatever was lost on the way
/// # Ok(()) }
/// ```
#[derive(Debug, Default)]
pub struct Sessions<M> {
    pub(super) machine: M,
    table: Table,
    /// What the machine added in this batch.
    pub(super) new_effects: Vec<Effect>,
}

impl<M> Sessions<M> {
    /// Puts sessions in front of a machine.
    pub fn new(machine: M) -> Sessions<M> {
        Sessions { machine, table: Table::default(), new_effects: Vec::new() }
    }

    /// The machine, for reads.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine, for reads that need it whole. To change it here would be to change it on one
    /// member only.
    pub fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.table.len()
    }

    /// How many bytes of replies are kept for a second answer.
    pub fn kept_reply_bytes(&self) -> u64 {
        self.table.reply_bytes()
    }
}

/// Commands for the machine that were not given to it yet, and whose they are.
#[derive(Default)]
struct Pending {
    commands: Vec<Command>,
    /// Where in the replies each belongs, and its session and number.
    places: Vec<(usize, Option<(u64, u64)>)>,
}

impl<M: StateMachine> Sessions<M> {
    /// Gives the machine what waits for it, in one batch.
    fn flush(&mut self, pending: &mut Pending, replies: &mut [Bytes]) {
        if pending.commands.is_empty() {
            return;
        }
        let answers = self.machine.apply(&pending.commands);
        let (got, given) = (answers.len(), pending.commands.len());
        assert_eq!(got, given, "the state machine returned {got} replies to {given} commands");
        for ((at, of), answer) in pending.places.drain(..).zip(answers) {
            if let Some((session, sequence)) = of {
                self.table.applied(session, sequence, &answer);
            }
            replies[at] = SessionReply::Applied(answer).encode();
        }
        pending.commands.clear();
        let new = self.machine.effects().map(Effects::take).unwrap_or_default();
        self.new_effects.extend(new.into_iter().map(in_front));
    }

    /// Decides what one command is; it is answered at once unless the machine has to be asked.
    fn take(&mut self, command: &Command, at: usize, pending: &mut Pending, replies: &mut [Bytes]) {
        let split = split_stamp(&command.payload);
        let request = split.and_then(|(stamp, body)| Some((stamp, Request::decode(&body).ok()?)));
        let Some((stamp, request)) = request else {
            replies[at] = SessionReply::NotUnderstood.encode();
            return;
        };
        // A session that ends here must have its replies, and one whose number comes twice its
        // first. What is kept must not depend on where a batch ends: every member has its own.
        if self.is_waited_for(&request, pending)
            || pending.holds_replies() && self.changes_room(stamp, &request)
        {
            self.flush(pending, replies);
        }
        self.table.advance(stamp);
        let noted = |found| if found { SessionReply::Noted } else { SessionReply::Expired };
        let reply = match request {
            Request::Plain { payload } => {
                pending.push(command.index, payload, (at, None));
                return;
            }
            Request::Register(limits) => match self.table.open(command.index.0, &limits) {
                true => SessionReply::Opened(command.index.0),
                false => SessionReply::Full,
            },
            Request::KeepAlive { session } => noted(self.table.keep_alive(session)),
            Request::Close { session } => noted(self.table.close(session)),
            Request::Once { session, sequence, floor, stamped, payload } => {
                match self.table.judge(session, sequence, floor) {
                    Verdict::New => {
                        let payload = if stamped { with_stamp(stamp, &payload) } else { payload };
                        return pending.push(
                            command.index,
                            payload,
                            (at, Some((session, sequence))),
                        );
                    }
                    Verdict::Before(Some(reply)) => SessionReply::Applied(reply),
                    Verdict::Before(None) => SessionReply::AppliedBefore,
                    Verdict::Expired => SessionReply::Expired,
                    Verdict::TooManyOpen => SessionReply::TooManyOpen,
                    Verdict::Forgotten => SessionReply::Forgotten,
                }
            }
        };
        replies[at] = reply.encode();
    }

    /// Whether there is more or less room for replies behind a request than before it.
    fn changes_room(&self, stamp: u64, request: &Request) -> bool {
        self.table.would_expire(stamp)
            || match request {
                Request::Register(_) | Request::Close { .. } => true,
                Request::Once { session, floor, .. } => self.table.would_forget(*session, *floor),
                Request::KeepAlive { .. } | Request::Plain { .. } => false,
            }
    }

    /// Whether the answer depends on what the machine was not given yet.
    fn is_waited_for(&self, request: &Request, pending: &Pending) -> bool {
        let of = |wanted: u64| {
            pending.places.iter().any(|(_, of)| of.is_some_and(|(session, _)| session == wanted))
        };
        match request {
            Request::Once { session, .. }
            | Request::KeepAlive { session }
            | Request::Close { session } => of(*session),
            Request::Register(_) | Request::Plain { .. } => false,
        }
    }
}

impl Pending {
    /// Whether replies to what waits will be kept.
    fn holds_replies(&self) -> bool {
        self.places.iter().any(|(_, of)| of.is_some())
    }

    fn push(&mut self, index: Index, payload: Bytes, place: (usize, Option<(u64, u64)>)) {
        self.commands.push(Command { index, payload });
        self.places.push(place);
    }
}

pub(super) fn with_stamp(stamp: u64, payload: &Bytes) -> Bytes {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend_from_slice(&stamp.to_le_bytes());
    out.extend_from_slice(payload);
    out.into()
}

impl<M: StateMachine> StateMachine for Sessions<M> {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        assert!(
            self.machine.applied().is_none(),
            "sessions cannot stand in front of a state machine that keeps its state itself: it \
             would not keep them"
        );
        if !is(Defect::EffectsTakenTwice) {
            self.new_effects.clear();
        }
        let mut replies = vec![Bytes::new(); batch.len()];
        let mut pending = Pending::default();
        for (at, command) in batch.iter().enumerate() {
            self.take(command, at, &mut pending, &mut replies);
        }
        self.flush(&mut pending, &mut replies);
        replies
    }

    fn snapshot(&mut self) -> Chunks {
        let table = self.table.encode();
        let mut head = SNAPSHOT_MAGIC.to_vec();
        head.push(SNAPSHOT_VERSION);
        head.extend_from_slice(&(table.len() as u64).to_le_bytes());
        head.extend_from_slice(&table);
        Box::new(std::iter::once(Bytes::from(head)).chain(self.machine.snapshot()))
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        let magic: [u8; 4] = snapshot.array()?;
        let [version] = snapshot.array()?;
        if magic != SNAPSHOT_MAGIC || version != SNAPSHOT_VERSION {
            return Err(RestoreError::new(format!(
                "a table of sessions of version {SNAPSHOT_VERSION} expected, found {magic:?}, \
                 version {version}"
            )));
        }
        let len = u64::from_le_bytes(snapshot.array()?);
        let len = usize::try_from(len).map_err(|e| RestoreError::new(e.to_string()))?;
        let table = snapshot.next_bytes(len)?;
        self.table = Table::decode(&table).map_err(|e| RestoreError::new(e.to_string()))?;
        self.new_effects.clear();
        self.machine.restore(snapshot)
    }

    fn live_indexes(&self) -> IndexSet {
        self.machine.live_indexes()
    }

    fn effects(&mut self) -> Option<&mut dyn Effects> {
        self.machine.effects()?;
        Some(self)
    }

    fn versions(&mut self) -> Option<&mut dyn Versions> {
        self.machine.versions()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, SessionClient};
    use super::*;

    /// Replies with how often it was asked, and remembers its batches.
    #[derive(Default)]
    struct Counter(u64, Vec<usize>);

    impl StateMachine for Counter {
        fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
            self.1.push(batch.len());
            let one = |_: &Command| {
                self.0 += 1;
                self.0.to_string().into()
            };
            batch.iter().map(one).collect()
        }
        fn snapshot(&mut self) -> Chunks {
            Box::new(std::iter::once(Bytes::copy_from_slice(&self.0.to_le_bytes())))
        }
        fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
            self.0 = u64::from_le_bytes(snapshot.array()?);
            Ok(())
        }
    }

    /// Applies commands in one batch, each stamped by a leader.
    fn apply<M: StateMachine>(
        machine: &mut Sessions<M>,
        from: u64,
        commands: &[Bytes],
    ) -> Vec<SessionReply> {
        let command = |(index, body): (u64, &Bytes)| Command {
            index: Index(index),
            payload: with_stamp(1000, body),
        };
        let batch: Vec<Command> = (from..).zip(commands).map(command).collect();
        let replies = machine.apply(&batch);
        replies.iter().map(|reply| SessionReply::decode(reply).expect("of a session")).collect()
    }

    fn opened() -> (Sessions<Counter>, SessionClient) {
        let (mut machine, limits) = (Sessions::new(Counter::default()), Limits::default());
        let replies = apply(&mut machine, 1, &[SessionClient::register(&limits)]);
        assert_eq!(replies, [SessionReply::Opened(1)]);
        (machine, SessionClient::opened(1, &limits))
    }

    /// Wishes for each command what the command says, and remembers only its last batch's.
    #[derive(Default)]
    struct Wishes(Vec<Effect>);

    impl StateMachine for Wishes {
        fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
            self.0 = batch.iter().map(|c| Effect::Notice(c.payload.clone())).collect();
            vec![Bytes::new(); batch.len()]
        }
        fn snapshot(&mut self) -> Chunks {
            Box::new(std::iter::empty())
        }
        fn restore(&mut self, _: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
            Ok(())
        }
        fn effects(&mut self) -> Option<&mut dyn Effects> {
            Some(self)
        }
    }

    impl Effects for Wishes {
        fn begin(&mut self) -> Vec<Effect> {
            vec![
                Effect::Timer { id: 7, at_ms: 9, command: "over".into() },
                Effect::Cancel { id: 8 },
            ]
        }
        fn take(&mut self) -> Vec<Effect> {
            std::mem::take(&mut self.0)
        }
    }

    #[test]
    fn r04_effects_of_all_the_batches_behind_one_are_taken_once_and_a_retry_adds_none() {
        let (mut machine, limits) = (Sessions::new(Wishes::default()), Limits::default());
        apply(&mut machine, 1, &[SessionClient::register(&limits)]);
        let mut client = SessionClient::opened(1, &limits);
        let number = client.begin().expect("none is open");
        let once = client.command(number, "a".into(), false);
        let plain = SessionClient::plain("b".into());
        // The second attempt waits for the first's answer, which splits the batch.
        apply(&mut machine, 2, &[once.clone(), once.clone(), plain]);
        let take = |machine: &mut Sessions<Wishes>| machine.effects().expect("some").take();
        let notice = |text: &'static str| Effect::Notice(text.into());
        assert_eq!(take(&mut machine), [notice("a"), notice("b")]);
        apply(&mut machine, 5, &[once]);
        assert_eq!(take(&mut machine), []);
        assert!(Sessions::new(Counter::default()).effects().is_none());
    }

    #[test]
    fn a_timers_command_comes_back_to_the_machine_as_it_was_and_brings_no_time() {
        let mut machine = Sessions::new(Wishes::default());
        apply(&mut machine, 1, &[SessionClient::register(&Limits::default())]);
        let begun = machine.effects().expect("some").begin();
        let [Effect::Timer { id: 7, at_ms: 9, command }, Effect::Cancel { id: 8 }] = &begun[..]
        else {
            panic!("{begun:?}");
        };
        let before = machine.table.clone();
        let replies = machine.apply(&[Command { index: Index(2), payload: command.clone() }]);
        assert_eq!(SessionReply::decode(&replies[0]), Ok(SessionReply::Applied(Bytes::new())));
        assert_eq!(machine.table, before);
        let new = machine.effects().expect("some").take();
        assert_eq!(new, [Effect::Notice("over".into())]);
    }

    #[test]
    fn r04_two_attempts_in_one_batch_are_applied_once_and_others_share_a_batch() {
        let (mut machine, mut client) = opened();
        let first = client.begin().expect("none is open");
        let once = client.command(first, "a".into(), false);
        let plain = SessionClient::plain("b".into());
        let batch = [plain.clone(), once.clone(), plain, once, client.close()];
        let replies = apply(&mut machine, 2, &batch);
        let applied = |text: &'static str| SessionReply::Applied(text.into());
        assert_eq!(replies[..4], [applied("1"), applied("2"), applied("3"), applied("2")]);
        assert_eq!(replies[4], SessionReply::Noted);
        assert_eq!((machine.machine().0, &machine.machine().1[..]), (3, &[3][..]));
        assert_eq!((machine.open_sessions(), machine.kept_reply_bytes()), (0, 0));
    }

    #[test]
    fn r04_what_is_kept_does_not_depend_on_where_a_batch_ends() {
        let limits = Limits { reply_bytes: 2, idle_ms: 1000, ..Limits::default() };
        let open = [SessionClient::register(&limits), SessionClient::register(&limits)];
        let (mut one, mut other) =
            (SessionClient::opened(1, &limits), SessionClient::opened(2, &limits));
        let full: Vec<Bytes> = (0..2)
            .map(|_| other.begin().map(|n| other.command(n, "fills".into(), false)).expect("few"))
            .collect();
        let asks = one.begin().map(|n| one.command(n, "a".into(), false)).expect("none is open");
        other.answered(1);
        other.answered(2);
        let frees = other.begin().map(|n| other.command(n, "b".into(), false)).expect("few");
        let wider = Limits { reply_bytes: 9, ..limits };
        for last in [frees, other.close(), SessionClient::register(&wider)] {
            let mut machines = [(); 2].map(|()| Sessions::new(Counter::default()));
            for machine in &mut machines {
                apply(machine, 1, &open);
                apply(machine, 3, &full);
                assert_eq!(machine.kept_reply_bytes(), 2, "full");
            }
            let [whole, split] = &mut machines;
            apply(whole, 5, &[asks.clone(), last.clone()]);
            apply(split, 5, std::slice::from_ref(&asks));
            apply(split, 6, std::slice::from_ref(&last));
            assert_eq!(whole.table, split.table);
        }
    }

    #[test]
    fn r04_the_table_is_in_the_snapshot_and_damage_in_it_is_an_error() {
        let (mut machine, mut client) = opened();
        let first = client.begin().expect("none is open");
        let once = client.command(first, "a".into(), false);
        apply(&mut machine, 2, std::slice::from_ref(&once));
        let bytes: Vec<u8> = machine.snapshot().flatten().collect();
        let restore = |bytes: &[u8]| {
            let mut again = Sessions::new(Counter::default());
            let mut pieces = std::iter::once(Bytes::copy_from_slice(bytes));
            again.restore(&mut SnapshotReader::new(&mut pieces)).map(|()| again)
        };
        let mut again = restore(&bytes).expect("whole");
        assert_eq!(again.table, machine.table);
        let replies = apply(&mut again, 3, &[once]);
        assert_eq!((replies, again.machine().0), (vec![SessionReply::Applied("1".into())], 1));
        for end in 0..bytes.len() {
            assert!(restore(&bytes[..end]).is_err(), "{end} bytes of {}", bytes.len());
        }
        for at in 0..5 {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(restore(&bad).is_err(), "magic or version");
        }
    }
}
