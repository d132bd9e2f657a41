//! Names and positions.

use core::fmt;
use core::ops::{Add, Sub};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

number!(
    /// A Raft group, as users name it. Group 0 creates and deletes all others.
    GroupId(u64), "g"
);
number!(
    /// Which group of this id: the index, in group 0's log, of the entry that created it.
    /// Group 0 itself has epoch 0.
    Epoch(u64), "e"
);
number!(
    /// A node, as operators name it. Survives a new disk; the [`Incarnation`] does not.
    NodeId(u64), "n"
);
number!(
    /// A Raft term. 0 is "no term seen".
    Term(u64), "t"
);
number!(
    /// A position in one group's log. The first entry has index 1; 0 is "before the log".
    Index(u64), "i"
);
number!(
    /// The number of a WAL file, and of the memtable and the segment made from it:
    /// the same thing in three forms. Numbers are never used twice. 0 is "none".
    Generation(u64), "gen"
);
number!(
    /// Monotonic time in microseconds since an arbitrary start, passed in by the host.
    Now(u64), "us"
);

impl Term {
    /// No term seen.
    pub const ZERO: Term = Term(0);

    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    /// Before the first entry.
    pub const ZERO: Index = Index(0);

    /// The index after this one.
    #[must_use]
    pub const fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub const fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

impl Add<u64> for Index {
    type Output = Index;
    fn add(self, n: u64) -> Index {
        Index(self.0 + n)
    }
}

impl Sub<Index> for Index {
    type Output = u64;
    /// How many steps from `other` up to `self`; 0 where `other` is above.
    fn sub(self, other: Index) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl Generation {
    /// No generation.
    pub const ZERO: Generation = Generation(0);

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Generation {
        Generation(self.0 + 1)
    }

    /// The generation before this one; 0 stays 0.
    #[must_use]
    pub const fn prev(self) -> Generation {
        Generation(self.0.saturating_sub(1))
    }
}

impl Now {
    /// This moment plus `micros` microseconds.
    #[must_use]
    pub const fn after(self, micros: u64) -> Now {
        Now(self.0.saturating_add(micros))
    }

    /// Microseconds since `earlier`; 0 if that lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Now) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One life of a group: its id and the [`Epoch`] that tells this life from an earlier one
/// of the same id. Every record on disk and every message carries both.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The id that users know.
    pub id: GroupId,
    /// Which group of that id.
    pub epoch: Epoch,
}

impl GroupKey {
    /// Group 0, which exists since formation and creates all others.
    pub const META: GroupKey = GroupKey { id: GroupId(0), epoch: Epoch(0) };

    /// Joins an id and an epoch.
    #[must_use]
    pub const fn new(id: GroupId, epoch: Epoch) -> GroupKey {
        GroupKey { id, epoch }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.epoch)
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}@{}", self.id, self.epoch)
    }
}

/// The random name of one data directory's life. A node that lost its disk comes back
/// under a new one, so that nothing the old life promised is attributed to the new.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u128);

impl Incarnation {
    /// Where the run number of a replica's own life stands.
    const RUN_SHIFT: u32 = 96;

    /// The life of one replica that forgot what it had promised, on a directory of this life that
    /// did not: told apart by the run that gave it out, so that no two are alike.
    #[must_use]
    pub const fn of_replica(self, run: u64) -> Incarnation {
        Incarnation(self.0 ^ ((run as u128) << Self::RUN_SHIFT))
    }

    /// Whether this is the life of a directory, or of a replica on it.
    #[must_use]
    pub const fn is_of(self, directory: Incarnation) -> bool {
        (self.0 ^ directory.0) << (128 - Self::RUN_SHIFT) == 0
    }

    /// The run of a directory that gave this life out to a replica, 0 for the directory's own: of
    /// two lives of one replica the later one has the higher. `None`: of another directory.
    #[must_use]
    pub const fn run_on(self, directory: Incarnation) -> Option<u32> {
        let run = (self.0 ^ directory.0) >> Self::RUN_SHIFT;
        if self.is_of(directory) { Some(run as u32) } else { None }
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", (self.0 >> 96) as u32)
    }
}

/// A node in one of its lives: the identity that votes, acks and configurations carry.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
}

impl Member {
    /// Joins a node and its life.
    #[must_use]
    pub const fn new(node: NodeId, incarnation: Incarnation) -> Member {
        Member { node, incarnation }
    }

    /// Whether this is the node of a directory, or a replica on it (see [`Incarnation::is_of`]).
    #[must_use]
    pub const fn is_of(self, directory: Member) -> bool {
        self.node.0 == directory.node.0 && self.incarnation.is_of(directory.incarnation)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} ({})", self.node, self.incarnation)
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}/{:?}", self.node, self.incarnation)
    }
}

/// A position and the term of the entry there. Ordered as Raft compares logs in an
/// election (section 5.4.1 of the paper): by term, then by index.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term in which a leader made the entry.
    pub term: Term,
    /// Its position.
    pub index: Index,
}

impl EntryId {
    /// Before the first entry.
    pub const ZERO: EntryId = EntryId { term: Term(0), index: Index(0) };

    /// Joins a term and an index.
    #[must_use]
    pub const fn new(term: Term, index: Index) -> EntryId {
        EntryId { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/t{}", self.index, self.term)
    }
}

/// The random name of a cluster, made at its formation.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", (self.0 >> 96) as u32)
    }
}

/// Whose files these are: stands in every file header and in every handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node and the life of its data directory.
    pub member: Member,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lives_of_replicas_belong_to_their_directory_and_differ_by_run() {
        let directory = Incarnation(0x1234_5678 << 64 | 9);
        let (one, two) = (directory.of_replica(1), directory.of_replica(2));
        assert!(one != directory && two != directory && one != two);
        assert!(one.is_of(directory) && two.is_of(directory) && directory.is_of(directory));
        assert!(!one.is_of(Incarnation(8)) && !directory.is_of(Incarnation(8)));
        let member = |node, life| Member::new(NodeId(node), life);
        assert!(member(1, one).is_of(member(1, directory)));
        assert!(!member(2, one).is_of(member(1, directory)));
    }
}
