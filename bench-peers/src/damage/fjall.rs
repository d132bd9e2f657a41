//! fjall, a key-value store whose journal is its log.

use std::path::Path;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use super::{Found, Id, Log, Result, ids, payload};

pub struct Fjall;

fn name(id: Id) -> Vec<u8> {
    [id.group.to_be_bytes(), id.index.to_be_bytes()].concat()
}

impl Log for Fjall {
    fn name(&self) -> &'static str {
        "fjall 3.1.13"
    }

    fn write(&self, dir: &Path, node: u64) -> Result<()> {
        let database = Database::builder(dir).open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        for id in ids() {
            log.insert(name(id), payload(node, id))?;
            database.persist(PersistMode::SyncAll)?;
        }
        Ok(())
    }

    fn read(&self, dir: &Path) -> Result<Vec<(Id, Found)>> {
        let database = Database::builder(dir).open()?;
        let log = database.keyspace("log", KeyspaceCreateOptions::default)?;
        let look = |id: Id| match log.get(name(id)) {
            Ok(Some(bytes)) => Found::Bytes(bytes.to_vec()),
            Ok(None) => Found::Absent,
            Err(_) => Found::Named,
        };
        Ok(ids().map(|id| (id, look(id))).collect())
    }
}
