//! Names of single things: a job, one sending-out of it, a worker, a webhook endpoint, a delivery, a tenant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Time;

/// A job. A UUIDv7: its first 48 bits are the millisecond in which the job was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new id for a job accepted at `now`. Ids of one process rise, also within a millisecond.
    pub fn new(now: Time) -> Self {
        static CONTEXT: std::sync::Mutex<uuid::ContextV7> = std::sync::Mutex::new(uuid::ContextV7::new());
        let millis = now.as_millis().max(0).unsigned_abs();
        let nanos = u32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(&CONTEXT, millis / 1000, nanos)))
    }

    /// The bytes a store keeps.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// When the job was accepted, as its id says. `None` for a UUID of another version.
    pub fn accepted_at(&self) -> Option<Time> {
        if self.0.get_version_num() != 7 {
            return None;
        }
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        let seconds = i64::try_from(seconds).ok()?;
        Some(Time::from_millis(seconds * 1000 + i64::from(nanos / 1_000_000)))
    }
}

impl From<Uuid> for JobId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { text: text.into(), expected: "a UUID" })
    }
}

/// One sending-out of a job, written `{job}/{dispatch}`; the `message_id` of its request and of its outcome.
///
/// `dispatch` rises by one whenever the job is claimed for sending. It is the fence: a failure counts only when it
/// comes from the current dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId {
    pub job: JobId,
    pub dispatch: u32,
}

impl RunId {
    pub const PATTERN: &'static str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9]+$";
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.dispatch)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId { text: text.into(), expected: "{job}/{dispatch}" };
        let (job, dispatch) = text.split_once('/').ok_or_else(invalid)?;
        Ok(Self { job: job.parse().map_err(|_| invalid())?, dispatch: dispatch.parse().map_err(|_| invalid())? })
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for RunId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RunId".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": Self::PATTERN,
            "description": "One sending-out of a job: `{job}/{dispatch}`",
            "examples": ["019ab4a6-2c00-7000-8000-000000000000/1"],
        })
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Declares the id of another thing: a UUIDv7, written with hyphens.
macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident, $made:literal;)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            #[doc = concat!("A new id for ", $made, " at `now`.")]
            pub fn new(now: Time) -> Self {
                Self(JobId::new(now).0)
            }

            /// The bytes a store keeps.
            pub fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { text: text.into(), expected: "a UUID" })
            }
        }
    )* };
}

uuid_ids! {
    /// One worker process, from its start to its end. A restarted worker is another worker.
    WorkerId, "a worker started";

    /// A webhook endpoint.
    WebhookId, "a webhook endpoint made";

    /// One event on its way to one webhook endpoint, through all its attempts: the `webhook-id` of each.
    DeliveryId, "a delivery begun";
}

/// Whose a job is: `[a-z0-9][a-z0-9_-]{0,62}`. Who has no key, or one for which nothing else was said, is
/// [`Tenant::default`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Arc<str>);

const INTERNAL: &str = ":internal";

impl Tenant {
    pub const MAX_LEN: usize = 63;

    /// Whose the jobs are by which Buzzer itself does something. No key can name it, for it is no name at all: so nobody
    /// sees them.
    pub fn internal() -> Self {
        Self(INTERNAL.into())
    }

    pub fn is_internal(&self) -> bool {
        &*self.0 == INTERNAL
    }

    /// A tenant as a store wrote it.
    ///
    /// # Errors
    /// When no tenant can be called so.
    pub fn from_stored(text: &str) -> Result<Self, InvalidId> {
        if text == INTERNAL { Ok(Self::internal()) } else { text.parse() }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tenant {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
            && !text.starts_with(['_', '-']);
        let expected =
            "the name of a tenant: 1 to 63 characters of a-z, 0-9, `_` and `-`, the first a letter or a digit";
        if valid { Ok(Self(text.into())) } else { Err(InvalidId { text: text.into(), expected }) }
    }
}

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_knows_its_millisecond() {
        let now = Time::from_millis(1_795_000_000_123);
        assert_eq!(JobId::new(now).accepted_at(), Some(now));
    }

    #[test]
    fn an_id_of_another_version_tells_no_time() {
        let version_1: JobId = "c232ab00-9414-11ec-b3c8-9f6bdeced846".parse().unwrap();
        assert_eq!(version_1.accepted_at(), None);
    }

    #[test]
    fn job_ids_of_one_millisecond_rise() {
        let now = Time::from_millis(1_795_000_000_123);
        let ids: Vec<_> = (0..1000).map(|_| JobId::new(now)).collect();
        assert!(ids.is_sorted());
    }

    #[test]
    fn a_tenant_is_a_short_plain_word() {
        for good in ["default", "7", "a-b_c", &"x".repeat(63)] {
            assert_eq!(good.parse::<Tenant>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a b", "ä", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad:?}");
        }
        assert_eq!("default".parse(), Ok(Tenant::default()));
    }

    #[test]
    fn the_internal_tenant_can_be_stored_and_not_named() {
        let internal = Tenant::internal();
        assert!(internal.is_internal() && internal.as_str().parse::<Tenant>().is_err());
        assert_eq!(Tenant::from_stored(internal.as_str()), Ok(internal));
        assert_eq!(Tenant::from_stored("shop"), "shop".parse());
        assert!(Tenant::from_stored(":other").is_err() && !Tenant::default().is_internal());
    }

    #[test]
    fn a_run_id_is_read_back_as_written() {
        let run = RunId { job: JobId::new(Time::from_millis(1)), dispatch: 7 };
        assert_eq!(run.to_string().parse(), Ok(run));
        assert!("7".parse::<RunId>().is_err());
        assert!(format!("{}/-1", run.job).parse::<RunId>().is_err());
    }
}
