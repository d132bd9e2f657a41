//! Two generations of one log on a real disk: the newer one overwrites a suffix, a snapshot makes
//! the start dead, and a compaction gives the space back.
//!
//! `cargo run -p refloat-segment --example overwrite_and_compact`

use std::sync::Arc;

use refloat_segment::{Keep, Limits, Part, SegmentSet, plan_compaction, remove_files, write};
use refloat_types::{Entry, EntryId, EntryKind, Generation, GroupKey, Identity, Index, Term};
use refloat_vfs::OsFs;

fn appended(first: u64, last: u64, term: u64) -> Part {
    let entry = |index| {
        let id = EntryId::new(Term(term), Index(index));
        Entry::new(id, EntryKind::Command, vec![0x5a; 1000].into())
    };
    let entries = (first..=last).map(entry).collect();
    Part { group: GroupKey::META, cut: Some(Index(first)), entries }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let us = Identity::default();
    let mut set = SegmentSet::new();
    set.add(Arc::new(write(&OsFs, dir.path(), us, Generation(1), [appended(1, 100, 1)])?));
    set.add(Arc::new(write(&OsFs, dir.path(), us, Generation(2), [appended(80, 120, 2)])?));
    for run in set.term_runs(GroupKey::META) {
        println!("entries {} to {} of term {}", run.first, run.last, run.term);
    }

    // A snapshot at 110. The caller would publish the plan by a record in its log.
    let keep = |_| Keep::Log { above: Index(110), live: [Index(7)].into_iter().collect() };
    while let Some(plan) = plan_compaction(&set, &keep, &Limits::default()) {
        let output = plan.run(&OsFs)?.map(Arc::new);
        println!(
            "{:?} become {:?}",
            plan.inputs(),
            output.as_ref().map(|o| (o.name(), o.entries()))
        );
        set.replace(plan.inputs(), output);
        remove_files(&OsFs, dir.path(), plan.inputs())?;
    }
    let bytes: u64 = set.iter().map(|segment| segment.file_len()).sum();
    println!(
        "{} files, {bytes} bytes, verified: {}",
        set.len(),
        set.iter().all(|s| s.verify().is_ok())
    );
    Ok(())
}
