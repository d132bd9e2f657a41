//! `refloat status`: asks a running node.

use std::time::Duration;

use serde_json::Value;

use super::args::Status;
use super::failure::{Code, Failure};
use super::output;
use crate::admin::http;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Runs the command.
pub fn run(args: &Status) -> Result<(), Failure> {
    let address = args.admin_addr;
    let no_answer =
        |why: String| Failure::new(Code::NoAnswer, format!("no node answers at {address}: {why}"));
    let (code, body) =
        http::get(address, "/v1/status", TIMEOUT).map_err(|error| no_answer(error.to_string()))?;
    if code != 200 {
        return Err(no_answer(format!("HTTP status {code}, {}", body.trim())));
    }
    let status: Value =
        serde_json::from_str(&body).map_err(|error| no_answer(format!("no JSON: {error}")))?;
    if args.json {
        output::line(body.trim_end());
    } else {
        output::line(table(&status).trim_end());
    }
    Ok(())
}

fn table(status: &Value) -> String {
    let mut text = format!(
        "node {} of cluster {}, incarnation {}\n",
        plain(&status["node"]),
        plain(&status["cluster_name"]),
        plain(&status["incarnation"])
    );
    if !status["forming"].is_null() {
        text.push_str(&format!("forming: {}\n", plain(&status["forming"])));
    }
    if !status["disk"].is_null() {
        text.push_str(&format!("disk: {}\n", plain(&status["disk"])));
    }
    text.push_str(&format!(
        "{:>6} {:<13} {:>6} {:>6} {:>12} {:>12} {:>12}  {}\n",
        "group", "role", "term", "leader", "commit", "applied", "durable", "state"
    ));
    for group in status["groups"].as_array().into_iter().flatten() {
        let mut state = plain(&group["state"]);
        if !group["waits_for"].is_null() {
            state = format!("{state}: {}", plain(&group["waits_for"]));
        }
        for (flag, word) in [("quiet", "quiet"), ("lease", "leased")] {
            if group[flag] == true {
                state = format!("{state}, {word}");
            }
        }
        text.push_str(&format!(
            "{:>6} {:<13} {:>6} {:>6} {:>12} {:>12} {:>12}  {state}\n",
            plain(&group["group"]),
            plain(&group["role"]),
            plain(&group["term"]),
            plain(&group["leader"]),
            plain(&group["commit"]),
            plain(&group["applied"]),
            plain(&group["durable"]),
        ));
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
