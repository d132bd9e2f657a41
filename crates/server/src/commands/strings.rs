//! Commands on values.

use bytes::Bytes;

use crate::kv::{Condition, Expiry, Op};
use crate::resp::parse_int;

use super::Context;
use super::outcome::{
    Ask, Outcome, all_done, fail, list, not_an_integer, plain, syntax_error, wrong_arity,
};

pub fn get(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::Get(args[0].clone()), plain)
}

pub fn set(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    match SetOptions::parse(&args[2..]) {
        Ok(SetOptions { condition, get, expiry }) => {
            let (key, value) = (args[0].clone(), args[1].clone());
            let expiry = expiry.unwrap_or(Expiry::Never);
            Ask::one(
                Op::Set {
                    key,
                    value,
                    condition: condition.unwrap_or(Condition::Always),
                    get,
                    expiry,
                },
                plain,
            )
        }
        Err(outcome) => outcome,
    }
}

pub fn mget(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::each(args, Op::Get, list)
}

pub fn mset(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    let pairs = args.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return wrong_arity("mset");
    }
    let ops = pairs.map(|pair| Op::Set {
        key: pair[0].clone(),
        value: pair[1].clone(),
        condition: Condition::Always,
        get: false,
        expiry: Expiry::Never,
    });
    Outcome::Ask(Ask { ops: ops.collect(), merge: all_done })
}

pub fn incr(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    add(&args[0], 1)
}

pub fn decr(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    add(&args[0], -1)
}

pub fn incrby(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    parse_int(&args[1]).map_or_else(not_an_integer, |by| add(&args[0], by))
}

pub fn decrby(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    match parse_int(&args[1]) {
        None => not_an_integer(),
        Some(i64::MIN) => fail("ERR decrement would overflow"),
        Some(by) => add(&args[0], -by),
    }
}

pub fn append(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::Append { key: args[0].clone(), tail: args[1].clone() }, plain)
}

pub fn strlen(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::Len(args[0].clone()), plain)
}

pub fn getdel(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Ask::one(Op::Take(args[0].clone()), plain)
}

fn add(key: &Bytes, by: i64) -> Outcome {
    Ask::one(Op::Add { key: key.clone(), by }, plain)
}

#[derive(Default)]
struct SetOptions {
    condition: Option<Condition>,
    get: bool,
    expiry: Option<Expiry>,
}

impl SetOptions {
    fn parse(args: &[Bytes]) -> Result<SetOptions, Outcome> {
        let mut options = SetOptions::default();
        let mut args = args.iter();
        while let Some(word) = args.next() {
            match word.to_ascii_uppercase().as_slice() {
                b"NX" => once(&mut options.condition, Condition::IfAbsent)?,
                b"XX" => once(&mut options.condition, Condition::IfPresent)?,
                b"GET" => options.get = true,
                b"KEEPTTL" => once(&mut options.expiry, Expiry::Keep)?,
                unit @ (b"EX" | b"PX" | b"EXAT" | b"PXAT") => {
                    let time = args.next().ok_or_else(syntax_error)?;
                    once(&mut options.expiry, expiry(unit, time)?)?;
                }
                _ => return Err(syntax_error()),
            }
        }
        Ok(options)
    }
}

/// Two options that exclude each other are a syntax error; so is, as in Redis, one given twice
/// with an expiry, while `NX NX` is let through there and refused here.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Outcome> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(syntax_error()),
    }
}

fn expiry(unit: &[u8], time: &[u8]) -> Result<Expiry, Outcome> {
    let time = parse_int(time).ok_or_else(not_an_integer)?;
    let invalid = || fail("ERR invalid expire time in 'set' command");
    let millis = match unit {
        b"EX" | b"EXAT" => time.checked_mul(1000).ok_or_else(invalid)?,
        _ => time,
    };
    let millis = u64::try_from(millis).ok().filter(|millis| *millis > 0).ok_or_else(invalid)?;
    Ok(if unit.ends_with(b"AT") { Expiry::At(millis) } else { Expiry::In(millis) })
}
