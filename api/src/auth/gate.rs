use std::sync::Arc;

use buzzer_shared::id::Tenant;
use buzzer_shared::time::Clock;
use http::request::Parts;

use super::caller::Reach;
use super::credentials::Credentials;
use super::recent::Recent;
use super::{Caller, Secret, TicketSecret, Viewer};
use crate::problem::ApiError;
use crate::store::{KeyHash, Keyring, Scope, Ticket, TicketHash, Tickets};

/// How callers are let in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None: everybody is let in, as the default tenant and as the operator.
    keys: Option<Keys>,
    tickets: KnownTickets,
    clock: Arc<dyn Clock>,
}

impl Gate {
    /// One that asks for the keys in this store, or for a ticket.
    pub fn of(keyring: Arc<dyn Keyring>, tickets: Arc<dyn Tickets>, clock: Arc<dyn Clock>) -> Self {
        Self::with(Some(Keys { keyring, recent: Recent::default() }), tickets, clock)
    }

    /// One that lets everybody in. A ticket is looked at all the same: what works without keys should work with them.
    pub fn open(tickets: Arc<dyn Tickets>, clock: Arc<dyn Clock>) -> Self {
        Self::with(None, tickets, clock)
    }

    fn with(keys: Option<Keys>, tickets: Arc<dyn Tickets>, clock: Arc<dyn Clock>) -> Self {
        let tickets = KnownTickets { tickets, recent: Recent::default() };
        Self(Arc::new(Inner { keys, tickets, clock }))
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        self.0.keys.is_none()
    }

    /// Who sends this request.
    ///
    /// # Errors
    /// When it has no key that is known and not revoked, or the store does not answer.
    pub async fn caller(&self, request: &Parts) -> Result<Caller, ApiError> {
        match (Credentials::of(request)?, &self.0.keys) {
            (Credentials::Ticket(_), _) => Err(ApiError::TicketNotTaken),
            (_, None) => Ok(Caller { tenant: Tenant::default(), operator: true, key: None }),
            (Credentials::Nothing, Some(_)) => Err(ApiError::NoKey),
            (Credentials::Key(text), Some(keys)) => {
                // What cannot be a key is not worth a question to the store.
                let secret: Secret = text.parse().map_err(|_| ApiError::UnknownKey)?;
                keys.caller(&secret.hash()).await?.ok_or(ApiError::UnknownKey)
            }
        }
    }

    /// Who looks by this request.
    ///
    /// # Errors
    /// When it has neither a key nor a ticket that is good, or the store does not answer.
    pub async fn viewer(&self, request: &Parts) -> Result<Viewer, ApiError> {
        match Credentials::of(request)? {
            Credentials::Ticket(text) => {
                let secret: TicketSecret = text.parse().map_err(|_| ApiError::UnknownTicket)?;
                self.holder(&secret.hash()).await?.ok_or(ApiError::UnknownTicket)
            }
            Credentials::Nothing | Credentials::Key(_) => {
                Ok(Viewer { caller: self.caller(request).await?, reach: Reach::Everything })
            }
        }
    }

    /// Who has this ticket, as whom its key would let in. One that was made without a key is good where nobody needs one.
    async fn holder(&self, hash: &TicketHash) -> Result<Option<Viewer>, ApiError> {
        let Inner { keys, tickets, clock } = &*self.0;
        let Some(ticket) = tickets.find(hash).await?.filter(|ticket| ticket.is_good(clock.now())) else {
            return Ok(None);
        };
        let caller = match (keys, &ticket.key) {
            (None, None) => Some(Caller { tenant: Tenant::default(), operator: false, key: None }),
            (Some(keys), Some(key)) => keys.caller(key).await?.map(|caller| Caller { operator: false, ..caller }),
            (None, Some(_)) | (Some(_), None) => None,
        };
        let reach = ticket.job.map_or(Reach::LooksAtAll, Reach::LooksAt);
        Ok(caller.map(|caller| Viewer { caller, reach }))
    }

    /// What shows later whether this caller would still be let in.
    pub fn pass(&self, caller: &Caller) -> Pass {
        Pass(caller.key.map(|key| (self.clone(), key)))
    }
}

/// What a caller was let in by, for an answer that takes longer than keys are good for. Of a ticket its key counts: who was
/// let in before it expired may stay.
#[derive(Debug, Default)]
pub struct Pass(Option<(Gate, KeyHash)>);

impl Pass {
    /// Whether its owner would still be let in. As long as the store does not answer, it is taken as good.
    pub async fn is_good(&self) -> bool {
        let Some((gate, key)) = &self.0 else { return true };
        let Some(keys) = &gate.0.keys else { return true };
        keys.caller(key).await.map_or(true, |caller| caller.is_some())
    }
}

/// The keys of a store, and those that were used of late. Only hashes are kept and compared.
#[derive(Debug)]
struct Keys {
    keyring: Arc<dyn Keyring>,
    recent: Recent<KeyHash, Caller>,
}

impl Keys {
    async fn caller(&self, hash: &KeyHash) -> Result<Option<Caller>, ApiError> {
        let found = self.recent.or_find(hash, async {
            let found = self.keyring.api_key(hash).await?.filter(|key| key.revoked_at.is_none());
            Ok(found.map(|key| Caller {
                operator: key.scopes.contain(Scope::Operator),
                tenant: key.tenant,
                key: Some(*hash),
            }))
        });
        Ok(found.await?)
    }
}

/// The tickets of a store, and those that were used of late.
#[derive(Debug)]
struct KnownTickets {
    tickets: Arc<dyn Tickets>,
    recent: Recent<TicketHash, Ticket>,
}

impl KnownTickets {
    /// The ticket with this hash, which may have expired.
    async fn find(&self, hash: &TicketHash) -> Result<Option<Ticket>, ApiError> {
        Ok(self.recent.or_find(hash, self.tickets.ticket(hash)).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use async_trait::async_trait;
    use buzzer_shared::id::JobId;
    use buzzer_shared::time::{ManualClock, Time};
    use http::{Request, header};

    use super::*;
    use crate::store::{ApiKey, Issued, KeyId, Scopes, StoreError};

    const KEY: &str = "bz_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER: &str = "bz_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";
    const TICKET: &str = "bt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const OTHER_TICKET: &str = "bt_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA";
    const NOW: Time = Time::from_millis(1_795_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    /// Has one key and one ticket, and fails when there is none left of the answers that it may give.
    #[derive(Debug)]
    struct Small {
        key: ApiKey,
        ticket: Ticket,
        answers: AtomicUsize,
    }

    impl Small {
        fn answer(&self) -> Result<(), StoreError> {
            let left = self.answers.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
            left.map(|_| ()).map_err(|_| StoreError::Unavailable("it is away".into()))
        }
    }

    #[async_trait]
    impl Keyring for Small {
        async fn api_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError> {
            self.answer()?;
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

    #[async_trait]
    impl Tickets for Small {
        async fn ticket(&self, hash: &TicketHash) -> Result<Option<Ticket>, StoreError> {
            self.answer()?;
            Ok(Some(self.ticket.clone()).filter(|ticket| ticket.hash == *hash))
        }

        async fn keep_ticket(&self, _: &Ticket, _: usize, _: Time) -> Result<Issued, StoreError> {
            unreachable!("nobody makes tickets here")
        }

        async fn forget_tickets(&self, _: Time, _: usize) -> Result<usize, StoreError> {
            unreachable!("nobody forgets tickets here")
        }
    }

    /// What a store of a test has, and how often it answers.
    struct Given {
        revoked_at: Option<Time>,
        /// What the ticket was made with.
        made_with: Option<&'static str>,
        only: Option<JobId>,
        answers: usize,
    }

    impl Given {
        fn answers(answers: usize) -> Self {
            Self { revoked_at: None, made_with: Some(KEY), only: None, answers }
        }

        fn store(self) -> (Arc<Small>, Arc<ManualClock>) {
            let (hash, tenant, created_at) = (KeyHash::of(KEY), "shop".parse().unwrap(), Time::from_millis(0));
            let (scopes, revoked_at) = (Scopes::from_iter([Scope::Operator]), self.revoked_at);
            let key = ApiKey { hash, tenant, name: None, scopes, created_at, revoked_at };
            let (hash, made_with) = (TicketHash::of(TICKET), self.made_with.map(KeyHash::of));
            let ticket = Ticket { hash, key: made_with, job: self.only, expires_at: NOW + MINUTE };
            (Arc::new(Small { key, ticket, answers: self.answers.into() }), Arc::new(ManualClock::at(NOW)))
        }

        fn gate(self) -> Gate {
            self.gate_and_clock().0
        }

        fn gate_and_clock(self) -> (Gate, Arc<ManualClock>) {
            let (store, clock) = self.store();
            (Gate::of(Arc::<Small>::clone(&store), store, Arc::<ManualClock>::clone(&clock)), clock)
        }

        fn open_gate(self) -> Gate {
            let (store, clock) = self.store();
            Gate::open(store, clock)
        }
    }

    fn with_key(key: &str) -> Parts {
        let request = Request::builder().header(header::AUTHORIZATION, format!("Bearer {key}"));
        request.body(()).unwrap().into_parts().0
    }

    fn with_ticket(ticket: &str) -> Parts {
        Request::builder().uri(format!("/?ticket={ticket}")).body(()).unwrap().into_parts().0
    }

    fn with_nothing() -> Parts {
        Request::new(()).into_parts().0
    }

    fn owner(operator: bool) -> Caller {
        Caller { tenant: "shop".parse().unwrap(), operator, key: Some(KeyHash::of(KEY)) }
    }

    #[tokio::test]
    async fn a_key_tells_who_asks_and_the_store_is_asked_once() {
        let gate = Given::answers(1).gate();
        for _ in 0..2 {
            assert_eq!(gate.caller(&with_key(KEY)).await.unwrap(), owner(true));
            assert_eq!(
                gate.viewer(&with_key(KEY)).await.unwrap(),
                Viewer { caller: owner(true), reach: Reach::Everything }
            );
        }
        assert!(matches!(gate.caller(&with_nothing()).await, Err(ApiError::NoKey)));
        assert!(matches!(gate.viewer(&with_nothing()).await, Err(ApiError::NoKey)));
    }

    #[tokio::test]
    async fn an_unknown_key_is_asked_for_once_and_a_revoked_one_is_unknown() {
        let gate = Given::answers(1).gate();
        for _ in 0..2 {
            assert!(matches!(gate.caller(&with_key(OTHER)).await, Err(ApiError::UnknownKey)));
        }
        let away = gate.caller(&with_key(KEY)).await;
        assert!(matches!(away, Err(ApiError::StoreUnavailable(_))), "the store is away, not the key");
        let gate = Given { revoked_at: Some(NOW), ..Given::answers(1) }.gate();
        for _ in 0..2 {
            assert!(matches!(gate.caller(&with_key(KEY)).await, Err(ApiError::UnknownKey)));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_key_or_a_ticket_is_refused_without_the_store() {
        let gate = Given::answers(0).gate();
        for text in ["bz_a", "order-4711", &KEY[1..], &format!("{KEY}A"), TICKET] {
            assert!(matches!(gate.caller(&with_key(text)).await, Err(ApiError::UnknownKey)), "{text}");
        }
        for text in ["bt_a", &TICKET[1..], &format!("{TICKET}A"), KEY] {
            assert!(matches!(gate.viewer(&with_ticket(text)).await, Err(ApiError::UnknownTicket)), "{text}");
        }
        let asked = [gate.caller(&with_key(KEY)).await.err(), gate.viewer(&with_ticket(TICKET)).await.err()];
        assert!(asked.iter().all(|error| matches!(error, Some(ApiError::StoreUnavailable(_)))), "{asked:?}");
    }

    #[tokio::test]
    async fn a_ticket_lets_look_as_its_key_until_it_expires() {
        let (gate, clock) = Given::answers(2).gate_and_clock();
        for _ in 0..2 {
            let viewer = gate.viewer(&with_ticket(TICKET)).await.unwrap();
            assert_eq!(
                viewer,
                Viewer { caller: owner(false), reach: Reach::LooksAtAll },
                "and nobody is an operator by it"
            );
        }
        clock.advance(MINUTE - Duration::from_millis(1));
        assert!(gate.viewer(&with_ticket(TICKET)).await.is_ok());
        clock.advance(Duration::from_millis(1));
        assert!(matches!(gate.viewer(&with_ticket(TICKET)).await, Err(ApiError::UnknownTicket)));
    }

    #[tokio::test]
    async fn an_unknown_ticket_is_asked_for_once() {
        let gate = Given::answers(1).gate();
        for _ in 0..2 {
            assert!(matches!(gate.viewer(&with_ticket(OTHER_TICKET)).await, Err(ApiError::UnknownTicket)));
        }
        let away = gate.viewer(&with_ticket(TICKET)).await;
        assert!(matches!(away, Err(ApiError::StoreUnavailable(_))), "the store is away, not the ticket");
    }

    #[tokio::test]
    async fn a_ticket_is_good_by_the_key_that_it_was_made_with_alone() {
        let refused =
            async |gate: Gate| matches!(gate.viewer(&with_ticket(TICKET)).await, Err(ApiError::UnknownTicket));
        assert!(refused(Given { revoked_at: Some(NOW), ..Given::answers(2) }.gate()).await, "that is revoked");
        assert!(refused(Given { made_with: Some(OTHER), ..Given::answers(2) }.gate()).await, "that is gone");
        assert!(refused(Given { made_with: None, ..Given::answers(2) }.gate()).await, "it had none, and now needs one");
        assert!(refused(Given::answers(2).open_gate()).await, "nobody looks whether its key is good here");
        let open = Given { made_with: None, ..Given::answers(2) }.open_gate();
        let viewer = open.viewer(&with_ticket(TICKET)).await.unwrap();
        let caller = viewer.of_all().unwrap();
        assert_eq!((&caller.tenant, caller.operator), (&Tenant::default(), false));
    }

    #[tokio::test]
    async fn a_ticket_for_one_job_opens_that_one_alone() {
        let (only, other) = (JobId::new(NOW), JobId::new(NOW + MINUTE));
        let gate = Given { only: Some(only), ..Given::answers(2) }.gate();
        let viewer = gate.viewer(&with_ticket(TICKET)).await.unwrap();
        assert_eq!(viewer.of_job(only).unwrap(), &owner(false));
        assert!(matches!(viewer.of_job(other), Err(ApiError::TicketForOneJob(of)) if of == only));
        assert!(matches!(viewer.of_all(), Err(ApiError::TicketForOneJob(of)) if of == only));
    }

    #[tokio::test]
    async fn only_who_has_a_key_does_more_than_look() {
        for only in [None, Some(JobId::new(NOW))] {
            let gate = Given { only, ..Given::answers(3) }.gate();
            let looks = gate.viewer(&with_ticket(TICKET)).await.unwrap();
            assert!(matches!(looks.to_act(), Err(ApiError::TicketNotTaken)), "{only:?}");
            let acts = gate.viewer(&with_key(KEY)).await.unwrap();
            assert_eq!(acts.to_act().unwrap(), &owner(true));
        }
    }

    #[tokio::test]
    async fn a_ticket_is_no_key() {
        for gate in [Given::answers(2).gate(), Given::answers(2).open_gate()] {
            assert!(matches!(gate.caller(&with_ticket(TICKET)).await, Err(ApiError::TicketNotTaken)));
            let mut both = with_ticket(TICKET);
            both.headers = with_key(KEY).headers;
            assert!(matches!(gate.caller(&both).await, Err(ApiError::BadQuery(_))));
            assert!(matches!(gate.viewer(&both).await, Err(ApiError::BadQuery(_))));
        }
    }

    #[tokio::test]
    async fn a_pass_is_good_as_long_as_its_key_is() {
        assert!(Given::answers(1).gate().pass(&owner(true)).is_good().await);
        let revoked = Given { revoked_at: Some(NOW), ..Given::answers(1) }.gate();
        assert!(!revoked.pass(&owner(true)).is_good().await);
        assert!(Given::answers(0).gate().pass(&owner(true)).is_good().await, "the store is away, not the key");
        let open = Given::answers(0).open_gate();
        assert!(open.pass(&open.caller(&with_nothing()).await.unwrap()).is_good().await);
        assert!(Pass::default().is_good().await);
    }
}
