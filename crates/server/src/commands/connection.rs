//! Commands about the connection itself.

use bytes::Bytes;

use crate::resp::{Protocol, Reply};

use super::outcome::{Outcome, fail, syntax_error, wrong_arity};
use super::{Context, client};

pub fn ping(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    match args {
        [] => Outcome::Reply(Reply::Simple("PONG")),
        [text] => Outcome::Reply(Reply::Bulk(text.clone())),
        _ => wrong_arity("ping"),
    }
}

pub fn echo(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    Outcome::Reply(Reply::Bulk(args[0].clone()))
}

pub fn quit(_: &mut Context<'_>, _: &[Bytes]) -> Outcome {
    Outcome::Close(Reply::OK)
}

pub fn select(_: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    match crate::resp::parse_int(&args[0]) {
        Some(0) => Outcome::Reply(Reply::OK),
        Some(_) => fail("ERR DB index is out of range"),
        None => fail("ERR invalid DB index"),
    }
}

pub fn auth(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    let (user, password) = match args {
        [password] => (None, password),
        [user, password] => (Some(user), password),
        _ => return syntax_error(),
    };
    if context.service.options.password.is_none() && user.is_none() {
        return fail(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        );
    }
    log_in(context, user, password).map_or_else(|refused| refused, |()| Outcome::Reply(Reply::OK))
}

pub fn hello(context: &mut Context<'_>, args: &[Bytes]) -> Outcome {
    let mut protocol = context.session.protocol;
    let mut words = args.iter();
    if let Some(version) = words.next() {
        protocol = match crate::resp::parse_int(version) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return fail("NOPROTO unsupported protocol version"),
            None => return fail("ERR Protocol version is not an integer or out of range"),
        };
    }
    while let Some(word) = words.next() {
        match (word.to_ascii_uppercase().as_slice(), words.len()) {
            (b"AUTH", 2..) => {
                let (user, password) = (words.next(), words.next().cloned().unwrap_or_default());
                if let Err(refused) = log_in(context, user, &password) {
                    return refused;
                }
            }
            (b"SETNAME", 1..) => {
                let name = words.next().cloned().unwrap_or_default();
                if let Err(refused) = client::rename(context, &name) {
                    return refused;
                }
            }
            _ => {
                let word = String::from_utf8_lossy(word).into_owned();
                return fail(format!("ERR Syntax error in HELLO option '{word}'"));
            }
        }
    }
    if !context.session.authenticated {
        return fail(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        );
    }
    context.session.protocol = protocol;
    Outcome::Reply(greeting(context))
}

fn greeting(context: &Context<'_>) -> Reply {
    let version = match context.session.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    let pairs = [
        ("server", Reply::text("redis")),
        ("version", Reply::text(super::server::REDIS_VERSION)),
        ("proto", Reply::Int(version)),
        ("id", Reply::Int(context.session.id as i64)),
        ("mode", Reply::text("standalone")),
        ("role", Reply::text("master")),
        ("modules", Reply::Array(Vec::new())),
    ];
    Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

fn log_in(context: &mut Context<'_>, user: Option<&Bytes>, password: &[u8]) -> Result<(), Outcome> {
    let user_is_known = user.is_none_or(|user| user == "default");
    let password_is_right = match &context.service.options.password {
        Some(expected) => same(expected, password),
        None => true,
    };
    if user_is_known && password_is_right {
        context.session.authenticated = true;
        return Ok(());
    }
    Err(fail("WRONGPASS invalid username-password pair or user is disabled."))
}

/// Compares without telling by its time how much of the guess was right.
fn same(expected: &[u8], guess: &[u8]) -> bool {
    let differences = (0..expected.len().max(guess.len()))
        .fold(0, |sum, at| sum | (expected.get(at) != guess.get(at)) as u8);
    differences == 0
}
