//! What waits for one lane of one peer.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use crate::frame::{FrameKind, frame_header};
use crate::{Dropped, Lane};

/// What a frame costs besides its bytes, so that empty frames are bounded too.
const FRAME_COST: usize = 64;
/// Urgent frames up to this length may be written by whoever sends them.
const AT_ONCE_LEN: usize = 16 << 10;

/// A socket that takes what it has room for, or nothing.
pub(crate) trait Socket: Send + Sync + Debug {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Socket for OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        OwnedWriteHalf::try_write(self, bytes)
    }
}

/// A queue bounded in bytes. A full one drops what comes; it never grows and never waits.
///
/// While nothing is being written, who sends a short urgent frame writes it himself, as far as the
/// socket takes it: that spares the wake-up of the task that serves the queue.
#[derive(Debug)]
pub(crate) struct Queue {
    lane: Lane,
    limit: usize,
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    frames: VecDeque<Bytes>,
    /// The cost of what waits and of what was taken and is not written yet.
    cost: usize,
    /// Of what was taken and is not written yet: how many frames, and their cost.
    taken: (u64, usize),
    socket: Option<Arc<dyn Socket>>,
    /// The task writes.
    busy: bool,
    /// The number of the next frame of the connection.
    seq: u32,
    /// The rest of a frame that the socket did not take whole, and its cost.
    begun: Option<(Bytes, usize)>,
    /// Room for a frame with its header.
    scratch: Vec<u8>,
}

/// What became of a frame that was not dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Waits,
    /// So many bytes of it, which are all, are written.
    Written(u64),
}

/// What the task is to write besides the frames that it takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    /// What stands before them: the rest of a frame.
    pub(crate) rest: Option<Bytes>,
    /// The number of the first of them.
    pub(crate) seq: u32,
}

const fn cost(frame: &Bytes) -> usize {
    frame.len() + FRAME_COST
}

impl Queue {
    pub(crate) fn new(lane: Lane, limit: usize) -> Queue {
        Queue { lane, limit, state: Mutex::default(), filled: Notify::new() }
    }

    /// Takes a frame in if there is room; one frame always fits into an empty queue.
    pub(crate) fn push(&self, frame: Bytes) -> Result<Pushed, Dropped> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(Dropped::NotConnected);
        }
        let cost = cost(&frame);
        if state.cost > 0 && state.cost + cost > self.limit {
            return Err(Dropped::Full);
        }
        let may = self.lane == Lane::Urgent && frame.len() <= AT_ONCE_LEN && state.is_idle();
        match state.socket.clone().filter(|_| may) {
            Some(socket) => {
                if let Some(written) = state.write_at_once(&*socket, self.lane, &frame) {
                    return Ok(Pushed::Written(written));
                }
            }
            None => state.frames.push_back(frame),
        }
        state.cost += cost;
        drop(state);
        self.filled.notify_one();
        Ok(Pushed::Waits)
    }

    /// Frames may be written to this socket from now on, the first of them as number 0.
    pub(crate) fn connected(&self, socket: Arc<dyn Socket>) {
        let mut state = self.state.lock();
        (state.socket, state.seq, state.busy) = (Some(socket), 0, false);
    }

    /// Takes out frames up to about `max` bytes, at least one if any waits. They count against
    /// the bound, and nobody else writes, until [`Queue::written`]. `None` if nothing waits.
    pub(crate) fn take(&self, max: usize, out: &mut Vec<Bytes>) -> Option<Turn> {
        let mut state = self.state.lock();
        let begun = state.begun.take();
        if begun.is_none() && state.frames.is_empty() {
            return None;
        }
        let (rest, begun) = begun.map_or((None, None), |(rest, cost)| (Some(rest), Some(cost)));
        let (mut count, mut taken) = (begun.map_or(0, |_| 1), begun.unwrap_or(0));
        let seq = state.seq;
        while let Some(frame) =
            state.frames.front().filter(|f| count == 0 || taken + cost(f) <= max)
        {
            count += 1;
            taken += cost(frame);
            out.extend(state.frames.pop_front());
            state.seq = state.seq.wrapping_add(1);
        }
        (state.taken, state.busy) = ((count, taken), true);
        Some(Turn { rest, seq })
    }

    /// Takes the right to write one frame that never waited: its number. `None` if others wait.
    pub(crate) fn interject(&self) -> Option<u32> {
        let mut state = self.state.lock();
        if !state.is_idle() {
            return None;
        }
        let seq = state.seq;
        (state.seq, state.busy) = (seq.wrapping_add(1), true);
        Some(seq)
    }

    /// What was taken last is on its way: its room is free again. How many frames it was.
    pub(crate) fn written(&self) -> u64 {
        let mut state = self.state.lock();
        let (count, cost) = std::mem::take(&mut state.taken);
        state.cost = state.cost.saturating_sub(cost);
        state.busy = false;
        count
    }

    /// Resolves when a frame may have come.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Begins to take frames in.
    pub(crate) fn open(&self) {
        self.state.lock().open = true;
    }

    /// Stops, and forgets what waits: after a break it would only be stale. Returns how many
    /// frames were lost, those taken and not written among them.
    pub(crate) fn close(&self) -> u64 {
        let state = std::mem::take(&mut *self.state.lock());
        state.frames.len() as u64 + state.taken.0 + u64::from(state.begun.is_some())
    }
}

impl State {
    fn is_idle(&self) -> bool {
        !self.busy && self.begun.is_none() && self.frames.is_empty()
    }

    /// Writes a frame as far as the socket takes it, and keeps the rest. How many bytes it was, if
    /// that is all. What is wrong with the socket the task finds out.
    fn write_at_once(&mut self, socket: &dyn Socket, lane: Lane, frame: &Bytes) -> Option<u64> {
        let header = frame_header(self.seq, FrameKind::Data, lane, frame);
        self.seq = self.seq.wrapping_add(1);
        self.scratch.clear();
        self.scratch.extend_from_slice(&header);
        self.scratch.extend_from_slice(frame);
        let written = socket.try_write(&self.scratch).unwrap_or(0);
        if written == self.scratch.len() {
            return Some(written as u64);
        }
        let rest = self.scratch.get(written..).unwrap_or_default();
        self.begun = Some((Bytes::copy_from_slice(rest), cost(frame)));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t07_a_queue_never_holds_more_than_its_bound() {
        let queue = Queue::new(Lane::Urgent, 1000);
        let frame = Bytes::from(vec![0; 236]);
        assert_eq!(queue.push(frame.clone()), Err(Dropped::NotConnected));
        queue.open();
        for _ in 0..3 {
            assert_eq!(queue.push(frame.clone()), Ok(Pushed::Waits));
        }
        assert_eq!(queue.push(frame.clone()), Err(Dropped::Full));

        let mut out = Vec::new();
        assert_eq!(queue.take(usize::MAX, &mut out), Some(Turn { rest: None, seq: 0 }));
        assert_eq!(out.len(), 3);
        assert_eq!(queue.push(frame.clone()), Err(Dropped::Full), "taken is not written");
        assert_eq!(queue.written(), 3);
        assert_eq!(queue.push(frame.clone()), Ok(Pushed::Waits));
        queue.take(1, &mut Vec::new());
        assert_eq!(queue.push(frame), Ok(Pushed::Waits));
        assert_eq!(queue.close(), 2, "one taken and one waiting are lost");
    }

    #[test]
    fn one_long_frame_fits_into_an_empty_queue() {
        let queue = Queue::new(Lane::Bulk, 10);
        queue.open();
        assert_eq!(queue.push(Bytes::from(vec![0; 100])), Ok(Pushed::Waits));
        assert_eq!(queue.push(Bytes::new()), Err(Dropped::Full));
    }

    /// Takes so many bytes and no more.
    #[derive(Debug, Default)]
    struct Narrow(Mutex<(usize, Vec<u8>)>);

    impl Socket for Narrow {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let (room, taken) = &mut *self.0.lock();
            let n = bytes.len().min(*room);
            *room -= n;
            taken.extend_from_slice(&bytes[..n]);
            if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
        }
    }

    #[test]
    fn a_frame_is_written_at_once_only_where_nothing_is_before_it() {
        let queue = Queue::new(Lane::Urgent, 1000);
        let socket = Arc::new(Narrow::default());
        socket.0.lock().0 = 40;
        queue.open();
        queue.connected(socket.clone());
        let frame = Bytes::from_static(b"0123456789");
        assert_eq!(queue.push(frame.clone()), Ok(Pushed::Written(26)));
        assert_eq!(queue.push(frame.clone()), Ok(Pushed::Waits), "of this one 14 bytes are");
        assert_eq!(queue.interject(), None);
        assert_eq!(queue.push(frame.clone()), Ok(Pushed::Waits), "so that this one is behind it");

        let mut out = Vec::new();
        let turn = queue.take(usize::MAX, &mut out).unwrap();
        assert_eq!((turn.seq, out.len()), (2, 1));
        let mut wire = socket.0.lock().1.clone();
        wire.extend_from_slice(&turn.rest.unwrap());
        let header = |seq| frame_header(seq, FrameKind::Data, Lane::Urgent, &frame);
        assert_eq!(wire, [&header(0)[..], &frame, &header(1), &frame].concat());

        socket.0.lock().0 = 1000;
        assert_eq!(queue.push(frame.clone()), Ok(Pushed::Waits), "the task is at it");
        queue.take(usize::MAX, &mut out);
        assert_eq!(queue.written(), 1, "the one that was taken last");
        assert_eq!(queue.interject(), Some(4));
        assert_eq!(queue.push(frame.clone()), Ok(Pushed::Waits), "behind what was interjected");
        assert_eq!(queue.close(), 1);
    }

    #[test]
    fn long_frames_and_those_of_the_bulk_lane_wait_for_the_task() {
        for (lane, len) in [(Lane::Bulk, 1), (Lane::Urgent, AT_ONCE_LEN + 1)] {
            let queue = Queue::new(lane, 1 << 20);
            let socket = Arc::new(Narrow::default());
            socket.0.lock().0 = 1 << 20;
            queue.open();
            queue.connected(socket);
            assert_eq!(queue.push(vec![0; len].into()), Ok(Pushed::Waits));
        }
    }
}
