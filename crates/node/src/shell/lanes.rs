//! Threads that run jobs: one kind of loop, `wait; run; give back`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use refloat_vfs::Vfs;

use super::handle::Shared;
use super::inbox::Letter;
use crate::api::Input;
use crate::job::{Job, JobLane};

/// The job threads of one node. How many jobs wait is bounded by who hands them out: one batch
/// per log, one job per group's machine, a window of snapshot chunks.
pub(crate) struct Lanes {
    fixed: BTreeMap<JobLane, Sender<Job>>,
    apply: Vec<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Lanes {
    pub(crate) fn start(
        name: &str,
        vfs: &Arc<dyn Vfs>,
        shared: &Arc<Shared>,
        apply_threads: usize,
    ) -> io::Result<Lanes> {
        let mut lanes = Lanes { fixed: BTreeMap::new(), apply: Vec::new(), threads: Vec::new() };
        // Votes are small and urgent and never wait behind a large batch; preparing a file, flushing
        // and writing a group's state may take long, so that nothing else shares their thread.
        let threads = [
            ("wal", JobLane::Wal),
            ("votes", JobLane::Votes),
            ("prepare", JobLane::Prepare),
            ("flush", JobLane::Flush),
            ("read", JobLane::Read),
            ("snapshot", JobLane::Snapshot),
        ];
        for (thread, lane) in threads {
            let sender = lanes.spawn(&format!("{name}-{thread}"), vfs, shared)?;
            lanes.fixed.insert(lane, sender);
        }
        for n in 0..apply_threads.max(1) {
            let sender = lanes.spawn(&format!("{name}-apply-{n}"), vfs, shared)?;
            lanes.apply.push(sender);
        }
        Ok(lanes)
    }

    fn spawn(
        &mut self,
        name: &str,
        vfs: &Arc<dyn Vfs>,
        shared: &Arc<Shared>,
    ) -> io::Result<Sender<Job>> {
        let (sender, receiver) = channel();
        let (vfs, shared) = (Arc::clone(vfs), Arc::clone(shared));
        let run = move || serve(&receiver, &vfs, &shared);
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(run)?);
        Ok(sender)
    }

    /// Hands a job to its thread. Jobs of one group go to one apply thread, in their order.
    pub(crate) fn hand(&self, job: Job) {
        let sender = match job.lane() {
            JobLane::Apply => {
                let id = job.group().map_or(0, |group| group.id.0);
                self.apply.get(id as usize % self.apply.len())
            }
            lane => self.fixed.get(&lane),
        };
        if let Some(sender) = sender {
            // A thread ends only after its sender does.
            let _ = sender.send(job);
        }
    }

    /// Ends the threads after what they were handed.
    pub(crate) fn stop(self) {
        drop((self.fixed, self.apply));
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn serve(jobs: &Receiver<Job>, vfs: &Arc<dyn Vfs>, shared: &Shared) {
    while let Ok(job) = jobs.recv() {
        shared.inbox.push(Letter::Core(Input::Done(job.run(vfs))));
    }
}
