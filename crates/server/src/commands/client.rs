//! CLIENT: connections by name and number.

use bytes::Bytes;

use crate::resp::{Reply, parse_int};

use super::outcome::{Outcome, fail, syntax_error};
use super::table::Handler;
use super::{Context, subcommand};

static SUBCOMMANDS: &[(&str, i32, Handler)] = &[
    ("getname", 2, |context, _| Outcome::Reply(Reply::Bulk(context.session.name.clone()))),
    ("help", 2, |_, _| {
        let names = SUBCOMMANDS.iter().map(|(name, ..)| Reply::text(name.to_ascii_uppercase()));
        Outcome::Reply(Reply::Array(names.collect()))
    }),
    ("id", 2, |context, _| Outcome::Reply(Reply::Int(context.session.id as i64))),
    ("info", 2, |context, _| {
        let line = context.service.clients.get(context.session.id).map(|client| client.line());
        Outcome::Reply(Reply::text(line.unwrap_or_default()))
    }),
    ("list", -2, list),
    ("no-evict", 3, |_, _| Outcome::Reply(Reply::OK)),
    ("no-touch", 3, |_, _| Outcome::Reply(Reply::OK)),
    ("setinfo", 4, set_info),
    ("setname", 3, |context, args| {
        rename(context, &args[0]).map_or_else(|refused| refused, |()| Outcome::Reply(Reply::OK))
    }),
];

pub fn client(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    context.service.clients.note(context.session);
    match subcommand("client", SUBCOMMANDS, args) {
        Ok((handler, rest)) => handler(context, rest),
        Err(refused) => refused,
    }
}

/// Gives a connection a name.
pub fn rename(context: &mut Context<'_>, name: &Bytes) -> Result<(), Outcome> {
    check_word("Client names", name)?;
    context.session.name = name.clone();
    context.service.clients.note(context.session);
    Ok(())
}

fn set_info(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    let (attribute, value) = (&args[0], &args[1]);
    let slot = match attribute.to_ascii_uppercase().as_slice() {
        b"LIB-NAME" => &mut context.session.library,
        b"LIB-VER" => &mut context.session.library_version,
        _ => {
            let attribute = String::from_utf8_lossy(attribute).into_owned();
            return fail(format!("ERR Unrecognized option '{attribute}'"));
        }
    };
    if let Err(refused) = check_word("lib-name", value) {
        return refused;
    }
    *slot = value.clone();
    context.service.clients.note(context.session);
    Outcome::Reply(Reply::OK)
}

fn list(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    let clients = &context.service.clients;
    let listed = match args {
        [] => clients.list(),
        [kind, value] if kind.eq_ignore_ascii_case(b"type") => {
            if value.eq_ignore_ascii_case(b"normal") { clients.list() } else { Vec::new() }
        }
        [kind, ids @ ..] if kind.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let ids = ids.iter().filter_map(|id| parse_int(id)?.try_into().ok());
            ids.filter_map(|id| clients.get(id)).collect()
        }
        _ => return syntax_error(),
    };
    Outcome::Reply(Reply::text(listed.iter().map(|client| client.line()).collect::<String>()))
}

/// What stands in a line of CLIENT LIST must not break it.
fn check_word(what: &str, word: &[u8]) -> Result<(), Outcome> {
    if word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(fail(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}
