use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::State;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::time::Time;
use bytes::Bytes;
use futures_util::poll;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Database, OpenError, SqliteStore};
use crate::lifecycle::{Job, accept};
use crate::store::{ApiKey, Filter, KeyHash, Keyring, Scopes, Store, StoreError, Submission, Submitted, conformance};

const NOW: Time = Time::from_millis(1_795_000_000_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_does_what_every_store_must() {
    exercise(SqliteStore::open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_does_so_without_threads() {
    exercise(SqliteStore::open_here).await;
}

async fn exercise(open: fn(&Path) -> Result<SqliteStore, OpenError>) {
    let directories = Mutex::new(Vec::new());
    conformance::exercise(async || {
        let directory = TempDir::new().unwrap();
        let store = open(&directory.path().join("buzzer.db")).unwrap();
        directories.lock().unwrap().push(directory);
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}

#[test]
fn p1_a_commit_is_on_disk() {
    let home = Home::new();
    let writer = Database::open(&home.file()).unwrap().writer().unwrap();
    let pragma = |name| writer.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0));
    assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
    assert_eq!(pragma("synchronous").unwrap(), 2.into(), "FULL: each commit is synced, not each checkpoint");
}

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("buzzer.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.file()).unwrap()
    }

    /// How another process sees the file.
    fn outside(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    fn count(&self, table: &str) -> i64 {
        self.outside().query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

fn submission(input: impl Into<Bytes>) -> Submission {
    let spec = KindSpec::any("echo".parse().unwrap());
    let accepted = accept(Job::new(JobId::new(NOW), Tenant::default(), &spec, NOW));
    Submission { accepted, input: input.into(), key: None }
}

/// Holds the writer in the middle of a command until the gate is opened.
struct Gate {
    reached: Option<tokio::sync::oneshot::Sender<()>>,
    open: mpsc::Receiver<()>,
}

impl Gate {
    fn new() -> (Self, tokio::sync::oneshot::Receiver<()>, mpsc::Sender<()>) {
        let (reached, is_reached) = tokio::sync::oneshot::channel();
        let (opener, open) = mpsc::channel();
        (Self { reached: Some(reached), open }, is_reached, opener)
    }

    fn pass(&mut self) {
        if let Some(reached) = self.reached.take() {
            reached.send(()).unwrap();
            self.open.recv().unwrap();
        }
    }
}

/// Queues commands while the writer is held up, so that they share one commit.
macro_rules! in_one_batch {
    ($store:expr, $($command:expr),+) => {{
        let (mut gate, reached, opener) = Gate::new();
        let holding = $store.writer.write(move |_| {
            gate.pass();
            Ok(())
        });
        let all = async { tokio::join!($($command),+) };
        tokio::pin!(holding, all);
        assert!(poll!(&mut holding).is_pending());
        reached.await.unwrap();
        assert!(poll!(&mut all).is_pending());
        opener.send(()).unwrap();
        holding.await.unwrap();
        all.await
    }};
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_reopening() {
    let home = Home::new();
    let store = home.open();
    let kept = submission("[1]");
    store.submit(kept.clone()).await.unwrap();
    drop(store);

    let store = home.open();
    let found = store.job_with_content(&Tenant::default(), kept.accepted.job.id).await.unwrap().unwrap();
    assert_eq!((found.job, found.input), (kept.accepted.job, kept.input));
    store.submit(submission("{}")).await.unwrap();
    let feed = store.feed(&Tenant::default(), 0, 10).await.unwrap();
    assert_eq!(feed.iter().map(|fed| fed.feed).collect::<Vec<_>>(), [1, 2], "the feed goes on where it was");
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit() {
    let home = Home::new();
    let store = home.open();
    let (mut gate, reached, opener) = Gate::new();
    let (mut first, first_reached, first_opener) = Gate::new();
    let first = store.writer.write(move |_| {
        first.pass();
        Ok(())
    });
    let submit = store.submit(submission("{}"));
    let last = store.writer.write(move |_| {
        gate.pass();
        Ok(())
    });
    tokio::pin!(first, submit, last);
    assert!(poll!(&mut first).is_pending());
    first_reached.await.unwrap();
    assert!(poll!(&mut submit).is_pending());
    assert!(poll!(&mut last).is_pending());
    first_opener.send(()).unwrap();

    // The last command of the batch runs: the submission before it was done, and waits for the commit.
    reached.await.unwrap();
    assert!(poll!(&mut submit).is_pending());
    assert_eq!(home.count("jobs"), 0);
    opener.send(()).unwrap();
    assert_eq!(submit.await.unwrap(), Submitted::New);
    assert_eq!(home.count("jobs"), 1);
    last.await.unwrap();
}

#[tokio::test]
async fn a_command_that_fails_takes_nobody_with_it() {
    let home = Home::new();
    let store = home.open();
    let twice = submission("{}");
    let (first, again, panics, last) = in_one_batch!(
        store,
        store.submit(twice.clone()),
        store.submit(twice.clone()),
        store.writer.write::<(), _>(|session| {
            session.execute("INSERT INTO kinds (name) VALUES ('half-done')", [])?;
            panic!("on purpose")
        }),
        store.submit(submission("{}"))
    );
    assert_eq!(first.unwrap(), Submitted::New);
    assert!(matches!(again, Err(StoreError::Corrupt(_))), "{again:?}");
    assert!(matches!(&panics, Err(StoreError::Corrupt(why)) if why.contains("on purpose")), "{panics:?}");
    assert_eq!(last.unwrap(), Submitted::New);
    assert_eq!((home.count("jobs"), home.count("inputs"), home.count("kinds")), (2, 2, 1));
    let feed = store.feed(&Tenant::default(), 0, 10).await.unwrap();
    assert_eq!(feed.iter().map(|fed| fed.feed).collect::<Vec<_>>(), [1, 2], "and leaves no hole in the feed");
    let reader = store.readers.read::<(), _>(|_| panic!("on purpose")).await;
    assert!(matches!(reader, Err(StoreError::Corrupt(_))));
    store.probe(NOW).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_fails_keeps_nothing_and_says_so_to_all() {
    let home = Home::new();
    let store = home.open();
    home.outside()
        .execute_batch("CREATE TABLE parents (n INTEGER PRIMARY KEY); CREATE TABLE children (n REFERENCES parents DEFERRABLE INITIALLY DEFERRED);")
        .unwrap();
    // Found out only by the commit.
    let orphan = store.writer.write(|session| Ok(session.execute("INSERT INTO children VALUES (1)", [])?));
    let (submitted, orphan) = in_one_batch!(store, store.submit(submission("{}")), orphan);
    assert!(submitted.is_err(), "{submitted:?}");
    assert!(orphan.is_err(), "{orphan:?}");
    assert_eq!((home.count("jobs"), home.count("events"), home.count("kinds")), (0, 0, 0));

    assert_eq!(store.submit(submission("{}")).await.unwrap(), Submitted::New);
    assert_eq!(store.feed(&Tenant::default(), 0, 10).await.unwrap()[0].feed, 1);
}

#[tokio::test]
async fn a_full_disk_is_refused_and_works_again_when_there_is_room() {
    let home = Home::new();
    let store = home.open();
    let limit = |pages: i64| {
        store.writer.write(move |session| {
            Ok(session
                .connection
                .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get::<_, i64>(0))?)
        })
    };
    let pages = limit(1).await.unwrap(); // Never below what is there.
    limit(pages + 20).await.unwrap();
    let large = "x".repeat(500_000);
    let (small, refused) =
        in_one_batch!(store, store.submit(submission("{}")), store.submit(submission(large.clone())));
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(small.is_ok(), home.count("jobs") == 1, "what was answered is what is there");
    let before = home.count("jobs");

    limit(1_000_000).await.unwrap();
    assert_eq!(store.submit(submission(large)).await.unwrap(), Submitted::New);
    assert_eq!(home.count("jobs"), before + 1);
    assert_eq!(home.count("events"), before + 1);
}

#[tokio::test]
async fn a_file_that_another_process_holds_is_unavailable_until_it_lets_go() {
    let home = Home::new();
    let store = home.open();
    let impatient =
        |session: &super::session::Session| Ok(session.connection.busy_timeout(Duration::from_millis(20))?);
    store.writer.write(impatient).await.unwrap();
    let other = home.outside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.submit(submission("{}")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(store.backlog().await.unwrap().is_empty(), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.submit(submission("{}")).await.unwrap(), Submitted::New);
    assert_eq!(home.count("jobs"), 1);
}

fn refusal(path: &Path) -> OpenError {
    let refused = SqliteStore::open(path).unwrap_err();
    assert_eq!(refused.to_string().lines().count(), 1, "one line: {refused}");
    refused
}

#[test]
fn a_file_in_use_is_refused_by_any_name() {
    let home = Home::new();
    let store = home.open();
    assert!(matches!(refusal(&home.file()), OpenError::InUse { .. }));
    let other = TempDir::new().unwrap();
    let link = other.path().join("link.db");
    symlink(home.file(), &link).unwrap();
    assert!(matches!(refusal(&link), OpenError::InUse { .. }));
    drop(store);
    home.open();
}

fn api_key(text: &str) -> ApiKey {
    let (hash, tenant) = (KeyHash::of(text), Tenant::default());
    ApiKey { hash, tenant, name: None, scopes: Scopes::default(), created_at: NOW, revoked_at: None }
}

#[tokio::test]
async fn keys_are_made_and_revoked_beside_a_store_that_is_open() {
    let home = Home::new();
    let store = home.open();
    store.submit(submission("{}")).await.unwrap();
    let keyring = SqliteStore::keyring(&home.file()).unwrap();
    let key = api_key("bz_a");
    let (kept, submitted) = tokio::join!(keyring.keep_api_key(&key), store.submit(submission("{}")));
    assert_eq!((kept.unwrap(), submitted.unwrap()), ((), Submitted::New));
    assert_eq!(store.api_key(&key.hash).await.unwrap(), Some(key.clone()));
    keyring.revoke_api_key(&key.id(), NOW).await.unwrap();
    assert_eq!(store.api_keys().await.unwrap()[0].revoked_at, Some(NOW));
    drop(keyring);

    store.submit(submission("{}")).await.unwrap();
    let feed = store.feed(&Tenant::default(), 0, 10).await.unwrap();
    assert_eq!(feed.iter().map(|fed| fed.feed).collect::<Vec<_>>(), [1, 2, 3], "the feed goes on where it was");
    assert!(matches!(refusal(&home.file()), OpenError::InUse { .. }), "the lock is still the store's");
}

#[tokio::test]
async fn keys_may_be_made_before_the_first_start_and_keep_nobody_out() {
    let home = Home::new();
    let refused = SqliteStore::keyring(&home.file()).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    assert!(!home.file().exists(), "who lists or revokes keys makes no store");
    let keyring = SqliteStore::keyring_or_new(&home.file()).unwrap();
    let key = api_key("bz_a");
    keyring.keep_api_key(&key).await.unwrap();
    let store = home.open();
    assert_eq!(store.api_keys().await.unwrap(), [key]);
    assert_eq!(keyring.api_keys().await.unwrap().len(), 1);
}

#[test]
fn no_keys_are_made_beside_an_older_process() {
    let home = Home::new();
    let store = home.open();
    let older =
        "DELETE FROM refinery_schema_history WHERE version = (SELECT max(version) FROM refinery_schema_history)";
    assert_eq!(home.outside().execute(older, []).unwrap(), 1);
    let refused = SqliteStore::keyring(&home.file()).unwrap_err();
    assert!(matches!(refused, OpenError::Older { .. }), "{refused}");
    assert_eq!(refused.to_string().lines().count(), 1, "one line: {refused}");
    drop(store);
}

#[test]
fn a_database_from_the_future_is_refused_and_left_alone() {
    let home = Home::new();
    drop(home.open());
    let future = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                  SELECT 9999, 'future', applied_on, checksum FROM refinery_schema_history LIMIT 1";
    assert_eq!(home.outside().execute(future, []).unwrap(), 1);
    assert!(matches!(refusal(&home.file()), OpenError::Newer { found: 9999, .. }));
    assert_eq!(home.count("refinery_schema_history WHERE version = 9999"), 1);
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_alone() {
    let home = Home::new();
    let text = "This is a shopping list. ".repeat(100);
    fs::write(home.file(), &text).unwrap();
    assert!(matches!(refusal(&home.file()), OpenError::NotADatabase { .. }));
    assert_eq!(fs::read_to_string(home.file()).unwrap(), text);

    fs::remove_file(home.file()).unwrap();
    home.outside().execute_batch("CREATE TABLE shopping (item TEXT)").unwrap();
    let before = fs::read(home.file()).unwrap();
    assert!(matches!(refusal(&home.file()), OpenError::Foreign { .. }));
    assert_eq!(fs::read(home.file()).unwrap(), before);
}

#[test]
fn a_place_that_cannot_be_written_is_refused() {
    let home = Home::new();
    let missing = home.0.path().join("missing/buzzer.db");
    assert!(matches!(refusal(&missing), OpenError::Directory { .. }));
    // Nobody, not even root, may make files there.
    assert!(matches!(refusal(Path::new("/proc/buzzer.db")), OpenError::Directory { .. }));
}

#[test]
fn a_first_start_that_was_cut_short_goes_on() {
    let home = Home::new();
    drop(home.open());
    let history: String = home
        .outside()
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'refinery_schema_history'", [], |row| row.get(0))
        .unwrap();
    fs::remove_file(home.file()).unwrap();
    home.outside().execute_batch(&history).unwrap();
    home.open();
}

/// A page of a long list must not cost a sort of the whole.
#[tokio::test]
async fn long_lists_are_read_in_order() {
    let home = Home::new();
    let store = home.open();
    let kind = Some("echo".parse().unwrap());
    let tag = Some(("a".to_owned(), "b".to_owned()));
    for filter in [
        Filter::default(),
        Filter { state: Some(State::Succeeded), ..Filter::default() },
        Filter { state: Some(State::Queued), ..Filter::default() },
        Filter { state: Some(State::Failed), ..Filter::default() },
        Filter { state: Some(State::Canceled), ..Filter::default() },
        Filter { kind: kind.clone(), ..Filter::default() },
        Filter { kind: kind.clone(), state: Some(State::Succeeded), ..Filter::default() },
        Filter { kind, tag: tag.clone(), ..Filter::default() },
        Filter { tag, ..Filter::default() },
    ] {
        let statement = super::list::statement(&filter);
        let plan = store.readers.read(move |session| {
            let mut explained = session.connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
            let steps = vec![Some(1); explained.parameter_count()];
            let steps = explained.query_map(rusqlite::params_from_iter(steps), |row| row.get::<_, String>(3))?;
            Ok(steps.collect::<Result<Vec<_>, _>>()?)
        });
        let plan = plan.await.unwrap();
        let in_order = !plan.iter().any(|step| step.contains("TEMP B-TREE FOR ORDER BY"));
        let by_number = plan.iter().any(|step| step.contains("rowid") || step.contains("n<?"));
        assert!(in_order && by_number, "{filter:?}: {plan:#?}");
    }
}
