use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use deadpool_postgres::GenericClient;

use super::error::Failure;
use super::webhooks;
use crate::store::stored::Hook;

/// The webhooks that tenants have enabled, as this replica last read them. A tenant's row says how often they have changed:
/// whoever holds that row knows whether these are still the ones.
#[derive(Debug, Default)]
pub(super) struct Hooks(Mutex<HashMap<i64, Known>>);

#[derive(Debug)]
struct Known {
    version: i64,
    hooks: Arc<[Hook]>,
}

impl Hooks {
    /// Those of a tenant whose row, which is locked, says that they have changed so often.
    pub(super) async fn of(
        &self,
        client: &impl GenericClient,
        tenant: i64,
        version: i64,
    ) -> Result<Arc<[Hook]>, Failure> {
        if let Some(hooks) = self.known(tenant, version) {
            return Ok(hooks);
        }
        let hooks: Arc<[Hook]> = webhooks::enabled(client, tenant).await?.into();
        let known = Known { version, hooks: Arc::clone(&hooks) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, known);
        Ok(hooks)
    }

    fn known(&self, tenant: i64, version: i64) -> Option<Arc<[Hook]>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&tenant).filter(|known| known.version == version).map(|known| Arc::clone(&known.hooks))
    }
}
