//! Which indexes one group's log holds, and of which term each is.

use refloat_types::{Entry, EntryId, Index, IndexSet, LogOp, Term};

/// Runs of entries of one term, ascending and disjoint. The usual log is a handful of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogMap {
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Index,
    last: Index,
    term: Term,
}

impl LogMap {
    pub(crate) fn apply(&mut self, op: &LogOp) {
        if let Some(from) = op.cut_from() {
            self.cut(from);
        }
        self.put_all(op.entries());
    }

    pub(crate) fn put_all<'a>(&mut self, entries: impl IntoIterator<Item = &'a Entry>) {
        for entry in entries {
            self.put(entry.id);
        }
    }

    /// Removes everything from an index on.
    pub(crate) fn cut(&mut self, from: Index) {
        while let Some(run) = self.runs.last_mut() {
            if run.last < from {
                break;
            }
            if run.first < from {
                run.last = from.prev();
                break;
            }
            self.runs.pop();
        }
    }

    /// Removes everything up to and including an index.
    pub(crate) fn drop_through(&mut self, through: Index) {
        self.runs.retain(|r| r.last > through);
        if let Some(run) = self.runs.first_mut() {
            run.first = run.first.max(through.next());
        }
    }

    /// Adds or replaces one entry.
    pub(crate) fn put(&mut self, id: EntryId) {
        self.put_run(id.index, id.index, id.term);
    }

    /// Adds or replaces `first..=last`, all of one term.
    pub(crate) fn put_run(&mut self, first: Index, last: Index, term: Term) {
        match self.runs.last_mut() {
            Some(run) if run.term == term && run.last.next() == first => run.last = last,
            Some(run) if run.last >= first => self.splice(Run { first, last, term }),
            _ => self.runs.push(Run { first, last, term }),
        }
    }

    fn splice(&mut self, new: Run) {
        let mut runs = Vec::with_capacity(self.runs.len() + 2);
        for &run in self.runs.iter().filter(|r| r.last < new.first) {
            push_merged(&mut runs, run);
        }
        for &run in self.runs.iter().filter(|r| r.first < new.first && r.last >= new.first) {
            push_merged(&mut runs, Run { last: new.first.prev(), ..run });
        }
        push_merged(&mut runs, new);
        for &run in self.runs.iter().filter(|r| r.last > new.last) {
            push_merged(&mut runs, Run { first: run.first.max(new.last.next()), ..run });
        }
        self.runs = runs;
    }

    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        let at = self.runs.partition_point(|r| r.last < index);
        self.runs.get(at).filter(|r| r.first <= index).map(|r| r.term)
    }

    /// What it knows, terms aside.
    pub(crate) fn indexes(&self) -> IndexSet {
        let mut all = IndexSet::new();
        self.runs.iter().for_each(|run| all.insert_range(run.first, run.last));
        all
    }

    pub(crate) fn last(&self) -> Option<EntryId> {
        self.runs.last().map(|r| EntryId::new(r.term, r.last))
    }

    /// The first entry above an index.
    pub(crate) fn first_above(&self, above: Index) -> Option<EntryId> {
        let run = self.runs.iter().find(|r| r.last > above)?;
        Some(EntryId::new(run.term, run.first.max(above.next())))
    }

    /// The first index above `above` that both know, with different terms: (here, there).
    pub(crate) fn conflict(&self, other: &LogMap, above: Index) -> Option<(Index, Term, Term)> {
        let mut theirs = other.runs.iter().peekable();
        for run in &self.runs {
            while theirs.next_if(|r| r.last < run.first.max(above.next())).is_some() {}
            for their in theirs.clone().take_while(|r| r.first <= run.last) {
                let at = run.first.max(their.first).max(above.next());
                if their.term != run.term && at <= run.last && at <= their.last {
                    return Some((at, run.term, their.term));
                }
            }
        }
        None
    }

    /// What is missing between `above` and the last entry.
    pub(crate) fn gaps(&self, above: Index) -> IndexSet {
        let mut gaps = IndexSet::new();
        let mut next = above.next();
        for run in self.runs.iter().filter(|r| r.last > above) {
            gaps.insert_range(next, run.first.prev());
            next = run.last.next();
        }
        gaps
    }

    /// The first entry of each run of one term above an index, gaps ignored.
    pub(crate) fn term_starts(&self, above: Index) -> Vec<EntryId> {
        let mut starts: Vec<EntryId> = Vec::new();
        for run in self.runs.iter().filter(|r| r.last > above) {
            if starts.last().is_none_or(|s| s.term != run.term) {
                starts.push(EntryId::new(run.term, run.first.max(above.next())));
            }
        }
        starts
    }
}

fn push_merged(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(before) if before.term == run.term && before.last.next() == run.first => {
            before.last = run.last;
        }
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Put(u64, u64, u64),
        Cut(u64),
        Drop(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..40u64, 0..6u64, 1..5u64)
                .prop_map(|(first, more, term)| Step::Put(first, more, term)),
            (1..40u64).prop_map(Step::Cut),
            (0..20u64).prop_map(Step::Drop),
        ];
        proptest::collection::vec(step, 0..40)
    }

    proptest! {
        #[test]
        fn equals_a_map_of_single_entries(steps in steps()) {
            let (mut map, mut model) = (LogMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Put(first, more, term) => {
                        map.put_run(Index(first), Index(first + more), Term(term));
                        model.extend((first..=first + more).map(|i| (i, term)));
                    }
                    Step::Cut(from) => {
                        map.cut(Index(from));
                        model.retain(|i, _| *i < from);
                    }
                    Step::Drop(through) => {
                        map.drop_through(Index(through));
                        model.retain(|i, _| *i > through);
                    }
                }
                for i in 0..60 {
                    prop_assert_eq!(map.term(Index(i)).map(|t| t.0), model.get(&i).copied());
                }
                prop_assert_eq!(map.last().map(|e| e.index.0), model.keys().last().copied());
                let top = model.keys().last().copied().unwrap_or(0);
                let gaps: Vec<u64> = (6..=top).filter(|i| !model.contains_key(i)).collect();
                prop_assert_eq!(map.gaps(Index(5)).iter().map(|i| i.0).collect::<Vec<_>>(), gaps);
            }
        }
    }

    proptest! {
        #[test]
        fn conflicts_are_found_like_one_by_one(a in steps(), b in steps(), above in 0..30u64) {
            let build = |steps: Vec<Step>| {
                let mut map = LogMap::default();
                for step in steps {
                    match step {
                        Step::Put(first, more, term) => {
                            map.put_run(Index(first), Index(first + more), Term(term));
                        }
                        Step::Cut(from) => map.cut(Index(from)),
                        Step::Drop(through) => map.drop_through(Index(through)),
                    }
                }
                map
            };
            let (a, b) = (build(a), build(b));
            let one_by_one = (above + 1..60).map(Index).find_map(|i| {
                let (here, there) = (a.term(i)?, b.term(i)?);
                (here != there).then_some((i, here, there))
            });
            prop_assert_eq!(a.conflict(&b, Index(above)), one_by_one);
        }
    }

    #[test]
    fn a_term_starts_once_even_where_its_run_has_a_gap() {
        let mut map = LogMap::default();
        map.put_run(Index(1), Index(3), Term(1));
        map.put_run(Index(5), Index(6), Term(1));
        map.put_run(Index(7), Index(7), Term(4));
        let starts = map.term_starts(Index(2));
        assert_eq!(starts, [EntryId::new(Term(1), Index(3)), EntryId::new(Term(4), Index(7))]);
    }
}
