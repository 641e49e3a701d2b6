use deadpool_postgres::Object;
use tokio_postgres::Error;

/// A transaction that owns its connection, so that it can begin before anybody knows what belongs to it.
///
/// Dropped before its end, it takes its connection with it, and the server rolls back.
#[derive(Debug)]
pub(super) struct Begun(Option<Object>);

impl Begun {
    pub(super) async fn begin(client: Object) -> Result<Self, Error> {
        // Before the first await: whoever is given up on in between must not leave an open transaction to others.
        let begun = Self(Some(client));
        begun.client().batch_execute("BEGIN").await?;
        Ok(begun)
    }

    pub(super) fn client(&self) -> &Object {
        self.0.as_ref().expect("only its end takes the connection")
    }

    /// Its connection goes back to where it came from once the server has answered.
    pub(super) async fn commit(self) -> Result<(), Error> {
        self.end("COMMIT").await
    }

    /// The same. Where not even this works, the connection is given up.
    pub(super) async fn roll_back(self) {
        let _ = self.end("ROLLBACK").await;
    }

    async fn end(mut self, word: &str) -> Result<(), Error> {
        self.client().batch_execute(word).await?;
        drop(self.0.take());
        Ok(())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // Taken from its pool, it is closed.
        drop(self.0.take().map(Object::take));
    }
}
