//! What tells one cluster from another.

use kube_client_lite::{Client, Error};

use super::kinds;

/// The UID of the namespace `kube-system`: the same for the life of the cluster, and different in
/// every other. Kubernetes itself has no cluster id; this is the customary stand-in.
pub(crate) fn identity(client: &Client) -> Result<String, Error> {
    let namespace = client.api(kinds::NAMESPACES).get_metadata("kube-system")?;
    Ok(namespace.metadata.uid)
}
