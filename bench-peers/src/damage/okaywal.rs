//! okaywal, a write-ahead log with recycled files. Its records carry their own names here.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Found, Id, Log, Result, ids, payload};

pub struct OkayWal;

#[derive(Clone, Debug, Default)]
struct Collect(Arc<Mutex<Vec<Vec<u8>>>>);

impl LogManager for Collect {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        // `None`: "this entry wasn't completely written". No error, so the record is just absent.
        if let Some(chunks) = entry.read_all_chunks()?
            && let Ok(mut all) = self.0.lock()
        {
            all.extend(chunks);
        }
        Ok(())
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

fn open(dir: &Path, manager: Collect) -> io::Result<WriteAheadLog> {
    Configuration::default_for(dir)
        .preallocate_bytes(64 << 10)
        .checkpoint_after_bytes(1 << 30)
        .open(manager)
}

impl Log for OkayWal {
    fn name(&self) -> &'static str {
        "okaywal 0.3.1"
    }

    fn write(&self, dir: &Path, node: u64) -> Result<()> {
        let log = open(dir, Collect::default())?;
        for id in ids() {
            let mut record = [id.group.to_le_bytes(), id.index.to_le_bytes()].concat();
            record.extend(payload(node, id));
            let mut writer = log.begin_entry()?;
            writer.write_chunk(&record)?;
            writer.commit()?;
        }
        // Ends without `shutdown`, which would be a checkpoint: these records are still needed.
        std::mem::forget(log);
        Ok(())
    }

    fn read(&self, dir: &Path) -> Result<Vec<(Id, Found)>> {
        let collect = Collect::default();
        let log = open(dir, collect.clone())?;
        let records = collect.0.lock().map_err(|_| "poisoned")?.clone();
        std::mem::forget(log);
        let word = |record: &[u8], at: usize| {
            let bytes = record.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let of = |record: Vec<u8>| {
            let id = Id { group: word(&record, 0)?, index: word(&record, 8)? };
            Some((id, Found::Bytes(record[16..].to_vec())))
        };
        Ok(records.into_iter().filter_map(of).collect())
    }
}
