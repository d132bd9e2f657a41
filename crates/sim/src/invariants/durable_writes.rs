//! Durability of acknowledged writes: each stands in the common history for ever, at the index
//! that its reply named. And the other way round: what was refused for certain never shows up.

use std::collections::BTreeMap;

use refloat_types::GroupKey;

use super::Check;
use super::state_machine_safety::{Applied, Step};

pub(crate) const NAME: &str = "durability of acknowledged writes";

#[derive(Default)]
pub(crate) struct DurableWrites {
    /// Where → the command.
    acknowledged: BTreeMap<(GroupKey, u64), u64>,
    /// Request → what it was told.
    refused: BTreeMap<u64, String>,
}

impl DurableWrites {
    pub(crate) fn acknowledged(
        &mut self,
        group: GroupKey,
        index: u64,
        request: u64,
        command: u64,
        applied: Option<Step>,
    ) -> Check {
        if self.acknowledged.insert((group, index), command).is_some() {
            return Err(format!(
                "two requests were acknowledged at index {index} of group {group}"
            ));
        }
        match applied {
            Some(step) if step.command == command => Ok(()),
            Some(_) => Err(format!("request {request}: another command at {index} of {group}")),
            None => Err(format!("request {request} was acknowledged before anybody applied it")),
        }
    }

    pub(crate) fn refused(&mut self, request: u64, error: String) {
        self.refused.insert(request, error);
    }

    pub(crate) fn at_end(&self, applied: &Applied) -> Check {
        for ((group, index), command) in &self.acknowledged {
            if applied.step(*group, *index).is_none_or(|step| step.command != *command) {
                return Err(format!("the write at index {index} of group {group} is gone"));
            }
        }
        for (request, error) in &self.refused {
            if let Some((group, index)) = applied.place_of(*request) {
                return Err(format!(
                    "request {request} was refused ({error}) and applied at {index} of {group}"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.acknowledged.len() as u64
    }
}
