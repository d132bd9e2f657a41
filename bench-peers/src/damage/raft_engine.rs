//! raft-engine, the log engine of TiKV, with its default recovery mode and with its strictest.

use std::path::Path;

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, ReadableSize, RecoveryMode};

use super::{Found, Id, Log, Result, ids, payload};
use crate::peer::AsEntry;

pub struct RaftEngine {
    pub strict: bool,
}

impl RaftEngine {
    fn config(&self, dir: &Path) -> Config {
        let mode = if self.strict {
            RecoveryMode::AbsoluteConsistency
        } else {
            RecoveryMode::TolerateTailCorruption
        };
        Config {
            dir: dir.to_string_lossy().into_owned(),
            target_file_size: ReadableSize::kb(64),
            recovery_mode: mode,
            ..Config::default()
        }
    }
}

impl Log for RaftEngine {
    fn name(&self) -> &'static str {
        if self.strict { "raft-engine 0.4.2, absolute-consistency" } else { "raft-engine 0.4.2" }
    }

    fn write(&self, dir: &Path, node: u64) -> Result<()> {
        let engine = Engine::open(self.config(dir))?;
        for id in ids() {
            let mut entry = UninterpretedOption::new();
            entry.set_positive_int_value(id.index);
            entry.set_string_value(payload(node, id));
            let mut batch = LogBatch::with_capacity(1);
            batch.add_entries::<AsEntry>(id.group, &[entry])?;
            engine.write(&mut batch, true)?;
        }
        Ok(())
    }

    fn read(&self, dir: &Path) -> Result<Vec<(Id, Found)>> {
        let engine = Engine::open(self.config(dir))?;
        let look = |id: Id| match engine.get_entry::<AsEntry>(id.group, id.index) {
            Ok(Some(entry)) => Found::Bytes(entry.get_string_value().to_vec()),
            Ok(None) => Found::Absent,
            Err(_) => Found::Named,
        };
        Ok(ids().map(|id| (id, look(id))).collect())
    }
}
