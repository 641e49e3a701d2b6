use buzzer_shared::time::Time;
use buzzer_shared::webhook::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many secrets of one endpoint sign at a time at most: their signatures share a header.
pub const SECRETS_MAX: usize = 5;

/// The secrets of an endpoint: the present one, and those before it that still sign for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    #[serde(serialize_with = "reveal", deserialize_with = "read")]
    present: Secret,
    former: Vec<Former>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Former {
    #[serde(serialize_with = "reveal", deserialize_with = "read")]
    secret: Secret,
    #[serde(serialize_with = "millis", deserialize_with = "from_millis")]
    until: Time,
}

impl Secrets {
    pub fn new(present: Secret) -> Self {
        Self { present, former: Vec::new() }
    }

    pub fn present(&self) -> &Secret {
        &self.present
    }

    /// Those that sign at `now`, the present one first.
    pub fn valid(&self, now: Time) -> impl Iterator<Item = &Secret> {
        let former = self.former.iter().filter(move |former| former.until > now).map(|former| &former.secret);
        std::iter::once(&self.present).chain(former)
    }

    /// Until when another than the present one signs; `None` when none does at `now`.
    pub fn former_until(&self, now: Time) -> Option<Time> {
        self.former.iter().map(|former| former.until).filter(|until| *until > now).max()
    }

    /// A new one takes over, and the others sign until `until` at most: at `now`, they no longer do.
    #[must_use]
    pub fn rotated(&self, new: Secret, until: Time, now: Time) -> Self {
        let before = Former { secret: self.present.clone(), until };
        let former = self.former.iter().cloned().map(|former| Former { until: former.until.min(until), ..former });
        let mut former: Vec<_> = std::iter::once(before).chain(former).filter(|former| former.until > now).collect();
        former.truncate(SECRETS_MAX - 1);
        Self { present: new, former }
    }
}

fn reveal<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.reveal())
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn millis<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(time.as_millis())
}

fn from_millis<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
    i64::deserialize(deserializer).map(Time::from_millis)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Time = Time::from_millis(1_795_000_000_000);

    fn secret(byte: u8) -> Secret {
        Secret::of([byte; 32])
    }

    fn at(seconds: u64) -> Time {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn the_former_secret_signs_until_its_time_is_over() {
        let first = Secrets::new(secret(1));
        let second = first.rotated(secret(2), at(10), NOW);
        let valid = |now| second.valid(now).cloned().collect::<Vec<_>>();
        assert_eq!(valid(at(9)), [secret(2), secret(1)]);
        assert_eq!(valid(at(10)), [secret(2)]);
        assert_eq!((second.former_until(at(9)), second.former_until(at(10))), (Some(at(10)), None));
    }

    #[test]
    fn a_secret_that_must_go_goes_at_once_and_takes_the_older_ones_along() {
        let two = Secrets::new(secret(1)).rotated(secret(2), at(100), NOW);
        let gone = two.rotated(secret(3), at(1), at(1));
        assert_eq!(gone.valid(at(1)).collect::<Vec<_>>(), [&secret(3)]);
        let soon = two.rotated(secret(3), at(5), at(1));
        assert_eq!(soon.former_until(at(1)), Some(at(5)), "nobody gets more time than was said last");
    }

    #[test]
    fn no_more_sign_than_a_header_holds() {
        let many = (2..20).fold(Secrets::new(secret(1)), |secrets, byte| secrets.rotated(secret(byte), at(100), NOW));
        let valid: Vec<_> = many.valid(NOW).cloned().collect();
        assert_eq!(valid, [19, 18, 17, 16, 15].map(secret));
    }

    #[test]
    fn secrets_are_stored_whole_and_never_printed() {
        let secrets = Secrets::new(secret(1)).rotated(secret(2), at(100), NOW);
        let json = serde_json::to_string(&secrets).unwrap();
        assert_eq!(serde_json::from_str::<Secrets>(&json).unwrap(), secrets);
        assert!(!format!("{secrets:?}").contains(&secret(1).reveal()[6..]));
    }
}
