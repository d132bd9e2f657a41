//! The state machine that is simulated unless another one is given.

use std::collections::BTreeMap;

use bytes::Bytes;
use refloat_node::{Chunks, Command, RestoreError, SnapshotReader, StateMachine};
use refloat_types::codec::{Put, Reader};

/// Bytes of state per snapshot chunk.
const CHUNK_LEN: usize = 4096;

/// Registers that commands overwrite. A command's first byte names the register, its reply is
/// the register's former value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    values: BTreeMap<u8, Bytes>,
}

impl Registers {
    /// The value of a register.
    #[must_use]
    pub fn get(&self, name: u8) -> Option<&Bytes> {
        self.values.get(&name)
    }
}

impl StateMachine for Registers {
    fn apply(&mut self, batch: &[Command]) -> Vec<Bytes> {
        let one = |command: &Command| {
            let name = command.payload.first().copied().unwrap_or_default();
            self.values.insert(name, command.payload.clone()).unwrap_or_default()
        };
        batch.iter().map(one).collect()
    }

    fn snapshot(&mut self) -> Chunks {
        let mut bytes = Vec::new();
        for (name, value) in &self.values {
            bytes.put_u8(*name);
            bytes.put_u32(u32::try_from(value.len()).expect("values are short"));
            bytes.put_slice(value);
        }
        let bytes = Bytes::from(bytes);
        let chunks = (0..bytes.len()).step_by(CHUNK_LEN);
        let chunks: Vec<Bytes> =
            chunks.map(|at| bytes.slice(at..(at + CHUNK_LEN).min(bytes.len()))).collect();
        Box::new(chunks.into_iter())
    }

    fn restore(&mut self, snapshot: &mut SnapshotReader<'_>) -> Result<(), RestoreError> {
        let bytes = snapshot.rest();
        let mut reader = Reader::new(&bytes);
        let mut values = BTreeMap::new();
        while reader.remaining() > 0 {
            let (name, value) =
                register(&mut reader).map_err(|e| RestoreError::new(format!("registers: {e}")))?;
            values.insert(name, value);
        }
        self.values = values;
        Ok(())
    }
}

fn register(reader: &mut Reader<'_>) -> Result<(u8, Bytes), refloat_types::codec::DecodeError> {
    let name = reader.u8("register")?;
    let len = reader.count(1, "value length")?;
    Ok((name, Bytes::copy_from_slice(reader.bytes(len, "value")?)))
}
