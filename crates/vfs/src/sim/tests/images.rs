use std::collections::BTreeSet;

use super::*;

/// Writes a new value in the way that is safe, or with one step left out.
fn replace(fs: &SimFs, skip: Option<OpKind>) -> std::io::Result<()> {
    let file = fs.open(p("/tmp"), OpenOptions::create_new())?;
    file.write_at(&[2; 1024], 0)?;
    if skip != Some(OpKind::Sync) {
        file.sync_data()?;
    }
    fs.rename(p("/tmp"), p("/value"))?;
    if skip != Some(OpKind::SyncDir) {
        fs.sync_dir(p("/"))?;
    }
    Ok(())
}

/// All values that any crash at any operation of a replacement leaves, and those after its end.
fn outcomes(skip: Option<OpKind>) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
    let start = SimFs::new();
    start.put("/value", &[1; 1024]).unwrap();
    let whole = start.fork();
    replace(&whole, skip).unwrap();
    let mut during = BTreeSet::new();
    for k in 0..whole.op_count() {
        let fs = start.fork();
        fs.crash_at(k);
        assert!(is_crash(&replace(&fs, skip).unwrap_err()));
        during.extend(fs.crash_images(1000).map(|image| image.contents("/value").unwrap()));
    }
    let after = whole.crash_images(1000).map(|image| image.contents("/value").unwrap());
    (during, after.collect())
}

#[test]
fn the_images_hold_the_bad_outcome_of_a_skipped_sync() {
    let (old, new) = (vec![1; 1024], vec![2; 1024]);
    let (during, after) = outcomes(None);
    assert_eq!(during, [old.clone(), new.clone()].into());
    assert_eq!(after, [new.clone()].into());

    let (during, after) = outcomes(Some(OpKind::Sync));
    assert!(during.contains(&vec![]) && during.contains(&vec![0; 1024]), "name without content");
    assert!(after.contains(&[sector(0), sector(2)].concat()), "half of the content");

    let (_, after) = outcomes(Some(OpKind::SyncDir));
    assert_eq!(after, [old, new].into(), "the acknowledged value is gone");
}

#[test]
fn up_to_twelve_units_give_every_combination_once() {
    let fs = SimFs::new();
    fs.put("/a", &[1; 12 * SECTOR_LEN]).unwrap();
    let file = fs.open(p("/a"), OpenOptions::write()).unwrap();
    for n in 0..12 {
        write(&file, n * SECTOR_LEN as u64, &sector(2));
    }
    let options = ImageOptions { kills: false, zeroed: false, ..ImageOptions::new(4096) };
    let images: BTreeSet<Vec<u8>> =
        fs.crash_images_with(options).map(|image| image.contents("/a").unwrap()).collect();
    assert_eq!(images.len(), 1 << 12);
    let all = fs.crash_images(4096).count();
    assert_eq!(all, (1 << 12) + 1 + 13, "and a kill, and thirteen ways to zero a sector");
}

#[test]
fn many_units_give_the_extremes_the_deviations_and_samples() {
    let fs = SimFs::new();
    fs.put("/a", &[1; 20 * SECTOR_LEN]).unwrap();
    write(&fs.open(p("/a"), OpenOptions::write()).unwrap(), 0, &[2; 20 * SECTOR_LEN]);
    let images = |limit| {
        let options = ImageOptions { kills: false, zeroed: false, ..ImageOptions::new(limit) };
        let changed = |image: SimFs| {
            let bytes = image.contents("/a").unwrap();
            bytes.chunks(SECTOR_LEN).map(|sector| sector[0] == 2).collect::<Vec<bool>>()
        };
        fs.crash_images_with(options).map(changed).collect::<Vec<_>>()
    };
    let wide: BTreeSet<Vec<bool>> = images(2000).into_iter().collect();
    let having =
        |n: usize| wide.iter().filter(move |bits| bits.iter().filter(|&&b| b).count() == n);
    assert_eq!((having(0).count(), having(20).count()), (1, 1));
    assert_eq!((having(1).count(), having(19).count()), (20, 20));
    assert_eq!((having(2).count(), having(18).count()), (190, 190));
    assert!(having(10).count() > 5);
    assert_eq!(images(50).len(), 50);
    assert_eq!(images(50), images(50), "the same each time");
}

#[test]
fn every_image_tells_its_story_and_is_decided() {
    let fs = SimFs::new();
    let file = fs.open(p("/a"), OpenOptions::create_new()).unwrap();
    fs.crash_at(fs.op_count());
    assert!(file.write_at(&[1; 1024], 0).is_err());
    let images: Vec<SimFs> = fs.crash_images(1000).collect();
    let stories: BTreeSet<String> = images.iter().map(SimFs::story).collect();
    assert_eq!(stories.len(), images.len(), "{stories:#?}");
    assert!(stories.iter().all(|story| story.starts_with("during [1: write /a at 0+1024] ")));
    for image in images.iter().filter(|image| image.story().contains("power cut")) {
        assert_eq!(image.undecided(), []);
        assert!(!image.is_crashed() && image.op_count() == 0);
    }
    let torn_kill = images.iter().any(|image| image.contents("/a").is_ok_and(|b| b.len() == 512));
    assert!(torn_kill, "a kill can tear a write in the cache");
}

#[test]
fn garbage_and_torn_sectors_come_on_request() {
    let fs = SimFs::new();
    fs.put("/a", &sector(1)).unwrap();
    write(&fs.open(p("/a"), OpenOptions::write()).unwrap(), 0, &sector(2));
    let odd = |options: ImageOptions| {
        let plain = [sector(0), sector(1), sector(2)];
        fs.crash_images_with(options)
            .filter(|image| !plain.iter().any(|p| image.contents("/a").unwrap() == p))
            .count()
    };
    assert_eq!(odd(ImageOptions::new(100)), 0);
    assert_eq!(odd(ImageOptions { garbage: true, torn: true, ..ImageOptions::new(100) }), 2);
}

#[test]
fn thousands_of_images_of_a_megabyte_are_quick() {
    let fs = SimFs::new();
    fs.put("/a", &vec![1; 1 << 20]).unwrap();
    write(&fs.open(p("/a"), OpenOptions::write()).unwrap(), 1 << 19, &[2; 64 << 10]);
    let images: Vec<SimFs> = fs.crash_images(3000).collect();
    assert_eq!(images.len(), 3000);
}

#[test]
fn seeded_cuts_repeat() {
    let fs = SimFs::new();
    fs.put("/a", &[1; 10_000]).unwrap();
    write(&fs.open(p("/a"), OpenOptions::write()).unwrap(), 0, &[2; 10_000]);
    let cut = |seed| fs.power_cut_random(&mut crate::Rng::new(seed)).state_hash();
    assert_eq!(cut(3), cut(3));
    let different: BTreeSet<u64> = (0..50).map(cut).collect();
    assert!(different.len() > 10, "{}", different.len());
}
