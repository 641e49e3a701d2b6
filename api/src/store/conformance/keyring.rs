use std::sync::Arc;

use buzzer_shared::id::Tenant;

use super::{NOW, after, draft, keep};
use crate::store::{ApiKey, KeyHash, Scope, Scopes, Store, StoreError};

fn key(text: &str) -> ApiKey {
    let (hash, tenant) = (KeyHash::of(text), Tenant::default());
    ApiKey { hash, tenant, name: None, scopes: Scopes::default(), created_at: NOW, revoked_at: None }
}

pub async fn an_api_key_is_found_by_its_hash_and_revoked_by_its_id(store: Arc<dyn Store>) {
    let plain = key("bz_plain");
    let whole = ApiKey {
        tenant: "shop".parse().unwrap(),
        name: Some("the shop's web server ☂".parse().unwrap()),
        scopes: Scopes::from_iter([Scope::Operator]),
        created_at: after(1),
        ..key("bz_whole")
    };
    assert_eq!(store.api_keys().await.unwrap(), []);
    store.keep_api_key(&whole).await.unwrap();
    store.keep_api_key(&plain).await.unwrap();
    assert_eq!(store.api_key(&whole.hash).await.unwrap().as_ref(), Some(&whole));
    assert_eq!(store.api_key(&KeyHash::of("bz_other")).await.unwrap(), None);
    assert_eq!(store.api_keys().await.unwrap(), [plain.clone(), whole.clone()], "the oldest first");

    let revoked = ApiKey { revoked_at: Some(after(5)), ..whole.clone() };
    assert_eq!(store.revoke_api_key(&whole.id(), after(5)).await.unwrap().as_ref(), Some(&revoked));
    let again = store.revoke_api_key(&whole.id(), after(9)).await.unwrap();
    assert_eq!(again.as_ref(), Some(&revoked), "once");
    assert_eq!(store.revoke_api_key(&KeyHash::of("bz_other").id(), after(9)).await.unwrap(), None);
    assert_eq!(store.api_key(&whole.hash).await.unwrap().as_ref(), Some(&revoked));
    assert_eq!(store.api_keys().await.unwrap(), [plain, revoked], "it alone");
}

pub async fn the_same_api_key_is_not_kept_twice(store: Arc<dyn Store>) {
    let first = key("bz_same");
    store.keep_api_key(&first).await.unwrap();
    let second = ApiKey { tenant: "other".parse().unwrap(), ..first.clone() };
    assert!(matches!(store.keep_api_key(&second).await, Err(StoreError::Corrupt(_))));
    assert_eq!(store.api_keys().await.unwrap(), [first]);
}

pub async fn a_tenant_may_have_an_api_key_before_its_first_job(store: Arc<dyn Store>) {
    let tenant: Tenant = "new".parse().unwrap();
    store.keep_api_key(&ApiKey { tenant: tenant.clone(), ..key("bz_new") }).await.unwrap();
    let job = keep(&*store, crate::lifecycle::Job { tenant: tenant.clone(), ..draft("echo") }).await;
    assert_eq!(store.job(&tenant, job.id).await.unwrap(), Some(job));
}
