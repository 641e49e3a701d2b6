use buzzer_api::app;
use buzzer_api::auth::Secret;
use buzzer_api::config::StoreConfig;
use buzzer_api::store::{ApiKey, KeyId, KeyName, Scope};
use buzzer_shared::id::Tenant;
use buzzer_shared::time::{Clock, SystemClock};
use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::output::{self, plain};

/// Make, list and revoke API keys.
///
/// Works on the store itself, also while an API runs on it.
#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a key, and print it on standard output: this once, for only its hash is kept.
#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    store: StoreConfig,

    /// Whose jobs it gives access to: 1 to 63 characters of a-z, 0-9, `_` and `-`. A new name is a new tenant.
    #[arg(long, short, default_value_t)]
    tenant: Tenant,

    /// What it is for, in your own words; shown by `buzzer keys list`.
    #[arg(long, short)]
    name: Option<KeyName>,

    /// What else it allows: `operator` lets its owner see workers, numbers and parked messages, which belong to all tenants.
    /// May be repeated.
    #[arg(long, short)]
    scope: Vec<Scope>,
}

/// List all keys, the oldest first.
#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    store: StoreConfig,
}

/// Revoke a key: nobody gets in with it any more, after 5 s at most. Requests that were let in before are answered.
#[derive(Debug, Args)]
struct Revoke {
    /// The key's id, as the list has it.
    id: KeyId,

    #[command(flatten)]
    store: StoreConfig,
}

impl Keys {
    pub async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Create(create) => create.run().await,
            Command::List(list) => list.run().await,
            Command::Revoke(revoke) => revoke.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let Self { store, tenant, name, scope } = self;
        let store = store.address();
        let keyring = app::keyring_or_new(store).await?;
        let secret = Secret::random()?;
        let scopes = scope.into_iter().collect();
        let key = ApiKey { hash: secret.hash(), tenant, name, scopes, created_at: SystemClock.now(), revoked_at: None };
        keyring.keep_api_key(&key).await?;
        output::tell(&format!("key {} of tenant {}, in {store}; it is not shown again:", key.id(), key.tenant));
        Ok(output::line(secret.reveal())?)
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let store = self.store.address();
        let keys = app::keyring(store).await?.api_keys().await?;
        if keys.is_empty() {
            output::hint(&format!("No keys in {store}."));
            return Ok(());
        }
        Ok(output::line(table(&keys))?)
    }
}

impl Revoke {
    async fn run(self) -> Result<(), Failure> {
        let Self { id, store } = self;
        let store = store.address();
        let revoked = app::keyring(store).await?.revoke_api_key(&id, SystemClock.now()).await?;
        let key = revoked.ok_or_else(|| {
            Failure::Usage(format!("there is no key {id} in {store}; `buzzer keys list` shows those there are"))
        })?;
        Ok(output::line(format!("{}  revoked", key.id()))?)
    }
}

fn table(keys: &[ApiKey]) -> String {
    let or_dash = |text: String| if text.is_empty() { "-".into() } else { text };
    let rows = keys.iter().map(|key| {
        [
            key.id().to_string(),
            key.tenant.to_string(),
            or_dash(key.scopes.to_string()),
            key.created_at.to_string(),
            key.revoked_at.map_or_else(|| "-".into(), |at| at.to_string()),
            key.name.as_ref().map_or_else(String::new, |name| plain(name.as_str())),
        ]
    });
    output::table(["ID", "TENANT", "SCOPES", "CREATED", "REVOKED", "NAME"], rows)
}

#[cfg(test)]
mod tests {
    use buzzer_api::store::{KeyHash, Scopes};
    use buzzer_shared::time::Time;

    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_key() {
        let at = Time::from_millis(1_795_000_000_000);
        let plain = ApiKey {
            hash: KeyHash::of("abc"),
            tenant: Tenant::default(),
            name: None,
            scopes: Scopes::default(),
            created_at: at,
            revoked_at: Some(at),
        };
        let operator = ApiKey {
            tenant: "shop".parse().unwrap(),
            name: Some("web server".parse().unwrap()),
            scopes: [Scope::Operator].into_iter().collect(),
            revoked_at: None,
            ..plain.clone()
        };
        let text = table(&[plain, operator]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        let moment = at.to_string();
        assert_eq!(lines[1], ["ba7816bf8f01", "default", "-", &moment, &moment]);
        assert_eq!(lines[2], ["ba7816bf8f01", "shop", "operator", &moment, "-", "web", "server"]);
    }
}
