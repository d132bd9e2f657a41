//! What replicas say to each other.

use alloc::vec::Vec;

use refloat_types::{Entry, EntryId, GroupKey, Index, Member, Term};

/// One message between two replicas of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// Who sends it, in which life.
    pub from: Member,
    /// For whom it is meant, in which life.
    pub to: Member,
    /// The group and its epoch.
    pub group: GroupKey,
    /// The sender's term, durable before the message left.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// The kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Body {
    /// "Would you vote for me?" (thesis, 9.6). Changes no term and no vote; every state answers.
    PreVote {
        /// The term in which the sender would campaign.
        campaign: Term,
        /// The last entry of the sender's log.
        last: EntryId,
    },
    /// The answer to `PreVote`.
    PreVoteResp {
        /// The term that was asked about.
        campaign: Term,
        /// Whether the answerer would vote for the sender.
        granted: bool,
    },
    /// RequestVote (figure 2), for the message's term.
    Vote {
        /// The last entry of the candidate's log.
        last: EntryId,
        /// Whether the leader asked for this campaign: leases do not hold against it.
        transfer: bool,
    },
    /// The answer to `Vote`; left only when the vote was durable.
    VoteResp {
        /// Whether the vote was given.
        granted: bool,
    },
    /// AppendEntries (figure 2).
    Append(Append),
    /// "My log equals yours up to here, durably." It names the entry, not only its index: a leader
    /// that has another one there does not count it. (A snapshot may bring a replica what a newer
    /// leader committed before it has heard of that leader.)
    AppendResp {
        /// The last such entry.
        matched: EntryId,
    },
    /// "Your previous entry is not mine."
    AppendReject {
        /// The index of the previous entry that was refused.
        prev: Index,
        /// The last entry of the sender's log, at or below `prev`, that is not of a later term
        /// than the refused one.
        hint: EntryId,
        /// The sender lost entries that it had acknowledged: what the leader remembers of it is
        /// void and restarts at the hint.
        lost: bool,
    },
    /// The leader's beat.
    Heartbeat {
        /// The commit index, at most what this follower acknowledged to this leader.
        commit: Index,
        /// The newest round: of reads (thesis, 6.4), or of a leader that leaves and learns by it who
        /// knows; 0 before the first.
        round: u64,
    },
    /// The answer to a beat.
    HeartbeatResp {
        /// The round of the beat.
        round: u64,
        /// The sender votes for nobody for an election timeout, transfer excepted.
        promise: bool,
    },
    /// "I fall quiet": the leader's last word until something happens.
    Quiet {
        /// The last entry of its log, which is committed and held by all.
        last: EntryId,
    },
    /// "Campaign now": sent by a leader that hands over (thesis, 3.10).
    TimeoutNow,
    /// "Up to where must I apply to serve a read?", from a follower to its leader.
    ReadIndex {
        /// Which question.
        context: ReadContext,
        /// What the sender acknowledges counts, and so does the term in which it asks.
        counts: bool,
    },
    /// The answer to `ReadIndex`.
    ReadIndexResp {
        /// Which question.
        context: ReadContext,
        /// The index, or `None` if the asked one does not lead.
        index: Option<Index>,
    },
    /// "Your term is behind mine", said to a deposed leader, which steps down for it.
    Behind,
    /// What a run of a replica declares to its leader before its first ack.
    Hello(Hello),
    /// The leader's answer to `Hello`.
    HelloReply {
        /// The hello's.
        nonce: u64,
        /// The leader's last index, read after it heard the hello.
        last: Index,
        /// The replica called itself whole, yet the leader saw more of it in this term: it lost
        /// what it acknowledged, and is an amnesiac.
        regressed: bool,
    },
    /// "Give me these entries": said by a replica with holes, to any member, in any role and
    /// term. Changes no term.
    HoleAsk {
        /// What is missing, lowest first, at most [`HoleRange::MAX`].
        ranges: Vec<HoleRange>,
    },
    /// Entries that were asked for; ascending, maybe with gaps. Good in every term: an index and
    /// a term name one entry for ever.
    HoleHave {
        /// At least one.
        entries: Vec<Entry>,
    },
    /// "Some of them are compacted here": they are committed, and in a snapshot.
    HoleCompacted {
        /// Up to where.
        up_to: Index,
    },
    /// "My log is whole, and does not hold these." Counts only in the asking leader's own term.
    HoleNeverHad {
        /// Which of those asked for.
        ranges: Vec<HoleRange>,
    },
    /// "Send me your snapshot": said when what is missing is compacted and no leader sends it.
    SnapshotAsk {
        /// What it must reach.
        index: Index,
    },
}

/// What a run of a replica declares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The number of the run.
    pub run: u64,
    /// Drawn by the run: an answer that bears it was given after the run began.
    pub nonce: u64,
    /// The end of its log, durable, holes included.
    pub last: EntryId,
    /// What it says of itself.
    pub state: Declared,
    /// The lowest holes, at most [`HoleRange::MAX`] ranges.
    pub holes: Vec<(Index, Index)>,
}

/// What a replica says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Declared {
    /// It misses nothing.
    Clean = 0,
    /// It has holes.
    Damaged = 1,
    /// It does not know where its log ended.
    HeadUnknown = 2,
    /// It forgot what it promised.
    Amnesia = 3,
}

/// Neighbouring entries of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HoleRange {
    /// Their term.
    pub term: Term,
    /// The first.
    pub first: Index,
    /// The last.
    pub last: Index,
}

impl HoleRange {
    /// The most ranges in one message.
    pub const MAX: usize = 16;

    /// Whether an index lies in it.
    #[must_use]
    pub fn contains(&self, index: Index) -> bool {
        self.first <= index && index <= self.last
    }
}

/// The content of an append.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Append {
    /// The entry before the first.
    pub prev: EntryId,
    /// The leader's commit index; may lie beyond what the message brings.
    pub commit: Index,
    /// What to append, contiguous from `prev`.
    pub entries: Vec<Entry>,
}

/// Names a forwarded batch of reads, never reused: the asking run and a count within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadContext {
    /// Drawn from the asking run's seed.
    pub run: u64,
    /// Counts within the run.
    pub seq: u64,
}
