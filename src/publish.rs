//! What goes out to the cluster: ConfigMaps in the agent's own namespace.

pub(crate) mod config_map;
pub(crate) mod dashboard;
pub(crate) mod recommendations;
pub(crate) mod state;
pub(crate) mod status;
