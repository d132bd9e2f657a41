//! The in-memory twin: the same interface, without sockets, threads or time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use refloat_types::{Member, NodeId};

use crate::{Deliver, Dropped, Event, Lane, Peer, Refusal, Transport};

/// A network in memory. Frames wait in one queue per sender, receiver and lane until they are
/// delivered by an explicit call, on the caller's thread; the same calls give the same events.
#[derive(Clone, Default)]
pub struct MemNet {
    shared: Arc<Mutex<Shared>>,
}

/// One node's end of a [`MemNet`].
pub struct MemTransport {
    net: MemNet,
    me: Member,
}

/// A link: sender, receiver, lane.
type Link = (NodeId, NodeId, Lane);

#[derive(Default)]
struct Shared {
    nodes: BTreeMap<NodeId, Node>,
    queues: BTreeMap<Link, VecDeque<Bytes>>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

struct Node {
    me: Member,
    run: u64,
    deliver: Deliver,
    peers: BTreeMap<NodeId, Peer>,
}

impl MemNet {
    /// The most frames that wait on one link; more are dropped as [`Dropped::Full`].
    pub const LINK_FRAMES: usize = 4096;

    /// An empty network.
    #[must_use]
    pub fn new() -> MemNet {
        MemNet::default()
    }

    /// Adds a node, or a new run or life of one: what waited for the old one is lost.
    #[must_use]
    pub fn join(&self, me: Member, run: u64, deliver: Deliver) -> MemTransport {
        let mut shared = self.shared.lock();
        shared.forget(me.node);
        shared.nodes.insert(me.node, Node { me, run, deliver, peers: BTreeMap::new() });
        drop(shared);
        MemTransport { net: self.clone(), me }
    }

    /// Loses everything between two nodes, in both directions, until [`MemNet::heal`].
    pub fn cut(&self, a: NodeId, b: NodeId) {
        let mut shared = self.shared.lock();
        shared.cut.extend([(a, b), (b, a)]);
        shared.queues.retain(|&(from, to, _), _| (from, to) != (a, b) && (from, to) != (b, a));
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.shared.lock().cut.clear();
    }

    /// The links on which frames wait, ascending.
    #[must_use]
    pub fn pending(&self) -> Vec<(NodeId, NodeId, Lane)> {
        self.shared.lock().queues.keys().copied().collect()
    }

    /// Delivers the oldest frame of one link; `false` if none waits.
    pub fn deliver(&self, from: NodeId, to: NodeId, lane: Lane) -> bool {
        // The lock is released before the receiver runs: it may send at once.
        let Some((deliver, event)) = self.shared.lock().take(from, to, lane) else { return false };
        deliver(event);
        true
    }

    /// Loses the oldest frame of one link; `false` if none waits.
    pub fn lose(&self, from: NodeId, to: NodeId, lane: Lane) -> bool {
        self.shared.lock().pop((from, to, lane)).is_some()
    }

    /// Delivers one frame per link with waiting frames, in rounds, until none waits or `limit`
    /// frames were delivered; returns how many were.
    pub fn deliver_all(&self, limit: usize) -> usize {
        let mut delivered = 0;
        loop {
            let links = self.pending();
            if links.is_empty() || delivered >= limit {
                return delivered;
            }
            for (from, to, lane) in links.into_iter().take(limit - delivered) {
                delivered += usize::from(self.deliver(from, to, lane));
            }
        }
    }
}

impl Shared {
    fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.queues.retain(|&(from, to, _), _| from != node && to != node);
    }

    fn pop(&mut self, link: Link) -> Option<Bytes> {
        let queue = self.queues.get_mut(&link)?;
        let frame = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&link);
        }
        frame
    }

    fn take(&mut self, from: NodeId, to: NodeId, lane: Lane) -> Option<(Deliver, Event)> {
        let bytes = self.pop((from, to, lane))?;
        let (sender, receiver) = (self.nodes.get(&from)?, self.nodes.get(&to)?);
        let found = receiver.me.incarnation;
        match sender.peers.get(&to).and_then(|peer| peer.incarnation) {
            Some(expected) if expected != found => {
                let reason = Refusal::WrongIncarnation { found, expected };
                Some((sender.deliver.clone(), Event::Refused { to, reason }))
            }
            _ => {
                let event = Event::Frame { from: sender.me, run: sender.run, lane, bytes };
                Some((receiver.deliver.clone(), event))
            }
        }
    }
}

impl Transport for MemTransport {
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        let mut shared = self.net.shared.lock();
        let me = shared.nodes.get(&self.me.node).filter(|n| n.me == self.me);
        let known = me.ok_or(Dropped::ShutDown)?.peers.contains_key(&to);
        if !known {
            return Err(Dropped::UnknownPeer);
        }
        if !shared.nodes.contains_key(&to) || shared.cut.contains(&(self.me.node, to)) {
            return Err(Dropped::NotConnected);
        }
        let queue = shared.queues.entry((self.me.node, to, lane)).or_default();
        if queue.len() >= MemNet::LINK_FRAMES {
            return Err(Dropped::Full);
        }
        queue.push_back(frame);
        Ok(())
    }

    fn set_peers(&self, peers: &BTreeMap<NodeId, Peer>) {
        if let Some(node) = self.net.shared.lock().nodes.get_mut(&self.me.node) {
            node.peers.clone_from(peers);
        }
    }

    fn shutdown(&self) {
        let mut shared = self.net.shared.lock();
        if shared.nodes.get(&self.me.node).is_some_and(|n| n.me == self.me) {
            shared.forget(self.me.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::Incarnation;

    fn member(node: u64) -> Member {
        Member::new(NodeId(node), Incarnation(u128::from(node) * 10))
    }

    fn log() -> (Deliver, Arc<Mutex<Vec<Event>>>) {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        (Arc::new(move |event| sink.lock().push(event)), events)
    }

    fn pair() -> (MemNet, MemTransport, MemTransport, Arc<Mutex<Vec<Event>>>) {
        let net = MemNet::new();
        let (deliver, events) = log();
        let a = net.join(member(1), 1, deliver.clone());
        let b = net.join(member(2), 1, deliver);
        a.set_peers(&BTreeMap::from([(NodeId(2), Peer::new("two"))]));
        (net, a, b, events)
    }

    #[test]
    fn frames_wait_for_an_explicit_call_and_keep_their_order() {
        let (net, a, _b, events) = pair();
        a.send(NodeId(2), Lane::Urgent, "x".into()).unwrap();
        a.send(NodeId(2), Lane::Urgent, "y".into()).unwrap();
        assert!(events.lock().is_empty());
        assert_eq!(net.deliver_all(usize::MAX), 2);
        let frame = |s: &'static str| Event::Frame {
            from: member(1),
            run: 1,
            lane: Lane::Urgent,
            bytes: s.into(),
        };
        assert_eq!(*events.lock(), [frame("x"), frame("y")]);
    }

    #[test]
    fn unknown_cut_off_and_gone_peers_are_told_apart() {
        let (net, a, b, _) = pair();
        assert_eq!(a.send(NodeId(3), Lane::Bulk, Bytes::new()), Err(Dropped::UnknownPeer));
        net.cut(NodeId(1), NodeId(2));
        assert_eq!(a.send(NodeId(2), Lane::Bulk, Bytes::new()), Err(Dropped::NotConnected));
        net.heal();
        assert_eq!(a.send(NodeId(2), Lane::Bulk, Bytes::new()), Ok(()));
        b.shutdown();
        assert!(net.pending().is_empty());
        assert_eq!(a.send(NodeId(2), Lane::Bulk, Bytes::new()), Err(Dropped::NotConnected));
        a.shutdown();
        assert_eq!(a.send(NodeId(2), Lane::Bulk, Bytes::new()), Err(Dropped::ShutDown));
    }

    #[test]
    fn a_frame_for_an_old_life_is_refused_to_its_sender() {
        let (net, a, _b, events) = pair();
        let old = Peer::new("two").with_incarnation(Incarnation(7));
        a.set_peers(&BTreeMap::from([(NodeId(2), old)]));
        a.send(NodeId(2), Lane::Bulk, Bytes::new()).unwrap();
        net.deliver_all(usize::MAX);
        let reason = Refusal::WrongIncarnation { found: Incarnation(20), expected: Incarnation(7) };
        assert_eq!(*events.lock(), [Event::Refused { to: NodeId(2), reason }]);
    }
}
