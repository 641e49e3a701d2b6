use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// The first SQLite without the bug that could lose a transaction when the WAL started over during a checkpoint.
const OLDEST_SQLITE: i32 = 3_051_003;

/// `Buzz`, as the first migration writes it into the file's header.
const APPLICATION_ID: i64 = 0x4275_7A7A;

/// How long to wait for another process, like a backup or the `sqlite3` shell, to let go of the file.
const BUSY: Duration = Duration::from_secs(5);

/// More than there are different statements, so that none is ever prepared twice.
const STATEMENTS: usize = 128;

/// Why a store cannot be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "cannot write in the directory of {path}: {source}; create it, let this user write there, or name another file in BUZZER_STORE"
    )]
    Directory { path: PathBuf, source: io::Error },
    #[error("{path} is a directory; BUZZER_STORE takes the name of a file, like {path}/buzzer.db")]
    IsDirectory { path: PathBuf },
    #[error("{path} is in use by another process; stop that one, or name another file in BUZZER_STORE")]
    InUse { path: PathBuf },
    #[error("{path} is not an SQLite database; name another file in BUZZER_STORE, or move this one away")]
    NotADatabase { path: PathBuf },
    #[error("{path} is the database of another program; name another file in BUZZER_STORE")]
    Foreign { path: PathBuf },
    #[error(
        "{path} was written by a newer version (schema {found}, this one knows {known}); run that version again, or name another file in BUZZER_STORE"
    )]
    Newer { path: PathBuf, found: i32, known: i32 },
    #[error(
        "{path} is in use by a process that has not brought it up to date (schema {}, this one knows {known}); if that \
         one is just starting, try again, else stop it and run this version",
        .found.unwrap_or(0)
    )]
    Older { path: PathBuf, found: Option<i32>, known: i32 },
    #[error("{path} may only be read; let this user write it, or name another file in BUZZER_STORE")]
    ReadOnly { path: PathBuf },
    #[error(
        "{path} is not there, and so there are no keys; name the file of an API in BUZZER_STORE, or make a key with \
         `buzzer keys create`"
    )]
    Missing { path: PathBuf },
    #[error("SQLite {found} can lose data; build with 3.51.3 or newer")]
    OldSqlite { found: &'static str },
    #[error(
        "{path} cannot keep a write-ahead log (journal mode is {found}); put it on a local disk, not on a network one"
    )]
    Journal { path: PathBuf, found: String },
    #[error("{path} is not written safely (synchronous is {found}, must be 2); build with SQLite's own defaults")]
    Synchronous { path: PathBuf, found: i64 },
    #[error("the tables in {path} cannot be brought up to date: {reason}; see to that, and start again")]
    Migration { path: PathBuf, reason: String },
    #[error("what is in {path} cannot be read: {reason}; put back a backup")]
    Content { path: PathBuf, reason: String },
    #[error("cannot start the threads of the store: {source}; raise the limit of processes")]
    Threads { source: io::Error },
    #[error("cannot open {path}: {source}; see to that, or name another file in BUZZER_STORE")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// A database file that is up to date, and ours alone unless it was opened beside another process.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// Ends with the process, however that ends. `None` beside another process.
    _lock: Option<File>,
}

impl Database {
    /// Checks all that must hold before anything may rely on the file. Creates it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        let path = resolve(path)?;
        if path.is_dir() {
            return Err(OpenError::IsDirectory { path });
        }
        let database = Self { _lock: Some(lock(&path)?), path };
        let mut connection = database.raw()?;
        database.check_writable(&connection)?;
        database.check_owner(&connection)?;
        database.check_modes(&connection)?;
        database.migrate(&mut connection)?;
        Ok(database)
    }

    /// A connection that cannot write, to a file that may be another process's, or another user's: nothing is made
    /// beside it either. `None` where there is no file yet, and one can be made.
    pub(super) fn look(path: &Path) -> Result<Option<(Self, Connection)>, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        let path = resolve(path)?;
        if path.is_dir() {
            return Err(OpenError::IsDirectory { path });
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK);
        writable.map_err(|error| OpenError::Directory { path: path.clone(), source: error.into() })?;
        if !path.exists() {
            return Ok(None);
        }
        rustix::fs::access(&path, rustix::fs::Access::WRITE_OK)
            .map_err(|_| OpenError::ReadOnly { path: path.clone() })?;
        let database = Self { _lock: None, path };
        let connection = database.onlooker()?;
        database.check_owner(&connection)?;
        Ok(Some((database, connection)))
    }

    /// The version of the tables, if there are any, and the one that this build knows.
    pub(super) fn schema(&self, connection: &Connection) -> Result<(Option<i32>, i32), OpenError> {
        let runner = embedded::migrations::runner();
        let known = runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or_default();
        let begun: bool =
            self.ask(connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'refinery_schema_history'")?;
        let found =
            if begun { self.ask(connection, "SELECT max(version) FROM refinery_schema_history")? } else { None };
        Ok((found, known))
    }

    /// The same, for what may be done while another process has the file: SQLite itself lets one write at a time, but
    /// that process remembers names and numbers that it has written, and they must not be touched.
    pub(super) fn beside(path: &Path) -> Result<Self, OpenError> {
        match Self::open(path) {
            // An API that is started meanwhile must get the lock.
            Ok(database) => Ok(Self { _lock: None, ..database }),
            Err(OpenError::InUse { path }) => Self::of_another(path),
            Err(error) => Err(error),
        }
    }

    /// The same, where there must be a file already.
    pub(super) fn beside_if_there(path: &Path) -> Result<Self, OpenError> {
        let path = resolve(path)?;
        if path.exists() { Self::beside(&path) } else { Err(OpenError::Missing { path }) }
    }

    fn of_another(path: PathBuf) -> Result<Self, OpenError> {
        let database = Self { _lock: None, path };
        let connection = database.raw()?;
        database.check_writable(&connection)?;
        database.check_owner(&connection)?;
        match database.not_newer(&connection)? {
            (found, known) if found < Some(known) => Err(OpenError::Older { path: database.path, found, known }),
            _ => Ok(database),
        }
    }

    /// A connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, OpenError> {
        let connection = self.raw()?;
        self.check_modes(&connection)?;
        // A checkpoint holds up the commit that starts it. At 16 MiB it is rare, and still short.
        self.set(&connection, "PRAGMA wal_autocheckpoint = 4096; PRAGMA cache_size = -49152;")?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(super) fn reader(&self) -> Result<Connection, OpenError> {
        let connection = self.raw()?;
        self.set(&connection, "PRAGMA query_only = ON; PRAGMA cache_size = -4096;")?;
        Ok(connection)
    }

    /// A connection that leaves no trace. SQLite makes the files of the write-ahead log where they are missing, even to
    /// read: without a log, it is told that nobody writes.
    fn onlooker(&self) -> Result<Connection, OpenError> {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let alone = url::Url::from_file_path(&self.path).ok().filter(|_| !Path::new(&log).exists());
        let connection = match alone {
            Some(mut uri) => {
                uri.set_query(Some("immutable=1"));
                Connection::open_with_flags(uri.as_str(), flags | OpenFlags::SQLITE_OPEN_URI)
            }
            None => Connection::open_with_flags(&self.path, flags),
        };
        self.ready(connection.map_err(|source| self.failed(source))?)
    }

    /// No memory map: an error of the disk would end the process instead of failing one statement.
    fn raw(&self) -> Result<Connection, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        self.ready(Connection::open_with_flags(&self.path, flags).map_err(|source| self.failed(source))?)
    }

    fn ready(&self, connection: Connection) -> Result<Connection, OpenError> {
        connection.busy_timeout(BUSY).map_err(|source| self.failed(source))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Plans that never depend on the values asked for: otherwise SQLite plans some statements anew each time.
        let stable = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true);
        stable.map_err(|source| self.failed(source))?;
        // Statement journals and sorts in memory: they would otherwise go to a disk that may be full.
        self.set(&connection, "PRAGMA temp_store = MEMORY;")?;
        Ok(connection)
    }

    /// SQLite opens what it may only read without a word.
    fn check_writable(&self, connection: &Connection) -> Result<(), OpenError> {
        if connection.is_readonly("main").map_err(|source| self.failed(source))? {
            return Err(OpenError::ReadOnly { path: self.path.clone() });
        }
        Ok(())
    }

    fn check_owner(&self, connection: &Connection) -> Result<(), OpenError> {
        let application: i64 = self.ask(connection, "PRAGMA application_id")?;
        let tables: i64 = self.ask(connection, "SELECT count(*) FROM sqlite_schema")?;
        let ours = application == APPLICATION_ID || (application == 0 && tables == 0);
        // A first start that was cut short leaves the empty table of migrations behind.
        let begun = || {
            self.ask(
                connection,
                "SELECT count(*) = 1 AND max(name) LIKE 'refinery%' FROM sqlite_schema WHERE type = 'table'",
            )
        };
        if ours || (application == 0 && begun()?) {
            Ok(())
        } else {
            Err(OpenError::Foreign { path: self.path.clone() })
        }
    }

    fn check_modes(&self, connection: &Connection) -> Result<(), OpenError> {
        let journal: String = self.ask(connection, "PRAGMA journal_mode = WAL")?;
        if journal != "wal" {
            return Err(OpenError::Journal { path: self.path.clone(), found: journal });
        }
        self.set(connection, "PRAGMA synchronous = FULL;")?;
        match self.ask(connection, "PRAGMA synchronous")? {
            2 => Ok(()),
            found => Err(OpenError::Synchronous { path: self.path.clone(), found }),
        }
    }

    fn migrate(&self, connection: &mut Connection) -> Result<(), OpenError> {
        self.not_newer(connection)?;
        let migrated = embedded::migrations::runner().run(connection);
        migrated.map_err(|error| OpenError::Migration { path: self.path.clone(), reason: error.to_string() })?;
        Ok(())
    }

    /// Asked before any migration: refinery's own complaint about a newer one does not say what to do.
    fn not_newer(&self, connection: &Connection) -> Result<(Option<i32>, i32), OpenError> {
        match self.schema(connection)? {
            (Some(found), known) if found > known => Err(OpenError::Newer { path: self.path.clone(), found, known }),
            schema => Ok(schema),
        }
    }

    fn set(&self, connection: &Connection, pragmas: &str) -> Result<(), OpenError> {
        connection.execute_batch(pragmas).map_err(|source| self.failed(source))
    }

    fn ask<T: rusqlite::types::FromSql>(&self, connection: &Connection, question: &str) -> Result<T, OpenError> {
        connection.query_row(question, [], |row| row.get(0)).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> OpenError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path },
            _ => OpenError::Sqlite { path, source },
        }
    }
}

/// The one name of the file, however it was named: or else two links to it would have two locks.
fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    let absolute = || path.canonicalize().or_else(|_| in_directory(path));
    absolute().map_err(|source| OpenError::Directory { path: path.into(), source })
}

fn in_directory(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(directory.canonicalize()?.join(name))
}

/// Two processes on one file would both believe that they decide alone.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(PathBuf::from(name));
    let file = file.map_err(|source| OpenError::Directory { path: path.into(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Directory { path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_only_be_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buzzer.db");
        let database = Database::open(&path).unwrap();
        // As SQLite opens it for whom the system lets read it alone. Nothing keeps root from writing.
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let refused = database.check_writable(&connection).unwrap_err();
        assert!(matches!(refused, OpenError::ReadOnly { .. }) && refused.to_string().contains("BUZZER_STORE"));
        database.check_writable(&database.raw().unwrap()).unwrap();
    }

    #[test]
    fn who_looks_makes_no_files_and_cannot_write() {
        let files = |folder: &Path| {
            let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a ?#%41.db");
        assert!(Database::look(&path).unwrap().is_none());
        assert!(files(folder.path()).is_empty());

        let database = Database::open(&path).unwrap();
        let look = |before| {
            let (looked, connection) = Database::look(&path).unwrap().unwrap();
            let (found, known) = looked.schema(&connection).unwrap();
            assert_eq!(found, Some(known));
            assert_eq!(files(folder.path()), before);
            assert!(connection.execute_batch("CREATE TABLE x (y)").is_err());
            drop(connection);
            assert_eq!(files(folder.path()), before);
        };
        let alone = files(folder.path());
        assert_eq!(alone.len(), 2, "the file and its lock: {alone:?}");
        look(alone);
        let writer = database.writer().unwrap();
        writer.execute_batch("PRAGMA user_version = 1").unwrap();
        let beside = files(folder.path());
        assert_eq!(beside.len(), 4, "the log and its index: {beside:?}");
        look(beside);
    }
}
