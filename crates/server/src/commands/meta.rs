//! COMMAND: what the table says about itself.

use bytes::Bytes;

use crate::resp::Reply;

use super::outcome::Outcome;
use super::table::{Handler, Spec, TABLE, find};
use super::{Context, subcommand};

static SUBCOMMANDS: &[(&str, i32, Handler)] = &[
    ("count", 2, |_, _| Outcome::Reply(Reply::Int(TABLE.len() as i64))),
    ("docs", -2, |_, names| Outcome::Reply(Reply::Map(named(names).filter_map(docs).collect()))),
    ("info", -2, |_, names| {
        let infos = named(names).map(|spec| spec.map_or(Reply::Null, info));
        Outcome::Reply(Reply::Array(infos.collect()))
    }),
    ("list", 2, |_, _| {
        Outcome::Reply(Reply::Array(TABLE.iter().map(|spec| Reply::text(spec.name)).collect()))
    }),
];

pub fn command(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    if args.is_empty() {
        return Outcome::Reply(Reply::Array(TABLE.iter().map(info).collect()));
    }
    match subcommand("command", SUBCOMMANDS, args) {
        Ok((handler, rest)) => handler(context, rest),
        Err(refused) => refused,
    }
}

/// The named commands, or all.
fn named(names: &[Bytes]) -> Box<dyn Iterator<Item = Option<&'static Spec>> + '_> {
    match names {
        [] => Box::new(TABLE.iter().map(Some)),
        _ => Box::new(names.iter().map(|name| find(name))),
    }
}

fn info(spec: &Spec) -> Reply {
    let flags = spec.flags.iter().map(|flag| Reply::Simple(flag)).collect();
    let (first, last, step) = spec.keys;
    let empty = || Reply::Array(Vec::new());
    Reply::Array(vec![
        Reply::text(spec.name),
        Reply::Int(spec.arity.into()),
        Reply::Array(flags),
        Reply::Int(first),
        Reply::Int(last),
        Reply::Int(step),
        empty(),
        empty(),
        empty(),
        empty(),
    ])
}

fn docs(spec: Option<&'static Spec>) -> Option<(Reply, Reply)> {
    let spec = spec?;
    let pairs = [("summary", spec.summary), ("since", "0.1.0"), ("group", spec.group)]
        .map(|(name, text)| (Reply::text(name), Reply::text(text)));
    Some((Reply::text(spec.name), Reply::Map(pairs.into())))
}
