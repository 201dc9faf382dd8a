use kube_client_lite::{Client, Error};
use crate::store::{Store, StoreError, State};
pub(crate) const CONFIG_MAP: &str = "kube9-operator-state";
pub(crate) struct Decoded(pub(crate) State);
impl Decoded { pub(crate) fn is_of(&self, _c: Option<&str>) -> bool { true } }
pub(crate) fn of(_s: &Store, _c: Option<&str>) -> Result<Option<Vec<u8>>, StoreError> { Ok(None) }
pub(crate) fn read(_c: &Client, _n: &str) -> Result<Option<Vec<u8>>, Error> { Ok(None) }
pub(crate) fn write(_c: &Client, _n: &str, _b: &[u8]) -> Result<(), Error> { Ok(()) }
pub(crate) fn decode(_b: &[u8]) -> Result<Decoded, String> { Err(String::new()) }
