//! raft-engine 0.4.2, the log engine of TiKV. Without compression, with recycling.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::measure::{Result, Subject, Window, closed_loop};

/// A stock protobuf message with a number and bytes stands for the entry.
#[derive(Clone)]
pub struct AsEntry;

impl MessageExt for AsEntry {
    type Entry = UninterpretedOption;

    fn index(entry: &UninterpretedOption) -> u64 {
        entry.get_positive_int_value()
    }
}

pub struct RaftEngine {
    engine: Arc<Engine>,
    payload: usize,
    batch: usize,
    /// Per thread: its group and the next index there.
    threads: Vec<(u64, u64)>,
}

impl RaftEngine {
    pub fn new(dir: &Path, payload: usize, batch: usize, threads: usize) -> Result<RaftEngine> {
        let dir = dir.join(format!("raft-engine-{payload}-{batch}-{threads}"));
        let config = Config {
            dir: dir.to_string_lossy().into_owned(),
            batch_compression_threshold: ReadableSize(0),
            target_file_size: ReadableSize::mb(64),
            purge_threshold: ReadableSize::mb(256),
            enable_log_recycle: true,
            ..Config::default()
        };
        let engine = Arc::new(Engine::open(config)?);
        let threads = (0..threads as u64).map(|n| (n + 1, 1)).collect();
        Ok(RaftEngine { engine, payload, batch, threads })
    }

    /// Frees what the window wrote, so that its files are recycled in the next one.
    fn purge(&self) -> Result<()> {
        for &(group, next) in &self.threads {
            self.engine.compact_to(group, next);
        }
        self.engine.purge_expired_files()?;
        Ok(())
    }
}

impl Subject for RaftEngine {
    fn name(&self) -> String {
        match self.threads.len() {
            1 => "raft-engine 0.4.2".to_owned(),
            n => format!("raft-engine 0.4.2, {n} threads"),
        }
    }

    fn payload(&self) -> usize {
        self.payload
    }

    fn run(&mut self, window: Duration) -> Result<Window> {
        let (engine, payload, count) = (&self.engine, self.payload, self.batch as u64);
        let write = |group: u64, next: &mut u64| -> Result<(u64, Vec<u32>, Duration)> {
            let mut batch = LogBatch::with_capacity(256);
            let mut entries: Vec<UninterpretedOption> = (0..count)
                .map(|_| {
                    let mut entry = UninterpretedOption::new();
                    entry.set_string_value(vec![0x5a; payload]);
                    entry
                })
                .collect();
            closed_loop(window, || {
                for entry in &mut entries {
                    entry.set_positive_int_value(*next);
                    *next += 1;
                }
                batch.add_entries::<AsEntry>(group, &entries)?;
                engine.write(&mut batch, true)?;
                Ok(count)
            })
        };
        let mut total = Window::default();
        if let [(group, next)] = &mut self.threads[..] {
            (total.entries, total.latencies, total.elapsed) = write(*group, next)?;
        } else {
            thread::scope(|scope| -> Result<()> {
                let all: Vec<_> = self
                    .threads
                    .iter_mut()
                    .map(|(group, next)| {
                        scope.spawn(|| write(*group, next).map_err(|e| e.to_string()))
                    })
                    .collect();
                for thread in all {
                    let (entries, latencies, elapsed) =
                        thread.join().map_err(|_| "a writer panicked")??;
                    total.entries += entries;
                    total.latencies.extend(latencies);
                    total.elapsed = total.elapsed.max(elapsed);
                }
                Ok(())
            })?;
        }
        self.purge()?;
        Ok(total)
    }
}
