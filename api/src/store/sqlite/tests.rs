use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::SqliteStore;
use crate::store::{Store, contract};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_does_what_every_store_must() {
    let directories = Mutex::new(Vec::new());
    contract::exercise(async || {
        let directory = TempDir::new().unwrap();
        let store = SqliteStore::open(&directory.path().join("buzzer.db")).unwrap();
        directories.lock().unwrap().push(directory);
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}
