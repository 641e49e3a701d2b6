use buzzer_shared::id::JobId;
use buzzer_shared::time::Time;
use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::row::time;
use super::session::Session;
use crate::store::tickets::{key_bytes, key_from_stored};
use crate::store::{Issued, StoreError, Ticket, TicketHash, code};

/// Keeps a new ticket, unless its key has `most` already.
pub(super) fn keep(session: &Session, ticket: &Ticket, most: usize, now: Time) -> Result<Issued, StoreError> {
    let key = key_bytes(ticket);
    let mut good = session.prepare(
        "SELECT count(*), min(expires_at) FROM tickets INDEXED BY tickets_key WHERE key = ?1 AND expires_at > ?2",
    )?;
    let (count, until) = good.query_row(params![key, now.as_millis()], |row| Ok((row.get(0)?, time(row, 1)?)))?;
    let issued = Issued::beside(count, until, code::limit(most));
    if issued == Issued::Kept {
        session.execute(
            "INSERT INTO tickets (hash, key, job, expires_at) VALUES (?1, ?2, ?3, ?4)",
            params![
                ticket.hash.as_bytes(),
                key,
                ticket.job.as_ref().map(JobId::as_uuid),
                ticket.expires_at.as_millis()
            ],
        )?;
    }
    Ok(issued)
}

/// The ticket with this hash.
pub(super) fn by_hash(session: &Session, hash: &TicketHash) -> Result<Option<Ticket>, StoreError> {
    let mut statement = session.prepare("SELECT key, job, expires_at FROM tickets WHERE hash = ?1")?;
    let columns =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Option<Uuid>>(1)?, row.get(2)?));
    let Some((key, job, expires_at)) = statement.query_row([hash.as_bytes()], columns).optional()? else {
        return Ok(None);
    };
    Ok(Some(Ticket {
        hash: *hash,
        key: key_from_stored(&key).map_err(StoreError::Corrupt)?,
        job: job.map(JobId::from),
        expires_at: Time::from_millis(expires_at),
    }))
}

/// Deletes tickets that have expired, at most `most`.
pub(super) fn forget(session: &Session, now: Time, most: usize) -> Result<usize, StoreError> {
    Ok(session.execute(
        "DELETE FROM tickets WHERE hash IN \
         (SELECT hash FROM tickets INDEXED BY tickets_expired WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        [now.as_millis(), code::limit(most)],
    )?)
}
