use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use buzzer_shared::id::Tenant;
use http::{HeaderMap, header};

use super::{Caller, Secret};
use crate::problem::ApiError;
use crate::store::{KeyHash, Keyring, Scope};

/// How long a key that was found is not looked for again; so long at most does one that is revoked go on to work.
const LIFE: Duration = Duration::from_secs(5);

/// How many keys are remembered at most. Others are looked for each time.
const REMEMBERED: usize = 4096;

/// How callers are let in. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Gate {
    /// Everybody is let in, as the default tenant and as the operator.
    Open,
    /// Who has a key.
    Keys(Arc<Keys>),
}

impl Gate {
    /// One that asks for the keys in this store.
    pub fn of(keyring: Arc<dyn Keyring>) -> Self {
        Self::Keys(Arc::new(Keys { keyring, recent: Mutex::default() }))
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// When it has no key that is known and not revoked, or the store does not answer.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        match self {
            Self::Open => Ok(Caller { tenant: Tenant::default(), operator: true }),
            Self::Keys(keys) => {
                // What cannot be a key is not worth a question to the store.
                let secret: Secret =
                    bearer(headers).ok_or(ApiError::NoKey)?.parse().map_err(|_| ApiError::UnknownKey)?;
                keys.caller(&secret.hash()).await?.ok_or(ApiError::UnknownKey)
            }
        }
    }
}

/// What a caller was let in by, for an answer that takes longer than keys are good for.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    /// Of the key that was sent, if one was.
    key: Option<KeyHash>,
}

impl Pass {
    pub(crate) fn of(gate: Gate, headers: &HeaderMap) -> Self {
        Self { gate, key: bearer(headers).map(KeyHash::of) }
    }

    /// Whether its owner would still be let in. As long as the store does not answer, it is taken as good.
    pub async fn is_good(&self) -> bool {
        match (&self.gate, &self.key) {
            (Gate::Open, _) => true,
            (Gate::Keys(_), None) => false,
            (Gate::Keys(keys), Some(key)) => keys.caller(key).await.map_or(true, |caller| caller.is_some()),
        }
    }
}

/// What follows `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The keys of a store, and those that were used of late. Only hashes are kept and compared.
#[derive(Debug)]
pub struct Keys {
    keyring: Arc<dyn Keyring>,
    recent: Mutex<Recent>,
}

impl Keys {
    async fn caller(&self, hash: &KeyHash) -> Result<Option<Caller>, ApiError> {
        // Before the store is asked: what is revoked meanwhile must not live longer for it.
        let now = Instant::now();
        if let Some(caller) = self.recent().get(hash, now) {
            return Ok(Some(caller));
        }
        let found = self.keyring.api_key(hash).await?.filter(|key| key.revoked_at.is_none());
        Ok(found.map(|key| {
            let caller = Caller { operator: key.scopes.contain(Scope::Operator), tenant: key.tenant };
            self.recent().remember(*hash, caller.clone(), now);
            caller
        }))
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Callers by the hashes of their keys, each until its time is over. Unknown keys are not among them: there are more of
/// those than anybody could remember.
#[derive(Debug, Default)]
struct Recent(HashMap<KeyHash, (Caller, Instant)>);

impl Recent {
    fn get(&self, hash: &KeyHash, now: Instant) -> Option<Caller> {
        self.0.get(hash).filter(|(_, until)| now < *until).map(|(caller, _)| caller.clone())
    }

    fn remember(&mut self, hash: KeyHash, caller: Caller, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(hash, (caller, now + LIFE));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    use async_trait::async_trait;
    use buzzer_shared::time::Time;

    use super::*;
    use crate::store::{ApiKey, KeyId, Scopes, StoreError};

    const KEY: &str = "bz_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "bz_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";

    fn caller(tenant: &str) -> Caller {
        Caller { tenant: tenant.parse().unwrap(), operator: false }
    }

    #[test]
    fn a_caller_is_remembered_for_five_seconds() {
        let (mut recent, now, hash) = (Recent::default(), Instant::now(), KeyHash::of("a"));
        assert_eq!(recent.get(&hash, now), None);
        recent.remember(hash, caller("shop"), now);
        assert_eq!(recent.get(&hash, now + LIFE.mul_f64(0.99)), Some(caller("shop")));
        assert_eq!(recent.get(&KeyHash::of("b"), now), None);
        assert_eq!(recent.get(&hash, now + LIFE), None);
    }

    #[test]
    fn only_so_many_are_remembered_and_those_whose_time_is_over_make_room() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for n in 0..=REMEMBERED {
            recent.remember(KeyHash::of(&n.to_string()), caller("shop"), now);
        }
        let late = KeyHash::of(&REMEMBERED.to_string());
        assert_eq!((recent.0.len(), recent.get(&late, now)), (REMEMBERED, None));
        recent.remember(late, caller("late"), now + LIFE);
        assert_eq!((recent.0.len(), recent.get(&late, now + LIFE)), (1, Some(caller("late"))));
    }

    /// Has one key, and fails when there is none left of the answers that it may give.
    #[derive(Debug)]
    struct Small {
        key: ApiKey,
        answers: AtomicUsize,
    }

    #[async_trait]
    impl Keyring for Small {
        async fn api_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
            let left = self.answers.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            left.map_err(|_| StoreError::Unavailable("it is away".into()))?;
            Ok(Some(self.key.clone()).filter(|key| key.hash == *hash))
        }

        async fn keep_api_key(&self, _: &ApiKey) -> Result<(), StoreError> {
            unreachable!("nobody makes keys here")
        }

        async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
            unreachable!("nobody lists keys here")
        }

        async fn revoke_api_key(&self, _: &KeyId, _: Time) -> Result<Option<ApiKey>, StoreError> {
            unreachable!("nobody revokes keys here")
        }
    }

    fn small(revoked_at: Option<Time>, answers: usize) -> Gate {
        let (hash, tenant, created_at) = (KeyHash::of(KEY), "shop".parse().unwrap(), Time::from_millis(0));
        let scopes = Scopes::from_iter([Scope::Operator]);
        let key = ApiKey { hash, tenant, name: None, scopes, created_at, revoked_at };
        Gate::of(Arc::new(Small { key, answers: answers.into() }))
    }

    async fn asks(gate: &Gate, key: &str) -> Result<Caller, ApiError> {
        let value = format!("Bearer {key}").parse().unwrap();
        gate.caller(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).await
    }

    #[tokio::test]
    async fn a_key_tells_who_asks_and_the_store_is_asked_once() {
        let gate = small(None, 1);
        let owner = Caller { tenant: "shop".parse().unwrap(), operator: true };
        assert_eq!(asks(&gate, KEY).await.unwrap(), owner);
        assert_eq!(asks(&gate, KEY).await.unwrap(), owner);
        assert!(matches!(gate.caller(&HeaderMap::new()).await, Err(ApiError::NoKey)));
    }

    #[tokio::test]
    async fn an_unknown_key_is_asked_for_each_time_and_a_revoked_one_is_unknown() {
        let gate = small(None, 2);
        assert!(matches!(asks(&gate, OTHER).await, Err(ApiError::UnknownKey)));
        assert!(matches!(asks(&gate, OTHER).await, Err(ApiError::UnknownKey)));
        assert!(
            matches!(asks(&gate, OTHER).await, Err(ApiError::StoreUnavailable(_))),
            "the store is away, not the key"
        );
        assert!(matches!(asks(&small(Some(Time::from_millis(1)), 1), KEY).await, Err(ApiError::UnknownKey)));
    }

    #[tokio::test]
    async fn what_cannot_be_a_key_is_refused_without_the_store() {
        let gate = small(None, 0);
        for text in ["bz_a", "order-4711", &KEY[1..], &format!("{KEY}A")] {
            assert!(matches!(asks(&gate, text).await, Err(ApiError::UnknownKey)), "{text}");
        }
        assert!(matches!(asks(&gate, KEY).await, Err(ApiError::StoreUnavailable(_))), "this one is asked for");
    }

    #[tokio::test]
    async fn a_pass_is_good_as_long_as_its_key_is() {
        let headers =
            |key: &str| HeaderMap::from_iter([(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap())]);
        assert!(Pass::of(small(None, 1), &headers(KEY)).is_good().await);
        assert!(!Pass::of(small(Some(Time::from_millis(1)), 1), &headers(KEY)).is_good().await);
        assert!(!Pass::of(small(None, 1), &HeaderMap::new()).is_good().await);
        assert!(Pass::of(small(None, 0), &headers(KEY)).is_good().await, "the store is away, not the key");
        assert!(Pass::of(Gate::Open, &HeaderMap::new()).is_good().await);
    }

    #[test]
    fn a_key_follows_the_word_bearer() {
        let found = |value: &str| {
            let value = value.parse().unwrap();
            bearer(&HeaderMap::from_iter([(header::AUTHORIZATION, value)])).map(ToOwned::to_owned)
        };
        for good in ["Bearer bz_a", "bearer bz_a", "BEARER   bz_a "] {
            assert_eq!(found(good).as_deref(), Some("bz_a"), "{good}");
        }
        for bad in ["bz_a", "Basic bz_a", "Bearer", "Bearer ", "Bearerbz_a"] {
            assert_eq!(found(bad), None, "{bad}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
