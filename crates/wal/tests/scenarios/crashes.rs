//! Every state of the disk that a crash may leave, at every operation, again and again.

use std::collections::BTreeSet;

use refloat_types::Now;
use refloat_vfs::SimFs;
use refloat_wal::*;

use crate::disk::*;

/// How many disk states are built for one point of crash.
const IMAGES: usize = 60;

/// A log under test: what was written, and up to where it was acknowledged.
struct Run {
    disk: Disk,
    written: Vec<(Lsn, Record)>,
    crashed: bool,
}

impl Run {
    fn new(disk: Disk) -> Run {
        Run { disk, written: Vec::new(), crashed: false }
    }

    fn submit(&mut self, record: Record) {
        if let Ok(at) = self.disk.submit(std::slice::from_ref(&record)) {
            self.written.push((at, record));
        }
    }

    fn settle(&mut self) {
        self.crashed |= self.disk.try_settle().is_err();
    }

    fn acked(&self) -> impl Iterator<Item = &Record> {
        let durable = self.disk.writer.durable();
        self.written.iter().filter(move |(at, _)| *at <= durable).map(|(_, record)| record)
    }
}

/// What a boot must find, whatever the crash left: every acknowledged record, nothing that was
/// not written, in the order of writing, and no damage.
fn check(found: &Found, acked: &[Record], written: &[Record], story: &str) {
    assert!(found.scan.damage.is_empty(), "{story}: false alarm: {}", found.words());
    let data = found.seen.data();
    for record in acked {
        assert!(data.contains(record), "{story}: lost {record:?}");
    }
    let mut rest = written.iter();
    let mut seen = BTreeSet::new();
    for record in &data {
        let words = format!("{record:?}");
        // A record may stand twice where it was written again.
        if seen.insert(words) {
            assert!(rest.any(|written| written == record), "{story}: invented {record:?}");
        }
    }
    assert!(found.scan.strays.is_empty(), "{story}");
}

/// Runs a workload up to each of its operations, and checks all that a crash there may leave.
/// Returns how many points and images there were.
fn crash_everywhere(
    options: &Options,
    prepare: impl Fn() -> (SimFs, Vec<Record>),
    work: impl Fn(&mut Run),
    recover_too: bool,
) -> (u64, u64) {
    let (mut points, mut images) = (0, 0);
    for point in 0.. {
        let (fs, before) = prepare();
        let begun = fs.op_count();
        fs.crash_at(begun + point);
        let mut run = Run::new(Disk::begin(fs, options.clone(), 0).0);
        run.settle();
        if !run.crashed {
            work(&mut run);
        }
        let ready = run.disk.writer.durable() > Lsn::default();
        let mut acked = before.clone();
        acked.extend(run.acked().cloned());
        let mut written = before;
        written.extend(run.written.iter().map(|(_, record)| record.clone()));
        let is_crashed = run.disk.fs.is_crashed();
        points += 1;
        for image in run.disk.fs.crash_images(IMAGES) {
            images += 1;
            let story = format!("point {point}, ready {ready}: {}", image.story());
            let found = look(&image, options);
            check(&found, &acked, &written, &story);
            if recover_too {
                recover_again(image, options, &found, &acked, &written, &story);
            }
        }
        if !is_crashed {
            break;
        }
    }
    (points, images)
}

/// A start that is itself cut off, at a few of its steps, finds the same the next time.
fn recover_again(
    image: SimFs,
    options: &Options,
    first: &Found,
    acked: &[Record],
    written: &[Record],
    story: &str,
) {
    let mut kept = acked.to_vec();
    for point in 0.. {
        let fs = image.fork();
        fs.crash_at(fs.op_count() + point);
        let (mut disk, found) = Disk::begin(fs, options.clone(), 0);
        assert_eq!(found.seen, first.seen, "{story}");
        let crashed = disk.try_settle().is_err();
        if disk.writer.is_ready() {
            // From now on everything found may be acknowledged.
            kept = first.seen.data();
        }
        for second in disk.fs.crash_images(6) {
            let story = format!("{story}; then point {point}: {}", second.story());
            check(&look(&second, options), &kept, written, &story);
        }
        if !crashed {
            break;
        }
    }
}

fn small() -> Options {
    let mut options = options();
    options.file_size = 16 * 4096;
    options
}

fn fresh() -> (SimFs, Vec<Record>) {
    (SimFs::new(), Vec::new())
}

fn appends(run: &mut Run) {
    for n in 0..3 {
        run.submit(append(1, n + 1, 1, 300));
        run.submit(state(2, &format!("vote {n}")));
        run.settle();
    }
    run.submit(append(3, 1, 2, 3000));
    run.settle();
    run.disk.now += 30_000;
    run.settle();
}

fn roll(run: &mut Run) {
    run.submit(append(1, 100, 1, 300));
    run.disk.writer.roll(checkpoint(3));
    run.submit(append(1, 101, 1, 300));
    run.settle();
    run.disk.writer.roll(checkpoint(3));
    run.submit(append(1, 102, 1, 5000));
    run.settle();
    for _ in 0..2 {
        run.disk.writer.roll(checkpoint(3));
        run.settle();
    }
    // Several at once: they go one after the other.
    run.disk.writer.release(run.disk.writer.generation());
    run.settle();
    // This one goes into a recycled file.
    run.disk.writer.roll(checkpoint(3));
    run.submit(append(1, 103, 1, 5000));
    run.settle();
    run.submit(append(1, 104, 1, 100));
    run.settle();
}

#[test]
fn w12_crash_at_every_step_of_append_and_roll_over() {
    for direct in [true, false] {
        let mut options = small();
        options.direct = direct;
        let work = |run: &mut Run| {
            appends(run);
            roll(run);
        };
        // Files never released here: all records are there to be found.
        let (points, images) = crash_everywhere_keeping(&options, work);
        println!("direct {direct}: {points} points, {images} images");
    }
}

/// As [`crash_everywhere`], where files are released on the way: what stood in a file that is
/// gone is not looked for.
fn crash_everywhere_keeping(options: &Options, work: impl Fn(&mut Run)) -> (u64, u64) {
    let (mut points, mut images) = (0, 0);
    for point in 0.. {
        let fs = SimFs::new();
        fs.crash_at(point);
        let mut run = Run::new(Disk::begin(fs, options.clone(), 0).0);
        run.settle();
        if !run.crashed {
            work(&mut run);
        }
        let durable = run.disk.writer.durable();
        let newest = run.disk.writer.generation();
        points += 1;
        for image in run.disk.fs.crash_images(IMAGES) {
            images += 1;
            let found = look(&image, options);
            let story = format!("point {point}: {}", image.story());
            assert!(found.scan.damage.is_empty(), "{story}: {}", found.words());
            assert!(found.scan.strays.is_empty(), "{story}: {:?}", found.scan.strays);
            let oldest = found.seen.files.first().copied().unwrap_or_default();
            for (at, record) in &run.written {
                let kept = at.generation >= oldest || at.generation.next() >= newest;
                let must = *at <= durable && kept;
                assert!(!must || found.seen.has(record), "{story}: lost {record:?} of {at}");
            }
            for (at, trust, record, _) in &found.seen.records {
                let is_ours = run.written.iter().any(|(lsn, ours)| lsn == at && ours == record);
                let is_checkpoint = at.batch == 1;
                assert!(is_ours || is_checkpoint, "{story}: invented {record:?} at {at}");
                assert_ne!(*trust, Trust::Salvaged, "{story}");
            }
        }
        if !run.disk.fs.is_crashed() {
            break;
        }
    }
    (points, images)
}

#[test]
fn w12_crash_at_every_step_of_append_and_of_the_start_behind_it() {
    let (points, images) = crash_everywhere(&small(), fresh, appends, true);
    println!("{points} points, {images} images");
}

#[test]
fn w26_crash_at_every_step_of_a_start_leaves_the_verdict_as_it_was() {
    // (What became of the last batch, what every start must say until one is through.)
    type Hurt = fn(&mut [u8]);
    let cases: [(&str, Hurt); 4] = [
        ("whole", |_| ()),
        ("torn", |batch| batch[4096..8192].fill(0)),
        ("suspect", |batch| batch[4096..8192].fill(0x77)),
        ("suspect, owners unknown", |batch| batch.fill(0x77)),
    ];
    for (name, hurt) in cases {
        let mut disk = Disk::with(small());
        let acked = [append(1, 1, 1, 300), state(2, "vote")];
        disk.write(&acked);
        let at = disk.write(&[append(3, 1, 2, 4000)]);
        let start = disk.block_of(at) as usize * 4096;
        disk.hurt(|bytes| hurt(&mut bytes[start..start + 3 * 4096]));
        let fs = disk.kill();
        let before = look(&fs, &small());
        let mut points = 0;
        for point in 0.. {
            let fs = fs.fork();
            fs.crash_at(fs.op_count() + point);
            let (mut disk, _) = Disk::begin(fs, small(), 0);
            let through = disk.try_settle().is_ok();
            points += 1;
            let was_ready = disk.writer.durable() > Lsn::default();
            for image in disk.fs.crash_images(IMAGES) {
                let story = format!("{name}, point {point}: {}", image.story());
                let found = look(&image, &small());
                let next_exists = found.seen.files.len() > 1;
                assert!(next_exists || !was_ready, "{story}");
                if !next_exists {
                    let (old, new) = (&before.scan.files[0], &found.scan.files[0]);
                    assert_eq!(old.verdict, new.verdict, "{story}");
                    assert_eq!(before.scan.damage, found.scan.damage, "{story}");
                    assert_eq!(before.seen, found.seen, "{story}");
                    assert_eq!(before.scan.unproven(), found.scan.unproven(), "{story}");
                }
                let again = if next_exists { before.scan.unproven() } else { &[] };
                for record in again.iter().chain(&acked) {
                    assert!(found.seen.has(record), "{story}: lost {record:?}");
                }
                let torn_was_torn = name == "torn" && !next_exists;
                let first = found.scan.files[0].verdict;
                assert_eq!(matches!(first, Verdict::Torn { .. }), torn_was_torn, "{story}");
            }
            if through {
                break;
            }
        }
        assert!(points > 5, "{name}: {points} points");
    }
}

#[test]
fn w26_any_number_of_starts_that_do_not_get_through_use_bounded_space() {
    let mut disk = Disk::with(small());
    disk.write(&[append(1, 1, 1, 300)]);
    let mut fs = disk.kill();
    let files = fs.files().len();
    for _ in 0..20 {
        let (mut disk, found) = Disk::begin(fs, small(), 0);
        assert!(found.seen.has(&append(1, 1, 1, 300)));
        // Dies in the middle of writing its first file.
        let job = disk.writer.poll(Now(0)).expect("the link");
        disk.fs.crash_at(disk.fs.op_count() + 2);
        let _ = disk.writer.done(Now(0), job.run(&disk.fs));
        fs = disk.fs.power_cut(|_| refloat_vfs::Fate::Lost);
        assert!(fs.files().len() <= files, "{:?}", fs.files());
    }
}
