//! Starts on disks that somebody else fills and empties at any moment.

use refloat_types::{Generation, Now};
use refloat_vfs::{Fate, Rng, SimFs};
use refloat_wal::*;

use crate::disk::*;

/// A log under a random load, on a disk with random room, and what it owes.
struct Walk {
    disk: Disk,
    rng: Rng,
    story: String,
    /// With many a file is longer than those that are prepared ahead.
    groups: u64,
    /// Background work that takes its time.
    slow: Option<Job>,
    acked: Vec<(Lsn, Record)>,
    waiting: Vec<(Lsn, Record)>,
    released: Generation,
    next_index: [u64; 3],
    full: bool,
    starts_on_a_full_disk: u64,
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let groups = if seed.is_multiple_of(4) { 600 } else { 3 };
        Walk {
            disk: Disk::new(),
            groups,
            rng: Rng::new(seed),
            story: format!("seed {seed}"),
            slow: None,
            acked: Vec::new(),
            waiting: Vec::new(),
            released: Generation::ZERO,
            next_index: [1; 3],
            full: false,
            starts_on_a_full_disk: 0,
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => {
                let len = [100, 9_000, 60_000, 100_000][self.rng.index(4)];
                let group = 1 + self.rng.below(2);
                self.append(group, len);
            }
            40..46 => (0..self.rng.below(60)).for_each(|_| self.append(3, 0)),
            46..52 => self.vote_for(self.rng.clone().below(100)),
            52..75 => self.work_in_background(),
            75..80 => self.somebody_takes_all_space(),
            80..83 => self.space_for(Some(self.rng.clone().below(4))),
            83..85 => self.space_for(None),
            85..90 => {
                self.released = self.disk.writer.generation();
                self.disk.writer.release(self.released);
            }
            _ => self.crash(),
        }
    }

    /// Entries, which may be refused, and empty ones, which are not.
    fn append(&mut self, group: u64, len: usize) {
        let index = self.next_index[group as usize - 1];
        let record = append(group, index, 1, len);
        let mut taken = self.submit(record.clone());
        if len == 0 && taken.is_err() {
            // A file is on its way back.
            self.all_background_work();
            taken = self.submit(record);
            assert!(taken.is_ok(), "{}: an empty entry is refused: {taken:?}", self.story);
        }
        self.next_index[group as usize - 1] += u64::from(taken.is_ok());
    }

    fn vote_for(&mut self, terms: u64) {
        for term in 0..terms {
            let vote = state(1, &format!("vote {term} {}", "v".repeat(3000)));
            if self.submit(vote.clone()).is_err() {
                self.all_background_work();
                let taken = self.submit(vote);
                assert!(taken.is_ok(), "{}: a vote is refused: {taken:?}", self.story);
            }
        }
    }

    fn submit(&mut self, record: Record) -> Result<(), SubmitError> {
        if !self.disk.writer.fits(&[record.as_ref()]) {
            self.disk.writer.roll(checkpoint(self.groups));
        }
        let at = self.disk.submit(std::slice::from_ref(&record));
        // Small state is restated by checkpoints.
        let is_log = matches!(record, Record::Log { .. });
        self.waiting.extend(at.clone().ok().filter(|_| is_log).map(|at| (at, record)));
        self.write();
        at.map(drop)
    }

    fn all_background_work(&mut self) {
        while let Some(job) = self.slow.take().or_else(|| self.disk.writer.poll(Now(0))) {
            self.run(job);
        }
    }

    /// Runs what is to be written; of the background work that comes up most is slow.
    fn write(&mut self) {
        while let Some(job) = self.disk.writer.poll(Now(self.disk.now)) {
            if job.is_background() && !self.rng.chance(20) {
                self.slow = Some(job);
                continue;
            }
            self.run(job);
        }
    }

    fn run(&mut self, job: Job) {
        self.disk.now += 1;
        let done = job.run(&self.disk.fs);
        self.disk.writer.done(Now(self.disk.now), done).unwrap();
        let durable = self.disk.writer.durable();
        let (acked, waiting) = self.waiting.drain(..).partition(|(at, _)| *at <= durable);
        self.waiting = waiting;
        self.acked.extend::<Vec<_>>(acked);
    }

    fn work_in_background(&mut self) {
        for _ in 0..1 + self.rng.below(4) {
            if let Some(job) = self.slow.take() {
                self.run(job);
            }
            self.write();
        }
    }

    fn somebody_takes_all_space(&mut self) {
        self.full = true;
        self.disk.fs.set_capacity(Some(self.disk.fs.used()));
    }

    fn space_for(&mut self, files: Option<u64>) {
        self.full = files.is_some();
        let room = files.map(|files| self.disk.fs.used() + files * self.disk.options.file_size);
        self.disk.fs.set_capacity(room);
        self.disk.now += 2_000_000;
    }

    /// Kills the node, or cuts its power, up to a few times before a start comes to its end.
    fn crash(&mut self) {
        for _ in 0..=self.rng.below(3) {
            let fs = self.crashed();
            self.slow = None;
            self.waiting.clear();
            if self.full {
                // What the power took is somebody else's now.
                fs.set_capacity(Some(fs.used()));
            }
            let options = self.disk.options.clone();
            let found = look(&fs, &options);
            let again = found.scan.unproven().to_vec();
            let scan = look(&fs, &options).scan;
            let writer = Writer::resume(scan, options.clone(), checkpoint(self.groups), again);
            self.disk = Disk { fs, options, writer, now: 0 };
            assert!(found.scan.damage.is_empty(), "{}: {}", self.story, found.words());
            self.acked.retain(|(at, _)| at.generation >= self.released);
            for (at, record) in &self.acked {
                assert!(
                    found.seen.has(record),
                    "{}: lost {} of {at:?}",
                    self.story,
                    record.group()
                );
            }
            let jobs = if self.rng.chance(50) { self.rng.below(12) } else { u64::MAX };
            self.start(jobs);
        }
        self.start(u64::MAX);
    }

    fn crashed(&mut self) -> SimFs {
        match self.rng.below(3) {
            0 => self.disk.fs.kill(),
            1 => self.disk.fs.power_cut(|_| Fate::Lost),
            _ => self.disk.fs.power_cut(|_| Fate::Kept),
        }
    }

    fn start(&mut self, jobs: u64) {
        self.starts_on_a_full_disk += u64::from(self.full);
        for _ in 0..jobs {
            if self.disk.writer.is_ready() && self.disk.writer.knows_space() {
                return;
            }
            let job = self.disk.writer.poll(Now(self.disk.now)).unwrap_or_else(|| {
                panic!("{}: no file for a start: {:#?}", self.story, self.disk.fs.files())
            });
            self.run(job);
        }
    }
}

#[test]
fn w35_whoever_fills_the_disk_and_whenever_the_node_is_killed_each_start_finds_a_file() {
    let mut on_a_full_disk = 0;
    for seed in 0..150 {
        let mut walk = Walk::new(seed);
        (0..120).for_each(|_| walk.step());
        on_a_full_disk += walk.starts_on_a_full_disk;
    }
    assert!(on_a_full_disk > 2000, "{on_a_full_disk}");
}
