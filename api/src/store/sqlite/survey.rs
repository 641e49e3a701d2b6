use std::path::Path;

use buzzer_shared::time::Clock;

use super::open::{Database, OpenError};
use super::session::Session;
use super::{count, fleet};
use crate::store::StoreError;
use crate::store::survey::{Content, Schema, Survey};

/// Looks at the file at `path` without changing it, also while an API has it.
///
/// # Errors
/// When an API could not open it either.
pub fn survey(path: &Path, clock: &dyn Clock) -> Result<Survey, OpenError> {
    let version = format!("SQLite {}", rusqlite::version());
    let looked = Database::look(path)?;
    let free = free(path);
    let Some((database, connection)) = looked else {
        return Ok(Survey { version, schema: Schema::Missing, clock_ahead: None, free, content: None });
    };
    let (found, known) = database.schema(&connection)?;
    let schema = Schema::new(found, known);
    let content = match schema {
        Schema::Known(_) => {
            let content = content(&Session::new(connection), clock);
            Some(content.map_err(|error| OpenError::Content { path: path.into(), reason: error.to_string() })?)
        }
        _ => None,
    };
    Ok(Survey { version, schema, clock_ahead: None, free, content })
}

fn content(session: &Session, clock: &dyn Clock) -> Result<Content, StoreError> {
    Ok(Content {
        now: clock.now(),
        workers: fleet::workers(session)?,
        kinds: fleet::kinds(session)?.into_iter().map(|known| known.name).collect(),
        backlog: count::backlog(session)?,
    })
}

/// How many bytes are left there for this user.
fn free(path: &Path) -> Option<u64> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}
