//! Commands on keys, whatever their values.

use bytes::Bytes;

use crate::kv::{Answer, Expiry, Op, cursor};
use crate::resp::{Reply, parse_int};

use super::outcome::{Ask, Outcome, fail, not_an_integer, plain, reply, sum, syntax_error};
use super::{Context, Service};

pub fn del(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::each(args, Op::Delete, sum)
}

pub fn exists(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::each(args, Op::Exists, sum)
}

pub fn key_type(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::Exists(args[0].clone()), |answers, _| match answers.first() {
        Some(Answer::Number(1)) => Reply::Simple("string"),
        _ => Reply::Simple("none"),
    })
}

pub fn ttl(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::TimeLeft(args[0].clone()), |answers, service| match plain(answers, service) {
        Reply::Int(millis) if millis >= 0 => Reply::Int(millis / 1000 + (millis % 1000) / 500),
        other => other,
    })
}

pub fn pttl(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::TimeLeft(args[0].clone()), plain)
}

pub fn expire(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    expire_in("expire", args, 1000)
}

pub fn pexpire(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    expire_in("pexpire", args, 1)
}

pub fn persist(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::Expire { key: args[0].clone(), expiry: Expiry::Never }, plain)
}

pub fn dbsize(_: &mut Context<'_>, _: &[Bytes]) -> Outcome {
    Ask::one(Op::Count, sum)
}

pub fn scan(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    let from = std::str::from_utf8(&args[0]).ok().and_then(|text| text.parse::<u64>().ok());
    let Some(cursor) = from else { return fail("ERR invalid cursor") };
    let (mut count, mut pattern, mut strings) = (10, None, true);
    let mut options = args[1..].iter();
    while let Some(word) = options.next() {
        let Some(value) = options.next() else { return syntax_error() };
        match word.to_ascii_uppercase().as_slice() {
            b"COUNT" => match parse_int(value) {
                None => return not_an_integer(),
                Some(n) if n < 1 => return syntax_error(),
                Some(n) => count = n.min(10_000) as u32,
            },
            b"MATCH" => pattern = Some(value.clone()),
            b"TYPE" => strings = value.eq_ignore_ascii_case(b"string"),
            _ => return syntax_error(),
        }
    }
    if !strings || cursor::group(cursor).0 > u64::from(context.service.options.groups) {
        return Outcome::Reply(page(0, Vec::new()));
    }
    Ask::one(Op::Scan { cursor, count, pattern }, scanned)
}

fn scanned(answers: Vec<Answer>, service: &Service) -> Reply {
    match answers.into_iter().next() {
        Some(Answer::Keys { next, keys }) => {
            let is_end = cursor::group(next).0 > u64::from(service.options.groups);
            page(if is_end { 0 } else { next }, keys)
        }
        other => other.map_or(Reply::Null, reply),
    }
}

fn page(next: u64, keys: Vec<Bytes>) -> Reply {
    let keys = keys.into_iter().map(Reply::Bulk).collect();
    Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(keys)])
}

/// A time that is not in the future ends the value at once.
fn expire_in(command: &str, args: &[Bytes], unit_ms: i64) -> Outcome {
    let Some(time) = parse_int(&args[1]) else { return not_an_integer() };
    if let Some(option) = args.get(2) {
        let option = String::from_utf8_lossy(option).into_owned();
        return fail(format!("ERR Unsupported option {option}"));
    }
    let Some(millis) = time.checked_mul(unit_ms) else {
        return fail(format!("ERR invalid expire time in '{command}' command"));
    };
    let expiry = Expiry::In(u64::try_from(millis).unwrap_or(0));
    Ask::one(Op::Expire { key: args[0].clone(), expiry }, plain)
}
