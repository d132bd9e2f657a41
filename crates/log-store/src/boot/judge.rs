//! The state of each group, decided in one place from all the evidence.

use refloat_planted::{Defect, is};
use refloat_segment::SegmentSet;
use refloat_types::{Entry, EntryId, EntryKind, Generation, GroupKey, Index, IndexSet};
use refloat_wal::{Damage, Lsn, Owners};

use super::holes::Outline;
use super::replay::{Replay, Track};
use super::segments::SegmentsFound;
use super::snapshots::SnapshotFound;
use crate::log_map::LogMap;
use crate::small_state::{GroupRecord, Unhealed};
use crate::state::{GroupBoot, GroupState};

/// What is known about both logs, for all groups.
pub(crate) struct Evidence<'a> {
    pub(crate) replay: &'a Replay,
    pub(crate) wal_damage: &'a [Damage],
    pub(crate) votes: &'a Replay,
    pub(crate) votes_damage: &'a [Damage],
    /// The votes log is not there at all, and should be.
    pub(crate) votes_lost: bool,
    pub(crate) segments: &'a SegmentsFound,
}

/// One group's verdict and the map of its log.
pub(crate) struct Judged {
    pub(crate) boot: GroupBoot,
    pub(crate) map: LogMap,
    /// A warning about the commit hint, with both numbers.
    pub(crate) clamped: Option<String>,
}

/// Judges one group. Term, vote and value of `record` are the later ones of both logs.
pub(crate) fn judge(
    evidence: &Evidence<'_>,
    key: GroupKey,
    record: &GroupRecord,
    snapshot: &SnapshotFound,
) -> Judged {
    let base = snapshot.file.as_ref().map_or(EntryId::ZERO, |file| file.meta().id);
    let mut log = outline(evidence, key, record, base);
    let mut case = Case { state: GroupState::Clean, why: Vec::new() };
    if let Some(unhealed) = record.unhealed.as_ref().filter(|u| u.state != GroupState::Damaged) {
        case.note(unhealed.state, unhealed.evidence.clone());
    }
    judge_votes(evidence, key, &mut case);
    judge_value(evidence, key, record, &mut case);
    let from_log = starts_over(record, base, &log);
    if !from_log {
        judge_snapshots(record, base, &mut log, snapshot, &mut case);
    }
    judge_overwrites(evidence, key, base, &mut log, &mut case);
    judge_lost_segments(evidence, key, record, base, &mut log, &mut case);
    judge_head(evidence, key, record, &log.map, &mut case);
    let last = log.map.last().filter(|last| last.index > base.index).unwrap_or(base);
    let configs = configs(evidence, key, base.index, last.index, &mut log, &mut case);
    judge_body(evidence, key, &log, &mut case);
    // Holes of an earlier boot that are no more were filled, or cut by a leader.
    if let Some(damaged) = record.unhealed.as_ref().filter(|_| !log.holes.is_empty()) {
        case.note(damaged.state, damaged.evidence.clone());
    }

    let mut clamped = None;
    let mut commit = record.commit_hint.max(base.index);
    if case.state >= GroupState::HeadUnknown {
        let sure = sure_commit(evidence, key).unwrap_or(commit);
        commit = commit.min(sure.max(base.index));
    }
    if commit > last.index && !is(Defect::HintNotClamped) {
        clamped = Some(format!(
            "group {key}: the commit hint {commit} is above the end of the log at {}: set to {}",
            last.index, last.index
        ));
        commit = last.index;
    }
    let conf = match &snapshot.file {
        Some(file) => file.meta().conf.clone(),
        None if from_log => record.first.as_deref().unwrap_or(&record.conf).clone(),
        None => record.conf.clone(),
    };
    let boot = GroupBoot {
        key,
        state: case.state,
        waits_for: (case.state != GroupState::Clean).then(|| case.why.join("; ")),
        hard_state: record.hard_state,
        value: record.value.get().cloned(),
        conf,
        snapshot: base,
        terms: log.map.term_starts(base.index),
        last,
        config_holes: config_holes(evidence, key, &log.holes),
        lost_live: lost_live(evidence, key, &snapshot.live),
        holes: log.holes,
        commit,
        configs,
    };
    Judged { boot, map: log.map, clamped }
}

/// The holes that are membership changes or may be: of those that a directory names the kind is
/// known, of the others nothing is.
fn config_holes(evidence: &Evidence<'_>, key: GroupKey, holes: &IndexSet) -> IndexSet {
    let track = evidence.replay.tracks.get(&key);
    let harmless = |index: &Index| {
        track.is_some_and(|track| {
            track.holes.contains_key(index) && !track.lost_configs.contains(index)
        }) || is(Defect::LostChangeHarmless)
    };
    holes.iter().filter(|index| !harmless(index)).collect()
}

/// Live entries that neither a segment nor a log file holds any more.
fn lost_live(evidence: &Evidence<'_>, key: GroupKey, live: &IndexSet) -> IndexSet {
    let mut held = IndexSet::new();
    if live.is_empty() {
        return held;
    }
    for run in evidence.segments.set.term_runs(key) {
        held.insert_range(run.first, run.last);
    }
    let memtables = &evidence.replay.memtables;
    if let Some(cut) = memtables.lowest_cut(key) {
        held.remove_range(cut, Index(u64::MAX));
    }
    memtables.visible(key).into_iter().for_each(|entry| held.insert(entry.id.index));
    live.difference(&held)
}

impl Judged {
    /// What has to be remembered until the group is healed.
    pub(crate) fn unhealed(&self) -> Option<Unhealed> {
        let evidence = self.boot.waits_for.clone()?;
        Some(Unhealed { state: self.boot.state, evidence })
    }
}

struct Case {
    state: GroupState,
    why: Vec<String>,
}

impl Case {
    /// The worst finding decides, all of them are told.
    fn note(&mut self, state: GroupState, why: String) {
        self.state = self.state.max(state);
        if !self.why.contains(&why) {
            self.why.push(why);
        }
    }
}

/// Segments below, memtables above: a newer one hides all older ones from its cut on.
fn log_map(evidence: &Evidence<'_>, key: GroupKey, record: &GroupRecord) -> LogMap {
    log_map_of(&evidence.segments.set, evidence, key, record)
}

fn log_map_of(
    segments: &SegmentSet,
    evidence: &Evidence<'_>,
    key: GroupKey,
    record: &GroupRecord,
) -> LogMap {
    let mut map = LogMap::default();
    for run in segments.term_runs(key) {
        map.put_run(run.first, run.last, run.term);
    }
    if let Some(cut) = evidence.replay.memtables.lowest_cut(key) {
        map.cut(cut);
    }
    map.put_all(evidence.replay.memtables.visible(key));
    if let Some(track) = evidence.replay.tracks.get(&key) {
        // What stands above came ahead of a snapshot that refers to it. Without that snapshot
        // nothing says that it follows what is here.
        map.cut(track.expected.max(record.snapshot.index).next());
    }
    map.drop_through(record.previous.index);
    map
}

/// Term and vote are proven if either log is whole, or restates them behind its last damage.
fn judge_votes(evidence: &Evidence<'_>, key: GroupKey, case: &mut Case) {
    let proven = |replay: &Replay, damage: &[Damage]| {
        let last = damage.iter().map(|d| d.at).max();
        let restated = replay.tracks.get(&key).map(|t| t.vote_at).unwrap_or_default();
        last.is_none_or(|at| restated > at)
    };
    let in_votes = !evidence.votes_lost && proven(evidence.votes, evidence.votes_damage);
    if in_votes || proven(evidence.replay, evidence.wal_damage) {
        return;
    }
    case.note(
        GroupState::Amnesia,
        "term and vote cannot be proven: both the log and the votes log are damaged".into(),
    );
}

/// A value that a record speaks of and neither log holds is a promise forgotten, as a vote is.
fn judge_value(evidence: &Evidence<'_>, key: GroupKey, record: &GroupRecord, case: &mut Case) {
    let said = [evidence.replay, evidence.votes]
        .map(|replay| replay.tracks.get(&key).map_or(0, |track| track.value_change));
    let (said, found) = (said.into_iter().max().unwrap_or(0), record.value.change);
    if said > found {
        case.note(
            GroupState::Amnesia,
            format!("the group's value cannot be proven: change {found} was found, records speak of change {said}"),
        );
    }
}

/// How far the log is surely committed as it is found: what was committed when something was lost
/// has not been overwritten since, but a hint that is younger may speak of entries that are lost,
/// and of which older ones stand in their place. `None` if nothing is known to be lost.
fn sure_commit(evidence: &Evidence<'_>, key: GroupKey) -> Option<Index> {
    if !evidence.segments.damage.is_empty() {
        return Some(Index::ZERO);
    }
    let track = evidence.replay.tracks.get(&key)?;
    let damaged = evidence.wal_damage.iter().filter(|damage| {
        damage.owners == Owners::Unknown
            && !is_released(damage, track, evidence.replay.state.flushed)
    });
    let unreadable = evidence.replay.unreadable.iter().map(|(at, _)| *at);
    let lost = damaged.map(|damage| damage.at).chain(unreadable);
    let first = lost.filter(|at| *at > track.healed_at).min()?;
    let before = track.hints.iter().take_while(|(at, _)| *at < first);
    Some(before.last().map_or(Index::ZERO, |(_, index)| *index))
}

/// An overwrite that was lost leaves what it overwrote. Where it began is not known: only what was
/// committed before cannot have been overwritten.
fn judge_overwrites(
    evidence: &Evidence<'_>,
    key: GroupKey,
    base: EntryId,
    log: &mut Outline,
    case: &mut Case,
) {
    let Some(track) = evidence.replay.tracks.get(&key) else { return };
    let Some((index, found, said)) = log.map.conflict(&track.said, base.index) else { return };
    case.note(
        GroupState::HeadUnknown,
        format!("entry {index} is of term {found}, other records speak of term {said} there: what overwrote it is lost"),
    );
    let sure = sure_commit(evidence, key).unwrap_or_default();
    log.end_before(sure.max(base.index).min(index.prev()).next());
}

/// A lost segment may have held what overwrote entries of older ones. They are what the log holds
/// if the first entry behind them is of the same term, for the leader of that term wrote both; or
/// if a record says which term stands at their end.
fn judge_lost_segments(
    evidence: &Evidence<'_>,
    key: GroupKey,
    record: &GroupRecord,
    base: EntryId,
    log: &mut Outline,
    case: &mut Case,
) {
    for lost in &evidence.segments.lost {
        let mut newer = SegmentSet::default();
        let set = evidence.segments.set.iter();
        set.filter(|segment| segment.name() > *lost).for_each(|segment| newer.add(segment.clone()));
        let newer = log_map_of(&newer, evidence, key, record);
        let behind = newer.first_above(base.index);
        let end = match behind {
            Some(first) => first.index.prev(),
            None => log.map.last().map_or(base.index, |last| last.index),
        };
        let Some(term) = log.map.term(end).filter(|_| end > base.index) else { continue };
        let said = evidence.replay.tracks.get(&key).and_then(|track| track.said.term(end));
        if behind.is_some_and(|first| first.term == term) || said == Some(term) {
            continue;
        }
        case.note(
            GroupState::HeadUnknown,
            format!("segment {lost} is lost, and may have held what overwrote entry {end} of term {term}"),
        );
        log.end_before(base.index.next());
    }
}

/// The end of the log is proven unless damage of unknown owners may have taken it, or the log is
/// shorter than a record says.
fn judge_head(
    evidence: &Evidence<'_>,
    key: GroupKey,
    record: &GroupRecord,
    map: &LogMap,
    case: &mut Case,
) {
    let Some(track) = evidence.replay.tracks.get(&key) else { return };
    if track.unregistered {
        let why = "the record of the group's registration is lost, records behind it are not";
        case.note(GroupState::HeadUnknown, why.into());
    }
    for damage in evidence.wal_damage.iter().filter(|damage| damage.at > track.healed_at) {
        let hurt = match &damage.owners {
            Owners::Known(_) => false, // its entries are holes, found below
            Owners::Unknown => !continues_after(track, damage.at),
        } && !is_released(damage, track, evidence.replay.state.flushed);
        if hurt {
            case.note(GroupState::HeadUnknown, damage.to_string());
        }
    }
    for (at, what) in evidence.replay.unreadable.iter().filter(|(at, _)| *at > track.healed_at) {
        case.note(GroupState::HeadUnknown, format!("record at {at}: {what}"));
    }
    let base = record.snapshot.index;
    let found = map.last().map_or(Index::ZERO, |id| id.index).max(base);
    let expected = track.expected.max(base);
    if found < expected {
        case.note(
            GroupState::HeadUnknown,
            format!("the log ends at {found}, its records say {expected}"),
        );
    }
}

/// Whether a file is no longer needed: its entries are in published segments, and a later
/// checkpoint restates the group. Of several files that are being released, a power cut may
/// bring an older name back and not a newer one.
pub(crate) fn is_released(damage: &Damage, track: &Track, flushed: Generation) -> bool {
    let generation = damage.at.generation;
    generation <= flushed && track.checkpoint_at.generation > generation
}

/// Whether the group's records go on behind a place of damage and continue what was before it.
fn continues_after(track: &Track, at: Lsn) -> bool {
    track.continued_at > at && track.breaks.iter().all(|b| *b <= at)
}

/// The log above the snapshot, with what is known to be missing from it.
fn outline(evidence: &Evidence<'_>, key: GroupKey, record: &GroupRecord, base: EntryId) -> Outline {
    let lost = evidence.replay.tracks.get(&key).map(|track| track.holes.values());
    Outline::new(&log_map(evidence, key, record), base, lost.into_iter().flatten())
}

/// Whether no snapshot verifies and none is needed: the log still begins with the first entry and
/// reaches as far as the lost one did, and the membership that the group began with is known.
fn starts_over(record: &GroupRecord, base: EntryId, log: &Outline) -> bool {
    let through = record.snapshot.index;
    let known = base == EntryId::ZERO && record.first.is_some() && log.ends_before.is_none();
    let reaches = log.map.term(through) == Some(record.snapshot.term);
    let whole = log.holes.first().is_none_or(|hole| hole > through)
        && log.map.gaps(Index::ZERO).first().is_none_or(|gap| gap > through);
    known && reaches && whole
}

/// A bad newest snapshot is no damage of the group where the one before it and the log behind
/// that reach as far. Without any, nothing of the log can be applied.
fn judge_snapshots(
    record: &GroupRecord,
    base: EntryId,
    log: &mut Outline,
    snapshot: &SnapshotFound,
    case: &mut Case,
) {
    let damage = snapshot.damage.join("; ");
    if base == EntryId::ZERO && record.snapshot != EntryId::ZERO {
        log.end_before(Index(1));
        case.note(GroupState::HeadUnknown, format!("no snapshot verifies: {damage}"));
    } else if log.map.last().map_or(base.index, |last| last.index) < record.snapshot.index {
        case.note(
            GroupState::HeadUnknown,
            format!(
                "snapshot {} does not verify, and the log behind the older one ends below it: {damage}",
                record.snapshot
            ),
        );
    }
}

/// Everything between the snapshot and the end is there, or the group has holes.
fn judge_body(evidence: &Evidence<'_>, key: GroupKey, log: &Outline, case: &mut Case) {
    if log.holes.is_empty() && log.ends_before.is_none() {
        return;
    }
    for damage in evidence.wal_damage.iter().filter(|d| owned_by(d, key)) {
        case.note(GroupState::Damaged, damage.to_string());
    }
    for damage in &evidence.segments.damage {
        case.note(GroupState::Damaged, damage.clone());
    }
    if !log.holes.is_empty() {
        case.note(GroupState::Damaged, format!("entries {} are not readable here", log.holes));
    }
    if let Some(from) = log.ends_before {
        let why = format!("entries from {from} on are missing, and of which terms is not known");
        case.note(GroupState::HeadUnknown, why);
    }
}

fn owned_by(damage: &Damage, key: GroupKey) -> bool {
    match &damage.owners {
        Owners::Known(groups) => groups.contains(&key),
        Owners::Unknown => true,
    }
}

/// The membership entries above the snapshot, in full.
fn configs(
    evidence: &Evidence<'_>,
    key: GroupKey,
    above: Index,
    last: Index,
    log: &mut Outline,
    case: &mut Case,
) -> Vec<Entry> {
    let memtables = &evidence.replay.memtables;
    let mut found: Vec<Entry> = Vec::new();
    let cut = memtables.lowest_cut(key).unwrap_or(Index(u64::MAX));
    for id in evidence.segments.set.configs(key) {
        let wanted = id.index > above && id.index <= last && id.index < cut;
        if !wanted || matches!(memtables.lookup(key, id.index), refloat_memtable::Lookup::Entry(_))
        {
            continue;
        }
        let sources = evidence.segments.set.plan(key, id.index, id.index);
        match sources.first().map(|s| s.segment.read(key, id.index, id.index, usize::MAX)) {
            Some(Ok(entries)) => found.extend(entries),
            Some(Err(e)) => {
                log.holes.insert(id.index);
                case.note(GroupState::Damaged, crate::store::with_cause(&e));
            }
            None => {}
        }
    }
    let in_memory = memtables
        .visible(key)
        .into_iter()
        .filter(|e| e.kind == EntryKind::Config && e.id.index > above && e.id.index <= last);
    found.extend(in_memory.cloned());
    found.sort_by_key(|e| e.id.index);
    found
}

/// Takes into a group's record what the votes log holds and the main log forgot.
pub(crate) fn recall(record: &mut GroupRecord, votes: &Replay, key: GroupKey) {
    let Some(kept) = votes.state.groups.get(&key) else { return };
    record.hard_state = crate::small_state::later(kept.hard_state, record.hard_state);
    let mut value = kept.value.clone();
    value.raise(&record.value);
    record.value = value;
}
