//! The crash model, piece by piece.

mod crashes;
mod faults;
mod images;
mod model;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::{OpenOptions, Vfs, VfsFile};

fn p(path: &str) -> &Path {
    Path::new(path)
}

/// A new file whose name is durable.
fn create(fs: &SimFs, path: &str) -> Arc<dyn VfsFile> {
    let file = fs.open(p(path), OpenOptions::create_new()).unwrap();
    fs.sync_dir(p(path).parent().unwrap()).unwrap();
    file
}

fn write(file: &Arc<dyn VfsFile>, offset: u64, bytes: &[u8]) {
    file.write_at(bytes, offset).unwrap();
}

fn sector(fill: u8) -> [u8; SECTOR_LEN] {
    [fill; SECTOR_LEN]
}

/// The contents after everything undecided is lost, if the file is still there.
fn if_all_is_lost(fs: &SimFs, path: &str) -> Option<Vec<u8>> {
    fs.fork().power_cut(|_| Fate::Lost).contents(path).ok()
}
