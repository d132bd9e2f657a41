//! What a snapshot says of itself before it is sent: which entry, which membership, how many chunks,
//! which live entries. With a large live set it is long, so it goes in parts: one that is small with
//! the votes and beats, the others where nothing urgent waits behind them, one at a time.

use bytes::Bytes;
use refloat_log_store::SnapshotMeta;
use refloat_types::codec::Reader;
use refloat_types::{EntryId, GroupKey, Member, NodeId, Now};

use super::NodeCore;
use super::envelope::{Item, SnapshotEnd};
use super::receiving::Incoming;
use crate::api::Lane;

/// The most bytes of an offer in the urgent lane; [`crate::Config::urgent_bytes`] may say less.
const FIRST_PART: usize = 16 << 10;
/// No offer is longer, and no receiver keeps more of one.
const LONGEST: usize = 64 << 20;

/// What tells an offer from any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfferName {
    pub(crate) id: EntryId,
    /// Bytes of all of it.
    pub(crate) len: u32,
    /// CRC-32C of all of it.
    pub(crate) sum: u32,
}

/// An offer in the form in which it is sent.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    name: OfferName,
    bytes: Bytes,
}

impl Offer {
    /// `None`: it is too long.
    pub(super) fn of(meta: &SnapshotMeta) -> Option<Offer> {
        let mut bytes = Vec::new();
        meta.encode(&mut bytes);
        let len = u32::try_from(bytes.len()).ok().filter(|len| *len as usize <= LONGEST)?;
        let name = OfferName { id: meta.id, len, sum: crc32c::crc32c(&bytes) };
        Some(Offer { name, bytes: bytes.into() })
    }

    fn part(&self, group: GroupKey, at: u32, most: usize) -> Item {
        let begin = self.bytes.len().min(at as usize);
        let end = self.bytes.len().min(begin.saturating_add(most));
        Item::SnapshotOffer { group, name: self.name, at, part: self.bytes.slice(begin..end) }
    }
}

/// An offer of which a part is here.
pub(super) struct Announced {
    name: OfferName,
    bytes: Vec<u8>,
    pub(super) from: NodeId,
    pub(super) heard: Now,
}

impl Announced {
    pub(super) fn begin(name: OfferName, from: NodeId, now: Now) -> Announced {
        Announced { name, bytes: Vec::new(), from, heard: now }
    }

    pub(super) fn is(&self, name: OfferName) -> bool {
        self.name == name
    }

    /// Takes the part that follows; any other is left. Whether it is whole now.
    fn take(&mut self, at: u32, part: &[u8]) -> bool {
        let room = (self.name.len as usize).saturating_sub(self.bytes.len());
        if at as usize == self.bytes.len() && part.len() <= room {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.len() == self.name.len as usize
    }

    /// What it says, if it is what was announced.
    fn open(&self, key: GroupKey) -> Option<SnapshotMeta> {
        let meta = SnapshotMeta::decode(&mut Reader::new(&self.bytes)).ok()?;
        let right = crc32c::crc32c(&self.bytes) == self.name.sum && meta.id == self.name.id;
        (right && meta.group == key && meta.check().is_ok()).then_some(meta)
    }
}

impl NodeCore {
    /// Sends the first part of an offer.
    pub(super) fn send_offer(&mut self, key: GroupKey, node: NodeId, offer: &Offer) {
        let most = FIRST_PART.min(self.config.urgent_bytes);
        self.send_item(node, Lane::Urgent, &offer.part(key, 0, most));
    }

    /// Sends the part of an offer that follows what the receiver has.
    pub(super) fn send_rest_of_offer(
        &mut self,
        key: GroupKey,
        node: NodeId,
        offer: &Offer,
        at: u32,
    ) {
        let (now, rate) = (self.now(), self.config.snapshot_rate);
        let item = offer.part(key, at, self.config.max_append_bytes);
        if let Item::SnapshotOffer { part, .. } = &item {
            self.flow.spend(now, part.len() as u64, rate);
            self.counters.snapshot_bytes_sent += part.len() as u64;
        }
        self.send_item(node, Lane::Bulk, &item);
    }

    /// Takes a part of an offer that is let in. With the last one the reception begins.
    pub(super) fn take_part_of_offer(
        &mut self,
        slot: usize,
        from: Member,
        name: OfferName,
        at: u32,
        part: &[u8],
    ) {
        let now = self.now();
        let Some(group) = self.slots[slot].as_mut() else { return };
        let key = group.key;
        if name.len as usize > LONGEST {
            let why = format!("its offer has {} bytes, {LONGEST} are allowed", name.len);
            return self.refuse_offer(slot, from, name, why);
        }
        let known = group.snapshots.announced.take().filter(|announced| announced.is(name));
        let mut announced = known.unwrap_or_else(|| Announced::begin(name, from.node, now));
        (announced.from, announced.heard) = (from.node, now);
        let had = announced.bytes.len();
        if !announced.take(at, part) {
            let next = u32::try_from(announced.bytes.len()).unwrap_or(u32::MAX);
            // Of what comes twice only the beginning is answered: it is sent again by who heard
            // nothing.
            let says = announced.bytes.len() > had || at == 0;
            group.snapshots.announced = Some(announced);
            if says {
                self.say_state(from.node, key, name.id, next, SnapshotEnd::Told);
            }
            return;
        }
        match announced.open(key) {
            Some(meta) => {
                group.snapshots.incoming =
                    Some(Box::new(Incoming::begin(meta, name, from.node, now)));
                self.go_on_receiving(slot, false);
            }
            None => {
                let why = "its offer is not what it was announced as".to_owned();
                self.refuse_offer(slot, from, name, why);
            }
        }
    }

    fn refuse_offer(&mut self, slot: usize, from: Member, name: OfferName, why: String) {
        self.counters.refused += 1;
        let Some(group) = self.slots[slot].as_ref() else { return };
        let (key, alone) = (group.key, group.snapshots.incoming.is_none());
        self.say_refusal(from.node, key, name.id, why);
        if alone {
            self.reception_over(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use refloat_types::{Epoch, GroupId, Index, Term};

    use super::*;

    #[test]
    fn parts_are_taken_in_order_once_and_never_beyond_what_was_announced() {
        let bytes: Vec<u8> = (0..=255).collect();
        let id = EntryId::new(Term(1), Index(9));
        let name = OfferName { id, len: 256, sum: crc32c::crc32c(&bytes) };
        let mut announced = Announced::begin(name, NodeId(2), Now(5));
        assert!(!announced.take(0, &bytes[..100]));
        assert!(!announced.take(0, &bytes[..100]), "twice");
        assert!(!announced.take(200, &bytes[200..]), "one is missing before it");
        assert!(!announced.take(100, &bytes[..200]), "more than there is");
        assert!(announced.take(100, &bytes[100..]));
        assert_eq!(announced.bytes, bytes);
        let key = GroupKey::new(GroupId(1), Epoch(1));
        assert!(announced.open(key).is_none(), "no snapshot says this of itself");
    }
}
