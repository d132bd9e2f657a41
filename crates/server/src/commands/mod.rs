//! The commands: one table says what there is, one function says what to do about a request.
//!
//! A command either is answered at once from what the connection and the server know, or becomes
//! operations on keys ([`Ask`]), which the connection sends to the groups that hold them.

mod client;
mod connection;
mod context;
mod keys;
mod meta;
mod outcome;
mod server;
mod strings;
mod table;

pub use context::{Context, Service, ServiceOptions, Session, Traffic};
pub use outcome::{Ask, Describe, Outcome, reply};

use bytes::Bytes;

use crate::resp::Reply;
use outcome::{fail, wrong_arity};
use table::Spec;

/// Decides what a request means. Never empty.
pub fn dispatch(context: &mut Context<'_>, request: &[Bytes]) -> Outcome {
    let Some((name, args)) = request.split_first() else { return fail("ERR empty request") };
    let Some(spec) = table::find(name) else { return unknown_command(name, args) };
    if !spec.accepts(request.len()) {
        return wrong_arity(spec.name);
    }
    if !context.session.authenticated && !spec.has_flag("no_auth") {
        return fail("NOAUTH Authentication required.");
    }
    context.session.last_command = spec.name;
    (spec.handler)(context, args)
}

/// The words of Redis 7, space at the end included.
fn unknown_command(name: &[u8], args: &[Bytes]) -> Outcome {
    const QUOTED_LEN_MAX: usize = 128;
    let name = String::from_utf8_lossy(name.get(..QUOTED_LEN_MAX).unwrap_or(name)).into_owned();
    let mut quoted = String::new();
    for arg in args {
        let Some(room) = QUOTED_LEN_MAX.checked_sub(quoted.len()).filter(|room| *room > 0) else {
            break;
        };
        let text = String::from_utf8_lossy(arg.get(..room).unwrap_or(arg)).into_owned();
        quoted.push_str(&format!("'{text}' "));
    }
    Outcome::Reply(Reply::error(format!(
        "ERR unknown command '{name}', with args beginning with: {quoted}"
    )))
}

/// Finds the handler of a command's subcommand, and answers what is wrong about it.
fn subcommand<'a>(
    command: &str,
    table: &'static [(&'static str, i32, table::Handler)],
    args: &'a [Bytes],
) -> Result<(table::Handler, &'a [Bytes]), Outcome> {
    let (name, rest) = args.split_first().ok_or_else(|| wrong_arity(command))?;
    let text = String::from_utf8_lossy(name);
    let found = table.iter().find(|(known, ..)| name.eq_ignore_ascii_case(known.as_bytes()));
    let Some((known, arity, handler)) = found else {
        return Err(Outcome::Reply(Reply::error(format!(
            "ERR unknown subcommand '{text}'. Try {} HELP.",
            command.to_ascii_uppercase()
        ))));
    };
    // Counted as Redis counts: the command and the subcommand included.
    if Spec::arity_accepts(*arity, args.len() + 1) {
        Ok((*handler, rest))
    } else {
        Err(wrong_arity(&format!("{command}|{known}")))
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
