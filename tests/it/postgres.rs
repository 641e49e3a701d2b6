//! The PostgreSQL store, on a real PostgreSQL.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use buzzer_api::store::postgres::{OpenError, PostgresStore};
use buzzer_api::store::{Store, contract};
use buzzer_tests::postgres::PostgresServer;

async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(&url.parse().unwrap()).await.unwrap()
}

async fn refusal(url: &str) -> OpenError {
    PostgresStore::open(&url.parse().unwrap()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_does_what_every_store_must() {
    let server = PostgresServer::shared().await;
    contract::exercise(async || Arc::new(open(&server.database().await).await) as Arc<dyn Store>).await;
}
