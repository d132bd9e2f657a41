//! What can happen next.

use crate::common::show;
use crate::world::{Letter, Stream};
use refloat_raft_core::Message;
use refloat_types::{Member, NodeId};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Deliver(Letter),
    /// As delivered, and it may arrive again.
    Repeat(Letter),
    Campaign(usize),
    /// Two election timeouts pass at a replica with holes, then it campaigns.
    CampaignLate(usize),
    Propose(usize),
    /// The leader beats.
    Beat(usize),
    /// The step happens, what it wrote stays on its way to the disk.
    Lag(Box<Action>),
    /// The oldest batch under way is durable.
    Sync(usize),
    /// The power goes after so many batches under way, and the replica starts again.
    Crash(usize, usize),
    /// The step happens, what it wrote is lost, and the replica starts again.
    Torn(Box<Action>),
    /// Loses everything, and starts as a new life.
    Wipe(usize),
    /// Forgets term and vote, and goes on as a new life over its old log.
    Forget(usize),
    /// The leader replaces a life that is gone.
    Replace(usize, Member, Member),
    /// The leader makes a learner a voter.
    Promote(usize, Member),
    /// The leader removes itself.
    Leave(usize),
    /// The leader has a voter make place for a learner.
    Swap(usize, Member, Member),
    /// The leader removes another voter.
    Drop(usize, Member),
    /// Half an election timeout passes, most slowly at one replica.
    Pass(Option<usize>),
    /// A leader's clock goes back while an election timeout passes.
    Fall(usize),
    /// A follower's clock runs ahead.
    Jump(usize),
    /// A client reads.
    Read(usize),
    /// The leader hands over.
    Transfer(usize, NodeId),
    /// The last durable entry rots, found at a start.
    Damage(usize),
    /// Asks for holes.
    Tick(usize),
    /// What it applied goes into a snapshot, and the log below is gone.
    Compact(usize),
    /// A snapshot arrived, whole.
    Stream(Stream),
    /// A snapshot got lost on its way.
    StreamFails(Stream),
    /// The end of the log that was overwritten last is there again, found at a start.
    OldEnd(usize, Known),
    /// The disk takes writes and does not say that they are durable.
    Hang(usize),
    /// The core is told that its disk hangs.
    HangTold(usize, Option<NodeId>),
    /// A disk that hung has written everything.
    Answer(usize),
}

/// Whether the store can tell that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// It does not know where the log ended.
    HeadUnknown,
    /// It takes what is there for the log.
    Unnoticed,
}

impl Action {
    /// Whether what it writes may be late or lost.
    pub fn writes(&self) -> bool {
        use Action::{Campaign, CampaignLate, Deliver, Propose, Stream};
        matches!(self, Deliver(_) | Campaign(_) | CampaignLate(_) | Propose(_) | Stream(_))
    }
}

pub fn show(action: &Action) -> String {
    match action {
        Action::Deliver(letter) => show::message(&Message::decode(letter).expect("a message")),
        Action::Repeat(letter) => format!("{}, and again", show(&Action::Deliver(letter.clone()))),
        Action::Torn(action) => format!("{}, then a crash", show(action)),
        Action::Lag(action) => format!("{}, not durable yet", show(action)),
        Action::Stream(Stream { from, to, at, .. }) => {
            format!("snapshot {}->{} of {at}", from.node, to.node)
        }
        other => format!("{other:?}"),
    }
}
