//! Generated clusters.
use crate::options::Generate;
use crate::store::Store;
use std::sync::Arc;
#[derive(Debug)]
pub(crate) struct Pods {
    pods: usize,
}
impl Pods {
    pub(crate) fn len(&self) -> usize {
        self.pods
    }
    pub(crate) fn key(&self, index: usize) -> String {
        format!("n/{index:09}")
    }
    pub(crate) fn position(&self, key: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).as_str().cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }
    pub(crate) fn write(&self, index: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(
            format!(r#"{{"metadata":{{"name":"{index:09}","namespace":"n"}}}}"#).as_bytes(),
        );
    }
}
pub(crate) fn store(generate: &Generate) -> Store {
    let mut store = crate::recorded::empty(generate.seed);
    store.load_pods(Arc::new(Pods {
        pods: generate.pods as usize,
    }));
    store
}
