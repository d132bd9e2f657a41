//! The log that is hurt, and what it owes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bytes::Bytes;
use refloat_types::*;
use refloat_wal::*;

use super::memory::Memory;
use crate::disk::*;

/// How the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// A seal proves the last batch.
    Sealed,
    /// Nothing does.
    Open,
}

/// Files of a log that several groups wrote to, and all that was acknowledged.
pub struct Log {
    pub tail: Tail,
    pub options: Options,
    pub files: Memory,
    /// What was acknowledged and stands in a file that is there, by batch.
    acked: Vec<(Lsn, Record)>,
    last: Lsn,
    ends: BTreeMap<Generation, usize>,
    /// What stood in a file before it was recycled.
    recycled: Vec<u8>,
    /// The same records in files of another node.
    foreign: BTreeMap<Generation, Vec<u8>>,
}

fn small(identity: Identity) -> Options {
    let mut options = Options::new(DIR, identity);
    options.file_size = 16 * 4096;
    options
}

/// Appends by several groups, in one batch or more: small and large ones, an overwrite, a cut, a
/// fill, a vote.
fn batches(file: u64) -> Vec<Vec<Record>> {
    let term = |term: u64, record: Record| match record {
        Record::Log { group, op: LogOp::Append { prev, entries } } => {
            let id = |at: EntryId| EntryId::new(Term(term), at.index);
            let entries: Vec<Entry> = entries
                .into_iter()
                .map(|entry| Entry::new(id(entry.id), EntryKind::Command, entry.payload))
                .collect();
            Record::Log { group, op: LogOp::Append { prev, entries } }
        }
        other => other,
    };
    let first = file * 20;
    vec![
        vec![append(1, first, 2, 300), append(2, first, 1, 40), state(4, &format!("vote {file}"))],
        // More than a block, of three groups.
        vec![append(1, first + 2, 2, 1900), append(3, first, 3, 900), append(2, first + 1, 1, 0)],
        // Overwrites what group 1 has there.
        vec![term(2, append(1, first + 1, 2, 500)), state(1, &format!("term 2 in {file}"))],
        vec![
            Record::Log { group: group(2), op: LogOp::Cut { from: Index(first + 1) } },
            Record::Log {
                group: group(3),
                op: LogOp::Fill { entries: vec![entry(first - 5, 1, payload(file, 200))] },
            },
            append(2, first + 1, 4, 20),
        ],
    ]
}

struct Built {
    disk: Disk,
    acked: Vec<(Lsn, Record)>,
    recycled: Vec<u8>,
}

fn build(identity: Identity, tail: Tail) -> Built {
    let mut disk = Disk::with(small(identity));
    let (mut acked, mut recycled) = (Vec::new(), Vec::new());
    for file in 1..=6 {
        for batch in batches(file) {
            let at = disk.write(&batch);
            acked.extend(batch.into_iter().map(|record| (at, record)));
        }
        if file == 6 {
            break;
        }
        if file == 1 {
            recycled = disk.fs.contents(disk.file(1)).expect("the file is there");
        }
        disk.roll();
        disk.writer.release(Generation(file - 1));
        disk.settle();
    }
    if tail == Tail::Sealed {
        disk.seal();
    }
    assert!(disk.writer.stats().recycled > 0, "a file is in its second use");
    Built { disk, acked, recycled }
}

impl Log {
    pub fn new(tail: Tail) -> Log {
        let Built { disk, acked, recycled } = build(identity(), tail);
        let whole = disk.find();
        let mut files = Memory::default();
        for path in disk.fs.files().into_keys() {
            let bytes = disk.fs.contents(&path).expect("the file is there");
            files.put(path, bytes);
        }
        let there: BTreeSet<_> = whole.seen.files.iter().copied().collect();
        let acked: Vec<_> =
            acked.into_iter().filter(|(at, _)| there.contains(&at.generation)).collect();
        let other = Identity {
            cluster: identity().cluster,
            member: Member::new(NodeId(4), Incarnation(9)),
        };
        let stranger = build(other, tail).disk;
        let foreign = there
            .iter()
            .map(|file| {
                (*file, stranger.fs.contents(stranger.file(file.0)).expect("the same files"))
            })
            .collect();
        let ends = whole.scan.files.iter().map(|file| (file.generation, file.end as usize));
        let log = Log {
            tail,
            options: disk.options.clone(),
            last: acked.last().expect("records").0,
            files,
            ends: ends.collect(),
            recycled,
            foreign,
            acked,
        };
        let unhurt = look(&log.files, &log.options);
        assert!(log.silent_losses(&unhurt).is_empty() && unhurt.scan.damage.is_empty());
        assert!(there.len() >= 3, "two older files and the newest");
        log
    }

    pub fn generations(&self) -> impl Iterator<Item = Generation> + use<> {
        self.ends.keys().copied().collect::<Vec<_>>().into_iter()
    }

    pub fn path(&self, file: Generation) -> PathBuf {
        PathBuf::from(format!("{DIR}/{file:020}.wal", file = file.0))
    }

    /// The offset behind the last batch of a file.
    pub fn end(&self, file: Generation) -> usize {
        self.ends[&file]
    }

    /// Whole files that blocks may come from.
    pub fn older_contents(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let files = self
            .ends
            .keys()
            .map(|file| (format!("file {file}"), self.files.bytes(&self.path(*file)).to_vec()));
        files.chain([("a recycled file".to_owned(), self.recycled.clone())])
    }

    pub fn foreign(&self, file: Generation) -> Vec<u8> {
        self.foreign[&file].clone()
    }

    /// Names in use by nobody: the next number, a much higher one, a released one, the pool.
    pub fn names_to_copy_to(&self) -> Vec<PathBuf> {
        let newest = self.last.generation;
        let numbers = [newest.next(), Generation(newest.0 + 7), Generation(1)];
        let mut names: Vec<_> = numbers.into_iter().map(|file| self.path(file)).collect();
        names.push(PathBuf::from(format!("{DIR}/pool-99.tmp")));
        names.push(PathBuf::from(format!("{DIR}/copy.wal")));
        names
    }

    /// Every entry and every state that comes out was written, byte for byte, at its place.
    pub fn check_nothing_is_invented(&self, found: &Found, story: &str) {
        for (at, _, record, _) in &found.seen.records {
            let is_checkpoint = |body: &Bytes| body.starts_with(b"checkpoint");
            let written = match record {
                Record::State { body, .. } if is_checkpoint(body) => true,
                Record::State { .. } => self.acked.iter().any(|(lsn, r)| lsn == at && r == record),
                Record::Log { group, op } => op.entries().iter().all(|entry| {
                    let mut all =
                        self.acked.iter().filter(|(lsn, r)| lsn == at && r.group() == *group);
                    all.any(|(_, r)| entries(r).contains(entry))
                }),
            };
            assert!(written, "{story}: invented {record:?} at {at}");
        }
    }

    /// Who is named lost something there, and who is not named lost nothing.
    pub fn check_owners_are_exact(&self, found: &Found, story: &str) {
        for damage in &found.scan.damage {
            let Owners::Known(owners) = &damage.owners else { continue };
            let lost: BTreeSet<GroupKey> = found
                .seen
                .records
                .iter()
                .filter(|(at, _, _, missing)| *at == damage.at && !missing.is_empty())
                .map(|(_, _, record, _)| record.group())
                .collect();
            let named: BTreeSet<GroupKey> = owners.iter().copied().collect();
            assert_eq!(named, lost, "{story}: {damage}");
        }
    }

    /// Batches with something acknowledged that does not come out whole although no damage says
    /// so: neither by its group's name, nor by unknown owners, nor by a file that is missing.
    pub fn silent_losses(&self, found: &Found) -> Vec<Lsn> {
        let told = |at: &Lsn, group: GroupKey| {
            found.scan.damage.iter().any(|damage| match &damage.owners {
                Owners::Unknown => damage.at.generation == at.generation,
                Owners::Known(groups) => groups.contains(&group) && damage.at == *at,
            })
        };
        let oldest = found.scan.files.iter().find(|file| file.verdict != Verdict::NeverExisted);
        // What stood before the oldest file is told to whoever keeps track of releases.
        let told_as_gone = |at: &Lsn| {
            oldest.is_some_and(|oldest| {
                let hurt =
                    || found.scan.damage.iter().any(|d| d.at.generation == oldest.generation);
                let before = oldest.previous.map_or_else(hurt, |before| before == at.generation);
                at.generation < oldest.generation && before
            })
        };
        let lost = self.acked.iter().filter(|(at, record)| {
            !self.is_given(found, at, record) && !told(at, record.group()) && !told_as_gone(at)
        });
        lost.map(|(at, _)| *at).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether the oldest file is not there: whoever keeps track of releases knows that it should.
    pub fn lacks_the_oldest(&self, found: &Found) -> bool {
        found.scan.files.iter().all(|file| Some(&file.generation) != self.ends.keys().next())
    }

    fn is_given(&self, found: &Found, at: &Lsn, record: &Record) -> bool {
        let mut at_its_place = found.seen.records.iter().filter(|(lsn, ..)| lsn == at);
        at_its_place.any(|(_, _, given, missing)| given == record && missing.is_empty())
    }

    /// The one thing that cannot be told: the last batch, with nothing behind it, reading as what
    /// was there before.
    pub fn is_unproven(&self, at: Lsn) -> bool {
        self.tail == Tail::Open && at == self.last
    }

    pub fn newest(&self) -> Generation {
        self.last.generation
    }
}

fn entries(record: &Record) -> &[Entry] {
    match record {
        Record::Log { op, .. } => op.entries(),
        Record::State { .. } => &[],
    }
}
