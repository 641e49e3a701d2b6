use buzzer_shared::id::JobId;
use buzzer_shared::time::Time;
use deadpool_postgres::GenericClient;
use uuid::Uuid;

use super::error::Failure;
use super::house::House;
use super::row;
use crate::store::tickets::{key_bytes, key_from_stored};
use crate::store::{Issued, Ticket, TicketHash, code};

/// Keeps a new ticket, unless its key has `most` already.
pub(super) async fn keep(house: &House, ticket: &Ticket, most: usize, now: Time) -> Result<Issued, Failure> {
    let mut client = house.pools.work().await?;
    let transaction = client.transaction().await?;
    let key = key_bytes(ticket);
    // Who makes another with the same key waits, and counts this one.
    row::query(&transaction, "SELECT pg_advisory_xact_lock(hashtextextended(encode($1, 'hex'), 0))", &[&key]).await?;
    let good = "SELECT count(*), min(expires_at) FROM tickets WHERE key = $1 AND expires_at > $2";
    let found = row::first(&transaction, good, &[&key, &now.as_millis()]).await?;
    let (count, until) = match &found {
        Some(row) => (row.try_get(0)?, row::time(row, 1)?),
        None => (0, None),
    };
    let issued = Issued::beside(count, until, code::limit(most));
    if issued == Issued::Kept {
        let insert = "INSERT INTO tickets (hash, key, job, expires_at) VALUES ($1, $2, $3, $4)";
        let job = ticket.job.as_ref().map(JobId::as_uuid);
        row::execute(&transaction, insert, &[&ticket.hash.as_bytes(), &key, &job, &ticket.expires_at.as_millis()])
            .await?;
    }
    transaction.commit().await?;
    Ok(issued)
}

/// The ticket with this hash.
pub(super) async fn by_hash(client: &impl GenericClient, hash: &TicketHash) -> Result<Option<Ticket>, Failure> {
    let sql = "SELECT key, job, expires_at FROM tickets WHERE hash = $1";
    let Some(row) = row::first(client, sql, &[&hash.as_bytes()]).await? else { return Ok(None) };
    let key = key_from_stored(row.try_get(0)?).map_err(Failure::Corrupt)?;
    let job = row.try_get::<_, Option<Uuid>>(1)?.map(JobId::from);
    Ok(Some(Ticket { hash: *hash, key, job, expires_at: Time::from_millis(row.try_get(2)?) }))
}

/// Deletes tickets that have expired, at most `most`. Those that another replica deletes now are passed by.
pub(super) async fn forget(client: &impl GenericClient, now: Time, most: usize) -> Result<usize, Failure> {
    let sql = "DELETE FROM tickets WHERE hash = ANY(ARRAY(SELECT hash FROM tickets \
               WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))";
    let forgotten = row::execute(client, sql, &[&now.as_millis(), &code::limit(most)]).await?;
    Ok(usize::try_from(forgotten).unwrap_or(usize::MAX))
}
