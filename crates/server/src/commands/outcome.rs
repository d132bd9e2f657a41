//! What a command leads to.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use refloat_node::Status;

use crate::kv::{Answer, Fault, Op};
use crate::resp::Reply;

use super::Service;

/// What to do about a request.
#[derive(Debug)]
pub enum Outcome {
    /// Answer this.
    Reply(Reply),
    /// Answer this and close the connection.
    Close(Reply),
    /// Ask the groups.
    Ask(Ask),
    /// Ask the node about itself.
    Describe(Describe),
}

/// Makes a reply of what the node says about itself.
pub struct Describe(pub DescribeFn);

/// How such a reply is made.
type DescribeFn = Box<dyn FnOnce(&Service, &Status) -> Reply + Send>;

impl Describe {
    /// Says how.
    pub fn by(how: impl FnOnce(&Service, &Status) -> Reply + Send + 'static) -> Outcome {
        Outcome::Describe(Describe(Box::new(how)))
    }
}

impl fmt::Debug for Describe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Describe")
    }
}

/// Operations on keys, and how their answers become a reply.
#[derive(Debug)]
pub struct Ask {
    /// What to ask. An operation without a key and without a cursor goes to every group.
    pub ops: Vec<Op>,
    /// Makes the reply of the answers, which come in the order of `ops`.
    pub merge: fn(Vec<Answer>, &Service) -> Reply,
}

impl Ask {
    /// Asks for one thing.
    pub fn one(op: Op, merge: fn(Vec<Answer>, &Service) -> Reply) -> Outcome {
        Outcome::Ask(Ask { ops: vec![op], merge })
    }

    /// Asks the same about many keys.
    pub fn each(
        keys: &[Bytes],
        op: fn(Bytes) -> Op,
        merge: fn(Vec<Answer>, &Service) -> Reply,
    ) -> Outcome {
        Outcome::Ask(Ask { ops: keys.iter().cloned().map(op).collect(), merge })
    }
}

/// An error as the outcome.
pub fn fail(text: impl Into<Cow<'static, str>>) -> Outcome {
    Outcome::Reply(Reply::error(text))
}

/// Too many or too few arguments.
pub fn wrong_arity(command: &str) -> Outcome {
    fail(format!("ERR wrong number of arguments for '{command}' command"))
}

/// Options that make no sense.
pub fn syntax_error() -> Outcome {
    fail("ERR syntax error")
}

/// Something that should be a number.
pub fn not_an_integer() -> Outcome {
    fail("ERR value is not an integer or out of range")
}

/// The one answer, as it is: `OK`, nothing, a number, a value.
pub fn plain(answers: Vec<Answer>, _: &Service) -> Reply {
    answers.into_iter().next().map_or(Reply::Null, reply)
}

/// All answers as a list.
pub fn list(answers: Vec<Answer>, _: &Service) -> Reply {
    Reply::Array(answers.into_iter().map(reply).collect())
}

/// The sum of the numbers, or the first thing that went wrong.
pub fn sum(answers: Vec<Answer>, _: &Service) -> Reply {
    let mut sum = 0;
    for answer in answers {
        match answer {
            Answer::Number(n) => sum += n,
            other => return reply(other),
        }
    }
    Reply::Int(sum)
}

/// `OK` if all went well, or the first thing that did not.
pub fn all_done(answers: Vec<Answer>, _: &Service) -> Reply {
    let wrong = answers.into_iter().find(|answer| !matches!(answer, Answer::Done));
    wrong.map_or(Reply::OK, reply)
}

/// One answer as a reply.
pub fn reply(answer: Answer) -> Reply {
    match answer {
        Answer::Done => Reply::OK,
        Answer::Nothing => Reply::Null,
        Answer::Number(n) => Reply::Int(n),
        Answer::Value(value) => Reply::Bulk(value),
        Answer::Keys { keys, .. } => Reply::Array(keys.into_iter().map(Reply::Bulk).collect()),
        // Asked again by whoever carries out a round, and never merged into a reply.
        Answer::Later(_) => Reply::Null,
        Answer::Fault(fault) => Reply::error(match fault {
            Fault::NotInteger => "ERR value is not an integer or out of range",
            Fault::Overflow => "ERR increment or decrement would overflow",
            Fault::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Fault::TooMuch => "BUSY the answer is longer than 64 MiB, ask for less at once",
            Fault::Unreadable => {
                "ERR a member of the group does not understand the command, update it first"
            }
        }),
    }
}
