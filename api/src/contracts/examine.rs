//! Whether what a worker says of its kinds is taken.

use std::collections::{HashMap, HashSet};

use buzzer_shared::kind::{KindSpec, Refusal};
use buzzer_shared::message::Announce;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::checker::{Checker, look_at_patterns};
use super::contradiction::contradiction;
use super::schema::all;

/// So many kinds may one worker run.
pub const KINDS_MAX: usize = 256;
/// So many bytes of JSON may be said of one kind.
pub const SIZE_MAX: usize = 256 * 1024;
/// So many values may one `enum` name.
const ENUM_MAX: usize = 2_000;
/// A title stands in lists.
const TITLE_MAX: usize = 200;
/// So much is kept of what is not taken, of one worker.
const REFUSALS_MAX: usize = 50;
/// So many refusals are remembered, of all workers together.
const REMEMBERED_MAX: usize = 1_000;
const NAME_MAX: usize = 100;
const REASON_MAX: usize = 500;

/// Moves what cannot be taken to what is refused. What `is_taken` already is not looked at again, and neither is what
/// `refused` knows: to look costs time, and every worker announces itself every half minute.
pub fn sift(announce: &mut Announce, is_taken: impl Fn(&KindSpec) -> bool, refused: &mut Refused) {
    let mut names = HashSet::new();
    let specs = std::mem::take(&mut announce.kinds);
    for spec in specs {
        let examined = if names.contains(&spec.name) {
            Err("the worker names it twice: leave one out".into())
        } else if names.len() == KINDS_MAX {
            Err(format!("a worker runs at most {KINDS_MAX} kinds: let another one run it"))
        } else if is_taken(&spec) {
            Ok(())
        } else {
            refused.or_examine(&spec, examine)
        };
        match examined {
            Ok(()) => {
                names.insert(spec.name.clone());
                announce.kinds.push(spec);
            }
            Err(reason) => announce.refused.push(Refusal { kind: spec.name.to_string(), reason }),
        }
    }
    announce.refused.truncate(REFUSALS_MAX);
    for Refusal { kind, reason } in &mut announce.refused {
        shorten(kind, NAME_MAX);
        shorten(reason, REASON_MAX);
    }
}

/// What was examined and not taken, whoever said it, with the reason.
#[derive(Debug, Default)]
pub struct Refused {
    /// By the SHA-256 of what was said.
    reasons: HashMap<[u8; 32], String>,
}

impl Refused {
    fn or_examine(
        &mut self,
        spec: &KindSpec,
        examine: impl FnOnce(&KindSpec) -> Result<(), String>,
    ) -> Result<(), String> {
        let Ok(said) = serde_json::to_vec(spec) else { return examine(spec) };
        let digest = Sha256::digest(said).into();
        if let Some(reason) = self.reasons.get(&digest) {
            return Err(reason.clone());
        }
        examine(spec).inspect_err(|reason| {
            // Who says always something else makes it forget, and nothing more.
            if self.reasons.len() == REMEMBERED_MAX {
                self.reasons.clear();
            }
            let mut reason = reason.clone();
            shorten(&mut reason, REASON_MAX);
            self.reasons.insert(digest, reason);
        })
    }
}

/// Whether what a worker says of a kind can be taken: it is small, its schemas can be tried on any value in bounded
/// time, something fits them, and its example is such a thing.
///
/// # Errors
/// What is wrong, and what to do.
pub fn examine(spec: &KindSpec) -> Result<(), String> {
    let size = serde_json::to_vec(spec).map_or(usize::MAX, |json| json.len());
    if size > SIZE_MAX {
        return Err(format!("it has {size} bytes, and may have {SIZE_MAX}: make its schemas smaller"));
    }
    if spec.title.chars().count() > TITLE_MAX {
        return Err(format!("its title has more than {TITLE_MAX} characters: put the rest into the description"));
    }
    if spec.slots == 0 {
        return Err("it has no slots: give it at least one".into());
    }
    if spec.timeout.as_millis() == 0 {
        return Err("it has no time to run: give it a timeout above zero".into());
    }
    if spec.retry.max_attempts == 0 {
        return Err("it has no attempts: give its retry policy at least one".into());
    }
    look_at_patterns([&spec.input_schema, &spec.output_schema])?;
    let input = usable("input_schema", &spec.input_schema)?;
    usable("output_schema", &spec.output_schema)?;
    if let Some(example) = &spec.example
        && let Some(misfit) = input.misfits(example).first()
    {
        return Err(format!("its example does not fit its input_schema: at {:?}, {}", misfit.pointer, misfit.detail));
    }
    Ok(())
}

fn usable(what: &str, schema: &Value) -> Result<Checker, String> {
    let large = |schema: &&Value| schema["enum"].as_array().is_some_and(|values| values.len() > ENUM_MAX);
    let checker = Checker::new(schema).map_err(|reason| format!("its {what} cannot be used: {reason}"))?;
    if all(schema).iter().any(large) {
        return Err(format!("its {what} has an enum of more than {ENUM_MAX} values: use a type or a pattern"));
    }
    match contradiction(schema) {
        Some(reason) => Err(format!("nothing fits its {what}: {reason}")),
        None => Ok(checker),
    }
}

fn shorten(text: &mut String, max: usize) {
    if let Some((end, _)) = text.char_indices().nth(max) {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::WorkerId;
    use buzzer_shared::retry::RetryPolicy;
    use buzzer_shared::time::{Span, Time};
    use serde_json::json;

    use super::*;

    fn spec(name: &str) -> KindSpec {
        KindSpec::any(name.parse().unwrap())
    }

    fn announce(kinds: Vec<KindSpec>) -> Announce {
        let at = Time::from_millis(1);
        Announce {
            worker: WorkerId::new(at),
            host: "box".into(),
            version: "1".into(),
            started_at: at,
            kinds,
            refused: vec![],
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_way_out() {
        let none = RetryPolicy { max_attempts: 0, ..RetryPolicy::default() };
        let values: Vec<_> = (0..=ENUM_MAX).collect();
        for (spec, part) in [
            (KindSpec { description: "x".repeat(SIZE_MAX), ..spec("a") }, "make its schemas smaller"),
            (KindSpec { title: "x".repeat(TITLE_MAX + 1), ..spec("a") }, "into the description"),
            (KindSpec { slots: 0, ..spec("a") }, "at least one"),
            (KindSpec { timeout: Span::from_millis(0), ..spec("a") }, "above zero"),
            (KindSpec { retry: none, ..spec("a") }, "at least one"),
            (
                KindSpec { input_schema: json!({ "$ref": "https://a.example" }), ..spec("a") },
                "input_schema cannot be used",
            ),
            (KindSpec { output_schema: json!({ "type": "strin" }), ..spec("a") }, "output_schema cannot be used"),
            (KindSpec { input_schema: json!({ "items": { "enum": values } }), ..spec("a") }, "more than 2000 values"),
            (KindSpec { output_schema: json!(false), ..spec("a") }, "nothing fits its output_schema"),
            (
                KindSpec { input_schema: json!({ "type": "object" }), example: Some(json!(7)), ..spec("a") },
                "its example does not fit",
            ),
        ] {
            let refused = examine(&spec).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        examine(&KindSpec { example: Some(json!(7)), ..spec("a") }).unwrap();
    }

    /// Each would take long to compile, and none is.
    #[test]
    fn many_large_patterns_are_refused_at_once() {
        let patterns: serde_json::Map<_, _> = (0..2_000)
            .map(|n| (n.to_string(), json!({ "pattern": format!("(\\pL{{1,40}}){{1,{}}}", n + 1) })))
            .collect();
        let schema = json!({ "properties": patterns });
        for spec in
            [KindSpec { input_schema: schema.clone(), ..spec("a") }, KindSpec { output_schema: schema, ..spec("a") }]
        {
            let begun = std::time::Instant::now();
            let refused = examine(&spec).unwrap_err();
            assert!(refused.contains("2000 patterns"), "{refused}");
            assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn the_other_kinds_go_on() {
        let bad = KindSpec { input_schema: json!(false), ..spec("bad") };
        let mut said = announce(vec![spec("a"), bad.clone(), spec("b"), spec("a")]);
        said.refused.push(Refusal { kind: "N".repeat(200), reason: "ü".repeat(2000) });
        sift(&mut said, |_| false, &mut Refused::default());
        assert_eq!(said.kinds, [spec("a"), spec("b")]);
        let refused: Vec<_> =
            said.refused.iter().map(|refusal| refusal.kind.chars().take(3).collect::<String>()).collect();
        assert_eq!(refused, ["NNN", "bad", "a"]);
        assert!(said.refused[0].kind.len() < 110 && said.refused[0].reason.chars().count() == REASON_MAX + 1);

        let mut known = announce(vec![bad]);
        sift(&mut known, |_| true, &mut Refused::default());
        assert_eq!(known.refused, [], "what was taken once is not looked at again");

        let mut many = announce((0..KINDS_MAX + 100).map(|n| spec(&format!("k{n}"))).collect());
        sift(&mut many, |_| false, &mut Refused::default());
        assert_eq!((many.kinds.len(), many.refused.len()), (KINDS_MAX, REFUSALS_MAX));
    }

    #[test]
    fn what_was_refused_is_not_examined_again() {
        let mut refused = Refused::default();
        let long = || Err("ü".repeat(2_000));
        let first = refused.or_examine(&spec("a"), |_| long());
        assert_eq!(first, long());
        let again = refused.or_examine(&spec("a"), |_| unreachable!("it is known"));
        assert!(again.unwrap_err().starts_with("üü"));
        let mended = KindSpec { title: "Mended".into(), ..spec("a") };
        assert_eq!(refused.or_examine(&mended, |_| Ok(())), Ok(()));
        assert_eq!(refused.or_examine(&mended, |_| long()), long(), "what is taken is not remembered here");
        for n in 0..REMEMBERED_MAX * 2 {
            let _ = refused.or_examine(&spec(&format!("k{n}")), |_| long());
        }
        assert!(refused.reasons.len() <= REMEMBERED_MAX);
        assert!(refused.reasons.values().all(|reason| reason.chars().count() == REASON_MAX + 1));
    }
}
