//! Whether what is said of a kind can be used.

use serde_json::Value;

use super::checker::{Checker, look_at_patterns};
use super::contradiction::contradiction;
use super::schema::all;
use super::stack::on_a_deep_stack;
use crate::kind::KindSpec;

/// So many bytes of JSON may be said of one kind.
pub const SIZE_MAX: usize = 256 * 1024;
/// So many values may one `enum` name.
const ENUM_MAX: usize = 2_000;
/// A title stands in lists.
const TITLE_MAX: usize = 200;

/// Whether what a worker says of a kind can be taken: it is small, its schemas can be tried on any value in bounded
/// time and do not contradict themselves, and its example fits.
///
/// # Errors
/// What is wrong, and what to do.
pub fn examine(spec: &KindSpec) -> Result<(), String> {
    let size = serde_json::to_vec(spec).map_or(usize::MAX, |json| json.len());
    if size > SIZE_MAX {
        return Err(format!(
            "it has {size} bytes, and may have {SIZE_MAX}: make its schemas or its description smaller"
        ));
    }
    if spec.title.chars().count() > TITLE_MAX {
        return Err(format!("its title has more than {TITLE_MAX} characters: put the rest into the description"));
    }
    runnable(spec)?;
    look_at_patterns([&spec.input_schema, &spec.output_schema])?;
    let input = usable(&spec.input_schema).map_err(|reason| format!("its input_schema {reason}"))?;
    usable(&spec.output_schema).map_err(|reason| format!("its output_schema {reason}"))?;
    if let Some(example) = &spec.example
        && let Some(misfit) = input.misfits(example).first()
    {
        return Err(format!("its example does not fit its input_schema: at {:?}, {}", misfit.pointer, misfit.detail));
    }
    Ok(())
}

/// Whether there can be a run of it.
///
/// # Errors
/// Which number is zero, and what to do.
pub fn runnable(spec: &KindSpec) -> Result<(), String> {
    if spec.slots == 0 {
        return Err("it has no slots: give it at least one".into());
    }
    if spec.timeout.as_millis() == 0 {
        return Err("it has no time to run: give it a timeout above zero".into());
    }
    if spec.retry.max_attempts == 0 {
        return Err("it has no attempts: give its retry policy at least one".into());
    }
    Ok(())
}

/// What tries values by this schema, if that takes bounded time and no part of it contradicts another.
///
/// # Errors
/// What is wrong with it, and what to do: what stands behind "the schema".
pub fn usable(schema: &Value) -> Result<Checker, String> {
    let large = |schema: &&Value| schema["enum"].as_array().is_some_and(|values| values.len() > ENUM_MAX);
    let checker = Checker::new(schema).map_err(|reason| format!("cannot be used: {reason}"))?;
    if all(schema).iter().any(large) {
        return Err(format!("has an enum of more than {ENUM_MAX} values: use a type or a pattern"));
    }
    match on_a_deep_stack(|| contradiction(schema)) {
        Some(reason) => Err(format!("contradicts itself: {reason}")),
        None => Ok(checker),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::retry::RetryPolicy;
    use crate::time::Span;

    fn spec(name: &str) -> KindSpec {
        KindSpec::any(name.parse().unwrap())
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_way_out() {
        let none = RetryPolicy { max_attempts: 0, ..RetryPolicy::default() };
        let values: Vec<_> = (0..=ENUM_MAX).collect();
        for (spec, part) in [
            (
                KindSpec { description: "x".repeat(SIZE_MAX), ..spec("a") },
                "make its schemas or its description smaller",
            ),
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
            (KindSpec { output_schema: json!(false), ..spec("a") }, "output_schema contradicts itself"),
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
}
