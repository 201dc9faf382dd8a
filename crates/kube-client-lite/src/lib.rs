//! A small blocking Kubernetes client.
//!
//! For tools that read a cluster or keep a few objects in it, and would rather not carry an async
//! runtime, a cache or ten thousand generated types: plain calls on threads, constant memory,
//! forty crates in the tree at most, and under two megabytes in a binary, TLS included.
//!
//! - [`Config`] says where the cluster is: a pod's service account or a kubeconfig, with
//!   everything kubectl takes from one (several files, client certificates, credential plugins,
//!   proxies).
//! - [`Client`] holds the connection; [`Client::api`] gives the verbs on one [`Resource`]:
//!   `get`, `list`, `count`, `create`, `apply`, `patch`, `delete`, `watch`.
//! - The caller brings `serde` views of the objects with the fields it needs.
//! - [`Error`] carries the server's `Status`, the verb and the path.
//! - [`Shutdown`] frees blocked calls from another thread.
//! - [`connector`], [`parse_retry_after`], [`TransportKind::explain`] and [`config::Ca::load`] are
//!   for another HTTPS client in the same program, which then needs no second copy of them.
//!
//! Every read has a limit and a timeout. 429 and `Retry-After` are honoured ([`RetryPolicy`]).
//! Proxies in the environment are never used.
//!
//! ```no_run
//! use kube_client_lite::{Client, Config, KubeconfigOptions, ListParams, PartialObjectMetadata, Resource};
//!
//! const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
//!
//! let client = Client::new(Config::infer(&KubeconfigOptions::default())?)?;
//! let deployments = client.api(DEPLOYMENTS).namespace("default");
//! println!("{} deployments", deployments.count()?);
//! for item in deployments.list_all::<PartialObjectMetadata>(&ListParams::default().metadata_only())? {
//!     println!("{}", item.metadata.name);
//! }
//! # Ok::<(), kube_client_lite::Error>(())
//! ```
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod access;
mod api;
mod client;
pub mod config;
mod error;
mod list;
mod meta;
mod resource;
mod retry;
mod shutdown;
mod skim;
mod split;
mod tls;
mod watch;

pub use access::{AccessReview, ResourceAttributes};
pub use api::{Api, ApplyParams, Patch};
pub use client::Client;
pub use config::{Config, ConfigError, KubeconfigOptions};
pub use error::{ApiError, Error, Request, TransportKind};
pub use list::{ListParams, Visitor};
pub use meta::{
    ApiResource, ApiResourceList, ApplyMeta, ListMeta, ObjectMeta, OwnerReference,
    PartialObjectMetadata, Status, StatusCause, StatusDetails, Version,
};
pub use resource::Resource;
pub use retry::{RetryPolicy, parse_retry_after};
pub use shutdown::Shutdown;
pub use tls::connector;
pub use watch::{Watch, WatchEvent, WatchParams};

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
