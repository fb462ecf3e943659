//! A store that lasts as long as the process: for tests, and for trying things out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Error, Store};

/// Keys and values in memory. Clones see the same content.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Store for Memory {
    fn list(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(content.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put { key, value } => content.insert(key.clone(), value.clone()),
                Change::Delete { key } => content.remove(key),
            };
        }
        Ok(())
    }
}
