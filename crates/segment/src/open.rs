//! From bytes that nobody vouches for to an open segment.

use std::path::Path;
use std::sync::Arc;

use refloat_types::Identity;
use refloat_vfs::{OpenOptions, Vfs, VfsFile};

use crate::format::{
    BLOCK_LEN, BlockFault, Extent, FOOTER_MAGIC, HEADER_MAGIC, Head, Layout, VERSION,
};
use crate::frame::Fault;
use crate::index::{GroupBlock, IndexTable};
use crate::{Segment, SegmentError, SegmentName};

type Footer = Result<(Head, Extent), BlockFault>;

pub(crate) fn open(
    vfs: &dyn Vfs,
    path: &Path,
    identity: Identity,
) -> Result<Segment, SegmentError> {
    let file = vfs.open(path, OpenOptions::read()).map_err(SegmentError::io(path, "open"))?;
    let len = file.len().map_err(SegmentError::io(path, "read length of"))?;
    let raw = Unopened { path, file, identity, len };
    let (head, extent, footer_impaired) = raw.footer()?;
    raw.check_owner(&head)?;
    let layout = raw.layout(extent)?;
    // The footer says all that the header says, so a header that cannot be read costs nothing.
    let header = (head.clone(), Extent::default());
    let header_impaired = !raw.header().is_ok_and(|found| found == Ok(header));
    let salt = head.salt();
    let (index, index_impaired) = raw.index(salt, extent, layout)?;
    let impaired = footer_impaired || header_impaired || index_impaired;
    let (path, file) = (path.to_path_buf(), raw.file);
    Ok(Segment { path, file, head, salt, extent, layout, index, impaired })
}

/// A file of which only the length is known.
struct Unopened<'a> {
    path: &'a Path,
    file: Arc<dyn VfsFile>,
    identity: Identity,
    len: u64,
}

impl Unopened<'_> {
    /// The first footer copy that verifies, and whether the other one is damaged. One that cannot
    /// be read is as good as damaged; if neither can, that is an error of the disk and says nothing
    /// about whether the file was sealed. So is one that is whole and of another file, where a
    /// misdirected or lost write left it, as long as the other copy is this file's.
    fn footer(&self) -> Result<(Head, Extent, bool), SegmentError> {
        let mut copies = [2, 1].map(|from_end| self.footer_at(from_end * BLOCK_LEN as u64));
        if !self.is_ours(&copies[0]) && self.is_ours(&copies[1]) {
            copies.reverse();
        }
        match copies {
            [Ok(Ok((head, extent))), other] => {
                let same = other.is_ok_and(|o| o.is_ok_and(|o| o == (head.clone(), extent)));
                Ok((head, extent, !same))
            }
            [_, Ok(Ok((head, extent)))] => Ok((head, extent, true)),
            [Err(error), _] | [_, Err(error)] => Err(error),
            [Ok(Err(BlockFault::Version(found))), _] | [_, Ok(Err(BlockFault::Version(found)))] => {
                Err(self.unknown_version(found))
            }
            [Ok(Err(BlockFault::Bad)), Ok(Err(BlockFault::Bad))] => Err(self.unsealed()?),
        }
    }

    fn is_ours(&self, copy: &Result<Footer, SegmentError>) -> bool {
        matches!(copy, Ok(Ok((head, _))) if self.check_owner(head).is_ok())
    }

    fn footer_at(&self, from_end: u64) -> Result<Footer, SegmentError> {
        match self.len.checked_sub(from_end) {
            Some(at) => Ok(Head::decode(&self.block(at)?, FOOTER_MAGIC)),
            None => Ok(Err(BlockFault::Bad)),
        }
    }

    /// Why a file without a footer is none of ours, or that it was never sealed.
    fn unsealed(&self) -> Result<SegmentError, SegmentError> {
        let header = self.header()?;
        if let Err(BlockFault::Version(found)) = header {
            return Err(self.unknown_version(found));
        }
        if let Ok((head, _)) = &header {
            self.check_owner(head)?;
        }
        let (path, len) = (self.path.to_path_buf(), self.len);
        Ok(SegmentError::Unsealed { path, len, has_header: header.is_ok() })
    }

    fn header(&self) -> Result<Footer, SegmentError> {
        Ok(Head::decode(&self.block(0)?, HEADER_MAGIC))
    }

    fn check_owner(&self, head: &Head) -> Result<(), SegmentError> {
        let path = self.path.to_path_buf();
        if head.identity != self.identity {
            let (expected, found) = (Box::new(self.identity), Box::new(head.identity));
            return Err(SegmentError::Foreign { path, expected, found });
        }
        match SegmentName::of_path(self.path) {
            Some(expected) if expected != head.name => {
                Err(SegmentError::Misnamed { path, expected, found: head.name })
            }
            _ => Ok(()),
        }
    }

    fn unknown_version(&self, found: u32) -> SegmentError {
        SegmentError::Version { path: self.path.to_path_buf(), found, expected: VERSION }
    }

    /// A footer stands at the end of the file it speaks of, so a file that became longer or shorter
    /// has none.
    fn layout(&self, extent: Extent) -> Result<Layout, SegmentError> {
        let layout = Layout::of(extent).filter(|layout| layout.file_len == self.len);
        let unsealed = || {
            let (path, len) = (self.path.to_path_buf(), self.len);
            SegmentError::Unsealed { path, len, has_header: true }
        };
        layout.ok_or_else(unsealed)
    }

    /// Reads the first index copy, and for every block that does not verify the second one.
    fn index(
        &self,
        salt: u32,
        extent: Extent,
        layout: Layout,
    ) -> Result<(IndexTable, bool), SegmentError> {
        let first = Vec::new();
        let mut copies =
            IndexCopies { raw: self, extent, layout, first, second: None, unreadable: false };
        copies.first = copies.read(layout.index[0]);
        let mut table = IndexTable::default();
        let mut at = 0;
        for _ in 0..extent.groups {
            let (block, len) = copies.block(at, salt)?;
            table.push(block).map_err(|fault| copies.error(at, fault))?;
            at += len;
        }
        let totals = [
            ("index length", extent.index_len, at as u64),
            ("number of entries", extent.entries, table.entries()),
            ("data length", layout.data_end, table.data_end()),
        ];
        for (what, expected, found) in totals {
            if expected != found {
                return Err(copies.error(at, Fault { what, expected, found }));
            }
        }
        let impaired = copies.second.is_some() || copies.unreadable;
        Ok((table, impaired))
    }

    fn block(&self, at: u64) -> Result<Vec<u8>, SegmentError> {
        let mut block = vec![0; BLOCK_LEN];
        let read = self.file.read_at(&mut block, at);
        let len = read.map_err(SegmentError::io(self.path, "read"))?;
        block.truncate(len);
        Ok(block)
    }
}

struct IndexCopies<'a> {
    raw: &'a Unopened<'a>,
    extent: Extent,
    layout: Layout,
    first: Vec<u8>,
    /// Read only when the first copy is damaged.
    second: Option<Vec<u8>>,
    /// Whether a read failed, even if the next try did not.
    unreadable: bool,
}

impl IndexCopies<'_> {
    fn block(&mut self, at: usize, salt: u32) -> Result<(GroupBlock, usize), SegmentError> {
        let decode = |copy: &[u8]| GroupBlock::decode(copy.get(at..).unwrap_or_default(), salt);
        if let Ok(block) = decode(&self.first) {
            return Ok(block);
        }
        if self.second.is_none() {
            self.second = Some(self.read(self.layout.index[1]));
        }
        let second = self.second.as_deref().unwrap_or_default();
        decode(second).map_err(|fault| self.error(at, fault))
    }

    /// The index at an offset of the file; what cannot be read is zero, and so does not verify.
    fn read(&mut self, offset: u64) -> Vec<u8> {
        // The layout says that the index lies inside the file.
        let mut bytes = vec![0; self.extent.index_len as usize];
        if self.raw.file.read_at(&mut bytes, offset).is_err() {
            self.unreadable = true;
            for (n, block) in bytes.chunks_mut(BLOCK_LEN).enumerate() {
                let at = offset + (n * BLOCK_LEN) as u64;
                if self.raw.file.read_at(block, at).is_err() {
                    block.fill(0);
                }
            }
        }
        bytes
    }

    fn error(&self, at: usize, fault: Fault) -> SegmentError {
        let Fault { what, expected, found } = fault;
        let (path, offset) = (self.raw.path.to_path_buf(), self.layout.index[1] + at as u64);
        SegmentError::Index { path, offset, what, expected, found }
    }
}
