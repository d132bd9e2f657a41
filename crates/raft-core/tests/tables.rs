//! Runs the tables in `tests/tables`: who commits, who wins, what a change leads to.
//!
//! `REWRITE=1 cargo test -p refloat-raft-core --test tables` writes the answers anew.

mod common;

use std::fmt::Write;

use common::args::Args;
use common::*;
use datadriven::walk;
use refloat_raft_core::quorum::{committed_index, vote_result};
use refloat_types::*;

#[test]
fn tables_of_quorums_and_changes() {
    walk("tests/tables", |file| {
        let mut conf = ConfState::default();
        file.run(|case| {
            let args = Args(case);
            match case.directive.as_str() {
                "committed" => committed(&args),
                "vote" => vote(&args),
                "members" => {
                    conf = memberships(&args);
                    show::conf(&conf) + "\n"
                }
                "change" => match args.change().apply(&conf) {
                    Ok(next) => {
                        conf = next;
                        show::conf(&conf) + "\n"
                    }
                    Err(error) => format!("error: {error}\n"),
                },
                other => panic!("no such command: {other}"),
            }
        });
    });
}

fn memberships(args: &Args<'_>) -> ConfState {
    let mut conf = ConfState::of_voters(args.members("voters"));
    conf.outgoing = args.members("outgoing");
    conf.learners = args.members("learners");
    conf
}

/// Each line of the input: what the voters 1, 2, … hold, `_` for nothing heard.
fn committed(args: &Args<'_>) -> String {
    let conf = memberships(args);
    let mut out = String::new();
    for line in args.0.input.lines() {
        let held: Vec<&str> = line.split_whitespace().collect();
        let of = |m: Member| {
            let word = held.get(m.node.0 as usize - 1).copied().unwrap_or("_");
            Index(if word == "_" { 0 } else { word.parse().expect("an index") })
        };
        writeln!(out, "{line} -> {}", committed_index(&conf, of)).expect("a string");
    }
    out
}

/// Each line of the input: what the voters 1, 2, … answer, `_` for nothing yet.
fn vote(args: &Args<'_>) -> String {
    let conf = memberships(args);
    let mut out = String::new();
    for line in args.0.input.lines() {
        let answers: Vec<&str> = line.split_whitespace().collect();
        let of = |m: Member| match answers.get(m.node.0 as usize - 1) {
            Some(&"yes") => Some(true),
            Some(&"no") => Some(false),
            _ => None,
        };
        writeln!(out, "{line} -> {:?}", vote_result(&conf, of)).expect("a string");
    }
    out
}
