use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        "cannot write in the directory of {path}: {source}; create it, let this user write there, or name another file"
    )]
    Directory { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process; stop that one, or name another file")]
    InUse { path: PathBuf },
    #[error("{path} is not an SQLite database; name another file, or move this one away")]
    NotADatabase { path: PathBuf },
    #[error("{path} is the database of another program; name another file")]
    Foreign { path: PathBuf },
    #[error("{path} was written by a newer version (schema {found}, this one knows {known}); run that version again")]
    Newer { path: PathBuf, found: i32, known: i32 },
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
    #[error("cannot start the threads of the store: {source}; raise the limit of processes")]
    Threads { source: io::Error },
    #[error("cannot open {path}: {source}; see to that, and start again")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// A database file that is ours alone, and up to date.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// Ends with the process, however that ends.
    _lock: File,
}

impl Database {
    /// Checks all that must hold before anything may rely on the file. Creates it where there is none.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(OpenError::OldSqlite { found: rusqlite::version() });
        }
        let path = resolve(path)?;
        let database = Self { _lock: lock(&path)?, path };
        let mut connection = database.raw()?;
        database.check_owner(&connection)?;
        database.check_modes(&connection)?;
        database.migrate(&mut connection)?;
        Ok(database)
    }

    /// A connection that writes.
    pub(super) fn writer(&self) -> Result<Connection, OpenError> {
        let connection = self.raw()?;
        self.check_modes(&connection)?;
        // A checkpoint holds up the commit that starts it. At 16 MiB it is rare, and still short.
        self.set(&connection, "PRAGMA wal_autocheckpoint = 4096; PRAGMA cache_size = -65536;")?;
        Ok(connection)
    }

    /// A connection that cannot write.
    pub(super) fn reader(&self) -> Result<Connection, OpenError> {
        let connection = self.raw()?;
        self.set(&connection, "PRAGMA query_only = ON; PRAGMA cache_size = -16384;")?;
        Ok(connection)
    }

    /// No memory map: an error of the disk would end the process instead of failing one statement.
    fn raw(&self) -> Result<Connection, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|source| self.failed(source))?;
        connection.busy_timeout(BUSY).map_err(|source| self.failed(source))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Statement journals and sorts in memory: they would otherwise go to a disk that may be full.
        self.set(&connection, "PRAGMA temp_store = MEMORY;")?;
        Ok(connection)
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
        let failed = |reason: String| OpenError::Migration { path: self.path.clone(), reason };
        let runner = embedded::migrations::runner();
        let known = runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or_default();
        // Asked first: refinery's own complaint does not say what to do.
        let begun: bool =
            self.ask(connection, "SELECT count(*) FROM sqlite_schema WHERE name = 'refinery_schema_history'")?;
        let found: Option<i32> =
            if begun { self.ask(connection, "SELECT max(version) FROM refinery_schema_history")? } else { None };
        if let Some(found) = found.filter(|found| *found > known) {
            return Err(OpenError::Newer { path: self.path.clone(), found, known });
        }
        runner.run(connection).map_err(|error| failed(error.to_string()))?;
        Ok(())
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
