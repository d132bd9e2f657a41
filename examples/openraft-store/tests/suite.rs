//! openraft's own suite for storage.

mod support;

use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};
use refloat_openraft_store::{Log, Machine, TypeConfig};
use support::{open, raft};

struct InTempDirs;

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for InTempDirs {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<u64>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, machine) = raft(&open(dir.path())).await;
        Ok((dir, log, machine))
    }
}

#[test]
fn passes_the_suite_of_openraft() {
    Suite::test_all(InTempDirs).unwrap();
}
