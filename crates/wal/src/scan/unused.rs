//! Files that nobody uses: which of them the next writer may take.
//!
//! A crash in a renaming may leave the file under both names, and a name is all that a file here
//! is known by. A file taken under one name and again under the other would be two files of the
//! log in one place, the second written over the first. So of the files that may be one and the
//! same by what stands in their first block, one is taken and the other names go.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use refloat_types::Generation;
use refloat_vfs::{OpenOptions, Vfs};

use super::Tail;
use super::chain::Candidate;
use crate::Options;
use crate::format::BLOCK;
use crate::format::file_header::{FileHeader, HeaderSeen};

/// What a directory holds beside the log itself.
#[derive(Debug, Default)]
pub(super) struct Unused {
    /// Pool files, by path.
    pub(super) pool: Vec<PathBuf>,
    /// All numbers that a file has for its name.
    pub(super) numbers: BTreeSet<Generation>,
}

impl Unused {
    /// Chooses what may be used, and what only takes up space.
    pub(super) fn sort_out(
        self,
        vfs: &dyn Vfs,
        options: &Options,
        never_existed: &[Candidate],
        tail: &mut Tail,
    ) {
        // What the files already chosen say that they are; `None` is one that says nothing.
        let mut taken = BTreeSet::new();
        // The highest goes first: renaming it up keeps numbers ascending. Until the next file
        // has its name it must stay, and the lower ones may be other names of it.
        let mut names = never_existed.iter();
        if let Some(last) = names.next_back() {
            taken.insert(last.header);
            tail.pool.push((last.path.clone(), last.len));
        }
        tail.never_used = names.map(|candidate| candidate.path.clone()).collect();
        for path in self.pool {
            let next = Generation(tail.next);
            let (len, header) = look_at(vfs, options, &path);
            let is_free = |number: Generation| number < next && !self.numbers.contains(&number);
            let usable =
                header.is_ok_and(|number| number.is_none_or(is_free) && taken.insert(number));
            match usable {
                true => tail.pool.push((path, len)),
                false => tail.garbage.push(path),
            }
        }
    }
}

/// A file's length, and of which file of this log it has the header: of none, or `Err` where it
/// cannot be read or is not this log's.
fn look_at(vfs: &dyn Vfs, options: &Options, path: &Path) -> (u64, Result<Option<Generation>, ()>) {
    let mut block = vec![0; BLOCK];
    let read = vfs.open(path, OpenOptions::read()).and_then(|file| {
        let len = file.len()?;
        file.read_at(&mut block, 0)?;
        Ok(len)
    });
    let Ok(len) = read else { return (0, Err(())) };
    let header = match FileHeader::read(&block) {
        HeaderSeen::None => Ok(None),
        HeaderSeen::Valid(header) if header.identity == options.identity => Ok(Some(header.file)),
        HeaderSeen::Valid(_) | HeaderSeen::Newer(_) => Err(()),
    };
    (len, header)
}
