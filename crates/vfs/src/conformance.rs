//! What holds on every file system, tried on both.

use std::io::ErrorKind;
use std::path::Path;

use crate::{AlignedBuf, BLOCK_LEN, FileError, OpenOptions, OsFs, SimFs, Vfs};

#[test]
fn the_real_file_system_conforms() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    conforms(&OsFs, dir.path());
}

#[test]
fn the_simulated_file_system_conforms() {
    let fs = SimFs::new();
    fs.create_dir(Path::new("/data")).expect("a directory for the test");
    conforms(&fs, Path::new("/data"));
}

fn conforms(fs: &dyn Vfs, dir: &Path) {
    reads_and_writes(fs, dir);
    stretches(fs, dir);
    lengths(fs, dir);
    opening(fs, dir);
    names(fs, dir);
    locks(fs, dir);
    direct(fs, dir);
    errors_name_operation_and_path(fs, dir);
    assert!(fs.available_space(dir).unwrap() > 0);
}

fn reads_and_writes(fs: &dyn Vfs, dir: &Path) {
    for options in [OpenOptions::create_new(), OpenOptions::create_new().durable()] {
        let path = dir.join(if options.durable { "durable" } else { "plain" });
        let file = fs.open(&path, options).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"hello", 10).unwrap();
        file.write_at(b"J", 10).unwrap();
        file.write_at(b"", 10_000).unwrap();
        assert_eq!(file.len().unwrap(), 15, "an empty write does not grow the file");

        let mut buf = [1; 20];
        assert_eq!(file.read_at(&mut buf, 5).unwrap(), 10);
        assert_eq!(&buf[..11], b"\0\0\0\0\0Jello\x01");
        assert_eq!(file.read_at(&mut buf, 15).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, 1 << 20).unwrap(), 0);

        let big: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        file.write_at(&big, 4090).unwrap();
        let mut back = vec![0; big.len()];
        assert_eq!(file.read_at(&mut back, 4090).unwrap(), big.len());
        assert_eq!(back, big);
        file.sync_data().unwrap();
        file.drop_cache();

        let again = fs.open(&path, OpenOptions::read()).unwrap();
        assert_eq!(again.len().unwrap(), 4090 + 20_000);
        assert_eq!(again.read_at(&mut back, 4090).unwrap(), big.len());
        assert_eq!(back, big);
        assert!(again.write_at(b"x", 0).is_err(), "opened for reading");
        assert!(again.set_len(0).is_err(), "opened for reading");
    }
}

fn stretches(fs: &dyn Vfs, dir: &Path) {
    let path = dir.join("stretches");
    let file = fs.open(&path, OpenOptions::create_new()).unwrap();
    let content: Vec<u8> = (0..10 * BLOCK_LEN as u32 + 100).map(|n| (n / 16) as u8).collect();
    file.write_at(&content, 0).unwrap();
    let Some(mut ahead) = file.stretches(BLOCK_LEN as u64, 3 * BLOCK_LEN) else { return };
    let (mut read, mut held) = (Vec::new(), AlignedBuf::default());
    for blocks in [3, 3, 3, 0, 0] {
        ahead.next(&mut held).unwrap();
        assert_eq!(held.blocks(), blocks);
        read.extend_from_slice(&held);
    }
    assert!(read == content[BLOCK_LEN..10 * BLOCK_LEN], "the last partial block is left out");

    fs.rename(&path, &dir.join("elsewhere")).unwrap();
    assert!(file.stretches(0, BLOCK_LEN).is_none(), "under its name it is not found any more");
    fs.open(&path, OpenOptions::create_new()).unwrap();
    assert!(file.stretches(0, BLOCK_LEN).is_none(), "nor is another one read for it");
}

fn lengths(fs: &dyn Vfs, dir: &Path) {
    let file = fs.open(&dir.join("lengths"), OpenOptions::create_new()).unwrap();
    file.write_at(&[7; 6000], 0).unwrap();
    file.set_len(5000).unwrap();
    file.set_len(9000).unwrap();
    let mut buf = vec![1; 10_000];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 9000);
    assert!(buf[..5000].iter().all(|&b| b == 7), "kept");
    assert!(buf[5000..9000].iter().all(|&b| b == 0), "cut away bytes do not come back");

    file.set_len(3).unwrap();
    file.write_at(b"x", 100).unwrap();
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 101);
    assert_eq!(&buf[..5], &[7, 7, 7, 0, 0], "nor by a write behind the end");

    file.allocate(8192).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
    file.allocate(4096).unwrap();
    assert_eq!(file.len().unwrap(), 8192, "allocation never shrinks");
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8192);
    assert_eq!((buf[2], buf[100], buf[101], buf[8191]), (7, b'x', 0, 0));
    assert_eq!(file.allocate(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    file.sync_data().unwrap();
    file.set_len(0).unwrap();
    assert!(file.is_empty().unwrap());
}

fn opening(fs: &dyn Vfs, dir: &Path) {
    let kind =
        |path: &str, options| fs.open(&dir.join(path), options).map(|_| ()).unwrap_err().kind();
    assert_eq!(kind("absent", OpenOptions::read()), ErrorKind::NotFound);
    assert_eq!(kind("absent", OpenOptions::write()), ErrorKind::NotFound);
    assert_eq!(kind("absent/file", OpenOptions::create_new()), ErrorKind::NotFound);
    fs.open(&dir.join("opening"), OpenOptions::create_new()).unwrap();
    assert_eq!(kind("opening", OpenOptions::create_new()), ErrorKind::AlreadyExists);
    assert_eq!(kind("opening/file", OpenOptions::read()), ErrorKind::NotADirectory);
    let create = OpenOptions { create: true, ..OpenOptions::write() };
    fs.open(&dir.join("opening"), create).unwrap().write_at(b"kept", 0).unwrap();
    assert_eq!(fs.open(&dir.join("opening"), create).unwrap().len().unwrap(), 4);
    let wrong = OpenOptions { create: true, ..OpenOptions::read() };
    assert_eq!(kind("wrong", wrong), ErrorKind::InvalidInput);
    let wrong = OpenOptions { create_new: true, ..OpenOptions::write() };
    assert_eq!(kind("wrong", wrong), ErrorKind::InvalidInput);
    assert!(!fs.exists(&dir.join("wrong")).unwrap());
}

fn names(fs: &dyn Vfs, dir: &Path) {
    let sub = dir.join("names");
    fs.create_dir(&sub).unwrap();
    assert_eq!(fs.create_dir(&sub).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs.create_dir(&dir.join("no/sub")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(fs.list(&sub).unwrap().is_empty());
    assert_eq!(fs.list(&dir.join("no")).unwrap_err().kind(), ErrorKind::NotFound);

    for name in ["b", "a", "c"] {
        let file = fs.open(&sub.join(name), OpenOptions::create_new()).unwrap();
        file.write_at(name.as_bytes(), 0).unwrap();
    }
    fs.create_dir(&sub.join("ab")).unwrap();
    let listed = ["a", "ab", "b", "c"].map(|name| sub.join(name));
    assert_eq!(fs.list(&sub).unwrap(), listed);
    fs.sync_dir(&sub).unwrap();
    assert_eq!(fs.sync_dir(&dir.join("no")).unwrap_err().kind(), ErrorKind::NotFound);

    // An open handle follows its file, not the name.
    let b = fs.open(&sub.join("b"), OpenOptions::write()).unwrap();
    fs.rename(&sub.join("a"), &sub.join("b")).unwrap();
    fs.sync_dir(&sub).unwrap();
    let mut buf = [0; 1];
    b.write_at(b"B", 0).unwrap();
    fs.open(&sub.join("b"), OpenOptions::read()).unwrap().read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"a");
    b.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"B");
    fs.rename(&sub.join("b"), &sub.join("b")).unwrap();

    fs.rename(&sub.join("c"), &sub.join("ab/c")).unwrap();
    assert!(!fs.exists(&sub.join("c")).unwrap());
    assert!(fs.exists(&sub.join("ab/c")).unwrap() && fs.exists(&sub).unwrap());
    let absent = fs.rename(&sub.join("c"), &sub.join("d")).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
    assert_eq!(fs.remove_file(&sub.join("c")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(fs.remove_file(&sub.join("ab")).is_err(), "directories are no files");
    fs.remove_file(&sub.join("ab/c")).unwrap();
    assert_eq!(fs.list(&sub.join("ab")).unwrap(), Vec::<std::path::PathBuf>::new());
}

fn locks(fs: &dyn Vfs, dir: &Path) {
    let path = dir.join("LOCK");
    let lock = fs.lock(&path).unwrap();
    assert!(fs.exists(&path).unwrap());
    assert_eq!(fs.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    let lock = fs.lock(&path).unwrap();
    drop(lock);
}

fn direct(fs: &dyn Vfs, dir: &Path) {
    let path = dir.join("direct");
    let mut buf = AlignedBuf::with_capacity(2);
    buf.resize(2);
    buf.fill(3);
    let file = match fs.open(&path, OpenOptions::create_new().durable().direct()) {
        Ok(file) => file,
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput), "{e}");
            assert!(!fs.exists(&path).unwrap(), "a refused open leaves nothing behind");
            return;
        }
    };
    file.write_at(&buf, BLOCK_LEN as u64).unwrap();
    let refused = |result: std::io::Result<()>| {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    };
    refused(file.write_at(&buf, 512));
    refused(file.write_at(&buf[..512], 0));
    refused(file.write_at(&buf[1..=BLOCK_LEN], 0));
    refused(file.read_at(&mut buf[..100], 0).map(|_| ()));
    buf.resize(4);
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 3 * BLOCK_LEN);
    assert_eq!((buf[0], buf[BLOCK_LEN]), (0, 3));
    file.set_len(BLOCK_LEN as u64 + 100).unwrap();
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), BLOCK_LEN + 100, "the end may be unaligned");
}

fn errors_name_operation_and_path(fs: &dyn Vfs, dir: &Path) {
    let path = dir.join("nowhere.wal");
    let error = fs.open(&path, OpenOptions::read()).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("open ") && text.contains("nowhere.wal"), "{text}");
    let file_error = error.get_ref().and_then(|e| e.downcast_ref::<FileError>()).unwrap();
    assert_eq!((file_error.operation(), file_error.path()), ("open", path.as_path()));
    assert!(std::error::Error::source(file_error).is_some());
}

#[test]
fn a_lock_names_its_holder() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let path = dir.path().join("LOCK");
    let _lock = OsFs.lock(&path).unwrap();
    let error = OsFs.lock(&path).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains(&format!("process {}", std::process::id())), "{error}: {cause}");
}

#[test]
fn who_is_refused_the_lock_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let path = dir.path().join("LOCK");
    let pid = std::process::id().to_string();
    let bytes = || std::fs::read_to_string(&path).expect("read the lock file");
    std::fs::write(&path, "417").expect("the number of a process that was killed");

    let lock = OsFs.lock(&path).unwrap();
    assert_eq!(bytes(), pid, "the holder's, not the dead one's");
    std::fs::write(&path, "12345678901234567890").expect("a note to recognise");
    OsFs.lock(&path).unwrap_err();
    assert_eq!(bytes(), "12345678901234567890");

    drop(lock);
    assert_eq!(bytes(), "417", "a start that gives the lock back has changed nothing");
    drop(OsFs.lock(&path).unwrap());
    assert_eq!(bytes(), "417");
}
