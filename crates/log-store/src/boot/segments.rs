//! Which segment files count.

use std::path::PathBuf;
use std::sync::Arc;

use refloat_planted::{Defect, is};
use refloat_segment::{Segment, SegmentError, SegmentName, SegmentSet};
use refloat_types::{Generation, Identity};
use refloat_vfs::Vfs;

use crate::error::BootError;
use crate::options::Options;
use crate::small_state::SmallState;
use crate::store::with_cause;

/// The segments as a boot believes them.
#[derive(Debug, Default)]
pub(crate) struct SegmentsFound {
    pub(crate) set: SegmentSet,
    /// Sealed above `flushed`: the crash came between the seal and the record that names it.
    pub(crate) adopted: Vec<SegmentName>,
    /// Nothing names them any more.
    pub(crate) retired: Vec<PathBuf>,
    /// The same, of those that do not verify: a name is only given to what was read back.
    pub(crate) rotten: Vec<PathBuf>,
    /// Listed, and not in the set: nothing says whose entries they held, and which they overwrote.
    pub(crate) lost: Vec<SegmentName>,
    /// What is wrong with listed ones.
    pub(crate) damage: Vec<String>,
    pub(crate) strangers: Vec<PathBuf>,
}

/// Opens what the small state lists, adopts what was sealed but not yet named, retires the rest.
/// `intact` says whether the small state itself has no hole: only then is a file that it does not
/// list known to be dead.
pub(crate) fn find(
    vfs: &dyn Vfs,
    options: &Options,
    identity: Identity,
    state: &mut SmallState,
    intact: bool,
) -> Result<SegmentsFound, BootError> {
    let dir = options.segment_dir();
    let mut found = SegmentsFound::default();
    let listing = match refloat_segment::list(vfs, &dir, identity) {
        Ok(listing) => listing,
        Err(e) if e.is_missing() => Vec::new(),
        Err(e) => return Err(BootError::Refused { reason: with_cause(&e) }),
    };
    let mut unlisted = Vec::new();
    for file in listing {
        match (file.name, file.result) {
            (Some(name), Some(result)) if state.segments.contains(&name) => match result {
                Ok(segment) => found.set.add(Arc::new(segment)),
                Err(e) => refuse_or_note(e, &mut found.damage)?,
            },
            (Some(name), Some(result)) => unlisted.push((name, file.path, result)),
            _ if file.path.extension().is_some_and(|e| e == "tmp") => found.retired.push(file.path),
            _ => found.strangers.push(file.path),
        }
    }
    let lost: Vec<SegmentName> =
        state.segments.iter().filter(|n| found.set.get(**n).is_none()).copied().collect();
    if lost.len() > found.damage.len() {
        for name in &lost {
            found.damage.push(format!(
                "segment {} is listed and cannot be opened",
                dir.join(name.to_string()).display()
            ));
        }
    }
    // What a lost segment was made from, or made into, may be among the files that nothing lists.
    let intact = intact && lost.is_empty();
    found.lost = lost;
    for (name, path, result) in unlisted {
        adopt_or_retire(&mut found, state, intact, name, path, result)?;
    }
    Ok(found)
}

fn adopt_or_retire(
    found: &mut SegmentsFound,
    state: &mut SmallState,
    intact: bool,
    name: SegmentName,
    path: PathBuf,
    result: Result<Segment, SegmentError>,
) -> Result<(), BootError> {
    let above = name.generation > state.flushed || is(Defect::RetiredSegmentAdopted);
    match result {
        Ok(segment) if above && continues(&segment, state.flushed) => {
            state.flushed = name.generation;
            state.segments.insert(name);
            found.adopted.push(name);
            found.set.add(Arc::new(segment));
        }
        Err(e @ (SegmentError::Foreign { .. } | SegmentError::Version { .. })) => {
            return Err(BootError::Refused { reason: with_cause(&e) });
        }
        // What it holds is elsewhere: in the WAL if it was never listed, in nothing that a group
        // misses if it was and is not any more.
        Err(_) if intact => found.rotten.push(path),
        Ok(_) if intact => found.retired.push(path),
        _ => found.strangers.push(path),
    }
    Ok(())
}

/// A flush covers all generations from the first unflushed one.
fn continues(segment: &Segment, flushed: Generation) -> bool {
    segment.first_generation() <= flushed.next() && segment.inputs().is_empty()
}

fn refuse_or_note(e: SegmentError, damage: &mut Vec<String>) -> Result<(), BootError> {
    if matches!(e, SegmentError::Foreign { .. } | SegmentError::Version { .. }) {
        return Err(BootError::Refused { reason: with_cause(&e) });
    }
    damage.push(with_cause(&e));
    Ok(())
}
