//! Room for replies that clients have not taken yet, over all connections.
//!
//! A connection gets room before it asks for values, and gives it back when its client has taken
//! them. Little replies need none. Where there is none left, those who want some wait, and clients
//! that do not take their replies lose their connection, those first that were stuck first.
//!
//! Who has room and wants more than is left, for a reply that is longer than it thought, does not
//! wait for others, who might wait for it: it goes beyond the bound, one at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep};

/// So many bytes a connection may hold without room.
pub const FREE_LEN: usize = 4 * 1024;
/// Room is given in pieces of this length.
const PIECE_LEN: usize = 1024;
/// A client that is stuck for less is not dropped for the sake of others.
const GRACE: Duration = Duration::from_secs(1);
/// How often those who wait look for somebody to drop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The room of a server.
#[derive(Debug)]
pub struct Unsent {
    pieces: u32,
    room: Semaphore,
    /// Held by the one that goes beyond the bound.
    alone: Semaphore,
    stuck: Mutex<BTreeMap<(Instant, u64), Stuck>>,
    dropped: AtomicU64,
}

/// A client that does not take its replies, or takes them slowly.
#[derive(Debug)]
struct Stuck {
    pieces: u32,
    drop: oneshot::Sender<()>,
}

impl Unsent {
    /// Room for so many bytes, at least one piece.
    pub fn new(bytes: u64) -> Unsent {
        let pieces = pieces_of(usize::try_from(bytes).unwrap_or(usize::MAX)).max(1);
        Unsent {
            pieces,
            room: Semaphore::new(pieces as usize),
            alone: Semaphore::new(1),
            stuck: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// How many bytes of it are given away.
    pub fn bytes(&self) -> u64 {
        (self.pieces as usize - self.room.available_permits()) as u64 * PIECE_LEN as u64
    }

    /// Clients dropped since they did not take their replies.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// No room yet.
    pub fn hold(&self) -> Hold<'_> {
        Hold { unsent: self, has: None, beyond: None }
    }

    /// Says that a client lost its connection since it did not take its replies.
    pub fn note_dropped(&self, client: SocketAddr, unsent: usize, since: Instant, why: &str) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        let seconds = since.elapsed().as_secs_f32();
        tracing::warn!(%client, unsent, seconds, "client dropped, it does not take its replies: {why}");
    }

    async fn take<'a>(&'a self, from: &'a Semaphore, pieces: u32) -> Option<SemaphorePermit<'a>> {
        if let Ok(permit) = from.try_acquire_many(pieces) {
            return Some(permit);
        }
        let mut taken = pin!(from.acquire_many(pieces));
        loop {
            self.drop_stuck(pieces);
            tokio::select! {
                permit = &mut taken => return permit.ok(),
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Drops the clients that are stuck for longest, until their room is enough.
    fn drop_stuck(&self, pieces: u32) {
        let mut stuck = self.stuck.lock();
        let mut freed = 0;
        while freed < pieces {
            let Some(oldest) = stuck.first_entry().filter(|e| e.key().0.elapsed() >= GRACE) else {
                return;
            };
            let oldest = oldest.remove();
            freed += oldest.pieces;
            let _ = oldest.drop.send(());
        }
    }
}

/// What one connection has of it.
#[derive(Debug)]
pub struct Hold<'a> {
    unsent: &'a Unsent,
    has: Option<SemaphorePermit<'a>>,
    beyond: Option<(u32, SemaphorePermit<'a>)>,
}

impl Hold<'_> {
    /// For how many bytes it is.
    pub fn len(&self) -> usize {
        match self.pieces() {
            0 => FREE_LEN,
            pieces => pieces as usize * PIECE_LEN,
        }
    }

    /// Waits until it is for so many bytes; who has none is given no more than there is.
    pub async fn grow(&mut self, bytes: usize) {
        if bytes <= self.len() {
            return;
        }
        let more = pieces_of(bytes).saturating_sub(self.pieces());
        match (&mut self.has, &mut self.beyond) {
            (_, Some((beyond, _))) => *beyond += more,
            (None, None) => {
                let more = more.min(self.unsent.pieces);
                self.has = self.unsent.take(&self.unsent.room, more).await;
            }
            (Some(has), None) => match self.unsent.room.try_acquire_many(more) {
                Ok(more) => has.merge(more),
                Err(_) => {
                    let alone = self.unsent.take(&self.unsent.alone, 1).await;
                    self.beyond = alone.map(|alone| (more, alone));
                }
            },
        }
    }

    /// Gives all of it back.
    pub fn release(&mut self) {
        self.has = None;
        self.beyond = None;
    }

    /// Says that its client is stuck since a moment; resolves if that costs it the connection.
    pub fn stuck(&self, since: Instant, id: u64) -> Dropped<'_> {
        let (pieces, key) = (self.pieces(), (since, id));
        if pieces == 0 {
            return Dropped { unsent: self.unsent, key, dropped: None };
        }
        let (drop, dropped) = oneshot::channel();
        self.unsent.stuck.lock().insert(key, Stuck { pieces, drop });
        Dropped { unsent: self.unsent, key, dropped: Some(dropped) }
    }

    fn pieces(&self) -> u32 {
        let beyond = self.beyond.as_ref().map_or(0, |(pieces, _)| *pieces);
        self.has.as_ref().map_or(0, |has| has.num_permits() as u32) + beyond
    }
}

/// Stands for a client that is stuck, for as long as it is.
pub struct Dropped<'a> {
    unsent: &'a Unsent,
    key: (Instant, u64),
    dropped: Option<oneshot::Receiver<()>>,
}

impl Dropped<'_> {
    /// Waits until others need its room; for ever if it has none.
    pub async fn wait(&mut self) {
        match &mut self.dropped {
            Some(dropped) => drop(dropped.await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.unsent.stuck.lock().remove(&self.key);
    }
}

fn pieces_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE_LEN)).unwrap_or(u32::MAX).min(1 << 28)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    #[tokio::test]
    async fn t09_the_client_that_is_stuck_for_longest_makes_room_and_no_other_one() {
        let unsent = Unsent::new(64 * KIB as u64);
        let begin = Instant::now();
        let mut holds = [unsent.hold(), unsent.hold(), unsent.hold(), unsent.hold()];
        for hold in &mut holds {
            hold.grow(16 * KIB).await;
        }
        assert_eq!(unsent.bytes(), 64 * KIB as u64);
        let [first, second, third, _reads] = &holds;
        let later = |millis| begin + Duration::from_millis(millis);
        let mut stuck =
            [second.stuck(later(5), 1), first.stuck(begin, 2), third.stuck(later(7), 3)];

        let mut free = unsent.hold();
        free.grow(FREE_LEN).await;
        assert!(begin.elapsed() < GRACE, "what is small needs no room");
        let mut wants = unsent.hold();
        let [_, oldest, _] = &mut stuck;
        tokio::select! {
            () = wants.grow(8 * KIB) => panic!("there was no room"),
            () = oldest.wait() => {}
            () = sleep(5 * GRACE) => panic!("nobody makes room"),
        }
        assert!(begin.elapsed() >= GRACE, "after {:?}", begin.elapsed());
        let [second, _, third] = &mut stuck;
        tokio::select! {
            () = wants.grow(8 * KIB) => panic!("nobody left yet"),
            () = second.wait() => {}
            () = third.wait() => panic!("it was stuck last"),
        }
    }

    #[tokio::test]
    async fn those_that_have_room_and_want_more_than_is_left_get_it_one_after_the_other() {
        let unsent = Unsent::new(64 * KIB as u64);
        let (mut one, mut other) = (unsent.hold(), unsent.hold());
        one.grow(32 * KIB).await;
        other.grow(32 * KIB).await;
        one.grow(KIB * KIB).await;
        assert_eq!(one.len(), KIB * KIB, "without waiting for the other");
        tokio::select! {
            () = other.grow(KIB * KIB) => panic!("both are beyond"),
            () = sleep(LOOK_EVERY) => {}
        }
        one.release();
        other.grow(KIB * KIB).await;
        drop((one, other));
        assert_eq!(unsent.bytes(), 0);
        let mut all = unsent.hold();
        all.grow(KIB * KIB).await;
        assert_eq!(all.len(), 64 * KIB, "all there is");
    }
}
