//! What a core wants done: plain data, with the order in which to do it.

use alloc::vec::Vec;

use refloat_types::{ConfState, Entry, EntryId, HardState, Index, LogOp, Member, Term};

use crate::{Message, Role};

/// Names one [`Persist`]. Tickets ascend; reporting one reports all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistTicket(pub u64);

/// Names one [`Fetch`]. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u64);

/// The host's name for a read. The core maps it to an id of its own that is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// One turn's wishes. The order to follow:
///
/// 1. submit `persist` (with `install`, see there) to the log store, so that its entries can be
///    read, though they are not durable yet;
/// 2. send `messages`, answer `fetch`, start `send_snapshot`: none waits for 1 to be durable;
/// 3. apply `committed`, after 1 was *submitted*: the range may lie above the durable index;
/// 4. when 1 is durable, call [`Core::on_persisted`](crate::Core::on_persisted).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ready {
    /// What to make durable, as one batch. Several may be in flight; they become durable in order.
    pub persist: Option<Persist>,
    /// May leave now. The core itself holds back everything that waits for a ticket: a vote for
    /// its hard state, an ack for its entries, any message for the term that it carries.
    /// A leader's appends are here at once, in parallel with its own sync (thesis, 10.2.1).
    pub messages: Vec<Message>,
    /// Entries that a peer needs and the core no longer holds, in any role. Answer each with
    /// [`Core::on_fetched`](crate::Core::on_fetched), now or later.
    pub fetch: Vec<Fetch>,
    /// The next entries to apply, first and last, in order and without gaps from turn to turn. Only
    /// those that were given up ([`Core::give_up_entries`](crate::Core::give_up_entries)) come anew.
    /// Report with [`Core::on_applied`](crate::Core::on_applied).
    pub committed: Option<(Index, Index)>,
    /// Reads that may be served as soon as `index` is applied here.
    pub reads: Vec<ReadState>,
    /// Reads that will get no answer: the leader changed or was not heard. To be asked again.
    pub failed_reads: Vec<ReadId>,
    /// Peers that need entries which are compacted: stream the newest snapshot to each, then call
    /// [`Core::on_snapshot_sent`](crate::Core::on_snapshot_sent).
    pub send_snapshot: Vec<Member>,
    /// The received snapshot to install in store and state machine. Always comes with `persist`,
    /// whose operations go first; the ticket is reported when both are durable.
    pub install: Option<(EntryId, ConfState)>,
    /// The role, leader or term, if any of them changed.
    pub soft: Option<SoftState>,
    /// No hole is left and the end of the log is known: the replica has all rights again. The
    /// store may forget what it noted against it, in a record behind those of `persist`.
    pub healed: bool,
    /// The replica lost what it had acknowledged, as its leader remembers. It has no rights any
    /// more; the store must note that, and the replica return as a new life.
    pub amnesia: bool,
    /// What a leader noticed of peers, for the operator.
    pub alarms: Vec<Alarm>,
    /// A member needs a snapshot that reaches further than the newest one here. One of what is
    /// applied is to be made; the member asks again.
    pub make_snapshot: bool,
}

/// Something that no sound peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Alarm {
    /// It declared itself whole, and its log ends before what it acknowledged in this term: its
    /// disk lost a flush, or an old copy of its directory was started. It is told.
    Regression {
        /// Who.
        member: Member,
        /// What it had acknowledged.
        acked: Index,
        /// Where its log ends now.
        last: EntryId,
    },
    /// Two processes said hello in one run: they run from copies of one directory. The second
    /// got no answer.
    SharedRun {
        /// Who.
        member: Member,
        /// The run that both claim.
        run: u64,
        /// Of the second one's hello.
        nonce: u64,
    },
}

/// One batch to make durable, whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist {
    /// What to report when it is durable.
    pub ticket: PersistTicket,
    /// The new term and vote, if they changed.
    pub hard_state: Option<HardState>,
    /// The changes of the log, in this order: a cut, what fills holes, an append. Mostly one.
    pub log: [Option<LogOp>; 3],
}

/// A wish for old entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fetch {
    /// To be given back with the answer.
    pub id: FetchId,
    /// The first index wanted.
    pub first: Index,
    /// The last index wanted.
    pub last: Index,
    /// Where to stop, in payload bytes; one entry is always wanted.
    pub max_bytes: usize,
}

/// The answer to a [`Fetch`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fetched {
    /// Entries from `first` on, without gaps, at least one.
    Entries(Vec<Entry>),
    /// The first is gone, or cannot be read any more and need not be: a snapshot here has it.
    Compacted {
        /// Up to where the newest snapshot here reaches.
        up_to: Index,
    },
    /// They cannot be read now. The core asks again after the next beat that the peer answers.
    Failed,
}

/// A read that is linearizable once `index` is applied (thesis, section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadState {
    /// Which read.
    pub id: ReadId,
    /// Up to where the state machine must have applied.
    pub index: Index,
}

/// What needs not be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftState {
    /// The role.
    pub role: Role,
    /// The leader, if known.
    pub leader: Option<Member>,
    /// The term, which may not be durable yet.
    pub term: Term,
}
