//! Which files are the log: each names the next, and the next names the one before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_types::{Generation, Identity};
use refloat_vfs::{AlignedBuf, OpenOptions, Vfs, VfsFile};

use super::file::Limit;
use super::parse::FileReader;
use super::window::{Source, Window};
use crate::format::file_header::{FileHeader, HeaderSeen, Previous};
use crate::format::link::{Link, LinkSeen};
use crate::format::sector::Classifier;
use crate::format::{FIRST_BATCH_BLOCK, LINK_BLOCK, VERSION};
use crate::{Options, ScanError};

/// A file whose name says that it is a part of the log.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) generation: Generation,
    pub(crate) path: PathBuf,
    /// `None` where it cannot be opened: all of it is damage then.
    file: Option<Arc<dyn VfsFile>>,
    pub(crate) len: u64,
    pub(crate) link: LinkSeen,
    /// Of which file its first block is the header, be it of an earlier use.
    pub(crate) header: Option<Generation>,
    /// How long it should be, in blocks.
    pub(crate) blocks: u32,
    /// What its header, or its first batch, says of the file before.
    pub(crate) previous: Option<Previous>,
    first_batch: bool,
    later_batches: bool,
    hurt_first_batch: bool,
    /// Whether block 0 is a header of this log or what was there before it.
    is_ours: bool,
    identity: Identity,
}

/// One link of the chain.
#[derive(Debug)]
pub(crate) enum Place {
    Present(Member),
    /// Something proves that it existed.
    Missing(Generation, &'static str),
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) candidate: Candidate,
    /// Whether the link of the file before names it.
    pub(crate) named: bool,
    pub(crate) limit: Option<Limit>,
}

/// The chain, and what is not part of it.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    pub(crate) places: Vec<Place>,
    pub(crate) never_existed: Vec<Candidate>,
    pub(crate) strays: Vec<PathBuf>,
    /// The newest file's link block is gone: a next file may have been, too.
    pub(crate) link_lost: bool,
}

/// A file that stands under a name, or belongs there.
pub(crate) enum Opened {
    Candidate(Box<Candidate>),
    /// Its header says that it belongs under this higher number.
    Misnamed(Misnamed),
}

/// A file whose header has a higher number than its name.
#[derive(Debug)]
pub(crate) struct Misnamed {
    pub(crate) header: Generation,
    pub(crate) path: PathBuf,
    /// What tells the file from others.
    pub(crate) number: Option<u64>,
}

impl Candidate {
    /// Opens a file and reads what it says about itself and its neighbours.
    ///
    /// # Errors
    /// It belongs to somebody else, or is of a newer format.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        options: &Options,
        generation: Generation,
        path: &Path,
    ) -> Result<Opened, ScanError> {
        let file = vfs.open(path, OpenOptions::read()).ok();
        let len = file.as_ref().and_then(|file| file.len().ok());
        let mut candidate = Candidate {
            generation,
            path: path.to_path_buf(),
            len: len.unwrap_or(0),
            file: file.filter(|_| len.is_some()),
            link: LinkSeen::Lost,
            header: None,
            blocks: options.file_blocks(),
            previous: None,
            first_batch: false,
            later_batches: false,
            hurt_first_batch: true,
            is_ours: false,
            identity: options.identity,
        };
        let Some(file) = candidate.file.clone() else {
            return Ok(Opened::Candidate(Box::new(candidate)));
        };
        let mut reader = candidate.reader(&file);
        let seen = FileHeader::read(reader.window.blocks(0, 1));
        if let HeaderSeen::Valid(header) = seen {
            candidate.header = Some(header.file);
        }
        let header = match seen {
            HeaderSeen::Newer(found) => {
                return Err(ScanError::NewerFormat {
                    path: path.to_path_buf(),
                    found,
                    supported: VERSION,
                });
            }
            HeaderSeen::Valid(header) if header.identity != options.identity => {
                return Err(ScanError::Foreign {
                    path: path.to_path_buf(),
                    found: Box::new(header.identity),
                    expected: Box::new(options.identity),
                });
            }
            HeaderSeen::Valid(header) if header.file > generation => {
                let (path, number) = (path.to_path_buf(), candidate.number());
                return Ok(Opened::Misnamed(Misnamed { header: header.file, path, number }));
            }
            HeaderSeen::Valid(header) if header.file == generation => Some(header),
            // A recycled file between its renaming and the first byte of its new use.
            HeaderSeen::Valid(_) | HeaderSeen::None => None,
        };
        candidate.read_head(&mut reader, header, options);
        Ok(Opened::Candidate(Box::new(candidate)))
    }

    fn read_head(
        &mut self,
        reader: &mut FileReader<'_>,
        header: Option<FileHeader>,
        options: &Options,
    ) {
        let have = reader.window.file_blocks();
        let before = reader.survey(0, 1).iter().all(|block| block.bad == 0);
        self.is_ours = header.is_some() || before || self.len == 0;
        let mut classifier = Classifier::new(options.identity, self.generation.0);
        let bytes = reader.window.blocks(LINK_BLOCK, 1).to_vec();
        let readable = !bytes.is_empty() && !reader.window.is_unreadable(LINK_BLOCK);
        self.link = Link::read(&mut classifier, readable.then_some(&bytes[..]));
        let first = reader.header_at(FIRST_BATCH_BLOCK).map(|(first, _)| first);
        let first = first.filter(|first| first.batch == 1);
        self.previous =
            header.map(|h| h.previous).or_else(|| first.as_ref().map(|first| first.previous));
        let told = header.map(|h| h.blocks).or_else(|| first.map(|first| first.file_blocks));
        self.blocks = told.unwrap_or_else(|| have.max(options.file_blocks()));
        self.first_batch = reader.batch_at(FIRST_BATCH_BLOCK, 1, have).is_ok();
        if self.first_batch {
            self.hurt_first_batch = false;
            return;
        }
        let end = self.blocks.min(have);
        let seen = reader.survey(FIRST_BATCH_BLOCK, end);
        self.later_batches = seen.iter().any(|block| block.high > 1);
        let region = match first {
            Some(first) => first.blocks as usize,
            None => seen.iter().rposition(|block| block.low == 1).unwrap_or(0) + 1,
        };
        let all_own =
            region <= seen.len() && seen.iter().take(region).all(|b| b.before == 0 && b.bad == 0);
        let cut_off = header.is_some() && have < self.blocks;
        self.hurt_first_batch =
            all_own || cut_off || seen.iter().take(region).any(|block| block.bad != 0);
    }

    /// What tells the file from others, whatever its names; `None` where that is not known.
    pub(crate) fn number(&self) -> Option<u64> {
        self.file.as_ref().and_then(|file| file.number())
    }

    fn reader<'a>(&self, file: &'a dyn Source) -> FileReader<'a> {
        FileReader::new(Window::new(file, self.len), self.identity, self.generation.0)
    }

    /// Runs something over the file's batches; a file that cannot be opened has none.
    pub(crate) fn with_reader<T>(&self, run: impl FnOnce(&mut FileReader<'_>) -> T) -> T {
        match &self.file {
            Some(file) => run(&mut self.reader(file)),
            None => run(&mut self.reader(&AlignedBuf::default())),
        }
    }

    /// Whether the file itself shows that something was acknowledged in it or behind it.
    fn was_in_use(&self) -> bool {
        self.later_batches || matches!(self.link, LinkSeen::Valid(_) | LinkSeen::Written)
    }

    fn names(&self, generation: Generation) -> bool {
        self.previous.is_some_and(|previous| previous.file == generation.0)
    }

    fn next(&self) -> Option<Generation> {
        match self.link {
            LinkSeen::Valid(link) => Some(Generation(link.next)),
            _ => None,
        }
    }
}

impl Place {
    pub(crate) fn generation(&self) -> Generation {
        match self {
            Place::Present(member) => member.candidate.generation,
            Place::Missing(generation, _) => *generation,
        }
    }
}

impl Chain {
    /// The files that are there, ascending.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Member> {
        self.places.iter().filter_map(|place| match place {
            Place::Present(member) => Some(member),
            Place::Missing(..) => None,
        })
    }

    /// Orders candidates, ascending, into the chain. `misnamed`: files that stand under lower
    /// numbers than their headers say.
    pub(crate) fn resolve(candidates: Vec<Candidate>, misnamed: &[Misnamed]) -> Chain {
        let mut chain = Chain::default();
        // A file that never existed says nothing of the one before it: neither may have been synced.
        let says = |c: &Candidate| c.previous.filter(|_| c.first_batch || c.was_in_use());
        let named_later: Vec<Option<Previous>> = candidates.iter().map(says).collect();
        for (at, candidate) in candidates.into_iter().enumerate() {
            let mut later = named_later.iter().skip(at + 1).flatten();
            let is_named_later = later.any(|previous| previous.file == candidate.generation.0);
            chain.take(candidate, is_named_later);
        }
        chain.look_for_missing_ends();
        for file in misnamed {
            chain.note_elsewhere(file.header);
        }
        chain.keep_what_is_missing();
        chain
    }

    /// A file's header stands under a lower number: a copy, if the file itself is where it should
    /// be or was released; else that is where the file went.
    fn note_elsewhere(&mut self, number: Generation) {
        let behind = self.places.partition_point(|place| place.generation() < number);
        let has_place = self.places.get(behind).is_some_and(|at| at.generation() == number);
        let was_never = self
            .never_existed
            .iter()
            .any(|candidate| candidate.generation == number && candidate.header == Some(number));
        let was_released = behind == 0 && !self.places.is_empty();
        if !has_place && !was_released && !was_never {
            let why = "a file with its header stands under another name";
            self.places.insert(behind, Place::Missing(number, why));
        }
    }

    /// What stands in the place of a missing file is not used again.
    fn keep_what_is_missing(&mut self) {
        let missing = |candidate: &Candidate| {
            self.places.iter().any(|place| place.generation() == candidate.generation)
        };
        let (kept, rest) = std::mem::take(&mut self.never_existed).into_iter().partition(missing);
        self.never_existed = rest;
        self.strays.extend(Vec::into_iter(kept).map(|candidate: Candidate| candidate.path));
    }

    fn take(&mut self, candidate: Candidate, is_named_later: bool) {
        let generation = candidate.generation;
        let next = self.last().and_then(Candidate::next);
        let named = next == Some(generation);
        let skipped = next.is_some_and(|next| next > generation);
        let names_the_last = match self.places.last() {
            None => true,
            Some(Place::Missing(last, _)) => candidate.previous.is_some_and(|p| p.file >= last.0),
            Some(Place::Present(last)) => {
                candidate.previous.is_some_and(|p| p.file >= last.candidate.generation.0)
            }
        };
        let first_of_all =
            self.places.is_empty() && candidate.hurt_first_batch && candidate.is_ours;
        let takes_a_place = self.takes_the_place(&candidate);
        let exists = named
            || takes_a_place
            || (!skipped && candidate.was_in_use())
            || (!skipped && candidate.first_batch && names_the_last)
            || is_named_later && !skipped
            || first_of_all;
        if !exists {
            if candidate.is_ours {
                self.never_existed.push(candidate);
            } else {
                self.strays.push(candidate.path);
            }
            return;
        }
        self.note_gap(&candidate, next, named || takes_a_place);
        self.limit_last(&candidate);
        let limit = match candidate.link {
            LinkSeen::Valid(link) => Some(limit_of(&link)),
            _ => None,
        };
        let named = named || takes_a_place;
        self.places.push(Place::Present(Member { candidate, named, limit }));
    }

    /// Puts in the file that should stand between the last one and this one.
    fn note_gap(&mut self, candidate: &Candidate, next: Option<Generation>, named: bool) {
        let Some(last) = self.last().map(|last| last.generation) else { return };
        if let Some(next) = next.filter(|_| !named) {
            self.places.push(Place::Missing(next, "the link of the file before names it"));
            return;
        }
        let previous = candidate.previous.map(|previous| Generation(previous.file));
        if let Some(previous) = previous.filter(|previous| *previous > last) {
            self.places.push(Place::Missing(previous, "the header of the file behind names it"));
        }
    }

    /// Whether a file stands where the last one's link names another: that one held so little
    /// that this one said it again, and was used anew. The header then names the same end as the
    /// link does.
    fn takes_the_place(&self, candidate: &Candidate) -> bool {
        let Some(last) = self.last() else { return false };
        let (LinkSeen::Valid(link), Some(previous)) = (last.link, candidate.previous) else {
            return false;
        };
        let told = Previous {
            file: last.generation.0,
            end: link.end,
            last: link.last,
            digest: link.digest,
        };
        previous == told && link.next < candidate.generation.0
    }

    /// What the file behind knows of the end of the one before it, where that has no link.
    fn limit_last(&mut self, next: &Candidate) {
        let Some(Place::Present(last)) = self.places.last_mut() else { return };
        let told = next
            .previous
            .filter(|told| next.names(last.candidate.generation) && told.end >= FIRST_BATCH_BLOCK);
        let told = told.map(|told| Limit { end: told.end, last: told.last, digest: told.digest });
        last.limit = last.limit.or(told);
    }

    fn look_for_missing_ends(&mut self) {
        if let [Place::Present(only)] = &self.places[..] {
            let previous = only.candidate.previous.filter(|previous| previous.file != 0);
            if let Some(previous) = previous {
                let why = "the only file left names it, and the two newest are never released";
                self.places.insert(0, Place::Missing(Generation(previous.file), why));
            }
        }
        let Some(Place::Present(last)) = self.places.last_mut() else { return };
        match last.candidate.link {
            LinkSeen::Valid(link) => {
                let next = Generation(link.next);
                self.places.push(Place::Missing(next, "the link of the file before names it"));
            }
            LinkSeen::Written => {
                let next = last.candidate.generation.next();
                let why = "the file before was linked to a next one, its link cannot be read";
                self.places.push(Place::Missing(next, why));
            }
            LinkSeen::Lost => self.link_lost = true,
            LinkSeen::Absent => {}
        }
    }

    fn last(&self) -> Option<&Candidate> {
        self.places.iter().rev().find_map(|place| match place {
            Place::Present(member) => Some(&member.candidate),
            Place::Missing(..) => None,
        })
    }
}

fn limit_of(link: &Link) -> Limit {
    Limit { end: link.end.max(FIRST_BATCH_BLOCK), last: link.last, digest: link.digest }
}
