//! Points in time as this project writes them: RFC 3339, UTC, milliseconds.

use std::time::Duration;

use jiff::Timestamp;

/// A point in time, in milliseconds since 1970, as it is kept in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(i64);

impl Time {
    pub(crate) fn now() -> Self {
        Self(Timestamp::now().as_millisecond())
    }

    pub(crate) const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub(crate) const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long ago this was; nothing for a time that is still to come.
    pub(crate) fn elapsed(self, now: Self) -> Duration {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// This much later.
    pub(crate) fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// This much earlier.
    pub(crate) fn minus(self, ago: Duration) -> Self {
        Self(self.0.saturating_sub(millis(ago)))
    }

    /// Reads RFC 3339, with any offset.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>()
            .ok()
            .map(|timestamp| Self(timestamp.as_millisecond()))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Only a damaged database holds a time outside the years that can be written.
        let timestamp = Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH);
        write!(f, "{timestamp:.3}")
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn always_three_digits_and_z() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            Time(1_763_908_248_120).to_string(),
            "2025-11-23T14:30:48.120Z"
        );
        assert_eq!(Time(i64::MAX).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn reads_offsets() {
        assert_eq!(Time::parse("1970-01-01T01:00:01+01:00"), Some(Time(1000)));
        assert_eq!(Time::parse("yesterday"), None);
    }

    #[test]
    fn the_future_has_not_elapsed() {
        assert_eq!(Time(5).elapsed(Time(3)), Duration::ZERO);
        assert_eq!(Time(3).elapsed(Time(5)), Duration::from_millis(2));
    }

    #[test]
    fn time_ends_and_does_not_turn_over() {
        assert_eq!(Time(5).plus(Duration::from_secs(1)), Time(1005));
        assert_eq!(Time(5).minus(Duration::from_secs(1)), Time(-995));
        assert_eq!(Time(5).plus(Duration::MAX), Time(i64::MAX));
        assert_eq!(Time(-5).minus(Duration::MAX), Time(i64::MIN));
    }
}
