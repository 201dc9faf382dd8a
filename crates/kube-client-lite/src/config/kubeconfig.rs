use std::path::PathBuf;

/// Which kubeconfig, and which context in it.
#[derive(Clone, Debug, Default)]
pub struct KubeconfigOptions {
    /// The file. `None`: the files of `$KUBECONFIG`, else `~/.kube/config`.
    pub path: Option<PathBuf>,
    /// The context. `None`: the `current-context`.
    pub context: Option<String>,
}
