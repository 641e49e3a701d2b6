//! Whether a project lets us in, and can do what is handed in.

use std::time::Duration;

use serde_json::Value;

use super::found::Found;
use crate::clients::Door;
use crate::ground::GroundError;
use crate::nemesis::fault::Part;
use crate::wait::{TooLate, eventually};
use crate::work::KINDS;

/// A project that is well answers in less.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Workers that were just started say what they run in less.
const KINDS_LIMIT: Duration = Duration::from_secs(15);

/// Which project, and how to get in.
#[derive(Clone)]
pub struct Access {
    pub project: String,
    /// The API key of an operator.
    pub key: Option<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("project", &self.project).finish_non_exhaustive()
    }
}

/// Looks whether the key is one of an operator, and whether every kind has a worker.
pub(super) async fn check(access: &Access, found: &Found, way_in: &str) -> Result<(), GroundError> {
    let no_client = |error: reqwest::Error| GroundError::said("no HTTP client", &error);
    let door = Door::new(vec![way_in.to_owned()]).map_err(no_client)?.with_key(access.key.clone());
    let answer = eventually(&format!("{way_in} to answer"), ANSWER_LIMIT, async || {
        door.get(0, "/v1/stats").await.ok().filter(|answer| answer.status < 500)
    })
    .await?;
    if answer.status != 200 {
        return Err(not_let_in(found, access.key.is_some(), answer.status));
    }
    let mut missing = Vec::new();
    let known = eventually("", KINDS_LIMIT, async || {
        missing = without_worker(&door.get(0, "/v1/kinds").await.ok()?.body);
        missing.is_empty().then_some(())
    });
    known.await.map_err(|TooLate { .. }| no_worker(found, &missing))
}

/// Those of our kinds that no worker runs now.
fn without_worker(kinds: &Value) -> Vec<&'static str> {
    let live = |kind: &&str| {
        let known = kinds["items"].as_array().into_iter().flatten();
        known.filter(|known| known["name"] == **kind).any(|known| known["slots_live"].as_u64() > Some(0))
    };
    KINDS.into_iter().filter(|kind| !live(kind)).collect()
}

fn not_let_in(found: &Found, has_key: bool, status: u16) -> GroundError {
    let project = &found.project;
    let what = match (has_key, status) {
        (false, _) => format!("the project {project} asks for the key of an operator, in BUZZER_KEY"),
        (true, 403) => format!("the key is not that of an operator of the project {project}"),
        (true, _) => format!("the project {project} does not take the key (HTTP {status})"),
    };
    let api = found.part(Part::Api(0)).map_or("api", |api| api.name());
    let make = format!("docker exec {api} buzzer keys create --tenant prove --scope operator");
    GroundError::Missing(format!("{what}; this makes one: export BUZZER_KEY=$({make})"))
}

fn no_worker(found: &Found, kinds: &[&str]) -> GroundError {
    let (project, workers, kinds) = (&found.project, found.workers(), kinds.join(", "));
    let up = format!("docker compose --project-name {project} up --detach --no-deps --scale worker={workers} worker");
    GroundError::Missing(format!(
        "no worker of the project {project} runs {kinds}; this lets its workers do so: BUZZER_DEMO=1 {up}"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ground::compose::found::tests::found;

    #[test]
    fn a_kind_that_nobody_runs_now_is_named() {
        let kind = |name: &str, slots: u64| json!({ "name": name, "slots_live": slots });
        let mut items: Vec<_> = KINDS.iter().map(|name| kind(name, 64)).collect();
        assert_eq!(without_worker(&json!({ "items": items })), [""; 0]);
        items[1] = kind("demo.sleep", 0);
        items.remove(4);
        let kinds = json!({ "items": items });
        let missing = without_worker(&kinds);
        assert_eq!(missing, ["demo.sleep", "demo.progress"]);
        let told = no_worker(&found(), &missing).to_string();
        assert!(told.contains("demo.sleep, demo.progress") && told.contains("BUZZER_DEMO=1 docker compose"), "{told}");
        assert!(told.contains("--scale worker=2 worker"), "it must not scale anything down: {told}");
    }

    #[test]
    fn without_a_key_that_fits_the_command_that_makes_one_is_told() {
        for (has_key, status, words) in
            [(false, 401, "BUZZER_KEY"), (true, 401, "401"), (true, 403, "not that of an operator")]
        {
            let told = not_let_in(&found(), has_key, status).to_string();
            let make = "export BUZZER_KEY=$(docker exec shop-api-1 buzzer keys create --tenant prove --scope operator)";
            assert!(told.contains(words) && told.ends_with(make) && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn a_key_is_never_shown() {
        let access = Access { project: "shop".into(), key: Some("bz_secret".into()) };
        assert!(!format!("{access:?}").contains("bz_secret"));
    }
}
