//! What waits for one lane of one peer.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Dropped;

/// What a frame costs besides its bytes, so that empty frames are bounded too.
const FRAME_COST: usize = 64;

/// A queue bounded in bytes. A full one drops what comes; it never grows and never waits.
#[derive(Debug)]
pub(crate) struct Queue {
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
}

const fn cost(frame: &Bytes) -> usize {
    frame.len() + FRAME_COST
}

impl Queue {
    pub(crate) fn new(limit: usize) -> Queue {
        Queue { limit, state: Mutex::default(), filled: Notify::new() }
    }

    /// Takes a frame in if there is room; one frame always fits into an empty queue.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), Dropped> {
        let mut state = self.state.lock();
        if !state.open {
            return Err(Dropped::NotConnected);
        }
        if state.cost > 0 && state.cost + cost(&frame) > self.limit {
            return Err(Dropped::Full);
        }
        state.cost += cost(&frame);
        state.frames.push_back(frame);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes out frames up to about `max` bytes, at least one if any waits. They count against
    /// the bound until [`Queue::written`].
    pub(crate) fn take(&self, max: usize, out: &mut Vec<Bytes>) {
        let mut state = self.state.lock();
        let (mut count, mut taken) = (0, 0);
        while let Some(frame) =
            state.frames.front().filter(|f| count == 0 || taken + cost(f) <= max)
        {
            count += 1;
            taken += cost(frame);
            out.extend(state.frames.pop_front());
        }
        state.taken = (count, taken);
    }

    /// What was taken last is on its way: its room is free again.
    pub(crate) fn written(&self) {
        let mut state = self.state.lock();
        state.cost = state.cost.saturating_sub(state.taken.1);
        state.taken = (0, 0);
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
        state.frames.len() as u64 + state.taken.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t07_a_queue_never_holds_more_than_its_bound() {
        let queue = Queue::new(1000);
        let frame = Bytes::from(vec![0; 236]);
        assert_eq!(queue.push(frame.clone()), Err(Dropped::NotConnected));
        queue.open();
        for _ in 0..3 {
            assert_eq!(queue.push(frame.clone()), Ok(()));
        }
        assert_eq!(queue.push(frame.clone()), Err(Dropped::Full));

        let mut out = Vec::new();
        queue.take(usize::MAX, &mut out);
        assert_eq!(out.len(), 3);
        assert_eq!(queue.push(frame.clone()), Err(Dropped::Full), "taken is not written");
        queue.written();
        assert_eq!(queue.push(frame.clone()), Ok(()));
        queue.take(1, &mut Vec::new());
        assert_eq!(queue.push(frame), Ok(()));
        assert_eq!(queue.close(), 2, "one taken and one waiting are lost");
    }

    #[test]
    fn one_long_frame_fits_into_an_empty_queue() {
        let queue = Queue::new(10);
        queue.open();
        assert_eq!(queue.push(Bytes::from(vec![0; 100])), Ok(()));
        assert_eq!(queue.push(Bytes::new()), Err(Dropped::Full));
    }
}
