//! Files that nobody uses: which of them the next writer may take.
//!
//! A crash in a renaming may leave the file under both names. A file taken under one name and
//! again under the other would be two files of the log in one place, the second written over the
//! first. So of the names of one file one is taken and the others go. Files are told apart by
//! their numbers in the file system; where those are not known, by what stands in their first
//! block, and all that were never used may then be one.

use std::collections::BTreeSet;
use std::path::PathBuf;

use refloat_planted::{Defect, is};
use refloat_types::Generation;
use refloat_vfs::{OpenOptions, Vfs};

use super::Tail;
use super::chain::Chain;
use crate::Options;
use crate::format::file_header::{FileHeader, HeaderSeen};
use crate::format::{BLOCK, offset_of};

/// What a directory holds beside the log itself.
#[derive(Debug, Default)]
pub(super) struct Unused {
    /// Pool files, by path.
    pub(super) pool: Vec<Looked>,
    /// Files that were being prepared, by path.
    pub(super) parts: Vec<Looked>,
    /// All numbers that a file has for its name.
    pub(super) numbers: BTreeSet<Generation>,
}

impl Unused {
    /// Chooses what may be used, and what only takes up space.
    pub(super) fn sort_out(self, options: &Options, chain: &Chain, tail: &mut Tail) {
        // A file of the log whose header a power cut took says no more whose it is.
        let in_use = chain.present().map(|member| Known::of(member.candidate.number(), None));
        let mut taken: BTreeSet<Known> =
            in_use.filter(|known| matches!(known, Known::Number(_))).collect();
        // The highest goes first: renaming it up keeps numbers ascending. Until the next file
        // has its name it must stay, and the lower ones may be other names of it. Any of them may
        // be the second name of a file of the log that was released, whose first one came back.
        let names = &chain.never_existed;
        let first = names.iter().rposition(|candidate| {
            let is_own = |header| header == candidate.generation;
            match candidate.number() {
                Some(number) => taken.insert(Known::Number(number)),
                None => candidate.header.is_none_or(|h| is_own(h) || !self.numbers.contains(&h)),
            }
        });
        if let Some(first) = first.and_then(|at| names.get(at)) {
            taken.insert(Known::of(first.number(), first.header));
            tail.pool.push((first.path.clone(), first.len));
        }
        let others = names.iter().enumerate().filter(|(at, _)| Some(*at) != first);
        tail.never_used = others.map(|(_, candidate)| candidate.path.clone()).collect();
        for Looked { path, len, number, header } in self.pool {
            let next = Generation(tail.next);
            let is_free = |number: Generation| number < next && !self.numbers.contains(&number);
            let usable = header.is_ok_and(|header| {
                header.is_none_or(is_free) && taken.insert(Known::of(number, header))
            });
            match usable {
                true => tail.pool.push((path, len)),
                false => tail.garbage.push(path),
            }
        }
        for Looked { path, len, number, header } in self.parts {
            let usual = offset_of(options.file_blocks());
            match (number, header) {
                // It is going to be written: it must be known to be no other file of the log, and
                // be as long as one of them.
                (Some(number), Ok(None))
                    if len >= usual
                        && len.is_multiple_of(BLOCK as u64)
                        && !is(Defect::ClaimForgotten)
                        && taken.insert(Known::Number(number)) =>
                {
                    tail.parts.push((path, len));
                }
                _ => tail.garbage.push(path),
            }
        }
    }
}

/// What a file without use is told from others by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// Its number in the file system.
    Number(u64),
    /// Of which file of the log it has the header; `None` is one that says nothing.
    Header(Option<Generation>),
}

impl Known {
    fn of(number: Option<u64>, header: Option<Generation>) -> Known {
        number.map_or(Known::Header(header), Known::Number)
    }
}

/// What is seen of a file that is not a part of the log.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) path: PathBuf,
    len: u64,
    /// Its number in the file system.
    pub(super) number: Option<u64>,
    /// Of which file of this log it has the header: of none, or `Err` where it cannot be read or
    /// is not this log's.
    header: Result<Option<Generation>, ()>,
}

impl Looked {
    pub(super) fn at(vfs: &dyn Vfs, options: &Options, path: PathBuf) -> Looked {
        let mut block = vec![0; BLOCK];
        let read = vfs.open(&path, OpenOptions::read()).and_then(|file| {
            let len = file.len()?;
            file.read_at(&mut block, 0)?;
            Ok((len, file.number()))
        });
        let Ok((len, number)) = read else {
            return Looked { path, len: 0, number: None, header: Err(()) };
        };
        let header = match FileHeader::read(&block) {
            HeaderSeen::None => Ok(None),
            HeaderSeen::Valid(header) if header.identity == options.identity => {
                Ok(Some(header.file))
            }
            HeaderSeen::Valid(_) | HeaderSeen::Newer(_) => Err(()),
        };
        Looked { path, len, number, header }
    }
}
