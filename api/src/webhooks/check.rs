//! What a client says about a webhook, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use buzzer_shared::egress::AllowList;
use buzzer_shared::kind::Kind;

use crate::problem::Violation;
use crate::webhook_url;

const KINDS_MAX: usize = 100;
const TAGS_MAX: usize = 16;
const TAG_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 1000;

/// The URL as it is kept, and what is wrong with it.
pub(super) fn url(text: &str, allow: &AllowList, violations: &mut Vec<Violation>) -> String {
    webhook_url::read(text, allow).unwrap_or_else(|bad| {
        violations.push(violation("/url", bad.to_string()));
        String::new()
    })
}

/// What is wrong with the rest.
pub(super) fn details(
    kinds: &BTreeSet<Kind>,
    tags: &BTreeMap<String, String>,
    description: Option<&str>,
    violations: &mut Vec<Violation>,
) {
    if kinds.len() > KINDS_MAX {
        violations.push(violation("/kinds", format!("at most {KINDS_MAX} kinds")));
    }
    if tags.len() > TAGS_MAX || tags.iter().any(|(name, value)| name.len() > TAG_MAX || value.len() > TAG_MAX) {
        violations.push(violation(
            "/tags",
            format!("at most {TAGS_MAX} tags, their names and values at most {TAG_MAX} bytes"),
        ));
    }
    if description.is_some_and(|text| text.len() > DESCRIPTION_MAX) {
        violations.push(violation("/description", format!("at most {DESCRIPTION_MAX} bytes")));
    }
}

pub(super) fn violation(pointer: &str, detail: String) -> Violation {
    Violation { pointer: pointer.into(), detail }
}
