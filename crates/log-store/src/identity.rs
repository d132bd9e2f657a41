//! Who this data directory belongs to: two copies, each whole, each with its own checksum.
//!
//! The identity is the first thing read and the last thing written when a directory is made.
//! It holds what must be known before any log can be read: the cluster, the node and its life,
//! the first member table, and the number of the current run.
//! The byte form is described in `docs/formats/identity.md`.

mod lineage;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ClusterId, Identity, Member, NodeId};
use refloat_vfs::{OpenOptions, Vfs};

use crate::error::BootError;

pub use lineage::Lineage;

const MAGIC: &[u8; 8] = b"RFLTIDNT";
/// The format version that this code writes, and the newest that it reads.
pub const VERSION: u16 = 3;
const COPIES: [&str; 2] = ["identity.a", "identity.b"];
/// Longer files are refused before they are read.
const MAX_LEN: u64 = 1 << 20;

/// What a data directory says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// Cluster, node and life.
    pub identity: Identity,
    /// The name that the operator gave to the cluster.
    pub cluster_name: String,
    /// How many data groups the cluster is formed with.
    pub groups: u32,
    /// The initial members and their peer addresses, sorted by node.
    pub members: Vec<(NodeId, String)>,
    /// How often the node was started. Synced before the first connection of a run.
    pub run: u64,
    /// How the directory came to be.
    pub origin: Origin,
    /// The epoch of the cluster. Nodes of different epochs do not talk to each other.
    pub lineage: Lineage,
    /// The epoch began here, and the logs do not say so yet: the directory takes no start until
    /// [`end_recovery`].
    pub recovering: bool,
}

impl NodeIdentity {
    /// How the node names itself to others: the cluster's name differs by epoch.
    #[must_use]
    pub fn to_others(&self) -> Identity {
        let cluster = self.lineage.name(self.identity.cluster);
        Identity { cluster, ..self.identity }
    }

    /// The names that the cluster had in the epochs before.
    #[must_use]
    pub fn former_clusters(&self) -> Vec<ClusterId> {
        self.lineage.former_names(self.identity.cluster)
    }

    /// Refuses a start on a directory whose recovery did not get to its end: its logs are of the
    /// epoch before.
    ///
    /// # Errors
    /// [`BootError::RecoveryUnfinished`].
    pub fn refuse_if_recovering(&self, dir: &Path) -> Result<(), BootError> {
        match self.recovering {
            true => Err(BootError::RecoveryUnfinished { dir: dir.into() }),
            false => Ok(()),
        }
    }
}

/// How a data directory came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// By `init`, for the first start of a cluster: it takes part in its formation.
    #[default]
    Init,
    /// By `join`, for a node that is new to a cluster that exists, or that returns to it with
    /// nothing. It never forms anything: it waits until it is taken in.
    Join {
        /// The members with which the cluster was formed, each in its first life, sorted.
        founders: Vec<Member>,
    },
}

/// Why an identity cannot be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum IdentityError {
    /// No directory, or no identity in it: `init` or `join` has not finished here.
    Absent {
        /// The data directory.
        dir: PathBuf,
    },
    /// Copies exist, and none can be proven.
    Unprovable {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong with each copy.
        evidence: String,
    },
    /// Both copies are whole and name different owners.
    Disagree {
        /// The data directory.
        dir: PathBuf,
        /// What each copy says.
        evidence: String,
    },
    /// Written by a later version of refloat.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// `init` on a directory that has an identity.
    AlreadyInitialised {
        /// The data directory.
        dir: PathBuf,
        /// Who lives there.
        found: Box<NodeIdentity>,
    },
    /// The disk failed.
    Io {
        /// What was being done.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { dir } => write!(
                f,
                "{} holds no node identity: the directory is missing or empty; run init for a first start or join for a returning node",
                dir.display()
            ),
            Self::Unprovable { dir, evidence } => {
                write!(f, "the identity in {} cannot be proven: {evidence}", dir.display())
            }
            Self::Disagree { dir, evidence } => {
                write!(f, "the identity copies in {} disagree: {evidence}", dir.display())
            }
            Self::NewerFormat { path, found } => write!(
                f,
                "{} has format version {found}, this program reads up to {VERSION}",
                path.display()
            ),
            Self::AlreadyInitialised { dir, found } => write!(
                f,
                "{} already belongs to node {} of cluster {:?} (incarnation {})",
                dir.display(),
                found.identity.member.node,
                found.cluster_name,
                found.identity.member.incarnation
            ),
            Self::Io { path, .. } => write!(f, "cannot use identity file {}", path.display()),
        }
    }
}

impl std::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

enum Copy {
    Absent,
    Bad(String),
    Newer(PathBuf, u16),
    Whole(NodeIdentity),
}

/// Reads the identity; if one copy is bad the other one counts.
///
/// # Errors
/// See [`IdentityError`]; nothing is written.
pub fn load(vfs: &dyn Vfs, dir: &Path) -> Result<NodeIdentity, IdentityError> {
    let [a, b] = COPIES.map(|name| read_copy(vfs, &dir.join(name)));
    match (a, b) {
        (Copy::Newer(path, found), _) | (_, Copy::Newer(path, found)) => {
            Err(IdentityError::NewerFormat { path, found })
        }
        (Copy::Whole(a), Copy::Whole(b)) => agree(dir, a, b),
        (Copy::Whole(one), _) | (_, Copy::Whole(one)) => Ok(one),
        (Copy::Absent, Copy::Absent) => Err(IdentityError::Absent { dir: dir.into() }),
        (a, b) => Err(IdentityError::Unprovable {
            dir: dir.into(),
            evidence: format!("{}: {}; {}: {}", COPIES[0], a.fault(), COPIES[1], b.fault()),
        }),
    }
}

impl Copy {
    fn fault(&self) -> &str {
        match self {
            Copy::Bad(why) => why,
            _ => "missing",
        }
    }
}

/// Two whole copies of one owner differ only while a start or an epoch is counted: the later counts.
fn agree(dir: &Path, a: NodeIdentity, b: NodeIdentity) -> Result<NodeIdentity, IdentityError> {
    let owner_of = |id: &NodeIdentity| NodeIdentity {
        run: 0,
        lineage: Lineage::default(),
        recovering: false,
        ..id.clone()
    };
    let one_line = a.lineage == b.lineage
        || a.lineage.supersedes(&b.lineage)
        || b.lineage.supersedes(&a.lineage);
    if owner_of(&a) == owner_of(&b) && one_line {
        let age = |id: &NodeIdentity| (id.lineage.epoch(), !id.recovering, id.run);
        return Ok(if age(&a) >= age(&b) { a } else { b });
    }
    Err(IdentityError::Disagree {
        dir: dir.into(),
        evidence: format!("{} says {}, {} says {}", COPIES[0], owner(&a), COPIES[1], owner(&b)),
    })
}

fn owner(id: &NodeIdentity) -> String {
    format!("{} of cluster {:?} ({})", id.identity.member, id.cluster_name, id.identity.cluster)
}

fn read_copy(vfs: &dyn Vfs, path: &Path) -> Copy {
    let file = match vfs.open(path, OpenOptions::read()) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Copy::Absent,
        Err(e) => return Copy::Bad(format!("cannot be opened: {e}")),
    };
    let len = match file.len() {
        Ok(len) if len <= MAX_LEN => len,
        Ok(len) => return Copy::Bad(format!("{len} bytes long, at most {MAX_LEN} expected")),
        Err(e) => return Copy::Bad(format!("cannot be measured: {e}")),
    };
    let mut bytes = vec![0; len as usize];
    match file.read_at(&mut bytes, 0) {
        Ok(read) => bytes.truncate(read),
        Err(e) => return Copy::Bad(format!("cannot be read: {e}")),
    }
    match decode(&bytes) {
        Ok(Ok(identity)) => Copy::Whole(identity),
        Ok(Err(version)) => Copy::Newer(path.into(), version),
        Err(e) => Copy::Bad(e),
    }
}

fn encode(id: &NodeIdentity) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_slice(MAGIC);
    out.put_u16(VERSION);
    out.put_u128(id.identity.cluster.0);
    out.put_member(id.identity.member);
    out.put_u64(id.run);
    out.put_u32(id.groups);
    put_text(&mut out, &id.cluster_name);
    out.put_u32(id.members.len() as u32);
    for (node, address) in &id.members {
        out.put_u64(node.0);
        put_text(&mut out, address);
    }
    match &id.origin {
        Origin::Init => out.put_u8(0),
        Origin::Join { founders } => {
            out.put_u8(1);
            out.put_u32(founders.len() as u32);
            founders.iter().for_each(|member| out.put_member(*member));
        }
    }
    id.lineage.encode(&mut out);
    out.put_u8(u8::from(id.recovering));
    let crc = crc32c::crc32c(&out);
    out.put_u32(crc);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u32(text.len() as u32);
    out.put_slice(text.as_bytes());
}

/// `Ok(Err(version))` is a whole file of a newer format.
fn decode(bytes: &[u8]) -> Result<Result<NodeIdentity, u16>, String> {
    let body = bytes.len().checked_sub(4).and_then(|n| bytes.split_at_checked(n));
    let Some((body, crc)) = body else { return Err(format!("only {} bytes long", bytes.len())) };
    let computed = crc32c::crc32c(body);
    let stored = Reader::new(crc).u32("checksum").map_err(|e| e.to_string())?;
    if stored != computed {
        return Err(format!("checksum mismatch (stored {stored:08x}, computed {computed:08x})"));
    }
    let mut r = Reader::new(body);
    if r.bytes(8, "magic").map_err(|e| e.to_string())? != MAGIC {
        return Err("not an identity file".into());
    }
    let version = r.u16("version").map_err(|e| e.to_string())?;
    if version > VERSION {
        return Ok(Err(version));
    }
    decode_body(&mut r, version).map(Ok).map_err(|e| e.to_string())
}

fn decode_body(r: &mut Reader<'_>, version: u16) -> Result<NodeIdentity, DecodeError> {
    let cluster = ClusterId(r.u128("cluster")?);
    let member: Member = r.member("member")?;
    let run = r.u64("run")?;
    let groups = r.u32("groups")?;
    let cluster_name = text(r, "cluster name")?;
    let count = r.count(12, "members")?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push((NodeId(r.u64("member node")?), text(r, "member address")?));
    }
    let origin = if version == 1 { Origin::Init } else { decode_origin(r)? };
    let (lineage, recovering) = match version {
        1 | 2 => (Lineage::default(), false),
        _ => (Lineage::decode(r)?, r.u8("recovering")? == 1),
    };
    let identity = Identity { cluster, member };
    Ok(NodeIdentity { identity, cluster_name, groups, members, run, origin, lineage, recovering })
}

fn decode_origin(r: &mut Reader<'_>) -> Result<Origin, DecodeError> {
    match r.u8("origin")? {
        0 => Ok(Origin::Init),
        1 => {
            let count = r.count(24, "founders")?;
            let founders = (0..count).map(|_| r.member("founder")).collect::<Result<_, _>>()?;
            Ok(Origin::Join { founders })
        }
        _ => Err(r.invalid("origin")),
    }
}

fn text(r: &mut Reader<'_>, field: &'static str) -> Result<String, DecodeError> {
    let len = r.count(1, field)?;
    let bytes = r.bytes(len, field)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| r.invalid(field))
}

/// Makes the data directory and, last of all, its identity. When it returns the directory, its
/// name and both copies are durable. Leftovers of an `init` that did not finish are overwritten.
///
/// # Errors
/// [`IdentityError::AlreadyInitialised`] if a provable identity stands there already.
pub fn create(vfs: &dyn Vfs, dir: &Path, id: &NodeIdentity) -> Result<(), IdentityError> {
    match load(vfs, dir) {
        Err(IdentityError::Absent { .. }) => {}
        Ok(found) => {
            return Err(IdentityError::AlreadyInitialised { dir: dir.into(), found: found.into() });
        }
        Err(other) => return Err(other),
    }
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| IdentityError::Io { path, source }
    };
    make_dirs(vfs, dir).map_err(io(dir))?;
    for name in COPIES {
        write_copy(vfs, dir, name, id).map_err(io(&dir.join(name)))?;
    }
    Ok(())
}

/// Creates a directory and its missing parents, each name durable before the next is made.
fn make_dirs(vfs: &dyn Vfs, dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
    if !vfs.exists(dir)? {
        if let Some(parent) = parent {
            make_dirs(vfs, parent)?;
        }
        vfs.create_dir(dir)?;
    }
    // Also where it existed: a directory made by hand a moment ago may not be durable yet.
    vfs.sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Counts a start: raises the run number and makes it durable, one copy after the other, so that
/// a crash in between leaves a whole one. Repairs a bad copy on the way.
///
/// # Errors
/// The disk failed; the node must not start.
pub fn begin_run(vfs: &dyn Vfs, dir: &Path, id: &mut NodeIdentity) -> Result<(), IdentityError> {
    id.run += 1;
    replace_copies(vfs, dir, id)
}

/// Begins the next epoch of the cluster: what was said in the ones before counts no more. Until
/// [`end_recovery`] the directory takes no start. Of an epoch that began here and did not get
/// further nothing changes.
///
/// # Errors
/// The disk failed; the epoch may have begun.
pub fn begin_recovery(
    vfs: &dyn Vfs,
    dir: &Path,
    id: &mut NodeIdentity,
) -> Result<(), IdentityError> {
    if !id.recovering {
        id.lineage = std::mem::take(&mut id.lineage).next(id.identity.member.incarnation);
        id.recovering = true;
    }
    replace_copies(vfs, dir, id)
}

/// The logs hold the record of the new epoch, durably: the directory takes starts again.
///
/// # Errors
/// The disk failed; the directory may take no start yet.
pub fn end_recovery(vfs: &dyn Vfs, dir: &Path, id: &mut NodeIdentity) -> Result<(), IdentityError> {
    id.recovering = false;
    replace_copies(vfs, dir, id)
}

fn replace_copies(vfs: &dyn Vfs, dir: &Path, id: &NodeIdentity) -> Result<(), IdentityError> {
    // A whole copy must exist at any moment: the worse one is replaced first.
    let mut names = COPIES;
    if matches!(read_copy(vfs, &dir.join(COPIES[0])), Copy::Whole(_)) {
        names.reverse();
    }
    for name in names {
        write_copy(vfs, dir, name, id)
            .map_err(|source| IdentityError::Io { path: dir.join(name), source })?;
    }
    Ok(())
}

/// Replaces one copy, while the other one is whole: by a new file, or, on a disk without a free
/// block, in its own blocks. A full disk stops no start.
fn write_copy(vfs: &dyn Vfs, dir: &Path, name: &str, id: &NodeIdentity) -> io::Result<()> {
    let bytes = encode(id);
    let temp = dir.join(format!("{name}.tmp"));
    match replace_copy(vfs, dir, &temp, name, &bytes) {
        Err(error) if is_no_space(&error) => {
            // Removing it frees what it took; if it stays, the next start writes over it.
            let _ = vfs.remove_file(&temp);
            overwrite_copy(vfs, &dir.join(name), &bytes).map_err(|_| error)
        }
        result => result,
    }
}

/// Temporary file, sync, rename, directory sync.
fn replace_copy(
    vfs: &dyn Vfs,
    dir: &Path,
    temp: &Path,
    name: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
    let file = vfs.open(temp, options)?;
    file.set_len(bytes.len() as u64)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    vfs.rename(temp, &dir.join(name))?;
    vfs.sync_dir(dir)
}

fn overwrite_copy(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = vfs.open(path, OpenOptions::write())?;
    file.write_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_data()
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What stands under the name of one copy, beside the identity that counts.
#[derive(Debug)]
pub(crate) enum CopyState {
    Good,
    Missing,
    Bad(String),
    /// Whole, of an earlier run: a crash came between the two copies.
    Behind(u64),
}

/// Both copies, judged by the identity that [`load`] gave.
pub(crate) fn copies(vfs: &dyn Vfs, dir: &Path, id: &NodeIdentity) -> [(PathBuf, CopyState); 2] {
    COPIES.map(|name| {
        let path = dir.join(name);
        let state = match read_copy(vfs, &path) {
            Copy::Whole(found) if found == *id => CopyState::Good,
            Copy::Whole(found) => CopyState::Behind(found.run),
            Copy::Absent => CopyState::Missing,
            Copy::Bad(why) => CopyState::Bad(why),
            Copy::Newer(_, version) => CopyState::Bad(format!("format version {version}")),
        };
        (path, state)
    })
}

/// Writes one copy again. The other one must be whole.
pub(crate) fn rewrite_copy(vfs: &dyn Vfs, path: &Path, id: &NodeIdentity) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    write_copy(vfs, dir, name, id)
}
