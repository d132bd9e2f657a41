//! One pass over all files, for boot and for tools. Never writes.

pub(crate) mod chain;
pub(crate) mod file;
pub(crate) mod parse;
mod salvage;
mod unused;
pub(crate) mod window;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use refloat_types::{Entry, EntryId, Generation, GroupKey, LogOp};
use refloat_vfs::Vfs;

use self::chain::{Candidate, Chain, Member, Misnamed, Opened, Place};
use self::file::{Bounds, Ended, FileScan};
use self::parse::Found;
use self::unused::{Looked, Unused};
use crate::carry::Carry;
use crate::format::file_header::Previous;
use crate::format::link::{Link, LinkSeen};
use crate::format::{FIRST_BATCH_BLOCK, LINK_BLOCK, offset_of};
use crate::names::Name;
use crate::{Damage, DamageKind, FileReport, Lsn, Options, Owners, Record, ScanError, Verdict};

/// How much a record can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Its batch verifies and something later proves it durable.
    Proven,
    /// Its batch verifies, is the last, and nothing proves it durable: it is in
    /// [`Scan::unproven`], to be written again before anything rests on it.
    Unproven,
    /// Its batch does not verify; the record's own checksum and the directory do. Where the batch
    /// is only suspect, what survived is in [`Scan::unproven`] too.
    Salvaged,
}

/// Receives what a scan finds, file by file and in the order of writing.
pub trait Visit {
    /// Records of this file follow.
    fn file(&mut self, generation: Generation) {
        let _ = generation;
    }

    /// One record. `missing` names the entries of it that are gone; an append or a fill then
    /// holds the intact ones, with gaps and maybe none at all, so that what the record cut must
    /// be taken from the lowest of both.
    fn record(&mut self, at: Lsn, trust: Trust, record: Record, missing: &[EntryId]);

    /// Of the entries that the next record names as missing, these are membership changes; the
    /// others are not.
    fn missing_configs(&mut self, group: GroupKey, ids: &[EntryId]) {
        let _ = (group, ids);
    }

    /// Something is lost here. Comes in the same order, behind the records salvaged from it.
    /// All damage is in [`Scan::damage`] too. What a newer file's checkpoint says was written by
    /// somebody who knew of the damage in older files.
    fn damage(&mut self, damage: &Damage) {
        let _ = damage;
    }
}

/// What a scan found, and where a writer goes on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scan {
    /// Every file, ascending, those missing or never in use included.
    pub files: Vec<FileReport>,
    /// Everything lost or in doubt, in the order of writing.
    pub damage: Vec<Damage>,
    /// Files in the directory that are neither part of the log nor its own leftovers. They are
    /// never touched.
    pub strays: Vec<PathBuf>,
    /// Files came or went meanwhile: a writer is running, and what looks like damage may be a
    /// file that was released and used again under the eyes of this scan. Scan again.
    pub moved: bool,
    pub(crate) unproven: Vec<Record>,
    pub(crate) tail: Tail,
}

/// What a writer needs to know to go on.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The number of the next file: above every number ever written.
    pub(crate) next: u64,
    pub(crate) previous: Previous,
    /// Links to write once the next file is durable: of whom, and what.
    pub(crate) links: Vec<(Generation, PathBuf, Link)>,
    /// Files that nobody uses and that may be used, one that was being made when the node
    /// stopped first: path and length.
    pub(crate) pool: Vec<(PathBuf, u64)>,
    pub(crate) highest_pool: u64,
    /// Files of the usual length, or longer, that were being prepared: path and length. Their space
    /// is claimed.
    pub(crate) parts: Vec<(PathBuf, u64)>,
    /// Numbered names that go before the next file is written: they may be names of its own.
    pub(crate) never_used: Vec<PathBuf>,
    /// Own leftovers to be removed.
    pub(crate) garbage: Vec<PathBuf>,
    /// Released files that were damaged, oldest first.
    pub(crate) set_aside: Vec<PathBuf>,
    /// Files in use: number, path, length, whether damaged.
    pub(crate) files: Vec<(Generation, PathBuf, u64, bool)>,
    /// Those of them that are needed no more, because the next one said again what they hold.
    pub(crate) replaced: BTreeSet<Generation>,
    /// The newest file, if the next one may take its place.
    pub(crate) light: Option<Light>,
    /// The first batch of the newest file: digest, and the block behind it.
    pub(crate) first: Option<(u32, u32)>,
}

/// A newest file that holds so little that the next one can say it again.
#[derive(Debug)]
pub(crate) struct Light {
    pub(crate) generation: Generation,
    /// The log records that something proves durable; the others are written again anyway.
    pub(crate) carry: Carry,
    /// What its own header says of the file before it.
    pub(crate) previous: Previous,
    /// Links to write instead of [`Tail::links`] where the next file takes its place.
    pub(crate) links: Vec<(Generation, PathBuf, Link)>,
}

impl Tail {
    /// Files whose next one said again what they hold: `(file, file that did)`. It names the file
    /// before this one as its previous.
    pub(crate) fn is_replaced(places: &[Place], at: usize) -> bool {
        let [Some(Place::Present(this)), Some(Place::Present(next))] =
            [places.get(at), places.get(at + 1)]
        else {
            return false;
        };
        let previous = next.candidate.previous;
        next.named && previous.is_some_and(|previous| previous.file < this.candidate.generation.0)
    }
}

impl Scan {
    /// The records that nothing proves durable: the whole last batch where it verifies, what
    /// survived of it where it is suspect (an append that lost entries comes as the append or
    /// cut it still is, and a fill). To be handed to [`Writer::resume`](crate::Writer::resume).
    /// Which entries were lost is not in here: who resumes keeps that in the checkpoint.
    #[must_use]
    pub fn unproven(&self) -> &[Record] {
        &self.unproven
    }

    /// Whether no file of this log was ever in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.iter().all(|file| file.verdict == Verdict::NeverExisted)
    }

    /// The file that a writer would go on with.
    #[must_use]
    pub fn next_generation(&self) -> Generation {
        Generation(self.tail.next)
    }
}

pub(crate) struct Sink<'v> {
    pub(crate) visit: &'v mut dyn Visit,
    damage: Vec<Damage>,
    unproven: Vec<Record>,
    /// What the file that is read now holds, its unproven end aside.
    carry: Carry,
}

impl Sink<'_> {
    pub(crate) fn carry(&mut self, found: &Found) {
        match found.missing.is_empty() {
            true => self.carry.push(found.record.as_ref()),
            false => self.carry.weigh_down(),
        }
    }

    /// Keeps a record to be written again: as it was, or what is left of it.
    pub(crate) fn again(&mut self, found: &Found) {
        if found.missing.is_empty() {
            self.unproven.push(found.record.clone());
            return;
        }
        let Record::Log { group, op } = &found.record else { return };
        let mut keep = |op| self.unproven.push(Record::Log { group: *group, op });
        let mut rest = op.entries().to_vec();
        if let LogOp::Append { prev, .. } = op {
            // The cut was meant, whatever became of the entries; those behind a gap only fill.
            let follows = |(n, entry): &(usize, &Entry)| {
                Some(entry.id.index.0) == prev.index.0.checked_add(1 + *n as u64)
            };
            let lead = rest.iter().enumerate().take_while(follows).count();
            let tail = rest.split_off(lead);
            match rest.is_empty() {
                true => keep(LogOp::Cut { from: prev.index.next() }),
                false => keep(LogOp::Append { prev: *prev, entries: rest }),
            }
            rest = tail;
        }
        if !rest.is_empty() {
            keep(LogOp::Fill { entries: rest });
        }
    }

    pub(crate) fn damage(&mut self, damage: Damage) {
        self.visit.damage(&damage);
        self.damage.push(damage);
    }
}

/// Reads a log from its oldest file to its end. Never writes.
///
/// # Errors
/// The directory cannot be listed, or holds a file of another identity or of a newer format.
/// Damage is no error: it is reported in the [`Scan`].
pub fn scan(vfs: &dyn Vfs, options: &Options, visit: &mut dyn Visit) -> Result<Scan, ScanError> {
    let carry = Carry::default();
    let mut sink = Sink { visit, damage: Vec::new(), unproven: Vec::new(), carry };
    let listing = list_at_rest(vfs, options)?;
    let (mut tail, chain) = (listing.tail, listing.chain);
    let mut files = Vec::new();
    let count = chain.places.len();
    for (at, place) in chain.places.iter().enumerate() {
        let newest = at + 1 == count;
        match place {
            Place::Missing(generation, why) => {
                files.push(missing(options, *generation, why, &mut sink));
                tail.previous = Previous { file: generation.0, ..Previous::default() };
                tail.links.clear();
            }
            Place::Present(member) => {
                sink.carry = Carry::of_found(offset_of(options.file_blocks()));
                let (report, ended) = scan_file(options, member, newest, &mut sink);
                if newest && chain.link_lost {
                    lost_link(&member.candidate, &mut sink);
                }
                tail.go_on_behind(member, &ended, newest);
                if newest {
                    tail.first = ended.first;
                    tail.light = light(&chain.places, at, &report, &tail.links, &mut sink);
                }
                files.push(report);
            }
        }
    }
    for candidate in &chain.never_existed {
        files.push(never_existed(candidate));
    }
    files.sort_by_key(|file| file.generation);
    let hurt = |number| sink.damage.iter().any(|damage| damage.at.generation == number);
    for (generation, _, _, damaged) in &mut tail.files {
        *damaged = hurt(*generation);
    }
    for (at, place) in chain.places.iter().enumerate() {
        if Tail::is_replaced(&chain.places, at) && !hurt(place.generation()) {
            tail.replaced.insert(place.generation());
        }
    }
    let Sink { damage, unproven, .. } = sink;
    let mut strays = listing.strays;
    strays.extend(chain.strays);
    strays.sort();
    // Also where no two listings were equal.
    let moved = names(vfs, options)? != listing.names;
    Ok(Scan { files, damage, strays, moved, unproven, tail })
}

/// How often a listing is made again because files came or went meanwhile.
const LISTINGS: u32 = 16;

/// Opens all files between two equal listings, so that no link names a file that was not there
/// yet when the directory was read.
fn list_at_rest(vfs: &dyn Vfs, options: &Options) -> Result<Listing, ScanError> {
    let mut listing = list(vfs, options)?;
    for _ in 1..LISTINGS {
        if names(vfs, options)? == listing.names {
            return Ok(listing);
        }
        listing = list(vfs, options)?;
    }
    // Equal to no later listing: the scan says that files moved.
    listing.names.clear();
    Ok(listing)
}

fn names(vfs: &dyn Vfs, options: &Options) -> Result<Vec<PathBuf>, ScanError> {
    match vfs.list(&options.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| ScanError::Io {
            what: "list",
            path: options.dir.clone(),
            source,
        }),
    }
}

struct Listing {
    names: Vec<PathBuf>,
    chain: Chain,
    strays: Vec<PathBuf>,
    tail: Tail,
}

fn list(vfs: &dyn Vfs, options: &Options) -> Result<Listing, ScanError> {
    let names = names(vfs, options)?;
    let mut tail = Tail::default();
    let (mut candidates, mut strays, mut highest) = (Vec::new(), Vec::new(), 0);
    let (mut unused, mut misnamed) = (Unused::default(), Vec::new());
    for path in names.iter().cloned() {
        match Name::of(&path) {
            Name::Log(generation) => {
                highest = highest.max(generation.0);
                unused.numbers.insert(generation);
                match Candidate::open(vfs, options, generation, &path)? {
                    Opened::Candidate(candidate) => candidates.push(*candidate),
                    Opened::Misnamed(file) => {
                        highest = highest.max(file.header.0);
                        misnamed.push(file);
                    }
                }
            }
            Name::Pool(number) => {
                tail.highest_pool = tail.highest_pool.max(number);
                unused.pool.push(Looked::at(vfs, options, path));
            }
            Name::Part(number) => {
                tail.highest_pool = tail.highest_pool.max(number);
                unused.parts.push(Looked::at(vfs, options, path));
            }
            Name::Damaged(generation) => {
                highest = highest.max(generation.0);
                tail.set_aside.push(path);
            }
            Name::Stray => strays.push(path),
        }
    }
    candidates.sort_by_key(|candidate| candidate.generation);
    for candidate in &candidates {
        if let LinkSeen::Valid(link) = candidate.link {
            highest = highest.max(link.next);
        }
        highest = highest.max(candidate.previous.map_or(0, |previous| previous.file));
    }
    let (second_names, misnamed): (Vec<_>, Vec<_>) =
        misnamed.into_iter().partition(|file| is_second_name(file, &candidates, &unused));
    tail.garbage.extend(second_names.into_iter().map(|file| file.path));
    strays.extend(misnamed.iter().map(|file| file.path.clone()));
    let mut chain = Chain::resolve(candidates, &misnamed);
    if chain.places.last().is_some_and(|last| last.generation() < options.witnessed.generation) {
        let why = "it was begun, as is known from elsewhere, and nothing names it";
        chain.places.push(Place::Missing(options.witnessed.generation, why));
    }
    for place in &chain.places {
        if let Place::Missing(generation, _) = place {
            highest = highest.max(generation.0);
        }
    }
    tail.next = highest.saturating_add(1);
    unused.sort_out(options, &chain, &mut tail);
    Ok(Listing { names, chain, strays, tail })
}

/// Whether what stands under a lower number than its header says is a file of this log, or of its
/// pool, that has another name too: a name that a power cut brought back.
fn is_second_name(file: &Misnamed, candidates: &[Candidate], unused: &Unused) -> bool {
    let in_pool = unused.pool.iter().map(|looked| looked.number);
    let mut known = candidates.iter().map(Candidate::number).chain(in_pool);
    file.number.is_some() && known.any(|number| number == file.number)
}

fn scan_file(
    options: &Options,
    member: &Member,
    newest: bool,
    sink: &mut Sink<'_>,
) -> (FileReport, Ended) {
    let candidate = &member.candidate;
    // What was said again in the next file is remembered under its old number too.
    let is_open = newest && options.witnessed.generation == candidate.generation;
    sink.visit.file(candidate.generation);
    let limit =
        member.limit.map(|limit| file::Limit { end: limit.end.min(candidate.blocks), ..limit });
    let bounds = Bounds {
        generation: candidate.generation,
        path: &candidate.path,
        blocks: candidate.blocks,
        limit,
        named: member.named,
        newest,
        witnessed: if is_open { options.witnessed.batch } else { 0 },
    };
    let ended = candidate.with_reader(|reader| FileScan::new(bounds, reader, sink).run());
    let report = FileReport {
        generation: candidate.generation,
        path: candidate.path.clone(),
        len: candidate.len,
        batches: ended.batches,
        end: offset_of(ended.end),
        verdict: ended.verdict,
        linked: matches!(candidate.link, LinkSeen::Valid(_)),
        closed: ended.closed,
        previous: candidate.previous.map(|previous| Generation(previous.file)),
    };
    (report, ended)
}

impl Tail {
    /// The writer goes on behind this file, unless a newer one follows.
    fn go_on_behind(&mut self, member: &Member, ended: &Ended, newest: bool) {
        let candidate = &member.candidate;
        let next = self.next;
        // A file before that was never linked to this one gets its link along with the next.
        let unlinked = self.links.pop().filter(|_| !member.named);
        self.links.clear();
        self.links.extend(unlinked.map(|(generation, path, link)| {
            (generation, path, Link { next: candidate.generation.0, ..link })
        }));
        let limit = member.limit.unwrap_or(ended.limit);
        let has_room = candidate.len >= offset_of(LINK_BLOCK + 1);
        // Only in the newest file is a damaged link block written over.
        let may_link = candidate.link == LinkSeen::Absent
            || newest && !matches!(candidate.link, LinkSeen::Valid(_));
        if has_room && may_link {
            let link = Link { end: limit.end, last: limit.last, digest: limit.digest, next };
            self.links.push((candidate.generation, candidate.path.clone(), link));
        }
        self.previous = Previous {
            file: candidate.generation.0,
            end: limit.end,
            last: limit.last,
            digest: limit.digest,
        };
        self.files.push((candidate.generation, candidate.path.clone(), candidate.len, false));
    }
}

/// What the next file needs to take the place of the newest one. There must be a file before it
/// that goes on to prove that a newest file existed, and until the next file is linked too a start
/// goes by the newest one. Either that file's link names the newest one, which then is linked to
/// the next; or it names nothing yet, since the start that made the newest one was cut off, and
/// will name the next one itself: of one unlinked file after the other each would keep its space,
/// and on a full disk some start would find none.
fn light(
    places: &[Place],
    at: usize,
    report: &FileReport,
    links: &[(Generation, PathBuf, Link)],
    sink: &mut Sink<'_>,
) -> Option<Light> {
    let carry = std::mem::take(&mut sink.carry);
    if !carry.fits_with(&sink.unproven) {
        return None;
    }
    let Some(Place::Present(member)) = places.get(at) else { return None };
    let previous = member.candidate.previous?;
    let mut before = places.iter().take(at);
    let is_there =
        |place: &Place| matches!(place, Place::Present(_)) && place.generation().0 == previous.file;
    // Of the first file of all only the first batch may be there, which the next one said again.
    let all_again = previous.last == 0 && previous.end == FIRST_BATCH_BLOCK;
    let known_end = (previous.digest.is_some() || all_again) && before.any(is_there);
    let whole = matches!(report.verdict, Verdict::Good | Verdict::Unproven | Verdict::Torn { .. });
    let hurt = sink.damage.iter().any(|damage| damage.at.generation == report.generation);
    let generation = report.generation;
    let links = match (member.named, links) {
        (true, [(newest, path, link)]) => vec![(*newest, path.clone(), *link)],
        // The one before, whose link would name the newest, and the newest, which is passed over.
        (false, [(before, path, link), (_, _, Link { next, .. })]) if before.0 == previous.file => {
            vec![(*before, path.clone(), Link { next: *next, ..*link })]
        }
        _ => return None,
    };
    let absent = member.candidate.link == LinkSeen::Absent;
    (known_end && whole && !hurt && absent).then_some(Light { generation, carry, previous, links })
}

fn missing(
    options: &Options,
    generation: Generation,
    why: &str,
    sink: &mut Sink<'_>,
) -> FileReport {
    let path = Name::Log(generation).path(&options.dir);
    sink.visit.file(generation);
    sink.damage(Damage {
        at: Lsn::new(generation, 0),
        path: path.clone(),
        offset: 0,
        blocks: 0,
        kind: DamageKind::Missing,
        owners: Owners::Unknown,
        evidence: format!("the file is not there: {why}"),
    });
    FileReport {
        generation,
        path,
        len: 0,
        batches: 0,
        end: 0,
        verdict: Verdict::Missing,
        linked: false,
        closed: false,
        previous: None,
    }
}

fn never_existed(candidate: &Candidate) -> FileReport {
    FileReport {
        generation: candidate.generation,
        path: candidate.path.clone(),
        len: candidate.len,
        batches: 0,
        end: 0,
        verdict: Verdict::NeverExisted,
        linked: false,
        closed: false,
        previous: candidate.previous.map(|previous| Generation(previous.file)),
    }
}

fn lost_link(candidate: &Candidate, sink: &mut Sink<'_>) {
    sink.damage(Damage {
        at: Lsn::new(candidate.generation.next(), 0),
        path: candidate.path.clone(),
        offset: offset_of(LINK_BLOCK),
        blocks: 1,
        kind: DamageKind::Suspect,
        owners: Owners::Unknown,
        evidence: "the link block cannot be read: a next file may have been named there, and \
                   none is"
            .to_owned(),
    });
}
