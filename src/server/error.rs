//! What went wrong in a call, and what that means for the calls to come.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text;
use crate::bounded;

/// Of what a server says about an error this much is kept, in characters.
const MAX_DETAIL: usize = 300;

/// The six calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Call {
    Register,
    Push,
    Insights,
    Analyze,
    Acknowledge,
    Quota,
}

/// A call that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub(crate) call: Call,
    pub(crate) meaning: Meaning,
    /// Cleaned and short, without any credential.
    pub(crate) detail: String,
}

/// What a failure asks of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The server answered, and will not have this however often it is sent.
    Final { code: u16 },
    /// 429: later, and how much later if it said so.
    Limited { wait: Option<Duration> },
    /// 403.
    Refused,
    /// This process is ending.
    Shutdown,
    /// What was to be sent could not be read; the server has no part in it.
    Unsendable,
    /// 413.
    TooLarge,
    /// 401: the API key is not accepted.
    Unauthorized,
    /// No usable answer came: worth another try.
    Unreachable,
}

impl Call {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 6] = [
        Self::Register,
        Self::Push,
        Self::Insights,
        Self::Analyze,
        Self::Acknowledge,
        Self::Quota,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Push => "push",
            Self::Insights => "insights",
            Self::Analyze => "analyze",
            Self::Acknowledge => "acknowledge",
            Self::Quota => "quota",
        }
    }

    /// Whether more is asked of the answer than its status.
    pub(super) const fn has_answer(self) -> bool {
        matches!(self, Self::Register | Self::Insights | Self::Quota)
    }
}

impl CallError {
    pub(crate) fn new(call: Call, meaning: Meaning, detail: &str) -> Self {
        let detail = bounded::cut(&text::line(detail), MAX_DETAIL);
        Self {
            call,
            meaning,
            detail,
        }
    }
}

/// Begins as the status of an agent in this state must begin.
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let call = self.call.as_str();
        match self.meaning {
            Meaning::Final { .. } => write!(f, "kube9-server does not accept {call}"),
            Meaning::Limited { .. } => write!(f, "kube9-server asks for patience with {call}"),
            Meaning::Refused => write!(f, "kube9-server refused {call}"),
            Meaning::Shutdown => return f.write_str("shutting down"),
            Meaning::TooLarge => write!(f, "too large for kube9-server: {call}"),
            Meaning::Unauthorized => f.write_str("API key invalid"),
            Meaning::Unsendable => write!(f, "cannot {call}"),
            Meaning::Unreachable => f.write_str("kube9-server unreachable"),
        }?;
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_short_line() {
        let long = format!("a\n\u{1b}[2Jb\u{202e} {}", "x".repeat(1000));
        let error = CallError::new(Call::Push, Meaning::Unreachable, &long);
        assert_eq!(error.detail.chars().count(), MAX_DETAIL);
        let message = error.to_string();
        assert!(
            message.starts_with("kube9-server unreachable: a [2Jb xxx"),
            "{message}"
        );
        assert!(message.ends_with("x..."), "{message}");
    }

    #[test]
    fn errors_begin_as_statuses_do() {
        for (meaning, expected) in [
            (
                Meaning::Final { code: 404 },
                "kube9-server does not accept push: why",
            ),
            (
                Meaning::Limited { wait: None },
                "kube9-server asks for patience with push: why",
            ),
            (Meaning::Refused, "kube9-server refused push: why"),
            (Meaning::Shutdown, "shutting down"),
            (Meaning::TooLarge, "too large for kube9-server: push: why"),
            (Meaning::Unauthorized, "API key invalid: why"),
            (Meaning::Unreachable, "kube9-server unreachable: why"),
            (Meaning::Unsendable, "cannot push: why"),
        ] {
            let error = CallError::new(Call::Push, meaning, "why");
            assert_eq!(error.to_string(), expected);
        }
    }
}
