//! How a command ends that does not end well: one line and an exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use refloat_log_store::BootError;
use refloat_log_store::identity::IdentityError;

/// The exit codes, an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Nothing else fits.
    Other = 1,
    /// Flags that make no sense.
    Usage = 2,
    /// `status`: no node answers.
    NoAnswer = 3,
    /// `check`: damage that peers can heal.
    Damage = 10,
    /// The directory belongs to another, is in use, is newer, or holds nothing that survived.
    Refused = 20,
    /// A write or sync failed: nothing was promised after it.
    Poisoned = 21,
    /// No identity that can be proven.
    NoIdentity = 22,
    /// Cannot listen, or nobody answers.
    Network = 23,
}

/// One line for the person, one code for the script.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// The line, without the name of the program.
    pub line: String,
}

impl Failure {
    /// Joins both.
    pub fn new(code: Code, line: impl Into<String>) -> Failure {
        Failure { code, line: line.into() }
    }

    /// A mistake in the flags.
    pub fn usage(line: impl Into<String>) -> Failure {
        Failure::new(Code::Usage, line)
    }

    /// What was being done, and the error with all its causes.
    pub fn because(code: Code, doing: impl fmt::Display, error: &dyn Error) -> Failure {
        Failure::new(code, format!("{doing}: {}", with_causes(error)))
    }

    /// The code of a directory that does not open.
    pub fn code_of_boot(error: &BootError) -> Code {
        match error {
            BootError::Identity(identity) => identity_code(identity),
            BootError::InUse { .. }
            | BootError::Refused { .. }
            | BootError::RecoveryUnfinished { .. }
            | BootError::NothingSurvives { .. } => Code::Refused,
            BootError::Poisoned { .. } => Code::Poisoned,
            _ => Code::Other,
        }
    }

    /// The code of an identity that cannot be had, or made.
    pub fn code_of_identity(error: &IdentityError) -> Code {
        identity_code(error)
    }

    /// The code for the process.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Failure {
    /// A single line, whatever an error message brought along.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: Vec<&str> = self.line.split_whitespace().collect();
        write!(f, "refloat: {}", line.join(" "))
    }
}

impl From<BootError> for Failure {
    fn from(error: BootError) -> Failure {
        Failure::new(Failure::code_of_boot(&error), with_causes(&error))
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Failure {
        Failure::new(identity_code(&error), with_causes(&error))
    }
}

fn identity_code(error: &IdentityError) -> Code {
    match error {
        IdentityError::Absent { .. } | IdentityError::Unprovable { .. } => Code::NoIdentity,
        IdentityError::Disagree { .. }
        | IdentityError::NewerFormat { .. }
        | IdentityError::AlreadyInitialised { .. } => Code::Refused,
        _ => Code::Other,
    }
}

/// An error and its causes in one line.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::usage("a\n  b\nc");
        assert_eq!(failure.to_string(), "refloat: a b c");
    }

    #[test]
    fn an_error_is_told_with_its_causes_once() {
        let cause = std::io::Error::other("disk on fire");
        let error = IdentityError::Io { path: "/d/identity.a".into(), source: cause };
        let line = with_causes(&error);
        assert_eq!(line, "cannot use identity file /d/identity.a: disk on fire");
    }
}
