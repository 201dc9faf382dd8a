use kube_client_lite::{Client, Error};
use crate::store::{Store, StoreError};
use crate::time::Time;
pub(crate) const CONFIG_MAP: &str = "kube9-ai-recommendations";
pub(crate) struct Recommendations { pub(crate) recommendations: String, pub(crate) insights: String }
pub(crate) fn build(_s: &Store, _n: Time) -> Result<Recommendations, StoreError> { Ok(Recommendations{recommendations: String::new(), insights: String::new()}) }
pub(crate) fn publish(_c: &Client, _n: &str, _r: &Recommendations) -> Result<(), Error> { Ok(()) }
pub(crate) fn remove(_c: &Client, _n: &str) -> Result<(), Error> { Ok(()) }
