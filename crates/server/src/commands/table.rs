//! The one table of commands: the source of COMMAND, of arity errors and of the documentation.

use bytes::Bytes;

use super::outcome::Outcome;
use super::{Context, client, connection, keys, meta, server, strings};

/// Carries a command out. The number of arguments has been checked.
pub type Handler = fn(&mut Context<'_>, &[Bytes]) -> Outcome;

/// One command.
pub struct Spec {
    /// In lower case.
    pub name: &'static str,
    /// How many words, the name included; negative: at least so many.
    pub arity: i32,
    /// As in COMMAND INFO.
    pub flags: &'static [&'static str],
    /// First key, last key (negative: from the end), step; zeros without keys.
    pub keys: (i64, i64, i64),
    /// Which chapter of the documentation.
    pub group: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What does it.
    pub handler: Handler,
}

impl Spec {
    /// Whether a request may have so many words.
    pub fn accepts(&self, words: usize) -> bool {
        Spec::arity_accepts(self.arity, words)
    }

    /// The same for an arity.
    pub fn arity_accepts(arity: i32, words: usize) -> bool {
        let expected = arity.unsigned_abs() as usize;
        if arity < 0 { words >= expected } else { words == expected }
    }

    /// Whether a flag is set.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

/// Finds a command by its name in any case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0u8; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = TABLE.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()?;
    TABLE.get(at)
}

const READ: &[&str] = &["readonly", "fast"];
const READ_MANY: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const DROP: &[&str] = &["write", "fast"];
const CONNECTION: &[&str] = &["noscript", "loading", "stale", "fast"];
const STRANGER: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);
const NONE: (i64, i64, i64) = (0, 0, 0);

macro_rules! table {
    ($($name:literal $arity:literal $flags:ident $keys:ident $group:literal $handler:path, $summary:literal;)*) => {
        /// All commands, sorted by name.
        pub static TABLE: &[Spec] = &[$(Spec {
            name: $name,
            arity: $arity,
            flags: $flags,
            keys: $keys,
            group: $group,
            summary: $summary,
            handler: $handler,
        }),*];
    };
}

table! {
    "append" 3 WRITE ONE "string" strings::append, "Appends to a value, and returns its new length.";
    "auth" -2 STRANGER NONE "connection" connection::auth, "Gives the password.";
    "client" -2 ADMIN NONE "connection" client::client, "Names and lists connections.";
    "cluster" -2 CONNECTION NONE "cluster" server::cluster, "INFO, KEYSLOT and MYID.";
    "command" -1 CONNECTION NONE "server" meta::command, "Describes the commands.";
    "config" -2 ADMIN NONE "server" server::config, "GET shows settings.";
    "dbsize" 1 READ NONE "server" keys::dbsize, "Counts the keys of all groups.";
    "decr" 2 WRITE ONE "string" strings::decr, "Subtracts one from a number.";
    "decrby" 3 WRITE ONE "string" strings::decrby, "Subtracts from a number.";
    "del" -2 DROP ALL "generic" keys::del, "Deletes keys; atomic per group.";
    "echo" 2 CONNECTION NONE "connection" connection::echo, "Returns its argument.";
    "exists" -2 READ ALL "generic" keys::exists, "Counts how many of the keys exist.";
    "expire" -3 DROP ONE "generic" keys::expire, "Ends a value in so many seconds.";
    "get" 2 READ ONE "string" strings::get, "Returns a value; linearizable.";
    "getdel" 2 DROP ONE "string" strings::getdel, "Returns a value and deletes it.";
    "hello" -1 STRANGER NONE "connection" connection::hello, "Chooses the protocol.";
    "incr" 2 WRITE ONE "string" strings::incr, "Adds one to a number.";
    "incrby" 3 WRITE ONE "string" strings::incrby, "Adds to a number.";
    "info" -1 CONNECTION NONE "server" server::info, "Describes the server.";
    "mget" -2 READ ALL "string" strings::mget, "Returns values; one moment per group.";
    "mset" -3 WRITE PAIRS "string" strings::mset, "Sets values; atomic per group.";
    "persist" 2 DROP ONE "generic" keys::persist, "Drops the deadline of a value.";
    "pexpire" -3 DROP ONE "generic" keys::pexpire, "Ends a value in so many milliseconds.";
    "ping" -1 CONNECTION NONE "connection" connection::ping, "Returns PONG or its argument.";
    "pttl" 2 READ ONE "generic" keys::pttl, "Milliseconds to the deadline of a value.";
    "quit" -1 STRANGER NONE "connection" connection::quit, "Closes the connection.";
    "scan" -2 READ_MANY NONE "generic" keys::scan, "Walks over the keys of all groups.";
    "select" 2 CONNECTION NONE "connection" connection::select, "There is database 0 only.";
    "set" -3 WRITE ONE "string" strings::set, "Sets a value; OK means on a quorum's disks.";
    "strlen" 2 READ ONE "string" strings::strlen, "The length of a value.";
    "ttl" 2 READ ONE "generic" keys::ttl, "Seconds to the deadline of a value.";
    "type" 2 READ ONE "generic" keys::key_type, "string or none.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_command_is_found_in_any_case() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        for spec in TABLE {
            assert_eq!(find(spec.name.to_ascii_uppercase().as_bytes()).unwrap().name, spec.name);
        }
        assert!(find(b"nosuch").is_none());
        assert!(find(&[b'x'; 1000]).is_none());
        assert!(find(b"").is_none());
    }
}
