//! Reading a data directory without changing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use refloat_planted::{Defect, is};
use refloat_snapshot::SnapshotFile;
use refloat_types::{Entry, EntryId, Generation, GroupKey, Identity, Index, IndexSet};
use refloat_vfs::Vfs;
use refloat_wal::{Damage, FileReport, Owners, Scan, Verdict};

use super::judge::{self, Evidence, Judged};
use super::replay::Replay;
use super::report::{BootReport, FileLine, GroupLine};
use super::segments::{self, SegmentsFound};
use super::snapshots::{self, SnapshotFound};
use crate::error::BootError;
use crate::identity::{self, NodeIdentity};
use crate::options::Options;
use crate::small_state::{Change, NODE};
use crate::state::{GroupBoot, GroupState};
use crate::store::Retired;

/// Everything that a directory says, judged. Nothing was written to find it out.
#[derive(Debug)]
pub struct Examination {
    pub(crate) identity: NodeIdentity,
    pub(crate) replay: Replay,
    pub(crate) wal: Option<Scan>,
    pub(crate) votes: Option<Scan>,
    pub(crate) segments: SegmentsFound,
    pub(crate) snapshots: BTreeMap<GroupKey, Arc<SnapshotFile>>,
    pub(crate) maps: BTreeMap<GroupKey, crate::log_map::LogMap>,
    pub(crate) published: BTreeMap<GroupKey, Vec<EntryId>>,
    pub(crate) retired: Retired,
    /// Per group: the live indexes of the snapshots that are kept.
    pub(crate) live: BTreeMap<GroupKey, IndexSet>,
    /// Whether the small state has no hole: what it does not name is dead.
    intact: bool,
    pub(crate) hold_from: Option<Generation>,
    /// Groups that are gone and of which something may be left.
    pub(crate) graves: BTreeSet<GroupKey>,
    groups: Vec<GroupBoot>,
    report: BootReport,
}

impl Examination {
    /// The account of it.
    #[must_use]
    pub fn report(&self) -> &BootReport {
        &self.report
    }

    /// The groups, ascending.
    #[must_use]
    pub fn groups(&self) -> &[GroupBoot] {
        &self.groups
    }

    /// Whose directory it is.
    #[must_use]
    pub fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// The snapshot that a group starts from.
    #[must_use]
    pub fn snapshot_file(&self, key: GroupKey) -> Option<&Arc<SnapshotFile>> {
        self.snapshots.get(&key)
    }

    /// A group's entries from `first` on, as far as they can be read without a gap.
    #[must_use]
    pub fn entries(&self, key: GroupKey, first: Index) -> Vec<Entry> {
        let last = self.groups.iter().find(|group| group.key == key).map(|group| group.last.index);
        let (last, mut entries) = (last.unwrap_or_default(), Vec::new());
        let mut next = first;
        while next <= last {
            let before = entries.len();
            self.replay.memtables.read(key, next, last, usize::MAX, &mut entries);
            if entries.len() == before {
                let cut = self.replay.memtables.lowest_cut(key);
                let below_cut = cut.map_or(last, |cut| last.min(cut.prev()));
                entries.extend(self.piece_of_segments(key, next, below_cut));
            }
            if entries.len() == before {
                break;
            }
            next = first + entries.len() as u64;
        }
        entries
    }

    /// One piece of `first..=last` that a segment holds.
    fn piece_of_segments(&self, key: GroupKey, first: Index, last: Index) -> Vec<Entry> {
        let pieces = self.segments.set.plan(key, first, last);
        let Some(piece) = pieces.first().filter(|piece| piece.first == first) else {
            return Vec::new();
        };
        let read = piece.segment.read(key, first, piece.last, usize::MAX).unwrap_or_default();
        let in_order = read.into_iter().zip(first.0..).take_while(|(e, at)| e.id.index.0 == *at);
        in_order.map(|(entry, _)| entry).collect()
    }

    /// What may have taken the registration of every group there was, where none is left: such a
    /// node would take itself for one that nobody has formed a cluster with yet.
    pub(crate) fn may_have_lost_all(&self) -> Option<&Damage> {
        let damage = self.wal.as_ref().map(|wal| &wal.damage[..]).unwrap_or_default();
        let of_all = damage.iter().find(|damage| damage.owners == Owners::Unknown);
        of_all.filter(|_| self.groups.is_empty())
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.groups.iter().all(|group| group.state == GroupState::Clean)
    }

    /// Takes segments that are lost off the list where no group misses anything: what proves that
    /// is still there now, and need not be at a later start.
    pub(crate) fn forget_lost_segments(&mut self) -> Option<Change> {
        if self.segments.lost.is_empty() || !self.is_clean() {
            return None;
        }
        let lost = std::mem::take(&mut self.segments.lost);
        let change = crate::store::forgotten(&self.replay.state, &lost);
        self.replay.state.apply(NODE, &change);
        Some(change)
    }

    pub(crate) fn into_groups(self) -> (Vec<GroupBoot>, BootReport) {
        (self.groups, self.report)
    }
}

/// Reads and judges a data directory. Safe beside a running node, whose newest writes it may see
/// as an unproven or torn tail.
///
/// # Errors
/// The directory has no provable identity, belongs to somebody else, was written by a newer
/// version, or cannot be read.
pub fn examine(vfs: &dyn Vfs, options: &Options) -> Result<Examination, BootError> {
    let identity = identity::load(vfs, &options.dir)?;
    // First, since it remembers how far the main log came.
    let (votes_replay, votes) = read_log(vfs, &votes_options(options, identity.identity))?;
    let mut main = wal_options(options, identity.identity);
    main.witnessed = votes_replay.witnessed;
    let (mut replay, wal) = read_log(vfs, &main)?;
    // Each start that was counted had a file of the log in use: zeros over all of them read like
    // files that never were.
    if identity.run > 0 && wal.is_empty() {
        return Err(BootError::NothingSurvives {
            reason: format!(
                "{} was started {} times and holds no log file in use: nothing of it can be proven",
                options.dir.display(),
                identity.run
            ),
        });
    }
    let intact = wal.damage.is_empty() && replay.unreadable.is_empty();
    let mut segments = segments::find(vfs, options, identity.identity, &mut replay.state, intact)?;
    replay.memtables.release(replay.state.flushed);
    note_lost_start(&wal.files, &replay, &mut segments);

    let mut examination = Examination {
        report: BootReport::default(),
        groups: Vec::new(),
        maps: BTreeMap::new(),
        snapshots: BTreeMap::new(),
        published: BTreeMap::new(),
        retired: Retired {
            segments: std::mem::take(&mut segments.retired),
            damaged_segments: std::mem::take(&mut segments.rotten),
            ..Retired::default()
        },
        live: BTreeMap::new(),
        intact,
        hold_from: wal
            .damage
            .iter()
            .map(|d| d.at.generation)
            .filter(|generation| *generation > replay.state.flushed)
            .min(),
        graves: graves(&replay, &votes_replay, &segments),
        identity,
        replay,
        wal: None,
        votes: None,
        segments,
    };
    examination.begin_report(&wal, &votes);
    let damage = LogDamage {
        wal: &wal.damage,
        votes: &votes.damage,
        // A start makes the votes log before the main one: without it, it was lost.
        votes_lost: votes.is_empty() && !wal.is_empty(),
        votes_replay: &votes_replay,
    };
    if damage.votes_lost {
        let dir = options.votes_dir();
        let line = format!("{}: no file of the votes log is in use, and one was", dir.display());
        examination.report.damage.push(line);
    }
    examination.judge_groups(vfs, options, &damage)?;
    examination.retire_gone_groups(vfs, options);
    examination.wal = Some(wal);
    examination.votes = Some(votes);
    Ok(examination)
}

fn graves(replay: &Replay, votes: &Replay, segments: &SegmentsFound) -> BTreeSet<GroupKey> {
    let mut graves = replay.deleted.clone();
    graves.extend(votes.state.groups.keys().copied());
    graves.extend(segments.set.groups());
    graves.retain(|key| !replay.state.groups.contains_key(key));
    graves
}

struct LogDamage<'a> {
    wal: &'a [Damage],
    votes: &'a [Damage],
    votes_lost: bool,
    votes_replay: &'a Replay,
}

/// The oldest WAL file names the one before it, which may be gone only if it was flushed.
fn note_lost_start(files: &[FileReport], replay: &Replay, segments: &mut SegmentsFound) {
    let oldest = files.iter().find(|file| file.verdict != Verdict::NeverExisted);
    let Some(previous) = oldest.and_then(|file| file.previous) else { return };
    if previous > replay.state.flushed {
        segments.damage.push(format!(
            "log file {previous} is gone and was not flushed (segments reach {})",
            replay.state.flushed
        ));
    }
}

fn read_log(vfs: &dyn Vfs, options: &refloat_wal::Options) -> Result<(Replay, Scan), BootError> {
    let mut replay = Replay::new();
    let scan = refloat_wal::scan(vfs, options, &mut replay)
        .map_err(|e| BootError::Refused { reason: crate::store::with_cause(&e) })?;
    replay.end_checkpoint();
    Ok((replay, scan))
}

pub(crate) fn wal_options(options: &Options, identity: Identity) -> refloat_wal::Options {
    let mut wal = refloat_wal::Options::new(options.wal_dir(), identity);
    wal.file_size = options.wal_file_size;
    wal.seal_after = options.seal_after;
    wal.direct = options.direct_io;
    wal
}

pub(crate) fn votes_options(options: &Options, identity: Identity) -> refloat_wal::Options {
    let mut votes = wal_options(options, identity);
    votes.dir = options.votes_dir();
    votes.file_size = options.votes_file_size;
    votes
}

impl Examination {
    fn judge_groups(
        &mut self,
        vfs: &dyn Vfs,
        options: &Options,
        damage: &LogDamage<'_>,
    ) -> Result<(), BootError> {
        let keys: Vec<GroupKey> = self.replay.state.groups.keys().copied().collect();
        for key in keys {
            let record = self.replay.state.groups.get_mut(&key).expect("listed above");
            judge::recall(record, damage.votes_replay, key);
            let record = record.clone();
            if let Some(voted) = damage.votes_replay.tracks.get(&key) {
                let track = self.replay.tracks.entry(key).or_default();
                track.value_change = track.value_change.max(voted.value_change);
            }
            let found =
                snapshots::find(vfs, options, self.identity.identity, key, &record, self.intact)?;
            let evidence = Evidence {
                replay: &self.replay,
                wal_damage: damage.wal,
                votes: damage.votes_replay,
                votes_damage: damage.votes,
                votes_lost: damage.votes_lost,
                segments: &self.segments,
            };
            let judged = judge::judge(&evidence, key, &record, &found);
            self.adopt(key, judged, found);
        }
        Ok(())
    }

    /// Takes one group's verdict into the small state, so that the next file begins with it.
    fn adopt(&mut self, key: GroupKey, judged: Judged, found: SnapshotFound) {
        let record = self.replay.state.groups.get_mut(&key).expect("judged from it");
        record.unhealed = judged.unhealed().filter(|_| !is(Defect::UnhealedForgotten));
        record.commit_hint = judged.boot.commit;
        record.last = judged.boot.last;
        let base = judged.boot.snapshot;
        let retired = &mut self.retired;
        if judged.boot.state == GroupState::Clean {
            // Where the newest does not verify the older one takes its place: a rotten file must
            // not become the fallback of the next.
            if base != record.snapshot {
                (record.snapshot, record.previous, record.first) = (base, base, None);
                record.conf = judged.boot.conf.clone();
            }
            retired.damaged.extend(found.rotten.iter().cloned());
        }
        let mut published = vec![record.snapshot, record.previous];
        published.retain(|id| *id != EntryId::ZERO);
        self.published.insert(key, published);
        self.report.repaired.extend(judged.clamped.clone());
        for damage in &found.damage {
            self.report.damage.push(format!("group {key}: {damage}"));
        }
        if !judged.boot.lost_live.is_empty() {
            self.report.damage.push(format!(
                "group {key}: the snapshot up to {base} refers to entries {}, which are nowhere",
                judged.boot.lost_live
            ));
        }
        self.report.set_aside.extend(found.strangers.iter().map(|p| unknown(p)));
        self.report.set_aside.extend(found.retired.iter().map(|p| removed(p)));
        self.report.set_aside.extend(found.rotten.iter().map(|p| rotten(p)));
        retired.snapshots.extend(found.retired);
        let live = Some(found.live).filter(|_| !is(Defect::LiveIndexesForgotten));
        self.live.insert(key, live.unwrap_or_default());
        self.report.groups.push(line(&judged.boot));
        if let Some(file) = found.file {
            self.snapshots.insert(key, file);
        }
        self.maps.insert(key, judged.map);
        self.groups.push(judged.boot);
    }

    fn begin_report(&mut self, wal: &Scan, votes: &Scan) {
        let id = &self.identity;
        let report = &mut self.report;
        report.node = id.identity.member.node.0;
        report.incarnation = id.identity.member.incarnation.to_string();
        report.cluster = id.cluster_name.clone();
        report.run = id.run;
        report.segments = self.segments.set.len() as u64;
        report.moved = wal.moved || votes.moved;
        for file in wal.files.iter().chain(&votes.files) {
            report.files.push(file_line(file));
            if let Verdict::Torn { blocks } = file.verdict {
                report.repaired.push(format!(
                    "{}: dropped {blocks} blocks of a write that was never acknowledged",
                    file.path.display()
                ));
            }
        }
        let damage = wal.damage.iter().chain(&votes.damage).map(Damage::to_string);
        report.damage.extend(damage);
        report.damage.extend(self.segments.damage.iter().cloned());
        for name in &self.segments.adopted {
            report.repaired.push(format!("segment {name} was sealed and not yet named: adopted"));
        }
        report.set_aside.extend(wal.strays.iter().chain(&votes.strays).map(|p| unknown(p)));
        report.set_aside.extend(self.segments.strangers.iter().map(|p| unknown(p)));
        report.set_aside.extend(self.retired.segments.iter().map(|p| removed(p)));
        report.set_aside.extend(self.retired.damaged_segments.iter().map(|p| rotten(p)));
    }

    fn retire_gone_groups(&mut self, vfs: &dyn Vfs, options: &Options) {
        if self.intact {
            let gone = snapshots::of_gone_groups(vfs, options, &self.replay.state);
            self.report.set_aside.extend(gone.iter().map(|p| removed(p)));
            self.retired.snapshots.extend(gone);
        }
    }
}

fn unknown(path: &std::path::Path) -> String {
    format!("{}: of unknown origin, left alone", path.display())
}

fn removed(path: &std::path::Path) -> String {
    format!("{}: nothing names it, removed", path.display())
}

fn rotten(path: &std::path::Path) -> String {
    format!("{}: does not verify, kept", path.display())
}

fn file_line(file: &FileReport) -> FileLine {
    let verdict = match file.verdict {
        Verdict::Good => "good".into(),
        Verdict::Unproven => "good, last batch unproven: written again".into(),
        Verdict::Torn { blocks } => format!("torn: {blocks} blocks never acknowledged"),
        Verdict::Suspect => "suspect".into(),
        Verdict::Rotten => "rotten".into(),
        Verdict::Missing => "missing".into(),
        Verdict::NeverExisted => "never in use".into(),
        _ => format!("{:?}", file.verdict).to_lowercase(),
    };
    FileLine {
        path: file.path.display().to_string(),
        batches: file.batches.into(),
        end: file.end,
        verdict,
    }
}

fn line(group: &GroupBoot) -> GroupLine {
    GroupLine {
        group: group.key.id.0,
        epoch: group.key.epoch.0,
        state: group.state,
        waits_for: group.waits_for.clone(),
        term: group.hard_state.term.0,
        vote: group.hard_state.vote.map(|m| m.node.0),
        snapshot: group.snapshot.index.0,
        last: group.last.index.0,
        commit: group.commit.0,
    }
}
