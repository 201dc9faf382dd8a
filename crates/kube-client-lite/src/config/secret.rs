use std::fmt;

/// A string that cannot be printed: it has no `Display`, and its `Debug` shows nothing of it.
///
/// The memory is not wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a string that must not be printed.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Secret(secret.into())
    }

    /// Gives the string itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", Some(Secret::new("s3cret"))),
            "Some(Secret(..))"
        );
    }
}
