//! From places in two logs to one order of tickets.

use std::collections::VecDeque;

use refloat_types::{EntryId, GroupKey};
use refloat_wal::Lsn;

use crate::event::Ticket;

/// Which tickets wait for which place in which log. A ticket is durable only after all before it.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    last: Ticket,
    durable: Ticket,
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    wal: Lsn,
    /// Where the votes log holds the term or vote, if one changed.
    votes: Option<Lsn>,
    /// The last entry that each group appended under this ticket.
    appended: Vec<(GroupKey, EntryId)>,
}

impl Tickets {
    pub(crate) fn durable(&self) -> Ticket {
        self.durable
    }

    pub(crate) fn last(&self) -> Ticket {
        self.last
    }

    pub(crate) fn issue(
        &mut self,
        wal: Lsn,
        votes: Option<Lsn>,
        appended: Vec<(GroupKey, EntryId)>,
    ) -> Ticket {
        self.last = Ticket(self.last.0 + 1);
        self.pending.push_back(Pending { ticket: self.last, wal, votes, appended });
        self.last
    }

    /// Moves on to what both logs made durable; returns what was appended by the tickets passed.
    pub(crate) fn advance(&mut self, wal: Lsn, votes: Lsn) -> Vec<(GroupKey, EntryId)> {
        let mut appended = Vec::new();
        while let Some(first) = self.pending.front() {
            if first.wal > wal || first.votes.is_some_and(|at| at > votes) {
                break;
            }
            let passed = self.pending.pop_front().expect("just seen");
            self.durable = passed.ticket;
            appended.extend(passed.appended);
        }
        appended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::Generation;

    fn lsn(batch: u32) -> Lsn {
        Lsn { generation: Generation(1), batch }
    }

    #[test]
    fn a_vote_is_durable_only_when_both_logs_hold_it() {
        let mut tickets = Tickets::default();
        let vote = tickets.issue(lsn(3), Some(lsn(5)), Vec::new());
        let append = tickets.issue(lsn(4), None, Vec::new());
        tickets.advance(lsn(9), lsn(4));
        assert_eq!(tickets.durable(), Ticket(0), "the votes log lags, and later tickets wait");
        tickets.advance(lsn(3), lsn(5));
        assert_eq!(tickets.durable(), vote);
        tickets.advance(lsn(4), lsn(5));
        assert_eq!(tickets.durable(), append);
    }
}
