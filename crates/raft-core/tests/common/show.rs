//! Traces for scripts: one line per event.

use refloat_raft_core::{Alarm, Body, HoleRange, Message, Persist, Ready, Role, Status};
use refloat_types::*;

use super::Cluster;

pub fn id(id: EntryId) -> String {
    format!("{}/{}", id.term, id.index)
}

pub fn message(m: &Message) -> String {
    let what = match &m.body {
        Body::PreVote { campaign, last } => format!("PreVote for {campaign}, last {}", id(*last)),
        Body::PreVoteResp { campaign, granted } => {
            format!("PreVoteResp for {campaign}: {}", yes(*granted))
        }
        Body::Vote { last, transfer } => {
            format!("Vote last {}{}", id(*last), if *transfer { ", transfer" } else { "" })
        }
        Body::VoteResp { granted } => format!("VoteResp {}", yes(*granted)),
        Body::Append(a) => format!(
            "Append after {} [{}] commit {}",
            id(a.prev),
            a.entries.iter().map(|e| id(e.id)).collect::<Vec<_>>().join(" "),
            a.commit
        ),
        Body::AppendResp { matched } => format!("AppendResp {}", id(*matched)),
        Body::AppendReject { prev, hint, lost } => {
            format!("AppendReject {prev}, hint {}{}", id(*hint), if *lost { ", lost" } else { "" })
        }
        Body::Heartbeat { commit, round } => format!("Heartbeat commit {commit} round {round}"),
        Body::HeartbeatResp { round, .. } => format!("HeartbeatResp round {round}"),
        Body::Quiet { last } => format!("Quiet {}", id(*last)),
        Body::TimeoutNow => "TimeoutNow".into(),
        Body::ReadIndex { .. } => "ReadIndex".into(),
        Body::ReadIndexResp { index: Some(index), .. } => format!("ReadIndexResp {index}"),
        Body::ReadIndexResp { index: None, .. } => "ReadIndexResp none".into(),
        Body::Behind => "Behind".into(),
        Body::Hello(h) => format!("Hello {:?}, run {}, last {}", h.state, h.run, id(h.last)),
        Body::HelloReply { last, regressed, .. } => {
            format!("HelloReply last {last}{}", if *regressed { ", regressed" } else { "" })
        }
        Body::HoleAsk { ranges } => format!("HoleAsk {}", ranges_of(ranges)),
        Body::HoleHave { entries } => {
            let ids: Vec<_> = entries.iter().map(|e| id(e.id)).collect();
            format!("HoleHave [{}]", ids.join(" "))
        }
        Body::HoleCompacted { up_to } => format!("HoleCompacted {up_to}"),
        Body::HoleNeverHad { ranges } => format!("HoleNeverHad {}", ranges_of(ranges)),
        Body::SnapshotAsk { index } => format!("SnapshotAsk {index}"),
        other => format!("{other:?}"),
    };
    format!("{}->{} t{} {what}", m.from.node, m.to.node, m.term)
}

fn ranges_of(ranges: &[HoleRange]) -> String {
    let show = |r: &HoleRange| match r.first == r.last {
        true => format!("{}/{}", r.term, r.first),
        false => format!("{}/{}..={}", r.term, r.first, r.last),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(" ")
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

/// `(1 2 3)`, `(1 4)&&(1 2 3)` while joint, then learners and those who become learners.
pub fn conf(conf: &ConfState) -> String {
    let list = |members: &[Member]| {
        let nodes: Vec<String> = members.iter().map(|m| m.node.to_string()).collect();
        nodes.join(" ")
    };
    let mut out = format!("({})", list(&conf.voters));
    if conf.is_joint() {
        out += &format!("&&({})", list(&conf.outgoing));
    }
    for (name, members) in [("learners", &conf.learners), ("next", &conf.learners_next)] {
        if !members.is_empty() {
            out += &format!(" {name} ({})", list(members));
        }
    }
    out + if conf.auto_leave { " auto" } else { "" }
}

fn persist(p: &Persist) -> String {
    let mut parts = vec![format!("persist #{}", p.ticket.0)];
    if let Some(hard) = p.hard_state {
        let vote = hard.vote.map_or("-".into(), |m| m.node.to_string());
        parts.push(format!("term {} vote {vote}", hard.term));
    }
    for op in p.log.iter().flatten() {
        let entries = op.entries().iter().map(|e| id(e.id)).collect::<Vec<_>>().join(" ");
        parts.push(match op {
            LogOp::Append { prev, .. } => format!("append after {} [{entries}]", id(*prev)),
            LogOp::Fill { .. } => format!("fill [{entries}]"),
            LogOp::Cut { from } => format!("cut from {from}"),
        });
    }
    parts.join(", ")
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

pub fn status(s: &Status) -> String {
    let vote = s.vote.map_or("-".into(), |m| m.node.to_string());
    let leader = s.leader.map_or("-".into(), |m| m.node.to_string());
    let mut out = format!(
        "{} t{} vote {vote} leader {leader} commit {} applied {} durable {} last {}",
        role(s.role),
        s.term,
        s.commit,
        s.applied,
        s.durable,
        id(s.last)
    );
    for p in &s.progress {
        out += &format!(
            "\n  {} {:?} match {} next {} inflight {}",
            p.member.node, p.state, p.matched, p.next, p.inflight
        );
    }
    out
}

impl Cluster {
    pub fn show_ready(&mut self, node: u64, ready: &Ready) {
        let mut lines = Vec::new();
        if let Some(soft) = ready.soft {
            let leader = soft.leader.map_or("-".into(), |m| m.node.to_string());
            lines.push(format!("{}, t{}, leader {leader}", role(soft.role), soft.term));
        }
        if let Some(p) = &ready.persist {
            lines.push(persist(p));
        }
        if let Some((at, _)) = &ready.install {
            lines.push(format!("install {}", id(*at)));
        }
        for m in &ready.messages {
            lines.push(format!("send {}", message(m)));
        }
        for f in &ready.fetch {
            lines.push(format!("fetch {}..={}", f.first, f.last));
        }
        if let Some((first, last)) = ready.committed {
            lines.push(format!("commit {first}..={last}"));
        }
        for read in &ready.reads {
            lines.push(format!("read {} at {}", read.id.0, read.index));
        }
        for read in &ready.failed_reads {
            lines.push(format!("read {} failed", read.0));
        }
        if ready.healed {
            lines.push("healed".into());
        }
        if ready.amnesia {
            lines.push("amnesia".into());
        }
        for alarm in &ready.alarms {
            lines.push(match alarm {
                Alarm::Regression { member, acked, last } => {
                    format!("alarm: {} acked {acked}, ends at {}", member.node, id(*last))
                }
                Alarm::SharedRun { member, run, .. } => {
                    format!("alarm: {} shares run {run}", member.node)
                }
                other => format!("alarm: {other:?}"),
            });
        }
        for to in &ready.send_snapshot {
            lines.push(format!("wants a snapshot sent to {}", to.node));
        }
        self.trace.extend(lines.into_iter().map(|line| format!("  {node}: {line}")));
    }
}
