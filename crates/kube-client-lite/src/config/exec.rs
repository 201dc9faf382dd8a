use std::path::PathBuf;

use super::Secret;

/// A program that prints credentials: `users[].user.exec` of a kubeconfig.
#[derive(Clone, Debug)]
pub struct ExecPlugin {
    /// `client.authentication.k8s.io/v1` or `client.authentication.k8s.io/v1beta1`.
    pub api_version: String,
    /// The program: a path, or a name looked up in `PATH`.
    pub command: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables set besides the inherited ones.
    pub env: Vec<(String, Secret)>,
    /// What `KUBERNETES_EXEC_INFO` tells the program about the cluster (`spec.cluster`); `None`
    /// where `provideClusterInfo` is false.
    pub cluster_info: Option<serde_json::Value>,
    /// Whether it may ask the user on the terminal.
    pub interactive: Interactive,
    /// What to tell a user who does not have the program.
    pub install_hint: Option<String>,
}

/// Whether a credential plugin may ask the user on the terminal (`interactiveMode`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Interactive {
    /// It must: without a terminal on standard input it is an error.
    Always,
    /// It may, if standard input is a terminal.
    #[default]
    IfAvailable,
    /// It must not: it is given no standard input.
    Never,
}
