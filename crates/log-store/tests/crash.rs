//! Crash images of the whole store: stop a workload at every file operation, build the disk
//! states that a power cut may leave, boot each, and compare with what was acknowledged.

mod support;

use refloat_log_store::tools;
use refloat_types::{Index, IndexSet, LogOp};
use support::*;

/// What is done to the disk, step by step, until something fails.
type Script = fn(&mut Disk) -> Result<(), String>;

fn text<E: std::fmt::Debug>(e: E) -> String {
    format!("{e:?}")
}

struct Counts {
    stops: u64,
    images: u64,
}

/// How many times deeper than the bounded slice: `cargo xtask crash --deep` asks for more.
#[allow(clippy::disallowed_methods, reason = "the depth of a run comes from the environment")]
fn deeper() -> u64 {
    let asked = std::env::var("REFLOAT_CRASH_DEEP").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// How many images of each stop are tried.
fn depth(images_per_stop: usize) -> usize {
    images_per_stop * deeper() as usize
}

/// Says how far a deep run is, for who waits for it.
fn tell_progress(name: &str, stop: u64, total: u64, counts: &Counts) {
    if deeper() > 1 && counts.stops.is_multiple_of(64) {
        eprintln!("{name}: {stop} of {total} stops, {} images", counts.images);
    }
}

/// How long an enumeration takes is told to people, and decides nothing.
#[allow(clippy::disallowed_methods)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

/// One line of the table that `cargo xtask crash` prints.
fn tell(name: &str, counts: &Counts, since: std::time::Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("crash: {name}: {} stops, {} images, {seconds:.1} s", counts.stops, counts.images);
}

/// Runs `script` once in full to count its operations, then again for each place to stop.
fn at_every_stop(name: &str, images_per_stop: usize, every: u64, script: Script) -> Counts {
    let since = clock();
    let mut whole = Disk::small();
    let start = whole.fs.op_count();
    script(&mut whole).expect("the script runs without a crash");
    let total = whole.fs.op_count() - start;
    let mut counts = Counts { stops: 0, images: 0 };
    for stop in (1..=total).step_by(every as usize) {
        let mut disk = Disk::small();
        disk.fs.crash_at(disk.fs.op_count() + stop);
        let _ = script(&mut disk);
        let acked = disk.acked();
        tell_progress(name, stop, total, &counts);
        counts.stops += 1;
        for image in disk.fs.crash_images(depth(images_per_stop)) {
            counts.images += 1;
            let story = image.story();
            let check = recover_twice(image, &disk, acked);
            if let Err(why) = check {
                panic!("{name}: stopped at operation {stop} of {total}; {story}\n{why}");
            }
        }
    }
    tell(name, &counts, since);
    counts
}

/// Crashes inside the boot that follows a crash: the script is stopped somewhere, the disk is left
/// as a kill or a power cut leaves it, and the boot over it, with the jobs behind it, is stopped
/// at every operation again.
fn at_every_stop_of_the_boot(
    name: &str,
    images_per_stop: usize,
    every: u64,
    script: Script,
) -> Counts {
    let since = clock();
    let mut whole = Disk::small();
    let start = whole.fs.op_count();
    script(&mut whole).expect("the script runs without a crash");
    let total = whole.fs.op_count() - start;
    let mut counts = Counts { stops: 0, images: 0 };
    for stop in (1..=total).step_by(every as usize) {
        let left = || {
            let mut disk = Disk::small();
            disk.fs.crash_at(disk.fs.op_count() + stop);
            let _ = script(&mut disk);
            disk
        };
        let before = left();
        let acked = before.acked();
        for power in [false, true] {
            let image = || match power {
                true => before.fs.power_cut(|_| refloat_vfs::Fate::Lost),
                false => before.fs.fork().kill(),
            };
            let mut counted = Disk::on(image(), &before.options);
            let start = counted.fs.op_count();
            boot_and_work(&mut counted).unwrap_or_else(|e| panic!("{name}: stop {stop}: {e}"));
            for second in 1..=counted.fs.op_count() - start {
                let mut disk = Disk::on(image(), &before.options);
                disk.fs.crash_at(disk.fs.op_count() + second);
                let _ = boot_and_work(&mut disk);
                tell_progress(name, stop, total, &counts);
                counts.stops += 1;
                for image in disk.fs.crash_images(depth(images_per_stop)) {
                    counts.images += 1;
                    let story = image.story();
                    if let Err(why) = recover_twice(image, &before, acked) {
                        panic!("{name}: stopped at {stop}, its boot at {second}; {story}\n{why}");
                    }
                }
            }
        }
    }
    tell(name, &counts, since);
    counts
}

fn boot_and_work(disk: &mut Disk) -> Result<(), String> {
    disk.boot().map_err(text)?;
    disk.sync().map_err(text)
}

/// Reads an image in full, boots it, kills it again, boots it again: same answer, and one that the
/// history allows.
fn recover_twice(image: refloat_vfs::SimFs, before: &Disk, acked: usize) -> Result<(), String> {
    // What a start believes and what reading everything says are two ways to one answer.
    let checked = tools::check(&image, &before.options, &mut |_| ()).map_err(|e| e.to_string())?;
    if !checked.is_clean() || !checked.contradictions.is_empty() {
        return Err(format!("not clean: {checked}"));
    }
    let mut disk = Disk::on(image, &before.options);
    let boot = disk.boot().map_err(|e| format!("boot refused: {e}"))?;
    let first = disk.observed(&boot)?;
    explain(&before.history, acked, &first)?;
    disk.kill();
    let boot = disk.boot().map_err(|e| format!("second boot refused: {e}"))?;
    let second = disk.observed(&boot)?;
    if first != second {
        return Err(format!("the second boot found {second:?}\nthe first {first:?}"));
    }
    Ok(())
}

fn appends_and_votes(disk: &mut Disk) -> Result<(), String> {
    let (a, b) = (group(1), group(2));
    disk.create_group(a).map_err(text)?;
    disk.create_group(b).map_err(text)?;
    disk.vote(a, 1).map_err(text)?;
    disk.try_append(a, 1, 2, 100).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.try_append(b, 1, 1, 6000).map_err(text)?;
    disk.vote(b, 2).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.append_after(a, id(1, 1), 2, 2, 50).map_err(text)?;
    disk.vote(a, 2).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.idle().map_err(text)
}

fn rolls_and_flushes(disk: &mut Disk) -> Result<(), String> {
    let (a, b) = (group(1), group(2));
    disk.create_group(a).map_err(text)?;
    disk.create_group(b).map_err(text)?;
    for _ in 0..4 {
        disk.try_append(a, 1, 5, 3000).map_err(text)?;
        disk.try_append(b, 1, 1, 3000).map_err(text)?;
        disk.sync().map_err(text)?;
    }
    // Overwrites what is partly in a segment already, and leaves a log that is shorter. Once that is
    // flushed, and while nothing more comes, only the cut of its segment hides the old end.
    disk.append_after(a, id(1, 3), 2, 1, 200).map_err(text)?;
    disk.sync().map_err(text)?;
    for _ in 0..4 {
        disk.try_append(b, 1, 1, 18_000).map_err(text)?;
        disk.sync().map_err(text)?;
    }
    disk.try_append(a, 2, 1, 9000).map_err(text)?;
    disk.sync().map_err(text)
}

fn snapshots_and_compaction(disk: &mut Disk) -> Result<(), String> {
    let a = group(1);
    disk.create_group(a).map_err(text)?;
    for _ in 0..4 {
        for _ in 0..3 {
            disk.try_append(a, 1, 3, 4000).map_err(text)?;
            disk.sync().map_err(text)?;
        }
        disk.snapshot(a, IndexSet::new()).map_err(text)?;
    }
    disk.try_append(a, 1, 1, 10).map_err(text)?;
    disk.sync().map_err(text)
}

/// Values and votes through several files of both logs.
fn values_and_votes(disk: &mut Disk) -> Result<(), String> {
    let (a, b) = (group(1), group(2));
    disk.create_group(a).map_err(text)?;
    disk.create_group(b).map_err(text)?;
    for round in 0..10 {
        disk.put_value(a, &format!("value {round} {}", "x".repeat(4000))).map_err(text)?;
        if round % 3 == 0 {
            disk.vote(a, round + 1).map_err(text)?;
            disk.put_value(b, &format!("b {round}")).map_err(text)?;
        }
        if round % 4 == 0 {
            disk.try_append(b, 1, 1, 3000).map_err(text)?;
        }
        disk.sync().map_err(text)?;
    }
    disk.idle().map_err(text)
}

/// Snapshots of a leader: received, installed over a log that does not reach them, overtaking a
/// local one, with live entries that come first.
fn installs(disk: &mut Disk) -> Result<(), String> {
    let a = group(1);
    disk.create_group(a).map_err(text)?;
    disk.try_append(a, 1, 4, 100).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.snapshot(a, IndexSet::new()).map_err(text)?;
    disk.receive(a, id(2, 20), IndexSet::new()).map_err(text)?;
    disk.install(a, id(2, 20)).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.try_append(a, 2, 4, 5000).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.receive(a, id(2, 23), IndexSet::new()).map_err(text)?;
    disk.install(a, id(2, 23)).map_err(text)?;
    disk.sync().map_err(text)?;
    for _ in 0..4 {
        disk.try_append(a, 2, 2, 8000).map_err(text)?;
        disk.sync().map_err(text)?;
    }
    Ok(())
}

/// Suffixes cut and overwritten across memtables and segments.
fn truncates_and_overwrites(disk: &mut Disk) -> Result<(), String> {
    let a = group(1);
    disk.create_group(a).map_err(text)?;
    for term in 1..6 {
        disk.try_append(a, term, 4, 3500).map_err(text)?;
        disk.sync().map_err(text)?;
        let last = disk.model()[&a].last();
        let from = Index(last.index.0 - 1);
        disk.write(a, None, Some(LogOp::Cut { from })).map_err(text)?;
        disk.sync().map_err(text)?;
        let prev = disk.model()[&a].log[&Index(from.0 - 2)].id;
        disk.append_after(a, prev, term, 3, 3000).map_err(text)?;
        disk.sync().map_err(text)?;
    }
    disk.idle().map_err(text)
}

fn groups_come_and_go(disk: &mut Disk) -> Result<(), String> {
    let (a, b) = (group(1), group(2));
    disk.create_group(a).map_err(text)?;
    disk.try_append(a, 1, 1, 10).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.create_group(b).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.try_append(b, 1, 2, 7000).map_err(text)?;
    disk.sync().map_err(text)?;
    disk.delete_group(b).map_err(text)?;
    disk.sync().map_err(text)?;
    for _ in 0..3 {
        disk.try_append(a, 1, 2, 9000).map_err(text)?;
        disk.sync().map_err(text)?;
    }
    Ok(())
}

#[test]
fn appends_votes_and_overwrites_survive_a_power_cut_at_every_operation() {
    let counts = at_every_stop("append", 40, 1, appends_and_votes);
    assert!(counts.stops > 5 && counts.images > 100, "{} images", counts.images);
}

#[test]
fn the_value_of_a_group_survives_a_power_cut_at_every_operation() {
    let counts = at_every_stop("group values", 12, 1, values_and_votes);
    assert!(counts.stops > 50, "{} stops", counts.stops);
}

#[test]
fn g01_crash_at_every_step_of_roll_over_and_flush_loses_nothing() {
    let counts = at_every_stop("roll-over and flush", 12, 1, rolls_and_flushes);
    assert!(counts.stops > 40, "{} stops", counts.stops);
}

#[test]
fn n01_crash_at_every_step_of_snapshot_publish_and_compaction_loses_nothing() {
    let counts = at_every_stop("snapshot and compaction", 8, 1, snapshots_and_compaction);
    assert!(counts.stops > 50, "{} stops", counts.stops);
}

#[test]
fn n01_crash_at_every_step_of_receiving_and_installing_loses_nothing() {
    let counts = at_every_stop("snapshot install", 8, 1, installs);
    assert!(counts.stops > 50, "{} stops", counts.stops);
}

#[test]
fn crash_at_every_step_of_truncation_and_overwrite_mixes_nothing() {
    let counts = at_every_stop("truncation and overwrite", 8, 1, truncates_and_overwrites);
    assert!(counts.stops > 30, "{} stops", counts.stops);
}

#[test]
fn w26_crash_at_every_step_of_the_boot_after_a_crash_loses_nothing() {
    let mut stops = 0;
    let scripts: [(&str, Script); 4] = [
        ("boot after append", appends_and_votes),
        ("boot after flush", rolls_and_flushes),
        ("boot after snapshot", snapshots_and_compaction),
        ("boot after install", installs),
    ];
    for (name, script) in scripts {
        let every = (13 / deeper()).max(1);
        stops += at_every_stop_of_the_boot(name, 2, every, script).stops;
    }
    assert!(stops > 100, "{stops} stops");
}

#[test]
fn s07_crash_at_every_step_of_creating_a_group_leaves_it_whole_or_absent() {
    let counts = at_every_stop("groups", 20, 1, groups_come_and_go);
    assert!(counts.stops > 30, "{} stops", counts.stops);
}

#[test]
fn g15_a_segment_whose_name_was_never_synced_is_not_trusted_before_it_is() {
    // Killed between the rename and the sync of its directory, booted, flushed, released, and
    // only then the power goes.
    let make = |stop: Option<u64>| -> (Disk, bool) {
        let mut disk = Disk::small();
        disk.create_group(group(1)).unwrap();
        if let Some(stop) = stop {
            disk.fs.crash_at(disk.fs.op_count() + stop);
        }
        // Entries fill the first file; the next one holds votes only, so that its flush writes no
        // segment that would make the name durable by accident.
        for round in 0..14 {
            let result = match round {
                0..3 => disk.try_append(group(1), 1, 2, 5000),
                _ => disk.vote(group(1), round),
            };
            if result.map_err(text).and_then(|_| disk.sync().map_err(text)).is_err() {
                return (disk, true);
            }
        }
        (disk, false)
    };
    let mut whole = Disk::small();
    whole.create_group(group(1)).unwrap();
    let before = whole.fs.op_count();
    let (whole, crashed) = make(None);
    assert!(!crashed);
    let total = whole.fs.op_count() - before;
    for stop in 1..=total {
        let (mut disk, crashed) = make(Some(stop));
        if !crashed {
            continue;
        }
        let acked = disk.acked();
        let history = disk.history.clone();
        disk.kill();
        let boot = disk.boot().unwrap();
        let found = disk.observed(&boot).unwrap();
        explain(&history, acked, &found).unwrap_or_else(|e| panic!("stop {stop}: {e}"));
        disk.sync().unwrap();
        for image in disk.fs.crash_images(12) {
            let story = image.story();
            let mut back = Disk::on(image, &disk.options);
            let boot = back.boot().unwrap_or_else(|e| panic!("stop {stop}: {story}: {e}"));
            let again =
                back.observed(&boot).unwrap_or_else(|e| panic!("stop {stop}: {story}: {e}"));
            assert_eq!(again, found, "stop {stop}: {story}");
        }
    }
}

/// The two logs are written by lanes that do not wait for each other.
#[test]
fn s07_a_vote_is_not_durable_before_the_registration_of_its_group() {
    let other = group(9);
    for (value, roll) in [(false, false), (true, false), (false, true)] {
        let mut disk = Disk::small();
        disk.create_group(other).unwrap();
        disk.sync().unwrap();
        // A vote that waits already, and one that waits behind it in the other order.
        disk.vote(other, 1).unwrap();
        disk.create_group(group(1)).unwrap();
        match value {
            true => drop(disk.put_value(group(1), "a vote in other words").unwrap()),
            false => drop(disk.vote(group(1), 1).unwrap()),
        }
        for term in 2..if roll { 40 } else { 3 } {
            disk.vote(other, term).unwrap();
        }
        let kept = disk.sync_without(refloat_log_store::Lane::Wal).unwrap();
        assert!(!kept.is_empty(), "the registration is not written");
        for image in disk.fs.crash_images(60) {
            let story = image.story();
            let mut back = Disk::on(image, &disk.options);
            let boot = back.boot().unwrap_or_else(|e| panic!("{story}: {e}"));
            back.history[0].1.insert(other, GroupModel::default());
            if !boot.groups.iter().any(|g| g.key == group(1)) {
                back.create_group(group(1)).unwrap_or_else(|e| panic!("{story}: {e}"));
            }
            back.vote(group(1), 1).unwrap();
            back.sync().unwrap();
        }
        for job in kept {
            disk.run(job).unwrap();
        }
        disk.sync().unwrap();
        assert_eq!(disk.acked() + 1, disk.history.len(), "nothing waits for ever");
    }
}

#[test]
fn s08_a_power_cut_right_after_the_first_ack_of_a_new_group_keeps_its_registration() {
    let mut disk = Disk::small();
    disk.create_group(group(1)).unwrap();
    let ticket = disk.append(group(1), 1, 1, 100);
    disk.sync().unwrap();
    assert!(disk.store().durable() >= ticket, "acknowledged");
    let image = disk.fs.power_cut(|_| refloat_vfs::Fate::Lost);
    let mut back = Disk::on(image, &disk.options);
    let boot = back.boot().unwrap();
    assert_eq!(boot.groups.len(), 1, "{}", boot.report);
    assert_eq!(back.read_log(group(1), Index(1)).unwrap().len(), 1);
}
