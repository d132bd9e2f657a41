//! Who is connected, in whatever direction and on whatever lane.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use refloat_types::Member;

use crate::{Deliver, Event};

/// Counts connections per life and run, and reports the first and the end of the last.
pub(crate) struct Presence {
    deliver: Deliver,
    connections: Mutex<BTreeMap<(Member, u64), usize>>,
}

/// One connection. Its end is counted when it is dropped, also when its task is cancelled.
pub(crate) struct Present {
    presence: Arc<Presence>,
    from: Member,
    run: u64,
}

impl Presence {
    pub(crate) fn new(deliver: Deliver) -> Arc<Presence> {
        Arc::new(Presence { deliver, connections: Mutex::default() })
    }

    pub(crate) fn enter(self: &Arc<Self>, from: Member, run: u64) -> Present {
        // Reported under the lock, so that an end never overtakes a beginning.
        let mut connections = self.connections.lock();
        let count = connections.entry((from, run)).or_default();
        *count += 1;
        if *count == 1 {
            (self.deliver)(Event::Up { from, run });
        }
        Present { presence: self.clone(), from, run }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let (from, run) = (self.from, self.run);
        let mut connections = self.presence.connections.lock();
        let Some(count) = connections.get_mut(&(from, run)) else { return };
        *count -= 1;
        if *count == 0 {
            connections.remove(&(from, run));
            (self.presence.deliver)(Event::Down { from, run });
        }
    }
}
