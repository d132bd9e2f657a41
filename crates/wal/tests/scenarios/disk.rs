//! The language of these tests: a simulated disk with one log on it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use refloat_types::*;
use refloat_vfs::{SimFs, Vfs};
use refloat_wal::*;

pub const DIR: &str = "/wal";

pub fn identity() -> Identity {
    let member = Member::new(NodeId(3), Incarnation(0x5eed_0000_1111_2222_3333_4444_5555_6666));
    Identity { cluster: ClusterId(0xc1), member }
}

pub fn options() -> Options {
    let mut options = Options::new(DIR, identity());
    options.file_size = 64 * 4096;
    options
}

pub fn group(id: u64) -> GroupKey {
    GroupKey::new(GroupId(id), Epoch(1))
}

/// A byte string that is not zeros and not the same everywhere.
pub fn payload(seed: u64, len: usize) -> Bytes {
    (0..len).map(|n| (seed.wrapping_mul(31) + n as u64 * 7 + n as u64 / 251) as u8 | 1).collect()
}

pub fn entry(index: u64, term: u64, payload: Bytes) -> Entry {
    Entry::new(EntryId::new(Term(term), Index(index)), EntryKind::Command, payload)
}

/// An append of `count` entries of term 1 from `first` on.
pub fn append(id: u64, first: u64, count: u64, len: usize) -> Record {
    let prev = EntryId::new(Term(u64::from(first > 1)), Index(first - 1));
    let entries =
        (first..first + count).map(|index| entry(index, 1, payload(index + id, len))).collect();
    Record::Log { group: group(id), op: LogOp::Append { prev, entries } }
}

pub fn state(id: u64, body: &str) -> Record {
    Record::State { group: group(id), body: Bytes::copy_from_slice(body.as_bytes()) }
}

pub fn checkpoint(groups: u64) -> Vec<(GroupKey, Bytes)> {
    (1..=groups).map(|id| (group(id), Bytes::from(format!("checkpoint of {id}")))).collect()
}

/// Everything that a scan gives out.
#[derive(Debug, Default, PartialEq, Eq, Clone)]
pub struct Seen {
    pub records: Vec<(Lsn, Trust, Record, Vec<EntryId>)>,
    pub files: Vec<Generation>,
}

impl Visit for Seen {
    fn file(&mut self, generation: Generation) {
        self.files.push(generation);
    }
    fn record(&mut self, at: Lsn, trust: Trust, record: Record, missing: &[EntryId]) {
        self.records.push((at, trust, record, missing.to_vec()));
    }
}

impl Seen {
    /// The records, without checkpoints.
    pub fn data(&self) -> Vec<Record> {
        let is_checkpoint = |record: &Record| match record {
            Record::State { body, .. } => body.starts_with(b"checkpoint"),
            Record::Log { .. } => false,
        };
        let all = self.records.iter().map(|(_, _, record, _)| record.clone());
        all.filter(|record| !is_checkpoint(record)).collect()
    }

    pub fn has(&self, record: &Record) -> bool {
        self.records.iter().any(|(_, _, found, missing)| found == record && missing.is_empty())
    }

    pub fn trust_of(&self, record: &Record) -> Option<Trust> {
        let mut found = self.records.iter().rev().filter(|(_, _, found, _)| found == record);
        found.next().map(|(_, trust, _, _)| *trust)
    }

    pub fn missing(&self) -> Vec<(GroupKey, Index)> {
        let lost = |(_, _, record, missing): &(Lsn, Trust, Record, Vec<EntryId>)| {
            let group = record.group();
            missing.iter().map(move |id| (group, id.index)).collect::<Vec<_>>()
        };
        self.records.iter().flat_map(lost).collect()
    }
}

/// A scan and what it gave out.
pub struct Found {
    pub scan: Scan,
    pub seen: Seen,
}

impl Found {
    pub fn newest(&self) -> &FileReport {
        let used = |file: &&FileReport| file.verdict != Verdict::NeverExisted;
        self.scan.files.iter().rfind(used).expect("a file")
    }

    pub fn verdict(&self) -> Verdict {
        self.newest().verdict
    }

    pub fn words(&self) -> String {
        self.scan.damage.iter().map(|damage| format!("{damage}\n")).collect()
    }
}

pub fn try_look(fs: &dyn Vfs, options: &Options) -> Result<Found, ScanError> {
    let mut seen = Seen::default();
    let scan = scan(fs, options, &mut seen)?;
    Ok(Found { scan, seen })
}

pub fn look(fs: &dyn Vfs, options: &Options) -> Found {
    try_look(fs, options).expect("a log that can be read")
}

/// A running log on a simulated disk.
pub struct Disk {
    pub fs: SimFs,
    pub options: Options,
    pub writer: Writer,
    pub now: u64,
}

impl Disk {
    /// A new log with the checkpoint of three groups.
    pub fn new() -> Disk {
        Disk::with(options())
    }

    pub fn with(options: Options) -> Disk {
        Disk::boot(SimFs::new(), options).0
    }

    /// Scans a disk and goes on with it.
    pub fn boot(fs: SimFs, options: Options) -> (Disk, Found) {
        let mut disk = Disk::begin(fs, options, 0);
        disk.0.settle();
        assert!(disk.0.writer.is_ready());
        disk
    }

    /// Scans a disk and makes a writer, without running any of its jobs.
    pub fn begin(fs: SimFs, options: Options, now: u64) -> (Disk, Found) {
        let found = look(&fs, &options);
        let again = found.scan.unproven().to_vec();
        let mut seen = Seen::default();
        let scan = scan(&fs, &options, &mut seen).expect("a log that can be read twice");
        let writer = Writer::resume(scan, options.clone(), checkpoint(3), again);
        (Disk { fs, options, writer, now }, found)
    }

    /// Kills the process: what was written stays visible, nothing becomes durable by it.
    pub fn kill(self) -> SimFs {
        self.fs.kill()
    }

    pub fn reboot(self) -> (Disk, Found) {
        let options = self.options.clone();
        Disk::boot(self.kill(), options)
    }

    pub fn find(&self) -> Found {
        look(&self.fs, &self.options)
    }

    /// Runs jobs until there are none.
    pub fn settle(&mut self) {
        self.try_settle().expect("no write fails");
    }

    pub fn try_settle(&mut self) -> Result<(), Poisoned> {
        while let Some(job) = self.writer.poll(Now(self.now)) {
            self.now += 1;
            let done = job.run(&self.fs);
            self.writer.done(Now(self.now), done)?;
        }
        Ok(())
    }

    pub fn submit(&mut self, records: &[Record]) -> Result<Lsn, SubmitError> {
        let records: Vec<_> = records.iter().map(Record::as_ref).collect();
        self.writer.submit(&records)
    }

    /// One durable batch.
    pub fn write(&mut self, records: &[Record]) -> Lsn {
        let at = self.submit(records).expect("records are taken");
        self.settle();
        assert!(self.writer.durable() >= at, "acknowledged");
        at
    }

    pub fn roll(&mut self) {
        self.writer.roll(checkpoint(3));
        self.settle();
    }

    pub fn seal(&mut self) {
        self.now += self.options.seal_after + 1;
        self.settle();
    }

    pub fn file(&self, generation: u64) -> PathBuf {
        Path::new(DIR).join(format!("{generation:020}.wal"))
    }

    pub fn newest_file(&self) -> PathBuf {
        self.file(self.writer.generation().0)
    }

    /// Changes bytes of the newest file, on the disk and in the cache.
    pub fn hurt(&self, edit: impl FnOnce(&mut Vec<u8>)) {
        self.fs.corrupt(self.newest_file(), edit).expect("the file is there");
    }

    pub fn zero(&self, block: u64, sectors: std::ops::Range<u64>) {
        let at = |sector: u64| (block * 4096 + sector * 512) as usize;
        self.hurt(|bytes| bytes[at(sectors.start)..at(sectors.end)].fill(0));
    }

    pub fn flip(&self, block: u64, byte: usize) {
        self.hurt(|bytes| bytes[block as usize * 4096 + byte] ^= 0x10);
    }

    /// The block where a batch of the newest file starts, as the file itself says.
    pub fn block_of(&self, lsn: Lsn) -> u64 {
        let batches = batches(&self.fs, &self.options, lsn.generation).expect("a readable file");
        let batch = batches.iter().find(|batch| batch.at == lsn).expect("the batch is there");
        batch.offset / 4096
    }
}
