//! Every defect: its name, what it does, and which test must see it.

/// A defect that can be planted. The variants say what goes wrong.
#[allow(missing_docs)] // `Planted::what` says it, in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Defect {
    SyncSkipped,
    DirectorySyncSkipped,
    FailedSyncSwallowed,
    FailureNoticedLate,
    DurableFlagDropped,
    RealSyncSkipped,
    RealDirectorySyncSkipped,
    BacklogUnbounded,
    MergedAcrossALoss,
    UnreadableAsZeros,
    AckBeforeSync,
    RottenCalledTorn,
    UnprovenTrusted,
    SaltReused,
    HeaderChecksumIgnored,
    RecycledWithoutDirectorySync,
    NewestFilesReleased,
    ReplacedBeforeSeen,
    ClaimForgotten,
    SpaceTakenUnseen,
    LinkSkipped,
    SegmentNamedBeforeSync,
    EntryDigestIgnored,
    FillCuts,
    SnapshotNamedBeforeSync,
    ResumedUnwritten,
    OnlySnapshotKept,
    VoteInOneLog,
    VoteRegresses,
    HintNotClamped,
    FlushLosesCuts,
    DeadByUndurableRecord,
    RetiredSegmentAdopted,
    UnhealedForgotten,
    LostChangeHarmless,
    LiveIndexesForgotten,
    FilledLiveDropped,
    LivesConfused,
    VoteBeforeSync,
    OldTermCounted,
    ReadUnconfirmed,
    OldAppendConfirms,
    InstallKeepsFlights,
    InstallKeepsHoles,
    OldSnapshotInstalled,
    ForeignAcksCounted,
    OldTermAcksCounted,
    CompactedAcksRaised,
    HolesAcked,
    NeverHadOfOldTerm,
    LeavesAtOnce,
    OneHalfCounted,
    ChangesAtOnce,
    PreVoteAgainstLeader,
    PreVoteTakesTerm,
    LeaseThroughTransfer,
    LeaseFromAnswers,
    ClockBackTrusted,
    EffectsOfAll,
    EffectsTakenTwice,
    LiveGivenUncommitted,
}

/// The test that catches a defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Catcher {
    /// Package of the test.
    pub package: &'static str,
    /// Test target: the name of a file under `tests/`, or the library's own unit tests.
    pub target: &'static str,
    /// Part of the test's name.
    pub test: &'static str,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Which.
    pub defect: Defect,
    /// What the variable [`VARIABLE`](crate::VARIABLE) calls it.
    pub name: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// Who sees it.
    pub catcher: Catcher,
}

const fn row(
    defect: Defect,
    name: &'static str,
    what: &'static str,
    (package, target, test): (&'static str, &'static str, &'static str),
) -> Planted {
    Planted { defect, name, what, catcher: Catcher { package, target, test } }
}

use Defect as D;

/// All of them.
#[rustfmt::skip]
pub const DEFECTS: &[Planted] = &[
    row(D::SyncSkipped, "sync-skipped", "the disk answers a sync at once and keeps nothing",
        ("refloat-log-store", "crash", "appends_votes_and_overwrites")),
    row(D::DirectorySyncSkipped, "directory-sync-skipped", "a directory's sync is answered and not done",
        ("refloat-segment", "crash", "g01_crash")),
    row(D::FailedSyncSwallowed, "failed-sync-swallowed", "a sync that failed is reported as done",
        ("refloat-wal", "scenarios", "w15_")),
    row(D::FailureNoticedLate, "failure-noticed-late", "a write that failed is noticed by the next one only",
        ("refloat-sim", "seeds", "w15_")),
    row(D::DurableFlagDropped, "durable-flag-dropped", "files for durable writes are opened without O_DSYNC",
        ("refloat-vfs", "lib", "a_file_for_durable_writes")),
    row(D::RealSyncSkipped, "real-sync-skipped", "on the real file system a sync is answered and not done",
        ("refloat", "trace", "acknowledgements_follow")),
    row(D::RealDirectorySyncSkipped, "real-directory-sync-skipped", "on the real file system a directory's sync is answered and not done",
        ("refloat", "trace", "acknowledgements_follow")),
    row(D::BacklogUnbounded, "backlog-unbounded", "entries are taken however much waits for its flush",
        ("refloat-node", "faults", "g09_a_node")),
    row(D::MergedAcrossALoss, "merged-across-a-loss", "segments on both sides of a lost one are merged",
        ("refloat-segment", "lib", "nothing_is_merged_across_a_segment")),
    row(D::UnreadableAsZeros, "unreadable-as-zeros", "a block that cannot be read is taken for an empty one",
        ("refloat-wal", "scenarios", "w32_")),
    row(D::AckBeforeSync, "ack-before-sync", "a batch counts as durable when its write begins",
        ("refloat-wal", "scenarios", "w12_crash_at_every_step_of_append_and_roll_over")),
    row(D::RottenCalledTorn, "rotten-called-torn", "a damaged batch is cut although a later one proves it",
        ("refloat-wal", "scenarios", "w07_")),
    row(D::UnprovenTrusted, "unproven-trusted", "the last batch of a crashed log is not written again",
        ("refloat-wal", "scenarios", "w25_")),
    row(D::SaltReused, "salt-reused", "checksums do not depend on the file's number",
        ("refloat-wal", "scenarios", "w13_")),
    row(D::HeaderChecksumIgnored, "header-checksum-ignored", "lengths in a batch header are believed unchecked",
        ("refloat-wal", "scenarios", "w06_")),
    row(D::RecycledWithoutDirectorySync, "recycled-without-directory-sync", "files are recycled without syncing their directory",
        ("refloat-wal", "scenarios", "w15_a_failed_recycling")),
    row(D::NewestFilesReleased, "newest-files-released", "the two newest log files may be released",
        ("refloat-wal", "scenarios", "the_two_newest_files")),
    row(D::ReplacedBeforeSeen, "replaced-before-seen", "a log file is used anew before the one that says it again was read back",
        ("refloat-wal", "scenarios", "w35_a_replaced_file")),
    row(D::ClaimForgotten, "claim-forgotten", "a start gives back the space that the one before claimed for a next log file",
        ("refloat-wal", "scenarios", "w35_space_that_was_claimed")),
    row(D::SpaceTakenUnseen, "space-taken-unseen", "entries take the last log files before it is known that there is space for others",
        ("refloat-wal", "scenarios", "w35_entries_take")),
    row(D::LinkSkipped, "link-skipped", "a full log file does not name its successor",
        ("refloat-wal", "scenarios", "w28_")),
    row(D::SegmentNamedBeforeSync, "segment-named-before-sync", "a segment gets its name before its bytes are synced",
        ("refloat-segment", "crash", "g01_crash")),
    row(D::EntryDigestIgnored, "entry-digest-ignored", "a segment's entries are read without comparing their digest",
        ("refloat-segment", "damage", "g03_a_flipped_byte")),
    row(D::FillCuts, "fill-cuts", "filling a hole cuts what stands behind it",
        ("refloat-memtable", "model", "")),
    row(D::SnapshotNamedBeforeSync, "snapshot-named-before-sync", "a snapshot gets its name before its bytes are synced",
        ("refloat-snapshot", "crash", "n01_a_crash_at_every_step_of_a_write")),
    row(D::ResumedUnwritten, "resumed-unwritten", "chunks of a snapshot that a failed sync left in the page cache count as written",
        ("refloat-snapshot", "crash", "n12_what_a_failed_sync")),
    row(D::OnlySnapshotKept, "only-snapshot-kept", "the fallback snapshot is removed with the others",
        ("refloat-snapshot", "files", "n02_retention")),
    row(D::VoteInOneLog, "vote-in-one-log", "term and vote are not written to the votes log",
        ("refloat-log-store", "damage", "w20_a_votes_log")),
    row(D::VoteRegresses, "vote-regresses", "an older record takes a vote back",
        ("refloat-log-store", "lib", "a_vote_is_never_taken_back")),
    row(D::HintNotClamped, "hint-not-clamped", "a commit hint beyond the log is believed",
        ("refloat-log-store", "scenarios", "s09_")),
    row(D::FlushLosesCuts, "flush-loses-cuts", "a flush forgets where its generation cut the log",
        ("refloat-log-store", "crash", "g01_")),
    row(D::DeadByUndurableRecord, "dead-by-undurable-record", "entries are dropped for a snapshot whose record may still be lost",
        ("refloat-log-store", "flush", "g07_")),
    row(D::RetiredSegmentAdopted, "retired-segment-adopted", "a segment that compaction replaced is taken in again",
        ("refloat-log-store", "scenarios", "g15_a_sealed")),
    row(D::UnhealedForgotten, "unhealed-forgotten", "what is held against a group is forgotten by the next start",
        ("refloat-log-store", "heal", "an_amnesia_that")),
    row(D::LostChangeHarmless, "lost-change-harmless", "a lost entry that may be a membership change is taken for a command",
        ("refloat-log-store", "heal", "of_entries_lost_with_a_segment")),
    row(D::LiveIndexesForgotten, "live-indexes-forgotten", "a start takes the live indexes of a snapshot for none",
        ("refloat-log-store", "snapshots", "s02_")),
    row(D::FilledLiveDropped, "filled-live-dropped", "live entries that a start missed are dropped by the flush once they are filled",
        ("refloat-log-store", "live", "g03_live_entries_that_are_nowhere")),
    row(D::LivesConfused, "lives-confused", "a wiped member that returns is taken for the one that it was",
        ("refloat-raft-core", "model", "m06_")),
    row(D::VoteBeforeSync, "vote-before-sync", "messages leave before the term and vote behind them are durable",
        ("refloat-raft-core", "model", "c06_")),
    row(D::OldTermCounted, "old-term-counted", "a leader commits entries of older terms by counting",
        ("refloat-raft-core", "model", "c02_model_figure_8")),
    row(D::ReadUnconfirmed, "read-unconfirmed", "a leader answers reads without asking whether it still leads",
        ("refloat-raft-core", "reads", "r01_a_read_behind_a_deposed_leader")),
    row(D::OldAppendConfirms, "old-append-confirms", "an append of an old term confirms what was rewritten since",
        ("refloat-raft-core", "model", "c04_")),
    row(D::InstallKeepsFlights, "install-keeps-flights", "an append under way confirms a snapshot that took its place",
        ("refloat-raft-core", "model", "n06_model_a_snapshot_of")),
    row(D::InstallKeepsHoles, "install-keeps-holes", "holes outlive the entries that a snapshot cut",
        ("refloat-raft-core", "model", "n11_model_a_snapshot_over_a_hole")),
    row(D::OldSnapshotInstalled, "old-snapshot-installed", "a snapshot is installed over a state that is newer",
        ("refloat-raft-core", "model", "n11_model_an_old_snapshot")),
    row(D::ForeignAcksCounted, "foreign-acks-counted", "an ack counts although the leader has another entry there",
        ("refloat-raft-core", "model", "n06_model_a_snapshot_of")),
    row(D::OldTermAcksCounted, "old-term-acks-counted", "an ack of an older term counts, whatever entry it names",
        ("refloat-raft-core", "model", "c04_")),
    row(D::CompactedAcksRaised, "compacted-acks-raised", "an ack below what is compacted counts for all of that",
        ("refloat-raft-core", "model", "n06_model_acks_below")),
    row(D::HolesAcked, "holes-acked", "a replica acknowledges entries that it lost",
        ("refloat-raft-core", "model", "m19_")),
    row(D::NeverHadOfOldTerm, "never-had-of-old-term", "a member of an older term is believed that it never had an entry",
        ("refloat-raft-core", "healing", "m21_")),
    row(D::LeavesAtOnce, "leaves-at-once", "a leader that is removed steps down before anybody knows of it",
        ("refloat-raft-core", "model", "m02_")),
    row(D::OneHalfCounted, "one-half-counted", "of a joint membership only the new half is asked",
        ("refloat-raft-core", "model", "m01_")),
    row(D::ChangesAtOnce, "changes-at-once", "a membership change is proposed while another one is under way",
        ("refloat-raft-core", "model", "m05_")),
    row(D::PreVoteAgainstLeader, "pre-vote-against-leader", "who hears a leader would vote for another one",
        ("refloat-raft-core", "model", "c07_")),
    row(D::PreVoteTakesTerm, "pre-vote-takes-term", "a pre-vote changes the term of who is asked",
        ("refloat-raft-core", "model", "c07_")),
    row(D::LeaseThroughTransfer, "lease-through-transfer", "a leader reads from its lease while it hands over",
        ("refloat-raft-core", "model", "r02_model_lease_reads_across")),
    row(D::LeaseFromAnswers, "lease-from-answers", "a lease is counted from the answers to a beat instead of from the beat",
        ("refloat-raft-core", "model", "r02_model_lease_reads_on")),
    row(D::ClockBackTrusted, "clock-back-trusted", "a lease goes on while the leader's clock is set back",
        ("refloat-raft-core", "model", "c13_")),
    row(D::EffectsOfAll, "effects-of-all", "every replica carries effects out",
        ("refloat-sim", "effects", "each_effect")),
    row(D::EffectsTakenTwice, "effects-taken-twice", "effects behind sessions are given out again with the next",
        ("refloat-node", "lib", "r04_effects")),
    row(D::LiveGivenUncommitted, "live-given-uncommitted", "a member gives what stands at a lost entry's index, committed or not",
        ("refloat-node", "live", "g03_nobody_gives")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defect_has_one_row_and_names_are_unique() {
        for (at, row) in DEFECTS.iter().enumerate() {
            let twice = |other: &&Planted| other.defect == row.defect || other.name == row.name;
            assert_eq!(DEFECTS.iter().filter(twice).count(), 1, "{}", row.name);
            assert!(at == 0 || DEFECTS[at - 1].defect < row.defect, "{} is out of order", row.name);
        }
    }

    #[test]
    fn without_the_variable_nothing_is_planted() {
        let planted = std::env::var_os(crate::VARIABLE).is_some();
        assert!(planted || DEFECTS.iter().all(|row| !crate::is(row.defect)));
    }
}
