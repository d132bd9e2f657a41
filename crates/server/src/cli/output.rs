//! Writing to standard output and standard error without minding that nobody reads.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

use super::failure::{Code, Failure};

/// Prints a line. A reader that went away, as `head` does, is no failure.
pub fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a line to standard error.
pub fn error_line(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::because(Code::Other, "write JSON", &error))?;
    line(text);
    Ok(())
}
