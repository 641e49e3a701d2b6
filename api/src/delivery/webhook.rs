use std::collections::{BTreeMap, BTreeSet};

use buzzer_shared::id::WebhookId;
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Time;
use serde::{Deserialize, Serialize};

use super::{Disabled, Health, Secrets, Why};
use crate::lifecycle::{Events, Job, LogType};

/// A webhook endpoint that a tenant has registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    pub id: WebhookId,
    pub url: String,
    pub wants: Wants,
    /// What it is for, in its owner's words.
    pub description: Option<String>,
    pub secrets: Secrets,
    pub health: Health,
    pub created_at: Time,
}

/// Which events an endpoint is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    pub events: Events,
    /// Of jobs of these kinds; of all, where it is empty.
    pub kinds: BTreeSet<Kind>,
    /// Of jobs that have all of these tags.
    pub tags: BTreeMap<String, String>,
}

impl Wants {
    pub fn want(&self, job: &Job, r#type: LogType) -> bool {
        self.want_of(&job.kind, &job.tags, r#type)
    }

    /// The same for an event of a job of this kind, with these tags.
    pub fn want_of(&self, kind: &Kind, tags: &BTreeMap<String, String>, r#type: LogType) -> bool {
        self.events.contain(r#type)
            && (self.kinds.is_empty() || self.kinds.contains(kind))
            && self.tags.iter().all(|(name, value)| tags.get(name) == Some(value))
    }
}

/// What is to be different about an endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    pub url: Option<String>,
    pub events: Option<Events>,
    pub kinds: Option<BTreeSet<Kind>>,
    pub tags: Option<BTreeMap<String, String>>,
    pub description: Option<Option<String>>,
    pub enabled: Option<bool>,
}

impl Edit {
    /// The endpoint as it is afterwards. One that is enabled, or lives elsewhere now, is not held to what was before.
    pub fn of(&self, mut webhook: Webhook, now: Time) -> Webhook {
        if let Some(url) = self.url.as_ref().filter(|url| **url != webhook.url) {
            webhook.url.clone_from(url);
            webhook.health = Health { disabled: webhook.health.disabled, ..Health::default() };
        }
        if let Some(events) = self.events {
            webhook.wants.events = events;
        }
        if let Some(kinds) = &self.kinds {
            webhook.wants.kinds.clone_from(kinds);
        }
        if let Some(tags) = &self.tags {
            webhook.wants.tags.clone_from(tags);
        }
        if let Some(description) = &self.description {
            webhook.description.clone_from(description);
        }
        match self.enabled {
            Some(true) if webhook.health.disabled.is_some() => webhook.health = Health::default(),
            Some(false) if webhook.health.disabled.is_none() => {
                webhook.health.disabled = Some(Disabled { at: now, why: Why::Owner });
            }
            _ => {}
        }
        webhook
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::{JobId, Tenant};
    use buzzer_shared::kind::KindSpec;
    use buzzer_shared::webhook::Secret;

    use super::*;

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    fn wants(kinds: &[&str], tags: &[(&str, &str)]) -> Wants {
        let tags = tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Wants { events: Events::ENDS, kinds: kinds.iter().map(|kind| kind.parse().unwrap()).collect(), tags }
    }

    fn webhook(health: Health) -> Webhook {
        Webhook {
            id: WebhookId::new(NOW),
            url: "https://a.example/".into(),
            wants: wants(&[], &[]),
            description: None,
            secrets: Secrets::new(Secret::of([1; 32])),
            health,
            created_at: NOW,
        }
    }

    #[test]
    fn an_event_must_fit_in_type_kind_and_every_tag() {
        let spec = KindSpec::any("echo".parse().unwrap());
        let mut job = Job::new(JobId::new(NOW), Tenant::default(), &spec, NOW);
        job.tags = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let fits = |wants: Wants| wants.want(&job, LogType::Succeeded);
        assert!(!wants(&[], &[]).want(&job, LogType::Started));
        for (kinds, tags, fit) in [
            (&[][..], &[][..], true),
            (&["other", "echo"], &[("a", "1")], true),
            (&[], &[("a", "1"), ("b", "2")], true),
            (&["other"], &[], false),
            (&[], &[("a", "2")], false),
            (&[], &[("a", "1"), ("c", "3")], false),
        ] {
            assert_eq!(fits(wants(kinds, tags)), fit, "{kinds:?} {tags:?}");
        }
    }

    #[test]
    fn who_is_enabled_again_begins_anew() {
        let disabled = Some(Disabled { at: NOW, why: Why::Failing });
        let failing = Health { failing_since: Some(NOW), paused_until: Some(NOW), slow: true, disabled };
        let edit = |edit: Edit, health| edit.of(webhook(health), NOW).health;
        let enable = Edit { enabled: Some(true), ..Edit::default() };
        assert_eq!(edit(enable.clone(), failing), Health::default());
        let alive = Health { disabled: None, ..failing };
        assert_eq!(edit(enable, alive), alive, "it was enabled");
        let disable = Edit { enabled: Some(false), ..Edit::default() };
        assert_eq!(edit(disable.clone(), failing), failing, "for the reason that it was");
        assert_eq!(edit(disable, alive).disabled, Some(Disabled { at: NOW, why: Why::Owner }));
        let moved = Edit { url: Some("https://b.example/".into()), ..Edit::default() };
        assert_eq!(edit(moved.clone(), alive), Health::default());
        assert_eq!(edit(moved, failing).disabled, disabled);
    }
}
