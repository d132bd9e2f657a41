//! Two damages in one log, told apart: a byte that flipped in data that was durable, and a write
//! that a crash cut off.
//!
//! `cargo run -p refloat-wal --example torn_or_rotten`

use refloat_types::{
    Entry, EntryId, EntryKind, Epoch, Generation, GroupId, GroupKey, Identity, Index, LogOp, Now,
    Term,
};
use refloat_vfs::{InFlight, SimFs};
use refloat_wal::{Lsn, Options, Poisoned, Record, Trust, Visit, Writer, batches, scan};

struct Print;

impl Visit for Print {
    fn record(&mut self, at: Lsn, trust: Trust, record: Record, missing: &[EntryId]) {
        let Record::Log { group, op } = record else { return };
        let there: Vec<_> = op.entries().iter().map(|entry| entry.id.index.0).collect();
        let lost: Vec<_> = missing.iter().map(|id| id.index.0).collect();
        println!("  batch {at}, {trust:?}: group {group} entries {there:?}, lost {lost:?}");
    }
}

fn append(id: u64, first: u64, count: u64) -> Record {
    let group = GroupKey::new(GroupId(id), Epoch(1));
    let prev = EntryId::new(Term(u64::from(first > 1)), Index(first - 1));
    let entry = |index| {
        let id = EntryId::new(Term(1), Index(index));
        Entry::new(id, EntryKind::Command, vec![index as u8; 1000].into())
    };
    Record::Log {
        group,
        op: LogOp::Append { prev, entries: (first..first + count).map(entry).collect() },
    }
}

/// Runs what the writer asks for, all of it, until there is nothing more.
fn run_jobs(writer: &mut Writer, fs: &SimFs) -> Result<(), Poisoned> {
    while let Some(job) = writer.poll(Now(0)) {
        writer.done(Now(0), job.run(fs))?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fs = SimFs::new();
    let mut options = Options::new("/wal", Identity::default());
    options.file_size = 1 << 20;
    let mut writer =
        Writer::resume(scan(&fs, &options, &mut Print)?, options.clone(), vec![], vec![]);
    for records in [[append(1, 1, 2), append(2, 1, 1)], [append(1, 3, 1), append(2, 2, 2)]] {
        writer.submit(&records.each_ref().map(Record::as_ref))?;
        run_jobs(&mut writer, &fs)?;
    }

    // A byte flips in the payload of group 2 in batch 2, long after it was synced.
    let of_batch_2 = batches(&fs, &options, Generation(1))?[1].offset as usize;
    fs.corrupt("/wal/00000000000000000001.wal", |bytes| bytes[of_batch_2 + 2600] ^= 4)?;

    // The process dies in the middle of writing batch 4.
    writer.submit(&[append(1, 4, 9).as_ref()])?;
    fs.crash_at(fs.op_count());
    assert!(run_jobs(&mut writer, &fs).is_err());
    let fs = fs.kill_with(InFlight::Torn(11));

    println!("The next start finds:");
    let found = scan(&fs, &options, &mut Print)?;
    for file in &found.files {
        println!("{file}");
    }
    for damage in &found.damage {
        println!("{damage}");
    }
    Ok(())
}
