//! Group isolation: what was asked of one group is applied by it and by no other, though all groups
//! of a node share its log, its connections and its turns.

use refloat_types::{GroupId, GroupKey};

use super::Check;

pub(crate) const NAME: &str = "group isolation";

pub(crate) fn check(request: u64, asked: GroupId, applied: GroupKey) -> Check {
    if applied.id == asked {
        return Ok(());
    }
    Err(format!("request {request} to group {asked} was applied by {applied}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_types::Epoch;

    #[test]
    fn a_request_that_another_group_applied_is_seen() {
        let group = |id| GroupKey::new(GroupId(id), Epoch(9));
        assert_eq!(check(7, GroupId(1), group(1)), Ok(()));
        assert!(check(7, GroupId(1), group(2)).is_err());
    }
}
