//! The walls of the house: who may name whom. ARCHITECTURE.md tells the reasons.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use buzzer_shared::environment::VARIABLES;
use regex::Regex;

/// What each module of the API may name of its own crate. A module that is not here is a new room: give it walls. No
/// module may name one that stands above it.
const API: &[(&str, &[&str])] = &[
    ("main", &[]),
    ("lib", &[]),
    (
        "app",
        &[
            "asyncapi",
            "auth",
            "bell",
            "bounds",
            "cancel",
            "catalog",
            "config",
            "deliver",
            "descriptors",
            "dispatch",
            "events",
            "feeds",
            "forget",
            "hearing",
            "jobs",
            "journal",
            "kinds",
            "lanes",
            "letters",
            "openapi",
            "ops",
            "parked",
            "parking",
            "problem",
            "pulse",
            "readiness",
            "replicas",
            "replies",
            "senders",
            "serve",
            "signals",
            "socket",
            "state",
            "store",
            "sweep",
            "tally",
            "tickets",
            "wake",
            "webhooks",
        ],
    ),
    ("asyncapi", &["openapi", "socket", "state", "view"]),
    ("socket", &["auth", "extract", "jobs", "lifecycle", "problem", "state", "store", "view", "wake", "websocket"]),
    (
        "jobs",
        &[
            "auth",
            "catalog",
            "extract",
            "header",
            "lifecycle",
            "negotiate",
            "openapi",
            "problem",
            "state",
            "store",
            "streams",
            "view",
            "wake",
            "webhook_url",
            "websocket",
        ],
    ),
    (
        "webhooks",
        &["auth", "delivery", "extract", "header", "letters", "lifecycle", "problem", "state", "store", "webhook_url"],
    ),
    ("events", &["auth", "extract", "header", "negotiate", "problem", "state", "streams"]),
    ("tickets", &["auth", "extract", "header", "problem", "state", "store"]),
    ("kinds", &["auth", "catalog", "contracts", "extract", "problem", "state", "store"]),
    ("ops", &["auth", "delivery", "extract", "problem", "state"]),
    ("parked", &["auth", "extract", "parking", "problem", "state"]),
    ("openapi", &["auth", "header", "lifecycle", "problem", "state", "view"]),
    ("extract", &["auth", "problem", "state"]),
    (
        "streams",
        &[
            "auth",
            "feeds",
            "header",
            "lifecycle",
            "negotiate",
            "problem",
            "state",
            "store",
            "view",
            "wake",
            "websocket",
        ],
    ),
    ("websocket", &["header", "problem", "serve", "state"]),
    (
        "state",
        &[
            "auth",
            "bounds",
            "catalog",
            "dispatch",
            "feeds",
            "journal",
            "lanes",
            "origins",
            "parking",
            "readiness",
            "retention",
            "store",
            "wake",
        ],
    ),
    ("deliver", &["bell", "catalog", "delivery", "lanes", "letters", "lifecycle", "store"]),
    ("dispatch", &["journal", "letters", "lifecycle", "store", "streak"]),
    ("letters", &["delivery", "lifecycle", "problem", "store", "view"]),
    ("feeds", &["lifecycle", "problem", "store", "streak", "view", "wake"]),
    ("view", &["lanes", "lifecycle", "problem", "store"]),
    ("serve", &["pace"]),
    ("pace", &[]),
    ("descriptors", &[]),
    ("pulse", &["aside", "catalog", "contracts", "hearing", "journal", "lifecycle", "senders", "store"]),
    ("replies", &["hearing", "journal", "lifecycle", "senders", "store"]),
    ("replicas", &["store", "wake"]),
    ("signals", &["journal", "lifecycle", "senders", "store"]),
    (
        "sweep",
        &[
            "bell",
            "cancel",
            "catalog",
            "config",
            "hearing",
            "journal",
            "lanes",
            "lifecycle",
            "store",
            "streak",
            "tally",
            "wake",
        ],
    ),
    ("forget", &["retention", "store", "streak"]),
    ("journal", &["bell", "cancel", "lanes", "lifecycle", "store", "tally", "wake"]),
    ("cancel", &["lifecycle"]),
    ("tally", &["lifecycle"]),
    ("catalog", &["aside", "contracts", "problem", "store"]),
    ("aside", &[]),
    ("lanes", &["lifecycle", "store"]),
    ("parking", &["problem", "senders"]),
    ("auth", &["problem", "store"]),
    ("negotiate", &["problem"]),
    ("problem", &["bounds", "header", "store"]),
    ("header", &[]),
    ("wake", &[]),
    ("bell", &["lifecycle"]),
    ("webhook_url", &[]),
    ("hearing", &[]),
    ("config", &["bounds", "delivery", "origins", "retention", "senders", "store"]),
    ("senders", &[]),
    ("origins", &[]),
    ("bounds", &["store", "streak"]),
    ("readiness", &["store"]),
    ("streak", &["store"]),
    ("store", &["delivery", "lifecycle", "retention"]),
    ("retention", &[]),
    ("contracts", &[]),
    ("delivery", &["lifecycle"]),
    ("lifecycle", &[]),
];

#[derive(Debug)]
struct Source {
    /// From the root of the repository.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path: path.strip_prefix(root()).unwrap().display().to_string(), text });
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {folder}");
    found
}

/// Asserts that only sources whose path begins with one of `allowed` contain one of `words`.
fn only(words: &[&str], allowed: &[&str]) {
    let folders = ["api/src", "worker/src", "shared/src", "cli/src", "prove/src"];
    for source in folders.iter().flat_map(|folder| sources(folder)) {
        let inside = allowed.iter().any(|allowed| source.path.starts_with(allowed));
        let named = words.iter().find(|word| source.text.contains(**word));
        assert!(inside || named.is_none(), "{} names {:?}, which only {allowed:?} may", source.path, named.unwrap());
    }
}

#[test]
fn lapin_is_named_only_by_the_broker() {
    only(&["lapin::", "use lapin"], &["shared/src/broker/", "prove/src/ground/", "prove/src/nemesis/messages.rs"]);
}

#[test]
fn sql_stands_only_in_the_store() {
    let store = &["api/src/store/", "prove/src/ground/postgres.rs"];
    only(&["rusqlite", "tokio_postgres", "SELECT ", "INSERT INTO", "UPDATE "], store);
}

#[test]
fn error_statuses_are_decided_in_one_module() {
    let decided = "api/src/problem";
    for source in sources("api/src").into_iter().filter(|source| !source.path.starts_with(decided)) {
        for (at, _) in source.text.match_indices("StatusCode::") {
            let status: String =
                source.text[at + 12..].chars().take_while(|c| c.is_alphabetic() || *c == '_').collect();
            let harmless = ["SWITCHING_PROTOCOLS", "OK", "CREATED", "ACCEPTED", "NO_CONTENT", "NOT_MODIFIED"]
                .contains(&status.as_str());
            assert!(harmless, "{} decides {status}, which only {decided} may", source.path);
        }
    }
}

#[test]
fn the_machines_clock_is_read_in_one_file() {
    only(&["Timestamp::now", "SystemTime::now"], &["shared/src/time.rs"]);
}

#[test]
fn api_and_worker_do_not_know_each_other() {
    only(&["buzzer_api::", "use buzzer_api"], &["api/src/main.rs", "cli/src/"]);
    only(&["buzzer_worker::", "use buzzer_worker"], &["worker/src/", "cli/src/"]);
}

#[test]
fn the_worker_calls_out_in_one_place() {
    only(
        &["reqwest::Client", "Client::builder", "Client::new("],
        &["worker/src/egress/", "cli/src/", "prove/src/clients/"],
    );
}

#[test]
fn decisions_are_pure() {
    let pure = [
        "shared/src/egress/",
        "api/src/contracts/",
        "shared/src/contract/",
        "api/src/delivery/",
        "api/src/lifecycle/",
        "shared/src/retry.rs",
        "api/src/lanes/lane.rs",
    ];
    let all = ["api/src", "shared/src", "worker/src"].into_iter().flat_map(sources);
    // Tests of decisions may take the time of them, in the same file or in one of their own.
    let decisions = all.filter(|source| !source.path.ends_with("/tests.rs"));
    for source in decisions.filter(|source| pure.iter().any(|pure| source.path.starts_with(pure))) {
        let decides = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for word in ["async fn", "async move", ".await;", ".await?", "tokio", "std::fs", "Instant", "fastrand", "Clock"]
        {
            assert!(!decides.contains(word), "{} names {word:?}, but decisions are pure", source.path);
        }
    }
}

#[test]
fn every_variable_that_is_read_is_known_to_all() {
    let reads = Regex::new(r#"(?:env = |var\(|var_os\(|\$\{)"?(BUZZER_[A-Z_]+)"#).unwrap();
    let folders = ["api/src", "worker/src", "shared/src", "cli/src", "prove/src"];
    let sources = folders.into_iter().flat_map(sources).map(|source| source.text);
    let compose = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let mut read = BTreeSet::new();
    for text in sources.chain([compose]) {
        let outside_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        read.extend(reads.captures_iter(outside_tests).map(|found| found[1].to_owned()));
    }
    assert_eq!(read, BTreeSet::from(VARIABLES.map(String::from)));
}

#[test]
fn imports_of_the_api_go_one_way() {
    for source in sources("api/src") {
        let inner = source.path.strip_prefix("api/src/").unwrap();
        let module = inner.split(['/', '.']).next().unwrap();
        let (_, allowed) =
            API.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("{module} has no walls yet"));
        let named = named_modules(&source.text);
        for name in named.iter().filter(|name| *name != module) {
            assert!(allowed.contains(&name.as_str()), "{} names crate::{name}, against the direction", source.path);
        }
    }
}

#[test]
fn the_walls_have_a_direction() {
    for (at, (module, allowed)) in API.iter().enumerate() {
        let above: Vec<_> = API[..at].iter().map(|(name, _)| name).collect();
        let wrong = allowed.iter().find(|name| above.contains(name) && *name != module);
        assert!(wrong.is_none(), "{module} stands below {wrong:?}");
    }
}

/// The modules of its own crate that a source names, in `use` and elsewhere.
fn named_modules(text: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + 7..];
        match rest.strip_prefix('{') {
            Some(list) => named.extend(list.split('}').next().unwrap().split(',').map(|name| word(name.trim()))),
            None => {
                named.insert(word(rest));
            }
        }
    }
    named.retain(|name| !name.is_empty());
    named
}
