//! Disks that fail: a write, a sync, a rename.

use std::io::ErrorKind;

use refloat_types::Now;
use refloat_vfs::{Fault, OpKind, SimFs};
use refloat_wal::*;

use crate::disk::*;

#[test]
fn w15_a_write_that_failed_once_is_never_trusted_again() {
    for direct in [true, false] {
        let mut options = options();
        options.direct = direct;
        let mut disk = Disk::with(options.clone());
        let acked = append(1, 1, 1, 100);
        disk.write(std::slice::from_ref(&acked));
        let kind = if direct { OpKind::Write } else { OpKind::Sync };
        disk.fs.inject(Fault::on(kind).path(".wal"));
        let lost = append(1, 2, 1, 100);
        let at = disk.submit(std::slice::from_ref(&lost)).unwrap();
        let poisoned = disk.try_settle().unwrap_err();
        assert!(poisoned.to_string().contains("must stop"), "{poisoned}");
        // The disk works again. The log does not.
        assert!(disk.writer.durable() < at);
        assert!(!disk.writer.is_ready());
        let refused = disk.submit(&[append(1, 3, 1, 1)]).unwrap_err();
        assert!(matches!(refused, SubmitError::Poisoned(_)));
        assert!(disk.writer.poll(Now(disk.now + 1_000_000)).is_none());
        for image in disk.fs.crash_images(200) {
            let story = image.story();
            let (disk, found) = Disk::boot(image, options.clone());
            assert!(found.seen.has(&acked), "{story}");
            assert!(found.scan.damage.is_empty(), "{story}: {}", found.words());
            if found.seen.has(&lost) {
                assert_eq!(found.seen.trust_of(&lost), Some(Trust::Unproven), "{story}");
                assert!(disk.find().seen.has(&lost), "{story}: taken over by writing it again");
            }
        }
    }
}

#[test]
fn w15_a_failed_link_or_directory_sync_poisons() {
    for fault in [
        Fault::on(OpKind::SyncDir),
        Fault::on(OpKind::Rename).path("pool-2.tmp"),
        Fault::on(OpKind::Write).path("00002.wal"),
        Fault::on(OpKind::Write).path("00001.wal"),
    ] {
        let mut disk = Disk::new();
        let acked = append(1, 1, 1, 100);
        disk.write(std::slice::from_ref(&acked));
        disk.fs.inject(fault);
        disk.writer.roll(checkpoint(3));
        let unacked = append(1, 2, 1, 100);
        let at = disk.submit(std::slice::from_ref(&unacked)).unwrap();
        assert!(disk.try_settle().is_err());
        assert!(disk.writer.durable() < at);
        let (_, found) = disk.reboot();
        assert!(found.seen.has(&acked) && !found.seen.has(&unacked));
        assert!(found.scan.damage.is_empty(), "{}", found.words());
    }
}

/// Found by the simulator: a file whose recycling failed kept its name and its link, the next
/// one was recycled, and the boot missed the file that the link names.
#[test]
fn w15_a_failed_recycling_poisons_before_a_younger_file_goes() {
    for kind in [OpKind::Rename, OpKind::SyncDir] {
        let mut disk = Disk::new();
        for index in 1..=4 {
            disk.write(&[append(1, index, 1, 100)]);
            disk.roll();
        }
        let newest = disk.writer.generation();
        disk.fs.inject(Fault::on(kind));
        disk.writer.release(newest);
        assert!(disk.try_settle().is_err(), "{kind:?}");
        let (_, found) = disk.reboot();
        assert!(found.scan.damage.is_empty(), "{kind:?}: {}", found.words());
    }
}

#[test]
fn an_error_other_than_no_space_while_preparing_poisons() {
    let mut disk = Disk::new();
    disk.fs.inject(Fault::on(OpKind::Allocate).error(ErrorKind::Other));
    disk.writer.roll(checkpoint(3));
    assert!(disk.try_settle().is_err());
}

#[test]
fn a_file_system_without_direct_mode_is_written_through_the_cache() {
    let fs = SimFs::new();
    fs.set_direct_supported(false);
    let (mut disk, _) = Disk::boot(fs, options());
    let acked = append(1, 1, 3, 5000);
    disk.write(std::slice::from_ref(&acked));
    let cut = disk.fs.power_cut(|_| refloat_vfs::Fate::Lost);
    assert!(look(&cut, &options()).seen.has(&acked));
}
