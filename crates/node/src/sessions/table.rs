//! Which commands of which sessions were applied, and what the machine replied. Pure, and the same
//! on every member: it knows the time from the log alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use refloat_types::codec::{DecodeError, Put, Reader};

/// The bounds of a group's sessions. They travel in the log with each registration, and the last
/// one counts for what is common to all sessions, so members need no common settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A session expires after so many milliseconds of the leaders' clocks without a command.
    pub idle_ms: u64,
    /// Commands of one session that may be without an answer at a time.
    pub open: u32,
    /// Sessions of the group.
    pub sessions: u32,
    /// Bytes of kept replies of the whole group. What does not fit is not kept:
    /// [`SessionReply::AppliedBefore`](super::SessionReply::AppliedBefore).
    pub reply_bytes: u64,
}

impl Default for Limits {
    /// 5 minutes, 64 commands, 10,000 sessions, 64 MiB.
    fn default() -> Limits {
        Limits { idle_ms: 300_000, open: 64, sessions: 10_000, reply_bytes: 64 << 20 }
    }
}

impl Limits {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.idle_ms);
        out.put_u32(self.open);
        out.put_u32(self.sessions);
        out.put_u64(self.reply_bytes);
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Limits, DecodeError> {
        Ok(Limits {
            idle_ms: r.u64("idle time of a session")?,
            open: r.u32("open commands of a session")?,
            sessions: r.u32("sessions")?,
            reply_bytes: r.u64("bytes of replies")?,
        })
    }
}

/// What is to be done with a command of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Apply it, and [`Table::applied`].
    New,
    /// It was applied, with this reply if it was kept.
    Before(Option<Bytes>),
    Expired,
    TooManyOpen,
    Forgotten,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    limits: (u64, u32),
    /// When it expires, unless it is heard again.
    until: u64,
    /// Commands below are answered, as the client said.
    floor: u64,
    /// Applied commands from the floor on, with the replies that were kept.
    replies: BTreeMap<u64, Option<Bytes>>,
}

/// All sessions of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The latest time that an entry brought, milliseconds since 1970; it never goes back.
    now: u64,
    /// Common to all sessions, from the last registration.
    reply_limit: u64,
    sessions: BTreeMap<u64, Session>,
    /// (until, session), ascending.
    ends: BTreeSet<(u64, u64)>,
    /// Of all kept replies.
    reply_bytes: u64,
}

impl Table {
    /// An entry brought the time of the leader that made it: what was silent for too long expires.
    pub(super) fn advance(&mut self, stamp: u64) {
        self.now = self.now.max(stamp);
        while let Some((until, session)) = self.ends.first().copied() {
            if until >= self.now {
                break;
            }
            self.close(session);
        }
    }

    /// Whether a session expires when this time comes.
    pub(super) fn would_expire(&self, stamp: u64) -> bool {
        self.ends.first().is_some_and(|(until, _)| *until < self.now.max(stamp))
    }

    /// Whether kept replies of a session lie below a floor.
    pub(super) fn would_forget(&self, session: u64, floor: u64) -> bool {
        let found = self.sessions.get(&session);
        found.is_some_and(|found| found.replies.range(..floor).next().is_some())
    }

    /// Opens a session, unless there are too many.
    pub(super) fn open(&mut self, session: u64, limits: &Limits) -> bool {
        self.reply_limit = limits.reply_bytes;
        if self.sessions.len() >= limits.sessions as usize {
            return false;
        }
        // Numbers are indexes, so there is none of this number but in a table that is not sound.
        self.close(session);
        let until = self.now.saturating_add(limits.idle_ms);
        let limits = (limits.idle_ms, limits.open);
        self.ends.insert((until, session));
        let new = Session { limits, until, floor: 0, replies: BTreeMap::new() };
        self.sessions.insert(session, new);
        true
    }

    /// The session is heard of. `false`: there is none.
    pub(super) fn keep_alive(&mut self, session: u64) -> bool {
        let now = self.now;
        let Some(found) = self.sessions.get_mut(&session) else { return false };
        self.ends.remove(&(found.until, session));
        found.until = now.saturating_add(found.limits.0);
        self.ends.insert((found.until, session));
        true
    }

    /// Ends a session. `false`: there is none.
    pub(super) fn close(&mut self, session: u64) -> bool {
        let Some(gone) = self.sessions.remove(&session) else { return false };
        self.ends.remove(&(gone.until, session));
        self.reply_bytes -= gone.replies.values().map(size).sum::<u64>();
        true
    }

    /// What is to be done with a command.
    pub(super) fn judge(&mut self, session: u64, sequence: u64, floor: u64) -> Verdict {
        if !self.keep_alive(session) {
            return Verdict::Expired;
        }
        let found = self.sessions.get_mut(&session).expect("just heard of");
        if floor > found.floor {
            found.floor = floor;
            let kept = found.replies.split_off(&floor);
            let answered = std::mem::replace(&mut found.replies, kept);
            self.reply_bytes -= answered.values().map(size).sum::<u64>();
        }
        if let Some(reply) = found.replies.get(&sequence) {
            return Verdict::Before(reply.clone());
        }
        if sequence < found.floor {
            return Verdict::Forgotten;
        }
        // All that may be applied lies in a window, so the replies that are kept are bounded too.
        if sequence - found.floor >= u64::from(found.limits.1) {
            return Verdict::TooManyOpen;
        }
        Verdict::New
    }

    /// A new command was applied, and this was the reply.
    pub(super) fn applied(&mut self, session: u64, sequence: u64, reply: &Bytes) {
        let fits = self.reply_bytes + reply.len() as u64 <= self.reply_limit;
        // A copy of its own: a reply may be a slice of something larger.
        let kept = fits.then(|| Bytes::copy_from_slice(reply));
        let Some(found) = self.sessions.get_mut(&session) else { return };
        self.reply_bytes += size(&kept);
        found.replies.insert(sequence, kept);
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn reply_bytes(&self) -> u64 {
        self.reply_bytes
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u64(self.now);
        out.put_u64(self.reply_limit);
        out.put_u32(count(self.sessions.len()));
        for (id, session) in &self.sessions {
            out.put_u64(*id);
            out.put_u64(session.limits.0);
            out.put_u32(session.limits.1);
            out.put_u64(session.until);
            out.put_u64(session.floor);
            out.put_u32(count(session.replies.len()));
            for (sequence, reply) in &session.replies {
                out.put_u64(*sequence);
                out.put_u8(u8::from(reply.is_some()));
                out.put_u32(count(reply.as_ref().map_or(0, Bytes::len)));
                out.put_slice(reply.as_deref().unwrap_or_default());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Table, DecodeError> {
        let mut r = Reader::new(bytes);
        let mut table = Table { now: r.u64("time")?, ..Table::default() };
        table.reply_limit = r.u64("bytes of replies")?;
        for _ in 0..r.count(40, "sessions")? {
            let id = r.u64("session")?;
            let session = decode_session(&mut r)?;
            table.reply_bytes += session.replies.values().map(size).sum::<u64>();
            table.ends.insert((session.until, id));
            // Two of one number would leave an end that no session has, and time stands still there.
            if table.sessions.insert(id, session).is_some() {
                return Err(r.invalid("session"));
            }
        }
        Ok(table)
    }
}

fn decode_session(r: &mut Reader<'_>) -> Result<Session, DecodeError> {
    let limits = (r.u64("idle time of a session")?, r.u32("open commands of a session")?);
    let (until, floor) = (r.u64("end of a session")?, r.u64("floor")?);
    let mut replies = BTreeMap::new();
    for _ in 0..r.count(13, "replies")? {
        let (sequence, kept) = (r.u64("sequence")?, r.u8("reply kept")? == 1);
        let len = r.count(1, "reply")?;
        let reply = Bytes::copy_from_slice(r.bytes(len, "reply")?);
        if replies.insert(sequence, kept.then_some(reply)).is_some() {
            return Err(r.invalid("sequence"));
        }
    }
    Ok(Session { limits, until, floor, replies })
}

/// What a kept reply counts.
fn size(reply: &Option<Bytes>) -> u64 {
    reply.as_ref().map_or(0, |reply| reply.len() as u64)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("bounded by limits of 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limits: Limits) -> Table {
        let mut table = Table::default();
        table.advance(1000);
        assert!(table.open(7, &limits));
        table
    }

    fn apply(table: &mut Table, sequence: u64, reply: &'static str) {
        assert_eq!(table.judge(7, sequence, 0), Verdict::New);
        table.applied(7, sequence, &Bytes::from_static(reply.as_bytes()));
    }

    #[test]
    fn r04_a_command_is_new_once() {
        let mut table = table(Limits::default());
        apply(&mut table, 1, "one");
        apply(&mut table, 0, "zero");
        assert_eq!(table.judge(7, 1, 0), Verdict::Before(Some("one".into())));
        assert_eq!(table.judge(7, 1, 1), Verdict::Before(Some("one".into())));
        assert_eq!(table.judge(7, 0, 1), Verdict::Forgotten, "the client has the answer");
        assert_eq!(table.judge(7, 0, 0), Verdict::Forgotten, "a floor never sinks");
        assert_eq!(table.judge(8, 0, 0), Verdict::Expired);
    }

    #[test]
    fn r04_a_silent_session_expires_by_the_time_in_the_log_and_time_never_goes_back() {
        let mut table = table(Limits { idle_ms: 100, ..Limits::default() });
        table.advance(1100);
        assert_eq!(table.judge(7, 0, 0), Verdict::New, "not yet, and it counts from here");
        table.advance(500);
        table.advance(1200);
        assert!(table.keep_alive(7), "the clock of another leader is behind");
        table.advance(1301);
        assert_eq!(table.judge(7, 0, 0), Verdict::Expired);
        assert_eq!((table.len(), table.ends.len()), (0, 0));
    }

    #[test]
    fn sessions_open_commands_and_replies_are_bounded() {
        let limits = Limits { sessions: 2, open: 3, reply_bytes: 8, ..Limits::default() };
        let mut table = table(limits);
        assert!(table.open(8, &limits) && !table.open(9, &limits));
        apply(&mut table, 0, "12345");
        apply(&mut table, 1, "6789");
        apply(&mut table, 2, "abc");
        assert_eq!(table.judge(7, 1, 0), Verdict::Before(None), "it did not fit");
        assert_eq!((table.judge(7, 3, 0), table.reply_bytes()), (Verdict::TooManyOpen, 8));
        assert_eq!((table.judge(7, 3, 1), table.reply_bytes()), (Verdict::New, 3));
        assert!(table.close(7) && !table.close(7));
        assert_eq!(table.reply_bytes(), 0);
        assert!(table.open(9, &limits));
    }

    #[test]
    fn a_table_that_names_a_session_or_a_command_twice_is_refused() {
        let mut table = table(Limits::default());
        apply(&mut table, 0, "abc");
        let one = table.encode();
        let (head, session) = one.split_at(20);
        let mut twice = [head, session, session].concat();
        twice[16] = 2;
        assert!(Table::decode(&twice).is_err(), "the same session");
        let reply = &session[40..];
        let mut twice = [head, &session[..40], reply, reply].concat();
        twice[20 + 36] = 2;
        assert!(Table::decode(&twice).is_err(), "the same command");
    }

    #[test]
    fn a_table_is_read_back_and_no_damage_panics() {
        let mut table = table(Limits { reply_bytes: 4, ..Limits::default() });
        apply(&mut table, 0, "abc");
        apply(&mut table, 1, "too long");
        table.open(9, &Limits::default());
        let bytes = table.encode();
        assert_eq!(Table::decode(&bytes), Ok(table));
        for at in 0..bytes.len() {
            assert!(Table::decode(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 0xFF;
            let _ = Table::decode(&bad);
        }
    }
}
