//! Bytes that nobody vouches for: no panic, no allocation by an unchecked number.

use proptest::prelude::*;
use refloat_wal::*;

use crate::disk::*;

fn small_log() -> (Disk, Vec<u8>) {
    let mut options = options();
    options.file_size = 16 * 4096;
    let mut disk = Disk::with(options);
    disk.write(&[append(1, 1, 2, 700), state(2, "vote")]);
    disk.write(&[append(1, 3, 1, 3000)]);
    let bytes = disk.fs.contents(disk.newest_file()).unwrap();
    (disk, bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(noise in prop::collection::vec(any::<u8>(), 0..30_000)) {
        let (disk, _) = small_log();
        let fs = disk.fs.fork();
        fs.put(disk.newest_file(), &noise).unwrap();
        let found = try_look(&fs, &disk.options);
        prop_assert!(found.is_ok());
        let (disk, _) = Disk::boot(fs, disk.options.clone());
        prop_assert!(disk.writer.is_ready());
    }

    /// Several hits at once, anywhere: what is given out was written, and a start goes on.
    #[test]
    fn whatever_is_hit_nothing_is_invented(
        hits in prop::collection::vec((0..8 * 4096usize, 1..600usize, any::<u8>()), 1..6)
    ) {
        let (disk, whole) = small_log();
        let mut bytes = whole;
        for (at, len, with) in hits {
            let end = (at + len).min(bytes.len());
            bytes[at..end].fill(with);
        }
        let fs = disk.fs.fork();
        fs.put(disk.newest_file(), &bytes).unwrap();
        let found = look(&fs, &disk.options);
        for (at, _, record, missing) in &found.seen.records {
            let Record::Log { op, .. } = record else { continue };
            prop_assert!(op.entries().iter().all(|entry| entry.is_intact()), "{at}: {missing:?}");
        }
        let (mut disk, _) = Disk::boot(fs, disk.options.clone());
        disk.write(&[append(1, 9, 1, 10)]);
        let (_, again) = disk.reboot();
        prop_assert!(again.seen.has(&append(1, 9, 1, 10)));
        for record in found.scan.unproven() {
            prop_assert!(again.seen.has(record), "{record:?}");
        }
    }
}
