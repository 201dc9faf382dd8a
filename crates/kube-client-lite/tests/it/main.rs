//! The client against a simulated API server, and against servers that no API server is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;
mod credentials;
mod faults;
mod hostile;
mod lists;
mod proxy;
mod retries;
mod shutdown;
mod tls;
mod verbs;
mod watch;
