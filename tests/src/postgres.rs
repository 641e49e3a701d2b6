//! A PostgreSQL of the tests' own, to keep whole or to damage.

use std::path::Path;

use buzzer_prove::ground::postgres::{Postgres, Settings};
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// A running PostgreSQL. Dropped, it is killed and its directory removed. What it cannot do fails the test.
#[derive(Debug)]
pub struct PostgresServer(Postgres);

impl PostgresServer {
    /// A server of one's own, to damage.
    pub async fn start() -> Self {
        Self(Postgres::start(Settings::default()).await.expect("a private PostgreSQL"))
    }

    /// The same, with its data in this folder.
    pub async fn in_folder(data: &Path) -> Self {
        let settings = Settings { data: Some(data.to_owned()), ..Settings::default() };
        Self(Postgres::start(settings).await.expect("a private PostgreSQL"))
    }

    /// The server that all tests of this process share: for those that leave it whole.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// The address of one of its databases, with name and password.
    pub fn url(&self, database: &str) -> String {
        self.0.url(database)
    }

    /// The address of a new database with nothing in it.
    pub async fn database(&self) -> String {
        self.0.database().await.expect("a new database")
    }

    /// A plain connection, for what the product's own would not do.
    pub async fn client(&self, database: &str) -> Client {
        self.0.client(database).await.expect("a connection to PostgreSQL")
    }

    /// Kills it at once, as a crash would. What it has started notices, and ends by itself.
    pub fn kill(&self) {
        self.0.kill();
    }

    /// Stops it in good order, whoever is connected: what is under way is rolled back.
    pub async fn stop(&self) {
        self.0.stop().await.expect("PostgreSQL to stop");
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port, with what it kept.
    pub async fn start_again(&self) {
        self.0.start_again().await.expect("PostgreSQL to boot");
    }

    /// Freezes it: its sockets stay open and nothing new is accepted.
    pub fn pause(&self) {
        self.0.pause();
    }

    pub fn resume(&self) {
        self.0.resume();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.0.log()
    }
}
