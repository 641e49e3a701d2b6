use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use buzzer_shared::id::Tenant;
use buzzer_shared::kind::Kind;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::error::Failure;
use super::row;
use crate::store::stored::{KIND, TENANT};

/// What is remembered of the small tables that every row points to. Names and their numbers never change once
/// committed, and only committed ones are remembered.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    kinds: HashMap<i64, Kind>,
    kind_ids: HashMap<Kind, i64>,
    tenants: HashMap<i64, Tenant>,
    tenant_ids: HashMap<Tenant, i64>,
    /// The rows of jobs that cannot be read, and were told.
    unreadable: HashSet<i64>,
}

impl Names {
    pub(super) fn kind(&self, id: i64) -> Result<Kind, Failure> {
        self.memory().kinds.get(&id).cloned().ok_or_else(|| Failure::Corrupt(format!("there is no kind {id}")))
    }

    pub(super) fn tenant(&self, id: i64) -> Result<Tenant, Failure> {
        self.memory().tenants.get(&id).cloned().ok_or_else(|| Failure::Corrupt(format!("there is no tenant {id}")))
    }

    /// The number of a kind that has one.
    pub(super) fn kept_kind(&self, kind: &Kind) -> Result<i64, Failure> {
        let id = self.memory().kind_ids.get(kind).copied();
        id.ok_or_else(|| Failure::Corrupt(format!("the kind {kind} has no number")))
    }

    /// The number of a tenant that has one.
    pub(super) fn kept_tenant(&self, tenant: &Tenant) -> Result<i64, Failure> {
        let id = self.memory().tenant_ids.get(tenant).copied();
        id.ok_or_else(|| Failure::Corrupt(format!("the tenant {:?} has no number", tenant.as_str())))
    }

    /// The number of a kind; `None` when nobody ever spoke of it.
    pub(super) async fn kind_id(&self, client: &impl GenericClient, kind: &Kind) -> Result<Option<i64>, Failure> {
        if let Some(id) = self.memory().kind_ids.get(kind) {
            return Ok(Some(*id));
        }
        let found = row::first(client, "SELECT id FROM kinds WHERE name = $1", &[&kind.as_str()]).await?;
        let Some(id) = found.map(|row| row.try_get(0)).transpose()? else { return Ok(None) };
        self.memory().remember_kind(id, kind);
        Ok(Some(id))
    }

    /// The number of a tenant; `None` when it never had a job.
    pub(super) async fn tenant_id(&self, client: &impl GenericClient, tenant: &Tenant) -> Result<Option<i64>, Failure> {
        if let Some(id) = self.memory().tenant_ids.get(tenant) {
            return Ok(Some(*id));
        }
        let found = row::first(client, "SELECT id FROM tenants WHERE name = $1", &[&tenant.as_str()]).await?;
        let Some(id) = found.map(|row| row.try_get(0)).transpose()? else { return Ok(None) };
        self.memory().remember_tenant(id, tenant);
        Ok(Some(id))
    }

    /// The number of a kind, given to it now if it has none. Not within a transaction: others wait for it.
    pub(super) async fn keep_kind(&self, client: &impl GenericClient, kind: &Kind) -> Result<i64, Failure> {
        if let Some(id) = self.kind_id(client, kind).await? {
            return Ok(id);
        }
        let insert = "INSERT INTO kinds (name) VALUES ($1) ON CONFLICT DO NOTHING";
        row::execute(client, insert, &[&kind.as_str()]).await?;
        self.kind_id(client, kind).await?.ok_or_else(|| Failure::Corrupt(format!("{kind} was not kept")))
    }

    /// The number of a tenant, given to it now if it has none. Not within a transaction: others wait for it.
    pub(super) async fn keep_tenant(&self, client: &impl GenericClient, tenant: &Tenant) -> Result<i64, Failure> {
        if let Some(id) = self.tenant_id(client, tenant).await? {
            return Ok(id);
        }
        let insert = "INSERT INTO tenants (name) VALUES ($1) ON CONFLICT DO NOTHING";
        row::execute(client, insert, &[&tenant.as_str()]).await?;
        let kept = self.tenant_id(client, tenant).await?;
        kept.ok_or_else(|| Failure::Corrupt(format!("{} was not kept", tenant.as_str())))
    }

    /// Learns the names that these rows of jobs point to.
    pub(super) async fn learn(&self, client: &impl GenericClient, rows: &[Row]) -> Result<(), Failure> {
        let (mut tenants, mut kinds) = (HashSet::new(), HashSet::new());
        {
            let memory = self.memory();
            for row in rows {
                let (tenant, kind): (i64, i64) = (row.try_get(TENANT)?, row.try_get(KIND)?);
                if !memory.tenants.contains_key(&tenant) {
                    tenants.insert(tenant);
                }
                if !memory.kinds.contains_key(&kind) {
                    kinds.insert(kind);
                }
            }
        }
        if !tenants.is_empty() {
            self.learn_tenants(client, tenants.into_iter().collect()).await?;
        }
        if !kinds.is_empty() {
            self.learn_kinds(client, kinds.into_iter().collect()).await?;
        }
        Ok(())
    }

    pub(super) async fn learn_tenants(&self, client: &impl GenericClient, ids: Vec<i64>) -> Result<(), Failure> {
        for row in row::query(client, "SELECT id, name FROM tenants WHERE id = ANY($1)", &[&ids]).await? {
            let name: &str = row.try_get(1)?;
            let tenant = Tenant::from_stored(name).map_err(|error| Failure::Corrupt(format!("{error}")))?;
            self.memory().remember_tenant(row.try_get(0)?, &tenant);
        }
        Ok(())
    }

    /// Every kind with its number.
    pub(super) async fn all_kinds(&self, client: &impl GenericClient) -> Result<Vec<(i64, Kind)>, Failure> {
        let ids = row::query(client, "SELECT id FROM kinds ORDER BY id", &[]).await?;
        let ids = ids.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        self.learn_kinds(client, ids.clone()).await?;
        ids.into_iter().map(|id| Ok((id, self.kind(id)?))).collect()
    }

    pub(super) async fn learn_kinds(&self, client: &impl GenericClient, ids: Vec<i64>) -> Result<(), Failure> {
        let unknown: Vec<i64> = {
            let memory = self.memory();
            ids.into_iter().filter(|id| !memory.kinds.contains_key(id)).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        for row in row::query(client, "SELECT id, name FROM kinds WHERE id = ANY($1)", &[&unknown]).await? {
            let name: String = row.try_get(1)?;
            match name.parse() {
                Ok(kind) => self.memory().remember_kind(row.try_get(0)?, &kind),
                Err(error) => tracing::error!(name, %error, "the store holds a kind with a name that is none"),
            }
        }
        Ok(())
    }

    /// Tells once that a job's row cannot be read.
    pub(super) fn unreadable(&self, n: i64, reason: &str) {
        if self.memory().unreadable.insert(n) {
            tracing::error!(row = n, reason, "a job cannot be read, and stays where it is; the others go on");
        }
    }

    /// The maps are whole after every operation, so a panic elsewhere cannot have left them broken.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn remember_kind(&mut self, id: i64, kind: &Kind) {
        self.kinds.insert(id, kind.clone());
        self.kind_ids.insert(kind.clone(), id);
    }

    fn remember_tenant(&mut self, id: i64, tenant: &Tenant) {
        self.tenants.insert(id, tenant.clone());
        self.tenant_ids.insert(tenant.clone(), id);
    }
}
