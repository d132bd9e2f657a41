//! `refloat member`, `group`, `transfer`, `snapshot`: orders to a running node.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Group, Member, MemberOrder, Snapshot, Transfer};
use super::failure::{Code, Failure};
use super::output;
use crate::admin::http;

/// An order waits for a leader, and then for its outcome.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs `member`.
pub fn member(order: &Member) -> Result<(), Failure> {
    let (name, args, learner) = match order {
        Member::Add(args) => ("add", &args.order, args.learner),
        Member::Promote(args) => ("promote", args, false),
        Member::Remove(args) => ("remove", args, false),
    };
    let MemberOrder { admin_addr, node, json } = *args;
    let body = json!({ "node": node, "learner": learner });
    let done = match name {
        "add" => format!("node {node} is expected: it may join now"),
        "promote" => format!("node {node} is to be a voter"),
        _ => format!("node {node} is to leave all groups"),
    };
    give(admin_addr, &format!("/v1/members/{name}"), &body, json, |_| done)
}

/// Runs `group`.
pub fn group(order: &Group) -> Result<(), Failure> {
    let (name, args, accept_loss) = match order {
        Group::Create(args) => ("create", args, false),
        Group::Delete(args) => ("delete", &args.order, args.accept_loss),
    };
    let group = args.group;
    if name == "delete" && !accept_loss {
        return Err(Failure::usage(format!(
            "all keys of group {group} would be lost on every node, for good: \
             if they may be, say --accept-loss"
        )));
    }
    let body = json!({ "group": group, "accept_loss": accept_loss });
    give(args.admin_addr, &format!("/v1/groups/{name}"), &body, args.json, |answer| {
        match (name, answer["existed"].as_bool()) {
            ("create", _) => format!("group {group}: it exists, empty if it is new"),
            (_, Some(false)) => format!("group {group}: there is none"),
            _ => format!("group {group}: deleted, with all its keys"),
        }
    })
}

/// Runs `transfer`.
pub fn transfer(args: &Transfer) -> Result<(), Failure> {
    let (group, node) = (args.group, args.to);
    let body = json!({ "group": group, "node": node });
    let done = format!("group {group}: node {node} leads");
    give(args.admin_addr, "/v1/transfer", &body, args.json, |_| done)
}

/// Runs `snapshot`.
pub fn snapshot(args: &Snapshot) -> Result<(), Failure> {
    let group = args.group;
    let done = format!("group {group}: a snapshot is durable");
    give(args.admin_addr, "/v1/snapshot", &json!({ "group": group }), args.json, |_| done)
}

fn give(
    address: SocketAddr,
    path: &str,
    body: &Value,
    as_json: bool,
    done: impl FnOnce(&Value) -> String,
) -> Result<(), Failure> {
    let no_answer =
        |why: String| Failure::new(Code::NoAnswer, format!("no node answers at {address}: {why}"));
    let (status, text) = http::post(address, path, &body.to_string(), TIMEOUT)
        .map_err(|error| no_answer(error.to_string()))?;
    let answer: Value = serde_json::from_str(&text)
        .map_err(|_| no_answer(format!("HTTP status {status}, {}", text.trim())))?;
    if as_json {
        output::line(answer.to_string());
    } else if status == 200 {
        output::line(done(&answer));
    }
    if status == 200 {
        return Ok(());
    }
    let why = answer["error"].as_str().unwrap_or("no reason given");
    let code = match answer["kind"].as_str() {
        Some("refused" | "unknown-group") => Code::Refused,
        Some("usage") => Code::Usage,
        _ => Code::Other,
    };
    Err(Failure::new(code, why))
}
