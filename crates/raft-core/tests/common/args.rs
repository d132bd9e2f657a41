//! The arguments of a script's command, all given as `key=value`.

use datadriven::TestCase;
use refloat_raft_core::*;
use refloat_types::*;

use super::{life, member};

pub struct Args<'a>(pub &'a TestCase);

impl Args<'_> {
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.args.get(key).map(|v| v.join(","))
    }

    pub fn number(&self, key: &str) -> u64 {
        self.optional(key).unwrap_or_else(|| panic!("{} needs {key}=", self.0.directive))
    }

    pub fn optional(&self, key: &str) -> Option<u64> {
        self.text(key).map(|v| v.parse().expect("a number"))
    }

    pub fn numbers(&self, key: &str) -> Vec<u64> {
        let values = self.0.args.get(key).cloned().unwrap_or_default();
        values.iter().map(|v| v.parse().expect("a number")).collect()
    }

    pub fn members(&self, key: &str) -> Vec<Member> {
        self.numbers(key).into_iter().map(member).collect()
    }

    pub fn flag(&self, key: &str) -> bool {
        self.0.args.contains_key(key)
    }

    pub fn wanted(&self) -> impl Fn(&Message) -> bool + use<> {
        let (from, to, kind) = (self.optional("from"), self.optional("to"), self.text("kind"));
        move |m: &Message| {
            from.is_none_or(|n| m.from.node.0 == n)
                && to.is_none_or(|n| m.to.node.0 == n)
                && kind.as_ref().is_none_or(|k| format!("{:?}", m.body).starts_with(k.as_str()))
        }
    }

    /// `add-voter=4`, `replace=3 life=1`, `leave`, or
    /// `steps=(add-voter-4,remove-2) [transition=implicit]`.
    pub fn change(&self) -> ConfChange {
        let of = |key| self.optional(key).map(member);
        if self.flag("leave") {
            return ConfChange::Leave;
        }
        if let Some(old) = self.optional("replace") {
            return ConfChange::replace(member(old), life(old, self.number("life").into()));
        }
        if self.flag("steps") {
            return self.several();
        }
        None.or_else(|| of("add-voter").map(ConfChange::AddVoter))
            .or_else(|| of("add-learner").map(ConfChange::AddLearner))
            .or_else(|| of("promote").map(ConfChange::Promote))
            .or_else(|| of("demote").map(ConfChange::Demote))
            .or_else(|| of("remove").map(ConfChange::Remove))
            .expect("a change")
    }

    fn several(&self) -> ConfChange {
        let steps = self.text("steps").unwrap_or_default();
        let step = |text: &str| {
            let (what, node) = text.rsplit_once('-').expect("a step and a node");
            let m = member(node.parse().expect("a node"));
            match what {
                "add-voter" => ConfStep::AddVoter(m),
                "add-learner" => ConfStep::AddLearner(m),
                "promote" => ConfStep::Promote(m),
                "demote" => ConfStep::Demote(m),
                "remove" => ConfStep::Remove(m),
                other => panic!("no such step: {other}"),
            }
        };
        let transition = match self.text("transition").as_deref() {
            None | Some("auto") => Transition::Auto,
            Some("implicit") => Transition::Implicit,
            Some("explicit") => Transition::Explicit,
            Some(other) => panic!("no such transition: {other}"),
        };
        ConfChange::Several { steps: steps.split(',').map(step).collect(), transition }
    }
}
