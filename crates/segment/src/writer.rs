//! Writing one segment file, entry after entry.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use refloat_planted::{Defect, is};
use refloat_types::{Entry, GroupKey, Index};
use refloat_vfs::{OpenOptions, Vfs, VfsFile};

use crate::format::{
    BLOCK_LEN, DATA_START, Extent, FOOTER_MAGIC, HEADER_MAGIC, Head, Layout, MAX_INPUTS,
};
use crate::index::GroupBlock;
use crate::{Segment, SegmentError, frame};

/// Bytes gathered before they are written.
const CHUNK_LEN: usize = 512 << 10;

pub(crate) struct Writer<'v> {
    vfs: &'v dyn Vfs,
    dir: PathBuf,
    head: Head,
    salt: u32,
    file: Arc<dyn VfsFile>,
    temp: PathBuf,
    /// Not yet written; starts at `written`.
    buffer: Vec<u8>,
    written: u64,
    current: Option<(GroupBlock, u32)>,
    last_group: Option<GroupKey>,
    index: Vec<u8>,
    groups: u32,
    entries: u64,
}

impl<'v> Writer<'v> {
    /// Creates the `.tmp` file, replacing a leftover.
    pub(crate) fn create(
        vfs: &'v dyn Vfs,
        dir: &Path,
        head: Head,
    ) -> Result<Writer<'v>, SegmentError> {
        if head.inputs.len() > MAX_INPUTS {
            let (expected, found) = (MAX_INPUTS as u64, head.inputs.len() as u64);
            return Err(SegmentError::TooLarge { what: "list of inputs", expected, found });
        }
        let temp = dir.join(format!("{}.tmp", head.name));
        let file = create_anew(vfs, &temp).map_err(SegmentError::io(&temp, "create"))?;
        let mut buffer = Vec::with_capacity(CHUNK_LEN + BLOCK_LEN);
        buffer.extend_from_slice(&head.encode(HEADER_MAGIC, Extent::default()));
        Ok(Writer {
            vfs,
            dir: dir.to_path_buf(),
            salt: head.salt(),
            head,
            file,
            temp,
            buffer,
            written: 0,
            current: None,
            last_group: None,
            index: Vec::new(),
            groups: 0,
            entries: 0,
        })
    }

    /// Starts the next group.
    pub(crate) fn group(
        &mut self,
        group: GroupKey,
        cut: Option<Index>,
    ) -> Result<(), SegmentError> {
        if self.last_group.is_some_and(|last| last >= group) {
            return Err(SegmentError::Unsorted { group, index: None });
        }
        self.end_group();
        self.last_group = Some(group);
        let block = GroupBlock::new(group, cut, self.at());
        self.current = Some((block, frame::group_salt(self.salt, group)));
        Ok(())
    }

    /// Writes the group's next entry, after looking whether it still is what was proposed.
    pub(crate) fn entry(&mut self, entry: &Entry) -> Result<(), SegmentError> {
        let (block, group_salt) = self.current.as_mut().expect("a group was started");
        let group = block.group;
        if block.last().is_some_and(|last| last >= entry.id.index) {
            return Err(SegmentError::Unsorted { group, index: Some(entry.id.index) });
        }
        if !entry.is_intact() {
            let found = refloat_types::Digest::of(entry.kind, &entry.payload);
            let (id, expected) = (entry.id, entry.digest);
            return Err(SegmentError::NotIntact { group, id, expected, found });
        }
        let len = entry.payload.len() as u64;
        let payload_len = u32::try_from(len).map_err(|_| SegmentError::TooLarge {
            what: "payload",
            expected: u32::MAX.into(),
            found: len,
        })?;
        block.push(entry);
        frame::put(&mut self.buffer, *group_salt, entry, payload_len);
        self.entries += 1;
        if self.buffer.len() >= CHUNK_LEN { self.flush() } else { Ok(()) }
    }

    /// Seals: index, footers, sync, read back; then the name, and the directory's sync.
    pub(crate) fn finish(mut self) -> Result<Segment, SegmentError> {
        self.seal()?;
        let mut segment = self.read_back()?;
        let path = self.dir.join(self.head.name.to_string());
        // The bytes are durable under the temporary name, so the final one never stands for less.
        self.vfs.rename(&self.temp, &path).map_err(SegmentError::io(&self.temp, "rename"))?;
        self.vfs.sync_dir(&self.dir).map_err(SegmentError::io(&self.dir, "sync"))?;
        segment.set_path(path);
        Ok(segment)
    }

    /// Removes what was written. Best effort: a leftover `.tmp` file is removed at the next boot.
    pub(crate) fn abandon(vfs: &dyn Vfs, dir: &Path, name: crate::SegmentName) {
        let _ = vfs.remove_file(&dir.join(format!("{name}.tmp")));
    }

    fn at(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn end_group(&mut self) {
        let Some((block, _)) = self.current.take() else { return };
        if block.last().is_some() || block.cut.is_some() {
            block.encode(self.salt, &mut self.index);
            self.groups += 1;
        }
    }

    fn seal(&mut self) -> Result<(), SegmentError> {
        self.end_group();
        let extent = Extent {
            data_len: self.at() - DATA_START,
            index_len: self.index.len() as u64,
            entries: self.entries,
            groups: self.groups,
        };
        let layout = Layout::of(extent).expect("lengths of bytes just made do not overflow");
        let index = core::mem::take(&mut self.index);
        for at in layout.index {
            self.pad_to(at);
            self.buffer.extend_from_slice(&index);
            self.flush()?;
        }
        let footer = self.head.encode(FOOTER_MAGIC, extent);
        for at in layout.footer {
            self.pad_to(at);
            self.buffer.extend_from_slice(&footer);
        }
        self.flush()?;
        assert_eq!(self.written, layout.file_len, "every part lies where the footer says");
        if is(Defect::SegmentNamedBeforeSync) {
            return Ok(());
        }
        self.file.sync_data().map_err(SegmentError::io(&self.temp, "sync"))
    }

    fn pad_to(&mut self, at: u64) {
        let len = usize::try_from(at - self.written).expect("the buffer fits into memory");
        self.buffer.resize(len, 0);
    }

    fn flush(&mut self) -> Result<(), SegmentError> {
        let wrote = self.file.write_at(&self.buffer, self.written);
        wrote.map_err(SegmentError::io(&self.temp, "write"))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Opens the file anew and verifies every byte, past the page cache as far as it lets go.
    fn read_back(&self) -> Result<Segment, SegmentError> {
        self.file.drop_cache();
        let segment = Segment::open(self.vfs, &self.temp, self.head.identity)?;
        segment.verify()?;
        let same = |what, expected: u64, found: u64| {
            let path = self.temp.clone();
            let error = SegmentError::ReadBack { path, what, expected, found };
            if expected == found { Ok(()) } else { Err(error) }
        };
        same("number of groups", self.groups.into(), segment.groups().len() as u64)?;
        same("number of entries", self.entries, segment.entries())?;
        same("generation", self.head.name.generation.0, segment.generation().0)?;
        same("length", self.written, segment.file_len())?;
        same("number of impaired parts", 0, segment.is_impaired().into())?;
        Ok(segment)
    }
}

fn create_anew(vfs: &dyn Vfs, path: &Path) -> io::Result<Arc<dyn VfsFile>> {
    match vfs.open(path, OpenOptions::create_new()) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            vfs.remove_file(path)?;
            vfs.open(path, OpenOptions::create_new())
        }
        other => other,
    }
}
