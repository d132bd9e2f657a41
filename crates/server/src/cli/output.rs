//! Writing to standard output and standard error without minding that nobody reads.

use std::fmt::Display;
use std::io::Write;

/// Prints a line. A reader that went away, as `head` does, is no failure.
pub fn line(text: impl Display) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a line to standard error.
pub fn error_line(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
