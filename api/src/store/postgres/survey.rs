use buzzer_shared::time::{Clock, Time};
use tokio_postgres::Client;

use super::address::{PostgresUrl, Target};
use super::error::Failure;
use super::names::Names;
use super::open::{self, OpenError};
use super::pools::Pools;
use super::{count, fleet, tls};
use crate::store::StoreError;
use crate::store::survey::{Content, Schema, Survey};

/// Looks at the database at `url` without changing it.
///
/// # Errors
/// When an API could not open it either.
pub async fn survey(url: &PostgresUrl, clock: &dyn Clock) -> Result<Survey, OpenError> {
    let target = url.target()?;
    let tls = tls::connector(&target.trust)?;
    let client = open::connect(&target, &tls).await?;
    open::check_version(&target, &client).await?;
    open::check_safety(&target, &client).await?;
    let version = open::ask(&target, &client, "SELECT current_setting('server_version')").await?;
    let (now, clock_ahead) = clocks(&target, &client, clock).await?;
    let (found, known) = open::schema(&target, &client).await?;
    let schema = Schema::new(found, known);
    let content = match schema {
        Schema::Known(_) => {
            let content = content(&Pools::new(&target, &tls)?, now).await.map_err(StoreError::from);
            let failed = |error: StoreError| OpenError::Refused { at: target.shown.clone(), reason: error.to_string() };
            Some(content.map_err(failed)?)
        }
        Schema::Missing | Schema::Older { .. } => {
            check_rights(&target, &client).await?;
            None
        }
        Schema::Newer { .. } => None,
    };
    let version = format!("PostgreSQL {version}");
    Ok(Survey { version, schema, clock_ahead: Some(clock_ahead), free: None, content })
}

async fn content(pools: &Pools, now: Time) -> Result<Content, Failure> {
    let client = &pools.read().await?;
    Ok(Content {
        now,
        workers: fleet::workers(client).await?,
        kinds: fleet::kinds(client).await?.into_iter().map(|known| known.name).collect(),
        backlog: count::backlog(client, &Names::default()).await?,
    })
}

/// The server's time, and how far it is before this machine's in milliseconds.
async fn clocks(target: &Target, client: &Client, clock: &dyn Clock) -> Result<(Time, i64), OpenError> {
    let before = clock.now().as_millis();
    let reading = open::read_clock(client).await.map_err(|error| open::failed(target, &error))?;
    let here = i64::midpoint(before, clock.now().as_millis());
    Ok((reading.told, reading.told.as_millis() - here))
}

/// Since PostgreSQL 15 nobody but a database's owner may make tables in it, unless told.
async fn check_rights(target: &Target, client: &Client) -> Result<(), OpenError> {
    let allowed = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)::text";
    if open::ask(target, client, allowed).await? == "true" {
        return Ok(());
    }
    let reason = "this user may not make tables: make it the owner of the database, or grant it CREATE on the schema";
    Err(OpenError::Refused { at: target.shown.clone(), reason: reason.into() })
}
