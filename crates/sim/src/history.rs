//! What clients saw, and whether one order of all operations explains it.
//!
//! A history knows nothing of logs, leaders and indexes: only who asked what when, and what came
//! back. The checker is the one of Wing and Gong with Lowe's memory of what was tried, key by key:
//! registers are independent of each other, so a history is linearizable if that of each key is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};

/// The name of a value; `None` where there is none.
pub type Value = Option<u64>;

/// One operation of one client on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Of whom. A client has one operation under way at a time; the simulator numbers a client
    /// anew for every operation, since one whose node died asks the next.
    pub client: u64,
    /// On what.
    pub key: String,
    /// What was asked, and what came back.
    pub action: Action,
    /// When it was asked.
    pub begin: u64,
    /// When the answer came. `None`: never, or an answer that leaves the outcome open.
    pub end: Option<u64>,
    /// A read that was allowed to see old values: it is recorded and not checked.
    pub stale: bool,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets the register. An answer names the value before.
    Write(u64),
    /// The same, answered.
    Swapped {
        /// What was written.
        value: u64,
        /// What the answer says stood there before.
        before: Value,
    },
    /// Sees the register.
    Read(Value),
}

/// Operations of many clients on many keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In any order.
    pub operations: Vec<Operation>,
}

/// No order of a key's operations explains what the clients saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// Of which key.
    pub key: String,
    /// How many operations the best order explains.
    pub explained: usize,
    /// How many there are.
    pub of: usize,
    /// Operations of which one had to come next and none could.
    pub stuck: Vec<Operation>,
}

impl fmt::Display for NotLinearizable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NotLinearizable { key, explained, of, stuck } = self;
        write!(
            f,
            "key {key}: an order explains {explained} of {of} operations, none goes on with "
        )?;
        let lines: Vec<String> = stuck.iter().map(json).collect();
        f.write_str(&lines.join(", "))
    }
}

impl std::error::Error for NotLinearizable {}

impl History {
    /// One JSON object per line and operation.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        self.operations.iter().map(|operation| json(operation) + "\n").collect()
    }

    /// The same, with stale reads taken for real ones: what no cluster can pass that serves any.
    #[must_use]
    pub fn as_if_no_read_was_stale(&self) -> History {
        let real = |operation: &Operation| Operation { stale: false, ..operation.clone() };
        History { operations: self.operations.iter().map(real).collect() }
    }

    /// Looks for an order of each key's operations that respects time and explains every answer.
    /// Gives the number of operations that were put in order; a key for which that takes too many
    /// tries is left out.
    ///
    /// # Errors
    /// There is none for some key.
    pub fn check(&self) -> Result<u64, NotLinearizable> {
        let mut keys: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in self.operations.iter().filter(|operation| !operation.stale) {
            keys.entry(&operation.key).or_default().push(operation);
        }
        let mut count = 0;
        for (key, operations) in keys {
            let operations = relevant(operations);
            if check_key(key, &operations)? {
                count += operations.len() as u64;
            }
        }
        Ok(count)
    }
}

/// Without what cannot matter: reads without an answer, and writes of open outcome whose value
/// nobody saw, since an order with them is one without them too.
fn relevant(mut operations: Vec<&Operation>) -> Vec<&Operation> {
    let seen: BTreeSet<u64> = operations
        .iter()
        .filter(|operation| operation.end.is_some())
        .filter_map(|operation| match operation.action {
            Action::Read(value) | Action::Swapped { before: value, .. } => value,
            Action::Write(_) => None,
        })
        .collect();
    operations.retain(|operation| match (operation.end, operation.action) {
        (Some(_), _) => true,
        (None, Action::Write(value)) => seen.contains(&value),
        (None, _) => false,
    });
    operations.sort_by_key(|operation| operation.begin);
    operations
}

/// How far one order has come: all operations before `first`, those in `beyond`, no other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    first: usize,
    beyond: BTreeSet<usize>,
    value: Value,
}

/// Orders that are tried for one key.
const MAX_TRIES: usize = 1 << 18;

/// `false`: not decided.
fn check_key(key: &str, operations: &[&Operation]) -> Result<bool, NotLinearizable> {
    let start = Order { first: 0, beyond: BTreeSet::new(), value: None };
    let mut stack = vec![start];
    let mut tried = BTreeSet::new();
    let (mut explained, mut stuck) = (0, Vec::new());
    while let Some(order) = stack.pop() {
        let next = candidates(&order, operations);
        if next.iter().all(|at| operations[*at].end.is_none()) && is_done(&order, operations) {
            return Ok(true);
        }
        if tried.len() > MAX_TRIES {
            return Ok(false);
        }
        let so_far = order.first + order.beyond.len();
        if so_far >= explained {
            explained = so_far;
            stuck = next.clone();
        }
        // The one whose answer came first is tried first.
        for at in worth_trying(&order, &next, operations).into_iter().rev() {
            if let Some(longer) = put(&order, at, operations[at])
                && tried.insert(longer.clone())
            {
                stack.push(longer);
            }
        }
    }
    let stuck = stuck.into_iter().map(|at| operations[at].clone()).collect();
    Err(NotLinearizable { key: key.to_owned(), explained, of: operations.len(), stuck })
}

fn is_done(order: &Order, operations: &[&Operation]) -> bool {
    let open = |at: usize| operations[at].end.is_none() || order.beyond.contains(&at);
    (order.first..operations.len()).all(open)
}

/// The operations that may come next: none of the others was over before they began.
fn candidates(order: &Order, operations: &[&Operation]) -> Vec<usize> {
    let mut limit = u64::MAX;
    let mut found = Vec::new();
    for (at, operation) in operations.iter().enumerate().skip(order.first) {
        if operation.begin > limit {
            break;
        }
        if !order.beyond.contains(&at) {
            limit = limit.min(operation.end.unwrap_or(u64::MAX));
            found.push(at);
        }
    }
    found.retain(|at| operations[*at].begin <= limit);
    found.sort_by_key(|at| operations[*at].end.unwrap_or(u64::MAX));
    found
}

/// Without what leads nowhere else. A read of the present value may as well come now as later. And
/// a write of open outcome is worth its place only directly before who saw it.
fn worth_trying(order: &Order, next: &[usize], operations: &[&Operation]) -> Vec<usize> {
    let is_read = |at: &&usize| operations[**at].action == Action::Read(order.value);
    if let Some(read) = next.iter().find(is_read) {
        return vec![*read];
    }
    let sees = |at: &usize, value: u64| match operations[*at].action {
        Action::Read(seen) | Action::Swapped { before: seen, .. } => seen == Some(value),
        Action::Write(_) => false,
    };
    let leads_on = |at: &usize| match operations[*at] {
        Operation { action: Action::Write(value), end: None, .. } => {
            next.iter().any(|other| sees(other, *value))
        }
        _ => true,
    };
    next.iter().copied().filter(leads_on).collect()
}

fn put(order: &Order, at: usize, operation: &Operation) -> Option<Order> {
    let value = match operation.action {
        Action::Write(value) => Some(value),
        Action::Swapped { value, before } if before == order.value => Some(value),
        Action::Read(value) if value == order.value => value,
        _ => return None,
    };
    let mut longer = Order { value, ..order.clone() };
    longer.beyond.insert(at);
    while longer.beyond.remove(&longer.first) {
        longer.first += 1;
    }
    Some(longer)
}

fn json(operation: &Operation) -> String {
    let Operation { client, key, action, begin, end, stale } = operation;
    let name = |value: Value| value.map_or("null".to_owned(), |v| format!("\"{v:016x}\""));
    let mut out = format!("{{\"client\":{client},\"key\":\"{key}\",");
    let _ = match action {
        Action::Write(value) => write!(out, "\"write\":{}", name(Some(*value))),
        Action::Swapped { value, before } => {
            write!(out, "\"write\":{},\"before\":{}", name(Some(*value)), name(*before))
        }
        Action::Read(value) => write!(out, "\"read\":{},\"stale\":{stale}", name(*value)),
    };
    let end = end.map_or("null".to_owned(), |end| end.to_string());
    let _ = write!(out, ",\"begin\":{begin},\"end\":{end}}}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(begin: u64, end: u64, action: Action) -> Operation {
        let end = (end > 0).then_some(end);
        Operation { client: begin, key: "k".into(), action, begin, end, stale: false }
    }

    fn check(operations: &[Operation]) -> Result<u64, NotLinearizable> {
        History { operations: operations.to_vec() }.check()
    }

    fn swap(value: u64, before: Value) -> Action {
        Action::Swapped { value, before }
    }

    #[test]
    fn overlapping_operations_may_come_in_either_order() {
        let both = [
            op(1, 9, swap(1, Some(2))),
            op(2, 8, swap(2, None)),
            op(10, 11, Action::Read(Some(1))),
        ];
        assert_eq!(check(&both), Ok(3));
        let other =
            [op(1, 9, swap(1, None)), op(2, 8, swap(2, Some(1))), op(3, 4, Action::Read(None))];
        assert_eq!(check(&other), Ok(3));
    }

    #[test]
    fn a_read_that_misses_a_finished_write_is_found() {
        let stale = [op(1, 2, swap(1, None)), op(3, 4, Action::Read(None))];
        let error = check(&stale).unwrap_err();
        assert_eq!((error.explained, error.of), (1, 2));
        assert!(error.to_string().contains("\"read\":null"), "{error}");
    }

    #[test]
    fn a_value_that_comes_back_and_a_write_that_is_lost_are_found() {
        let back = [
            op(1, 2, swap(1, None)),
            op(3, 4, swap(2, Some(1))),
            op(5, 6, Action::Read(Some(2))),
            op(7, 8, Action::Read(Some(1))),
        ];
        assert!(check(&back).is_err());
        let lost = [op(1, 2, swap(1, None)), op(3, 4, swap(2, None))];
        assert!(check(&lost).is_err());
        let twice =
            [op(1, 2, swap(1, None)), op(3, 4, swap(2, Some(1))), op(5, 6, swap(3, Some(1)))];
        assert!(check(&twice).is_err(), "the first write was applied once more");
    }

    #[test]
    fn a_write_of_open_outcome_may_count_late_or_never() {
        let late = [
            op(1, 0, Action::Write(1)),
            op(2, 3, Action::Read(None)),
            op(4, 5, Action::Read(Some(1))),
        ];
        assert_eq!(check(&late), Ok(3));
        let never = [op(1, 0, Action::Write(1)), op(2, 3, Action::Read(None))];
        assert_eq!(check(&never), Ok(1));
        let early = [op(1, 2, Action::Read(Some(1))), op(3, 0, Action::Write(1))];
        assert!(check(&early).is_err());
    }

    #[test]
    fn many_operations_at_once_are_put_in_order_without_trying_all_orders() {
        let mut many = vec![op(1, 2, swap(1, None))];
        many.extend((0..30).map(|n| op(3 + n, 100 + n, Action::Read(Some(1)))));
        many.extend((10..40).map(|value| op(5, 0, Action::Write(value))));
        many.extend(
            (10..40).map(|value| op(200 + 2 * value, 201 + 2 * value, Action::Read(Some(value)))),
        );
        assert_eq!(check(&many), Ok(91));
        many.push(op(300, 301, Action::Read(Some(1))));
        assert!(check(&many).is_err(), "the first value was overwritten");
    }
}
