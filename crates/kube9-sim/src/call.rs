//! The six calls.

use kube_sim::{Fault, FaultAction};

/// A call of the server's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `POST /api/v1/register`
    Register,
    /// `POST /api/v1/metrics`
    Push,
    /// `GET /api/v1/insights`
    Insights,
    /// `POST /api/v1/analyze`
    Analyze,
    /// `POST /api/v1/acknowledge`
    Acknowledge,
    /// `GET /api/v1/quota`
    Quota,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Register,
        Self::Push,
        Self::Insights,
        Self::Analyze,
        Self::Acknowledge,
        Self::Quota,
    ];

    /// What it is called.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Push => "push",
            Self::Insights => "insights",
            Self::Analyze => "analyze",
            Self::Acknowledge => "acknowledge",
            Self::Quota => "quota",
        }
    }

    /// The path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Register => "/api/v1/register",
            Self::Push => "/api/v1/metrics",
            Self::Insights => "/api/v1/insights",
            Self::Analyze => "/api/v1/analyze",
            Self::Acknowledge => "/api/v1/acknowledge",
            Self::Quota => "/api/v1/quota",
        }
    }

    /// The method.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Insights | Self::Quota => "GET",
            Self::Register | Self::Push | Self::Analyze | Self::Acknowledge => "POST",
        }
    }

    /// The call of a path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }

    /// A fault of this call alone, for ever.
    #[must_use]
    pub fn fault(self, action: FaultAction) -> Fault {
        Fault::new(action).path(self.path())
    }
}
