//! What takes a while, and no other task is to wait for.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does it here. Meanwhile other tasks go on, where there are threads for them.
pub fn aside<T>(look: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(look),
        _ => look(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_thread_looks_itself() {
        assert_eq!(aside(|| 7), 7);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_while_something_is_looked_at() {
        let (ask, asked) = std::sync::mpsc::channel();
        let other = tokio::spawn(async move {
            tokio::spawn(async move { ask.send(()) });
            aside(|| asked.recv_timeout(Duration::from_secs(20)))
        });
        assert_eq!(other.await.unwrap(), Ok(()));
    }
}
