//! What travels between two nodes: one frame per peer, lane and turn, holding many items.
//!
//! ```text
//! frame = version u8 | run u64 | process u64 | to (node u64, incarnation u128) | item*
//! item  = kind u8 | length u32 | body
//! ```
//!
//! All numbers are little-endian. `process` is drawn at each start, so that two processes that have
//! one run number from copies of one directory are told apart. `to` with incarnation 0 means any life, used while lives are
//! still being learned. Lengths are checked against the bytes that are there; nothing is
//! allocated by a number that was read.

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{EntryId, GroupId, GroupKey, Incarnation, Index, IndexSet, Member, NodeId};

use super::offers::OfferName;
use super::quiet::Sum;
use crate::error::RequestError;

const VERSION: u8 = 1;
/// The most bytes of a reason that are sent.
const MAX_REASON: usize = 500;
const HEADER_LEN: usize = 1 + 8 + 8 + 24;

/// The kinds of items; a number is never used twice.
mod kind {
    pub(super) const RAFT: u8 = 1;
    pub(super) const FORMATION: u8 = 2;
    pub(super) const FORWARD: u8 = 3;
    pub(super) const FORWARD_REPLY: u8 = 4;
    // 5 was an offer in one piece.
    pub(super) const SNAPSHOT_CHUNK: u8 = 6;
    pub(super) const SNAPSHOT_STATE: u8 = 7;
    pub(super) const NOT_ME: u8 = 8;
    pub(super) const ARRIVAL: u8 = 9;
    pub(super) const REBORN: u8 = 10;
    pub(super) const UNWELCOME: u8 = 11;
    pub(super) const QUIET_BEAT: u8 = 12;
    pub(super) const NOT_QUIET: u8 = 13;
    pub(super) const SNAPSHOT_WANTS: u8 = 14;
    pub(super) const SNAPSHOT_LIVE: u8 = 15;
    pub(super) const VERSION_ASK: u8 = 16;
    pub(super) const VERSION_SAYS: u8 = 17;
    pub(super) const DISMISSED: u8 = 18;
    pub(super) const SNAPSHOT_OFFER: u8 = 19;
    pub(super) const LIVE_ASK: u8 = 20;
    pub(super) const LIVE_GIVE: u8 = 21;
}

/// One item of a frame. Payloads are slices of the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A message between two replicas, in the core's own form.
    Raft(Bytes),
    /// How far the sender is with forming the cluster.
    Formation(FormationNews),
    /// A proposal for the receiver, whom the sender takes for the leader.
    Forward(Forward),
    /// How a forwarded proposal ended.
    ForwardReply { id: u64, result: Result<(Index, Bytes), ForwardError> },
    /// A leader wants the receiver to take a snapshot: a part, from byte `at` on, of what it says of
    /// itself, in the store's own form.
    SnapshotOffer { group: GroupKey, name: OfferName, at: u32, part: Bytes },
    /// One chunk of an offered snapshot.
    SnapshotChunk { group: GroupKey, id: EntryId, n: u32, digest: u32, bytes: Bytes },
    /// Live entries of an offered snapshot that the receiver lacks. It wants them first.
    SnapshotWants { group: GroupKey, id: EntryId, live: IndexSet },
    /// Some of them, as a message between replicas that gives entries; `last` of what was asked.
    SnapshotLive { group: GroupKey, id: EntryId, last: bool, message: Bytes },
    /// Live entries that the sender lost, and that the receiver may have.
    LiveAsk { group: GroupKey, live: IndexSet },
    /// Some of them, in the same form; `last` of what was asked.
    LiveGive { group: GroupKey, last: bool, message: Bytes },
    /// What the receiver of a snapshot has, or that it is done with it; `why` it failed, if it did.
    SnapshotState { group: GroupKey, id: EntryId, next: u32, end: SnapshotEnd, why: String },
    /// The receiver of an earlier frame is not who the sender meant, or does not take the sender
    /// for who it says it is.
    NotMe { expected: Member },
    /// The groups that the sender leads in quiet and of which the receiver has a replica.
    QuietBeat(Sum),
    /// The receiver's last [`Item::QuietBeat`] is not how the sender sees it.
    NotQuiet,
    /// Which versions of a group's state machine the receiver can run.
    VersionAsk { group: GroupKey },
    /// The sender's replica, under this life, can run versions up to this one.
    VersionSays { group: GroupKey, life: Incarnation, version: u32 },
    /// The sender is at this address, and says so until group 0 knows it. `joined`: its directory
    /// was made for a node of a cluster that exists.
    Arrival { joined: bool, address: String },
    /// The sender's replica of a group forgot what it had promised, and asks to be taken back
    /// under this life.
    Reborn { group: GroupKey, life: Incarnation },
    /// The receiver's replica of a group is not taken back under this life: the sender leads the
    /// group, and the receiver's node was removed from it.
    Dismissed { group: GroupKey, life: Incarnation },
    /// The receiver's life, in this run, is not taken in.
    Unwelcome { life: Incarnation, run: u64, why: Unwelcome },
}

/// Part of [`Item::Unwelcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwelcome {
    /// Another life of the node was heard a moment ago.
    NodeIdInUse { by: Incarnation },
    /// Another life took its place before.
    Superseded,
    /// No node of this id belongs to the cluster or is expected.
    Unknown,
    /// The directory was made by `init`, which is for the first start of a cluster.
    InitialisedAgain { known: Incarnation },
    /// Another process had this run number, or a higher one: this is an old copy of the
    /// directory, or one of two that run.
    RunTaken {
        seen: u64,
        /// Of the process or the hello that came second; 0 if the run alone decides.
        nonce: u64,
    },
}

impl std::fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unwelcome::NodeIdInUse { by } => {
                write!(f, "node id in use: its life {by} was heard a moment ago")
            }
            Unwelcome::Superseded => f.write_str("another life of this node took its place"),
            Unwelcome::Unknown => {
                f.write_str("no node of this id belongs to the cluster or is expected")
            }
            Unwelcome::InitialisedAgain { known } => write!(
                f,
                "this directory was made by init, and the cluster knows this node in its life \
                 {known}: a node that lost its disk comes back with join"
            ),
            Unwelcome::RunTaken { seen, .. } => write!(
                f,
                "run {seen} of this node was seen before: this is an old copy of its directory, \
                 or one of two that run"
            ),
        }
    }
}

/// Part of [`Item::SnapshotState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotEnd {
    Receiving,
    Installed,
    Failed,
    /// It takes in as many as it may at once.
    Later,
    /// It has room now.
    Again,
    /// It has so many bytes of the offer, and wants what follows.
    Told,
}

/// See [`Item::Formation`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormationNews {
    /// Whether the sender has every initial member's life on its disk.
    pub(crate) stored: bool,
    /// Whether the sender takes part in elections.
    pub(crate) formed: bool,
    /// The lives it knows, sorted.
    pub(crate) table: Vec<Member>,
}

/// See [`Item::Forward`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Counts the sender's forwards to this receiver in this run of the sender.
    pub(crate) id: u64,
    /// The run of the receiver that is meant. Another one does not know what was taken in before.
    pub(crate) to_run: u64,
    pub(crate) group: GroupId,
    pub(crate) stamp: bool,
    pub(crate) payload: Bytes,
}

/// Why a forwarded proposal has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ForwardError {
    /// Not proposed: the receiver does not lead.
    NotLeader = 1,
    /// Not proposed: budgets.
    Busy = 2,
    /// Proposed, and certainly without effect.
    Superseded = 3,
    /// Proposed, outcome open.
    Unknown = 4,
    /// Not proposed, and not worth trying again.
    Refused = 5,
    /// Not proposed: the receiver's disk is full.
    NoSpace = 6,
}

impl ForwardError {
    fn from_byte(byte: u8) -> Option<ForwardError> {
        use ForwardError::{Busy, NoSpace, NotLeader, Refused, Superseded, Unknown};
        [NotLeader, Busy, Superseded, Unknown, Refused, NoSpace]
            .into_iter()
            .find(|e| *e as u8 == byte)
    }

    pub(crate) fn of(error: &RequestError) -> ForwardError {
        match error {
            RequestError::NoLeader { .. } | RequestError::NotLeader { .. } => {
                ForwardError::NotLeader
            }
            RequestError::Busy { .. } => ForwardError::Busy,
            RequestError::NoSpace => ForwardError::NoSpace,
            RequestError::Superseded { .. } => ForwardError::Superseded,
            RequestError::Unknown { .. } => ForwardError::Unknown,
            _ => ForwardError::Refused,
        }
    }
}

/// Collects the items of one frame.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
}

impl FrameWriter {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends one item whose body `write` puts down; starts the frame if it is the first.
    fn put(&mut self, run: Run, to: Member, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if self.bytes.is_empty() {
            self.bytes.put_u8(VERSION);
            self.bytes.put_u64(run.number);
            self.bytes.put_u64(run.process);
            self.bytes.put_member(to);
        }
        self.bytes.put_u8(kind);
        let at = self.bytes.len();
        self.bytes.put_u32(0);
        write(&mut self.bytes);
        let len = u32::try_from(self.bytes.len() - at - 4).expect("an item is far below 4 GiB");
        self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Appends a message between replicas.
    pub(crate) fn put_raft(&mut self, run: Run, to: Member, encode: impl FnOnce(&mut Vec<u8>)) {
        self.put(run, to, kind::RAFT, encode);
    }

    /// Appends any item.
    pub(crate) fn put_item(&mut self, run: Run, to: Member, item: &Item) {
        match item {
            Item::Raft(bytes) => self.put(run, to, kind::RAFT, |out| out.put_slice(bytes)),
            Item::Formation(news) => self.put(run, to, kind::FORMATION, |out| {
                out.put_u8(u8::from(news.stored));
                out.put_u8(u8::from(news.formed));
                out.put_u32(u32::try_from(news.table.len()).expect("few members"));
                news.table.iter().for_each(|member| out.put_member(*member));
            }),
            Item::Forward(forward) => self.put(run, to, kind::FORWARD, |out| {
                out.put_u64(forward.id);
                out.put_u64(forward.to_run);
                out.put_u64(forward.group.0);
                out.put_u8(u8::from(forward.stamp));
                out.put_slice(&forward.payload);
            }),
            Item::ForwardReply { id, result } => self.put(run, to, kind::FORWARD_REPLY, |out| {
                out.put_u64(*id);
                match result {
                    Ok((index, payload)) => {
                        out.put_u8(0);
                        out.put_u64(index.0);
                        out.put_slice(payload);
                    }
                    Err(error) => out.put_u8(*error as u8),
                }
            }),
            Item::SnapshotOffer { group, name, at, part } => {
                self.put(run, to, kind::SNAPSHOT_OFFER, |out| {
                    out.put_group(*group);
                    out.put_entry_id(name.id);
                    out.put_u32(name.len);
                    out.put_u32(name.sum);
                    out.put_u32(*at);
                    out.put_slice(part);
                });
            }
            Item::SnapshotChunk { group, id, n, digest, bytes } => {
                self.put(run, to, kind::SNAPSHOT_CHUNK, |out| {
                    out.put_group(*group);
                    out.put_entry_id(*id);
                    out.put_u32(*n);
                    out.put_u32(*digest);
                    out.put_slice(bytes);
                });
            }
            Item::SnapshotWants { group, id, live } => {
                self.put(run, to, kind::SNAPSHOT_WANTS, |out| {
                    out.put_group(*group);
                    out.put_entry_id(*id);
                    out.put_index_set(live);
                });
            }
            Item::SnapshotLive { group, id, last, message } => {
                self.put(run, to, kind::SNAPSHOT_LIVE, |out| {
                    out.put_group(*group);
                    out.put_entry_id(*id);
                    out.put_u8(u8::from(*last));
                    out.put_slice(message);
                });
            }
            Item::LiveAsk { group, live } => self.put(run, to, kind::LIVE_ASK, |out| {
                out.put_group(*group);
                out.put_index_set(live);
            }),
            Item::LiveGive { group, last, message } => {
                self.put(run, to, kind::LIVE_GIVE, |out| {
                    out.put_group(*group);
                    out.put_u8(u8::from(*last));
                    out.put_slice(message);
                });
            }
            Item::SnapshotState { group, id, next, end, why } => {
                self.put(run, to, kind::SNAPSHOT_STATE, |out| {
                    out.put_group(*group);
                    out.put_entry_id(*id);
                    out.put_u32(*next);
                    out.put_u8(*end as u8);
                    out.put_slice(&why.as_bytes()[..why.floor_char_boundary(MAX_REASON)]);
                });
            }
            Item::NotMe { expected } => {
                self.put(run, to, kind::NOT_ME, |out| out.put_member(*expected));
            }
            Item::QuietBeat(sum) => self.put(run, to, kind::QUIET_BEAT, |out| {
                out.put_u64(sum.count);
                out.put_u64(sum.hash);
            }),
            Item::NotQuiet => self.put(run, to, kind::NOT_QUIET, |_| {}),
            Item::VersionAsk { group } => {
                self.put(run, to, kind::VERSION_ASK, |out| out.put_group(*group));
            }
            Item::VersionSays { group, life, version } => {
                self.put(run, to, kind::VERSION_SAYS, |out| {
                    out.put_group(*group);
                    out.put_u128(life.0);
                    out.put_u32(*version);
                });
            }
            Item::Arrival { joined, address } => self.put(run, to, kind::ARRIVAL, |out| {
                out.put_u8(u8::from(*joined));
                out.put_slice(address.as_bytes());
            }),
            Item::Reborn { group, life } => self.put(run, to, kind::REBORN, |out| {
                out.put_group(*group);
                out.put_u128(life.0);
            }),
            Item::Dismissed { group, life } => self.put(run, to, kind::DISMISSED, |out| {
                out.put_group(*group);
                out.put_u128(life.0);
            }),
            Item::Unwelcome { life, run: of, why } => self.put(run, to, kind::UNWELCOME, |out| {
                out.put_u128(life.0);
                out.put_u64(*of);
                put_unwelcome(out, *why);
            }),
        }
    }

    /// Takes the frame, leaving an empty writer.
    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.bytes).into()
    }
}

/// One process on a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    /// The directory's starts, counted.
    pub(crate) number: u64,
    /// Drawn at the start: another process of the same number runs from a copy of the directory.
    pub(crate) process: u64,
}

/// The front of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) run: Run,
    pub(crate) to: Member,
}

impl Header {
    /// Whether the frame is meant for this life of this node.
    pub(crate) fn is_for(&self, me: Member) -> bool {
        let any_life = self.to.incarnation == Incarnation(0);
        self.to.node == me.node && (any_life || self.to.incarnation == me.incarnation)
    }

    /// A receiver of whom only the id is known.
    pub(crate) fn any_life(node: NodeId) -> Member {
        Member::new(node, Incarnation(0))
    }
}

/// Takes a frame apart. All or nothing: a frame with one bad item is refused whole.
pub(crate) fn decode(frame: &Bytes) -> Result<(Header, Vec<Item>), DecodeError> {
    let mut reader = Reader::new(frame);
    if reader.u8("frame version")? != VERSION {
        return Err(reader.invalid("frame version"));
    }
    let run = Run { number: reader.u64("run")?, process: reader.u64("process")? };
    let header = Header { run, to: reader.member("receiver")? };
    let mut items = Vec::new();
    while reader.remaining() > 0 {
        let kind = reader.u8("item kind")?;
        let len = reader.count(1, "item length")?;
        let start = reader.offset();
        reader.bytes(len, "item")?;
        items.push(decode_item(kind, &frame.slice(start..start + len))?);
    }
    debug_assert!(frame.len() >= HEADER_LEN);
    Ok((header, items))
}

fn decode_item(kind: u8, body: &Bytes) -> Result<Item, DecodeError> {
    let mut r = Reader::new(body);
    let rest = |r: &Reader<'_>| body.slice(r.offset()..);
    let item = match kind {
        kind::RAFT => Item::Raft(body.clone()),
        kind::FORMATION => Item::Formation(decode_formation(&mut r)?),
        kind::FORWARD => {
            let (id, to_run) = (r.u64("forward id")?, r.u64("receiver's run")?);
            let (group, stamp) = (GroupId(r.u64("group")?), r.u8("forward flags")? == 1);
            Item::Forward(Forward { id, to_run, group, stamp, payload: rest(&r) })
        }
        kind::FORWARD_REPLY => {
            let (id, status) = (r.u64("forward id")?, r.u8("forward status")?);
            let result = match (status, ForwardError::from_byte(status)) {
                (0, _) => Ok((Index(r.u64("index")?), rest(&r))),
                (_, Some(error)) => Err(error),
                (_, None) => return Err(r.invalid("forward status")),
            };
            Item::ForwardReply { id, result }
        }
        kind::SNAPSHOT_OFFER => {
            let (group, id) = (r.group("group")?, r.entry_id("snapshot id")?);
            let (len, sum) = (r.u32("offer length")?, r.u32("offer checksum")?);
            let (name, at) = (OfferName { id, len, sum }, r.u32("place in the offer")?);
            Item::SnapshotOffer { group, name, at, part: rest(&r) }
        }
        kind::SNAPSHOT_CHUNK => {
            let (group, id) = (r.group("group")?, r.entry_id("snapshot id")?);
            let (n, digest) = (r.u32("chunk number")?, r.u32("chunk digest")?);
            Item::SnapshotChunk { group, id, n, digest, bytes: rest(&r) }
        }
        kind::SNAPSHOT_WANTS => Item::SnapshotWants {
            group: r.group("group")?,
            id: r.entry_id("snapshot id")?,
            live: r.index_set("live entries wanted")?,
        },
        kind::SNAPSHOT_LIVE => {
            let (group, id) = (r.group("group")?, r.entry_id("snapshot id")?);
            let last = r.u8("last of them")? == 1;
            Item::SnapshotLive { group, id, last, message: rest(&r) }
        }
        kind::LIVE_ASK => {
            Item::LiveAsk { group: r.group("group")?, live: r.index_set("live entries lost")? }
        }
        kind::LIVE_GIVE => {
            let (group, last) = (r.group("group")?, r.u8("last of them")? == 1);
            Item::LiveGive { group, last, message: rest(&r) }
        }
        kind::SNAPSHOT_STATE => {
            let (group, id) = (r.group("group")?, r.entry_id("snapshot id")?);
            let next = r.u32("next chunk")?;
            let end = match r.u8("snapshot end")? {
                0 => SnapshotEnd::Receiving,
                1 => SnapshotEnd::Installed,
                2 => SnapshotEnd::Failed,
                3 => SnapshotEnd::Later,
                4 => SnapshotEnd::Again,
                5 => SnapshotEnd::Told,
                _ => return Err(r.invalid("snapshot end")),
            };
            // An older sender gives no reason.
            let why = String::from_utf8_lossy(&rest(&r)).into_owned();
            Item::SnapshotState { group, id, next, end, why }
        }
        kind::NOT_ME => Item::NotMe { expected: r.member("expected member")? },
        kind::QUIET_BEAT => {
            Item::QuietBeat(Sum { count: r.u64("quiet groups")?, hash: r.u64("their sum")? })
        }
        kind::NOT_QUIET => Item::NotQuiet,
        kind::VERSION_ASK => Item::VersionAsk { group: r.group("group")? },
        kind::VERSION_SAYS => Item::VersionSays {
            group: r.group("group")?,
            life: Incarnation(r.u128("life")?),
            version: r.u32("version")?,
        },
        kind::ARRIVAL => {
            let joined = r.u8("joined")? == 1;
            let text = body.get(r.offset()..).unwrap_or_default().to_vec();
            let address = String::from_utf8(text).map_err(|_| r.invalid("address"))?;
            Item::Arrival { joined, address }
        }
        kind::REBORN => {
            Item::Reborn { group: r.group("group")?, life: Incarnation(r.u128("life")?) }
        }
        kind::DISMISSED => {
            Item::Dismissed { group: r.group("group")?, life: Incarnation(r.u128("life")?) }
        }
        kind::UNWELCOME => {
            let (life, run) = (Incarnation(r.u128("life")?), r.u64("run")?);
            Item::Unwelcome { life, run, why: read_unwelcome(&mut r)? }
        }
        _ => return Err(r.invalid("item kind")),
    };
    Ok(item)
}

fn put_unwelcome(out: &mut Vec<u8>, why: Unwelcome) {
    let (code, number) = match why {
        Unwelcome::NodeIdInUse { by } => (1, by.0),
        Unwelcome::Superseded => (2, 0),
        Unwelcome::Unknown => (3, 0),
        Unwelcome::InitialisedAgain { known } => (4, known.0),
        Unwelcome::RunTaken { seen, nonce } => (5, u128::from(seen) | u128::from(nonce) << 64),
    };
    out.put_u8(code);
    out.put_u128(number);
}

fn read_unwelcome(r: &mut Reader<'_>) -> Result<Unwelcome, DecodeError> {
    let (code, number) = (r.u8("refusal")?, r.u128("refusal's number")?);
    Ok(match code {
        1 => Unwelcome::NodeIdInUse { by: Incarnation(number) },
        2 => Unwelcome::Superseded,
        3 => Unwelcome::Unknown,
        4 => Unwelcome::InitialisedAgain { known: Incarnation(number) },
        5 => Unwelcome::RunTaken { seen: number as u64, nonce: (number >> 64) as u64 },
        _ => return Err(r.invalid("refusal")),
    })
}

fn decode_formation(r: &mut Reader<'_>) -> Result<FormationNews, DecodeError> {
    let (stored, formed) = (r.u8("formation stored")? == 1, r.u8("formation formed")? == 1);
    let count = r.count(24, "formation members")?;
    let mut table = Vec::with_capacity(count);
    for _ in 0..count {
        table.push(r.member("formation member")?);
    }
    Ok(FormationNews { stored, formed, table })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use refloat_types::{Epoch, Term};

    pub(crate) const RUN: Run = Run { number: 7, process: 99 };

    pub(crate) fn all_items() -> Vec<Item> {
        let group = GroupKey::new(GroupId(3), Epoch(4));
        let id = EntryId::new(Term(5), Index(6));
        let member = Member::new(NodeId(2), Incarnation(77));
        let payload = Bytes::from_static(b"payload");
        vec![
            Item::Raft(payload.clone()),
            Item::Formation(FormationNews { stored: true, formed: false, table: vec![member] }),
            Item::Forward(Forward {
                id: 1,
                to_run: 8,
                group: group.id,
                stamp: true,
                payload: payload.clone(),
            }),
            Item::ForwardReply { id: 1, result: Ok((Index(9), payload.clone())) },
            Item::ForwardReply { id: 2, result: Err(ForwardError::Busy) },
            Item::SnapshotOffer {
                group,
                name: OfferName { id, len: 90, sum: 8 },
                at: 4,
                part: payload.clone(),
            },
            Item::SnapshotChunk { group, id, n: 2, digest: 3, bytes: payload.clone() },
            Item::SnapshotWants { group, id, live: [Index(3), Index(4)].into_iter().collect() },
            Item::SnapshotLive { group, id, last: true, message: payload.clone() },
            Item::LiveAsk { group, live: [Index(3), Index(5)].into_iter().collect() },
            Item::LiveGive { group, last: true, message: payload },
            Item::SnapshotState {
                group,
                id,
                next: 3,
                end: SnapshotEnd::Failed,
                why: "no space left".into(),
            },
            Item::NotMe { expected: member },
            Item::QuietBeat(Sum { count: 2, hash: 99 }),
            Item::NotQuiet,
            Item::VersionAsk { group },
            Item::VersionSays { group, life: member.incarnation, version: 5 },
            Item::Arrival { joined: true, address: "b:1".into() },
            Item::Reborn { group, life: member.incarnation },
            Item::Dismissed { group, life: member.incarnation },
            Item::Unwelcome { life: member.incarnation, run: 4, why: Unwelcome::Superseded },
        ]
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_no_cut_of_it_panics() {
        let to = Member::new(NodeId(1), Incarnation(9));
        let mut writer = FrameWriter::default();
        for item in all_items() {
            writer.put_item(RUN, to, &item);
        }
        let frame = writer.take();
        assert!(writer.is_empty());
        assert_eq!(decode(&frame), Ok((Header { run: RUN, to }, all_items())));
        for len in 0..frame.len() {
            // A cut between two items leaves a shorter, valid frame; none may panic.
            let _ = decode(&frame.slice(..len));
        }
    }

    #[test]
    fn every_flipped_byte_is_read_or_refused_without_a_panic() {
        let mut writer = FrameWriter::default();
        for item in all_items() {
            writer.put_item(RUN, Header::any_life(NodeId(1)), &item);
        }
        let frame = writer.take();
        for at in 0..frame.len() {
            for bit in 0..8 {
                let mut bytes = frame.to_vec();
                bytes[at] ^= 1 << bit;
                let _ = decode(&bytes.into());
            }
        }
    }

    #[test]
    fn a_frame_without_a_life_is_for_any_life_of_the_node_and_for_no_other_node() {
        let me = Member::new(NodeId(1), Incarnation(9));
        let header = |to| Header { run: RUN, to };
        assert!(header(me).is_for(me));
        assert!(header(Header::any_life(NodeId(1))).is_for(me));
        assert!(!header(Header::any_life(NodeId(2))).is_for(me));
        assert!(!header(Member::new(NodeId(1), Incarnation(8))).is_for(me));
    }
}
