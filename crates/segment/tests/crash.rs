//! Every disk state that a crash may leave, at every step of writing and of compacting.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::*;
use refloat_segment::{
    Keep, Limits, Part, Segment, SegmentError, SegmentName, SegmentSet, list, plan_compaction,
    recover, remove_files,
};
use refloat_types::{Entry, GroupKey, Index, IndexSet};
use refloat_vfs::{Fate, Fault, ImageOptions, OpKind, OpenOptions, SimFs, Unit, Vfs, is_crash};

const IMAGES_PER_STEP: usize = 200;

fn first() -> Vec<Part> {
    vec![appended(1, 1..=40, 1), appended(2, 1..=5, 1)]
}

fn second() -> Vec<Part> {
    vec![appended(1, 30..=60, 2), filled(2, &[3], 2)]
}

fn images(fs: &SimFs) -> impl Iterator<Item = SimFs> {
    let mut options = ImageOptions::new(IMAGES_PER_STEP);
    options.garbage = true;
    options.torn = true;
    fs.crash_images_with(options)
}

/// Stops `work` at each of its operations, and calls `check` with every disk state that this may
/// leave, and with whether the work was done. Returns how many states there were.
fn at_every_step(
    base: &SimFs,
    work: impl Fn(&SimFs) -> Result<(), SegmentError>,
    check: impl Fn(&SimFs, bool),
) -> usize {
    let start = base.op_count();
    let whole = base.fork();
    work(&whole).expect("the work succeeds when nothing fails");
    let (end, mut count) = (whole.op_count(), 0);
    assert!(end - start >= 4, "there are steps to stop at");
    for step in start..=end {
        let fs = base.fork();
        fs.crash_at(step);
        let result = work(&fs);
        assert_eq!(result.is_ok(), step == end, "step {step}");
        if let Err(error) = &result {
            assert!(is_crash(error), "{error}");
        }
        for image in images(&fs) {
            check(&image, step == end);
            count += 1;
        }
    }
    count
}

/// What boot finds: every file under a segment's name is sealed and whole, whatever happened.
fn sealed_ones(fs: &SimFs) -> BTreeMap<SegmentName, Segment> {
    let mut sealed = BTreeMap::new();
    for found in list(fs, dir(), identity()).expect("list") {
        let Some(name) = found.name else {
            assert_eq!(found.path.extension().and_then(|e| e.to_str()), Some("tmp"));
            continue;
        };
        let segment =
            found.result.expect("named").unwrap_or_else(|e| panic!("{e}: {}", fs.story()));
        segment.verify().unwrap_or_else(|e| panic!("{e}: {}", fs.story()));
        sealed.insert(name, segment);
    }
    sealed
}

fn remove_leftovers(fs: &SimFs) {
    for found in list(fs, dir(), identity()).expect("list") {
        if found.name.is_none() {
            fs.remove_file(&found.path).expect("remove a leftover");
        }
    }
}

#[test]
fn g01_crash_at_every_step_of_a_flush() {
    let base = disk();
    flush(&base, 1, first());
    base.clear_ops();
    let work = |fs: &SimFs| try_flush(fs, 2, second()).map(drop);
    let count = at_every_step(&base, work, |image, done| {
        let sealed = sealed_ones(image);
        let contents_of = |n| sealed.get(&name(n, 0)).map(|s| contents(s).unwrap());
        assert_eq!(contents_of(1), Some(as_contents(&first())), "{}", image.story());
        match contents_of(2) {
            Some(found) => assert_eq!(found, as_contents(&second()), "{}", image.story()),
            None => assert!(!done, "a finished segment is gone: {}", image.story()),
        }
        // Recovery: what is seen is made durable, leftovers go, and where the segment is not
        // there it is made again.
        recover(image, dir(), identity()).expect("recover");
        remove_leftovers(image);
        if !sealed.contains_key(&name(2, 0)) {
            flush(image, 2, second());
        }
        let after = image.power_cut(|_| Fate::Lost);
        assert_eq!(contents(&sealed_ones(&after)[&name(2, 0)]).unwrap(), as_contents(&second()));
    });
    println!("{count} disk states");
    assert!(count > 200, "{count}");
}

#[test]
fn g02_a_lost_name_is_a_lost_file_and_nothing_else() {
    let fs = disk();
    flush(&fs, 1, first());
    let steps = fs.op_count();
    let twin = fs.fork();
    flush(&twin, 2, second());
    let last = twin.op_count() - 1;
    assert!(last > steps);
    fs.crash_at(last); // the directory's sync
    let error = try_flush(&fs, 2, second()).unwrap_err();
    assert!(matches!(error, SegmentError::Io { action: "sync", .. }), "{error}");
    let lost = fs.power_cut(|unit| match unit {
        Unit::Renamed { .. } => Fate::Lost,
        _ => Fate::Kept,
    });
    assert!(!lost.exists(&path(2, 0)).unwrap());
    assert_eq!(sealed_ones(&lost).len(), 1);
    // An unpublished second file of the same name is replaced.
    flush(&lost, 2, second());
    flush(&lost, 2, second());
    assert_eq!(sealed_ones(&lost).len(), 2);
}

#[test]
fn an_overlong_leftover_of_an_earlier_try_does_not_shine_through() {
    let fs = disk();
    let temp = format!("{}.tmp", path(1, 0).display());
    fs.put(&temp, &vec![0xee; 1 << 20]).unwrap();
    flush(&fs, 1, first());
    assert_eq!(contents(&open(&fs, 1).unwrap()).unwrap(), as_contents(&first()));
}

#[test]
fn w16_no_space_is_typed_leaves_nothing_and_passes() {
    let base = disk();
    flush(&base, 1, first());
    let (used, mut refused) = (base.used(), 0);
    for room in (0..40 << 10).step_by(4096) {
        let fs = base.fork();
        fs.set_capacity(Some(used + room));
        match try_flush(&fs, 2, second()) {
            Ok(_) => assert_eq!(sealed_ones(&fs).len(), 2),
            Err(error) => {
                assert!(error.is_retryable() && !error.is_corruption(), "{error}");
                assert_eq!(fs.files().len(), 1, "something was left");
                fs.set_capacity(None);
                flush(&fs, 2, second());
                refused += 1;
            }
        }
    }
    assert!(refused > 3 && refused < 10);
}

#[test]
fn an_error_at_any_operation_is_passed_on_and_publishes_nothing_half() {
    let base = disk();
    flush(&base, 1, first());
    base.clear_ops();
    let whole = base.fork();
    flush(&whole, 2, second());
    let kinds: Vec<(OpKind, u64)> = {
        let mut seen = BTreeMap::new();
        let numbered = whole.ops().into_iter().map(|op| {
            let n = seen.entry(op.kind).or_insert(0u64);
            *n += 1;
            (op.kind, *n - 1)
        });
        numbered.collect()
    };
    assert!(kinds.len() > 10);
    for (kind, nth) in kinds {
        let fs = base.fork();
        fs.inject(Fault::on(kind).after(nth));
        let result = try_flush(&fs, 2, second());
        assert_eq!(fs.faults_fired(), 1, "{kind:?} {nth}");
        // Whatever is left, under its final name, is whole; and an error was not swallowed.
        fs.clear_faults();
        sealed_ones(&fs);
        assert!(result.is_err(), "{kind:?} {nth} was swallowed");
    }
}

#[test]
fn what_the_disk_did_not_keep_is_noticed_before_the_file_gets_its_name() {
    // A disk that takes a write, says yes, and holds something else: the read-back sees it.
    let fs = disk();
    let twin = fs.fork();
    flush(&twin, 1, first());
    let bytes = twin.contents(path(1, 0)).unwrap();
    for at in (0..bytes.len()).step_by(997) {
        let lying = common_lying::Lying { inner: disk(), flip: at as u64 };
        let error = refloat_segment::write(
            &lying,
            dir(),
            identity(),
            refloat_types::Generation(1),
            first(),
        );
        assert!(error.is_err(), "byte {at} was wrong on the disk and nobody looked");
        assert!(lying.inner.files().is_empty(), "it got a name");
    }
}

/// A file system that flips one byte of what is written.
mod common_lying {
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    use refloat_vfs::{FileLayer, Layer, OpenOptions, SimFs, Vfs, VfsFile};

    #[derive(Debug)]
    pub struct Lying {
        pub inner: SimFs,
        pub flip: u64,
    }

    #[derive(Debug)]
    struct LyingFile(Arc<dyn VfsFile>, u64);

    impl FileLayer for LyingFile {
        fn below(&self) -> &dyn VfsFile {
            &*self.0
        }

        fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
            let mut bytes = buf.to_vec();
            if let Some(byte) = self.1.checked_sub(offset).and_then(|at| bytes.get_mut(at as usize))
            {
                *byte ^= 0x10;
            }
            self.0.write_at(&bytes, offset)
        }
    }

    impl Layer for Lying {
        fn below(&self) -> &dyn Vfs {
            &self.inner
        }

        fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn VfsFile>> {
            let file = self.inner.open(path, options)?;
            Ok(if options.write { Arc::new(LyingFile(file, self.flip)) } else { file })
        }
    }
}

// ---- compaction ----

fn keep(g: GroupKey) -> Keep {
    let live: IndexSet = [3, 12].map(Index).into_iter().collect();
    if g == group(1) { Keep::Log { above: Index(20), live } } else { Keep::Gone }
}

fn needed(set: &SegmentSet) -> BTreeMap<u64, Entry> {
    let mut log = log_of(set, group(1));
    log.retain(|i, _| *i > 20 || [3, 12].contains(i));
    log
}

/// Stands in for the WAL record that says which segments live: one small file, replaced whole.
fn publish(fs: &SimFs, names: &[SegmentName]) -> std::io::Result<()> {
    let (temp, path) = (Path::new("/live.tmp"), Path::new("/live"));
    let text: String = names.iter().map(|n| format!("{n}\n")).collect();
    let file = match fs.open(temp, OpenOptions::create_new()) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            fs.remove_file(temp)?;
            fs.open(temp, OpenOptions::create_new())?
        }
        other => other?,
    };
    file.write_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    fs.rename(temp, path)?;
    fs.sync_dir(Path::new("/"))
}

fn published(fs: &SimFs) -> Vec<SegmentName> {
    let text = String::from_utf8(fs.contents("/live").expect("published")).unwrap();
    text.lines().map(|l| SegmentName::of_path(Path::new(l)).expect("a name")).collect()
}

fn io(error: std::io::Error) -> SegmentError {
    SegmentError::Io { path: "/live".into(), action: "publish", source: error }
}

/// Boot: the published ones live, all else goes. Then whatever compaction is due, all the way.
fn recover_and_compact(fs: &SimFs) -> Result<SegmentSet, SegmentError> {
    fs.sync_dir(Path::new("/")).map_err(io)?;
    let live = published(fs);
    let mut set = SegmentSet::new();
    let mut retired = Vec::new();
    for found in recover(fs, dir(), identity())? {
        match found.name {
            Some(name) if live.contains(&name) => set.add(Arc::new(found.result.unwrap()?)),
            Some(name) => retired.push(name),
            None => fs.remove_file(&found.path).map_err(io)?,
        }
    }
    assert_eq!(set.len(), live.len(), "a published segment is missing: {}", fs.story());
    remove_files(fs, dir(), &retired)?;
    let mut limits = Limits::default();
    limits.live_percent = 90;
    while let Some(compaction) = plan_compaction(&set, &keep, &limits) {
        let output = compaction.run(fs)?.map(Arc::new);
        set.replace(compaction.inputs(), output);
        publish(fs, &set.iter().map(|s| s.name()).collect::<Vec<_>>()).map_err(io)?;
        remove_files(fs, dir(), compaction.inputs())?;
    }
    Ok(set)
}

#[test]
fn g05_crash_at_every_step_of_compaction() {
    let base = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&base, 1, first()));
    set.add(flush(&base, 2, second()));
    set.add(flush(&base, 3, vec![appended(2, 1..=30, 3)])); // group 2 is gone: all of it is dead
    publish(&base, &set.iter().map(|s| s.name()).collect::<Vec<_>>()).unwrap();
    base.sync_all();
    let expected = needed(&set);
    assert_eq!(expected.len(), 42);
    let bytes_before = set.file_bytes();

    let work = |fs: &SimFs| recover_and_compact(fs).map(drop);
    let count = at_every_step(&base, work, |image, _| {
        let set = recover_and_compact(image).unwrap_or_else(|e| panic!("{e}: {}", image.story()));
        assert_eq!(needed(&set), expected, "{}", image.story());
        assert_eq!(published(image).len(), set.len());
        let after = image.power_cut(|_| Fate::Lost);
        let again =
            recover_and_compact(&after).unwrap_or_else(|e| panic!("{e}: {}", image.story()));
        assert_eq!(needed(&again), expected, "{}", image.story());
        assert!(again.file_bytes() < bytes_before, "nothing was gained");
        // One file per live segment is left, and nothing else.
        assert_eq!(after.list(dir()).unwrap().len(), again.len());
    });
    println!("{count} disk states");
    assert!(count > 200, "{count}");
}

#[test]
fn g05_readers_that_hold_the_inputs_finish_while_they_are_replaced() {
    let fs = disk();
    let mut set = SegmentSet::new();
    set.add(flush(&fs, 1, first()));
    set.add(flush(&fs, 2, second()));
    publish(&fs, &[name(1, 0), name(2, 0)]).unwrap();
    let before = log_of(&set, group(1));
    let held = set.clone();
    let compacted = recover_and_compact(&fs).unwrap();
    assert!(compacted.iter().any(|s| s.name().revision > 0));
    assert_eq!(log_of(&held, group(1)), before);
    assert_eq!(needed(&compacted), needed(&held));
}
