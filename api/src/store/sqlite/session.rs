use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::Tenant;
use buzzer_shared::kind::Kind;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params};

use super::webhooks;
use crate::store::StoreError;
use crate::store::stored::Hook;

/// A connection, and what it remembers of the small tables that every row points to.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    memory: RefCell<Memory>,
}

/// Names and their numbers never change once committed, so what is remembered stays true; what a transaction that
/// fails has added must be forgotten with it.
#[derive(Debug, Default)]
struct Memory {
    kinds: HashMap<i64, Kind>,
    kind_ids: HashMap<Kind, i64>,
    tenants: HashMap<i64, Tenant>,
    tenant_ids: HashMap<Tenant, i64>,
    feeds: HashMap<i64, Feed>,
    /// The webhooks that each tenant has enabled. Nobody else writes them.
    hooks: HashMap<i64, Arc<[Hook]>>,
    /// The rows of jobs that cannot be read, and were told.
    unreadable: HashSet<i64>,
}

/// The number of a tenant's newest event.
#[derive(Debug)]
struct Feed {
    last: i64,
    written: bool,
}

impl Session {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, memory: RefCell::default() }
    }

    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql)
    }

    /// Runs a statement that returns nothing; tells how many rows it changed.
    pub(super) fn execute(&self, sql: &'static str, params: impl Params) -> rusqlite::Result<usize> {
        self.prepare(sql)?.execute(params)
    }

    /// Tells once that a job's row cannot be read.
    pub(super) fn unreadable(&self, n: i64, reason: &str) {
        if self.memory.borrow_mut().unreadable.insert(n) {
            tracing::error!(row = n, reason, "a job cannot be read, and stays where it is; the others go on");
        }
    }

    pub(super) fn kind(&self, id: i64) -> Result<Kind, StoreError> {
        if let Some(kind) = self.memory.borrow().kinds.get(&id) {
            return Ok(kind.clone());
        }
        let name: String = self.prepare("SELECT name FROM kinds WHERE id = ?1")?.query_one([id], |row| row.get(0))?;
        let kind: Kind = name.parse().map_err(|error| StoreError::Corrupt(format!("{error}")))?;
        self.memory.borrow_mut().kinds.insert(id, kind.clone());
        Ok(kind)
    }

    pub(super) fn tenant(&self, id: i64) -> Result<Tenant, StoreError> {
        if let Some(tenant) = self.memory.borrow().tenants.get(&id) {
            return Ok(tenant.clone());
        }
        let name: String = self.prepare("SELECT name FROM tenants WHERE id = ?1")?.query_one([id], |row| row.get(0))?;
        let tenant = Tenant::from_stored(&name).map_err(|error| StoreError::Corrupt(format!("{error}")))?;
        self.memory.borrow_mut().tenants.insert(id, tenant.clone());
        Ok(tenant)
    }

    /// The number of a kind; `None` when nobody ever spoke of it.
    pub(super) fn kind_id(&self, kind: &Kind) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.memory.borrow().kind_ids.get(kind) {
            return Ok(Some(*id));
        }
        let id = self.prepare("SELECT id FROM kinds WHERE name = ?1")?.query_one([kind.as_str()], |row| row.get(0));
        let id = id.optional()?;
        if let Some(id) = id {
            self.memory.borrow_mut().kind_ids.insert(kind.clone(), id);
        }
        Ok(id)
    }

    /// The number of a tenant; `None` when it never had a job.
    pub(super) fn tenant_id(&self, tenant: &Tenant) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.memory.borrow().tenant_ids.get(tenant) {
            return Ok(Some(*id));
        }
        let id = self.prepare("SELECT id FROM tenants WHERE name = ?1")?.query_one([tenant.as_str()], |row| row.get(0));
        let id = id.optional()?;
        if let Some(id) = id {
            self.memory.borrow_mut().tenant_ids.insert(tenant.clone(), id);
        }
        Ok(id)
    }

    /// The number of a kind, given to it now if it has none.
    pub(super) fn keep_kind(&self, kind: &Kind) -> Result<i64, StoreError> {
        match self.kind_id(kind)? {
            Some(id) => Ok(id),
            None => {
                self.execute("INSERT INTO kinds (name) VALUES (?1)", [kind.as_str()])?;
                Ok(self.connection.last_insert_rowid())
            }
        }
    }

    /// The number of a tenant, given to it now if it has none.
    pub(super) fn keep_tenant(&self, tenant: &Tenant) -> Result<i64, StoreError> {
        match self.tenant_id(tenant)? {
            Some(id) => Ok(id),
            None => {
                self.execute("INSERT INTO tenants (name, feed) VALUES (?1, 0)", [tenant.as_str()])?;
                Ok(self.connection.last_insert_rowid())
            }
        }
    }

    /// The next number in a tenant's feed. Holds once [`Session::write_feeds`] has written it.
    pub(super) fn next_feed(&self, tenant: i64) -> Result<i64, StoreError> {
        if let Some(feed) = self.memory.borrow_mut().feeds.get_mut(&tenant) {
            feed.last += 1 + i64::from(bites(Fault::LoseFeedNumber));
            feed.written = false;
            return Ok(feed.last);
        }
        let last: i64 =
            self.prepare("SELECT feed FROM tenants WHERE id = ?1")?.query_one([tenant], |row| row.get(0))?;
        self.memory.borrow_mut().feeds.insert(tenant, Feed { last: last + 1, written: false });
        Ok(last + 1)
    }

    pub(super) fn write_feeds(&self) -> Result<(), StoreError> {
        for (tenant, feed) in self.memory.borrow_mut().feeds.iter_mut().filter(|(_, feed)| !feed.written) {
            self.execute("UPDATE tenants SET feed = ?2 WHERE id = ?1", [*tenant, feed.last])?;
            feed.written = true;
        }
        Ok(())
    }

    /// The webhooks that a tenant has enabled.
    pub(super) fn hooks(&self, tenant: i64) -> Result<Arc<[Hook]>, StoreError> {
        if let Some(hooks) = self.memory.borrow().hooks.get(&tenant) {
            return Ok(Arc::clone(hooks));
        }
        let hooks: Arc<[Hook]> = webhooks::enabled(self, tenant)?.into();
        self.memory.borrow_mut().hooks.insert(tenant, Arc::clone(&hooks));
        Ok(hooks)
    }

    /// The webhooks of a tenant have changed.
    pub(super) fn forget_hooks(&self, tenant: i64) {
        self.memory.borrow_mut().hooks.remove(&tenant);
    }

    /// Forgets all that may have come from a transaction which was rolled back.
    pub(super) fn forget(&self) {
        *self.memory.borrow_mut() = Memory::default();
    }
}
