//! How a command ends: its exit code, and the one line that says why.

use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;

use super::output::{Format, printable};
use crate::config::ConfigError;
use crate::json;
use crate::store::StoreError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    message: String,
}

#[derive(Clone, Copy, Debug)]
enum Code {
    Failed,
    NeedsPro,
    NotFound,
    Quota,
    Usage,
}

// By value, because `map_err` hands over values.
#[allow(clippy::needless_pass_by_value)]
impl Failure {
    pub(crate) fn failed(message: impl ToString) -> Self {
        Self::new(Code::Failed, &message)
    }

    pub(crate) fn needs_pro(message: impl ToString) -> Self {
        Self::new(Code::NeedsPro, &message)
    }

    pub(crate) fn not_found(message: impl ToString) -> Self {
        Self::new(Code::NotFound, &message)
    }

    pub(crate) fn quota(message: impl ToString) -> Self {
        Self::new(Code::Quota, &message)
    }

    pub(crate) fn usage(message: impl ToString) -> Self {
        Self::new(Code::Usage, &message)
    }

    fn new(code: Code, message: &impl ToString) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// Prints the one line and gives the exit code.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        #[derive(Serialize)]
        struct Line<'a> {
            ok: bool,
            code: &'a str,
            message: &'a str,
        }

        let (name, exit) = self.code.name_and_exit();
        let line = match format {
            Format::Json => json::to_string(&Line {
                ok: false,
                code: name,
                message: &self.message,
            }),
            Format::Table | Format::Yaml => {
                let lines: Vec<String> = self.message.trim_end().lines().map(printable).collect();
                format!("error: {}", lines.join("\n"))
            }
        };
        // There is nobody left to tell that this could not be told.
        drop(writeln!(io::stderr(), "{line}"));
        ExitCode::from(exit)
    }
}

impl Code {
    const fn name_and_exit(self) -> (&'static str, u8) {
        match self {
            Self::Failed => ("FAILED", 1),
            Self::Usage => ("USAGE", 2),
            Self::NotFound => ("NOT_FOUND", 3),
            Self::NeedsPro => ("NEEDS_PRO", 4),
            Self::Quota => ("QUOTA_EXCEEDED", 5),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(error)
    }
}
