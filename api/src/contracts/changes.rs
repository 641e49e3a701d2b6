//! What a contract breaks of the one before it: who was written for that one may be refused, or miss something.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use buzzer_shared::contract::{Document, allows, type_of};
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::text::shorten;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// More changes of one contract help nobody.
const CHANGES_MAX: usize = 50;
/// So long is what is told of one, in bytes: values may be large.
const DETAIL_MAX: usize = 300;
/// So many pairs of schemas are compared; alternatives of alternatives make many.
const PAIRS_MAX: usize = 5_000;
const TOO_LARGE: &str = "the schemas are too large to be compared to their end";
/// So deep do the two go into each other.
const DEPTH_MAX: usize = 100;
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
/// What says nothing about values.
const ANNOTATIONS: [&str; 13] = [
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// What is compared as a whole, for it is rare.
const RARE: [&str; 15] = [
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependentRequired",
    "patternProperties",
    "propertyNames",
    "prefixItems",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// One thing that may break those who were written for the former contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// Where: a path like `/input/size`, with `*` for each item or each unnamed field.
    pub at: String,
    pub change: ChangeType,
    /// What it was, and what it is.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeType {
    /// An input must have it now.
    Required,
    /// An input may hold less than before.
    Narrowed,
    /// It is not there any more, or not always.
    Removed,
    /// An output may hold what it never did.
    Widened,
    /// Whether it breaks anybody cannot be told.
    Unclear,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

/// What `new` breaks of `old`. Empty when everybody who was written for `old` can go on, as far as plain keywords tell.
pub fn changes(old: &KindSpec, new: &KindSpec) -> Vec<Change> {
    // Inputs that were taken must still be taken; outputs that come now must have been possible before.
    let mut found = compare(Side::Input, &old.input_schema, &new.input_schema);
    found.extend(compare(Side::Output, &new.output_schema, &old.output_schema));
    let mut also = |at: &str, detail: String| {
        found.push(Change { at: at.into(), change: ChangeType::Narrowed, detail });
    };
    if new.timeout < old.timeout {
        also("/timeout", format!("a run could take {}, and may take {} now", old.timeout, new.timeout));
    }
    if (old.delivery, new.delivery) == (DeliveryMode::AtLeastOnce, DeliveryMode::AtMostOnce) {
        also("/delivery", "a job could name a retry policy, and is never tried again now".into());
    }
    found.truncate(CHANGES_MAX);
    found
}

/// Where `narrow` refuses what `wide` takes.
fn compare(side: Side, wide: &Value, narrow: &Value) -> Vec<Change> {
    let mut comparison = Comparison {
        side,
        wide: Document { root: wide },
        narrow: Document { root: narrow },
        compared: HashSet::new(),
        found: Vec::new(),
        pairs: 0,
    };
    let at = if side == Side::Input { "/input" } else { "/output" };
    comparison.schemas(wide, narrow, &Place { at: at.into(), depth: 0 });
    comparison.found
}

#[derive(Debug, Clone)]
struct Place {
    at: String,
    depth: usize,
}

impl Place {
    fn field(&self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        Self { at: format!("{}/{name}", self.at), depth: self.depth + 1 }
    }
}

/// Pairs of values that one look has met. Where they stand tells them apart.
type Met = HashSet<(*const Value, *const Value)>;

#[derive(Debug)]
struct Comparison<'a> {
    side: Side,
    wide: Document<'a>,
    narrow: Document<'a>,
    /// Pairs that were compared, or are: what refers to itself must come to an end.
    compared: Met,
    found: Vec<Change>,
    pairs: usize,
}

impl<'a> Comparison<'a> {
    fn schemas(&mut self, wide: &'a Value, narrow: &'a Value, place: &Place) {
        let (wide, narrow) = (followed(self.wide, wide), followed(self.narrow, narrow));
        if !self.compared.insert((wide, narrow)) {
            return;
        }
        self.pairs += 1;
        if self.pairs > PAIRS_MAX || place.depth > DEPTH_MAX {
            // Said each time, or an alternative that was not looked at would pass for one that fits.
            self.unclear(place, TOO_LARGE);
            return;
        }
        if narrow.as_bool() == Some(true) || wide.as_bool() == Some(false) {
            return;
        }
        if narrow.as_bool() == Some(false) {
            self.narrowed(place, "nothing", "something");
            return;
        }
        let (wide_fields, narrow_fields) = (fields(wide), fields(narrow));
        let (many_wide, many_narrow) = (alternatives(wide_fields), alternatives(narrow_fields));
        if many_wide.is_some()
            && many_narrow.is_none()
            && self.narrow.target(narrow).is_none()
            && self.attempt(|this| this.keywords(wide_fields, narrow_fields, place)).is_empty()
        {
            // What stands beside the alternatives fits already, whichever of them holds.
            return;
        }
        self.alternative_keywords(wide_fields, narrow_fields, place);
        if many_wide.is_some() || many_narrow.is_some() {
            let wides = many_wide.clone().unwrap_or_else(|| vec![wide]);
            let narrows = many_narrow.clone().unwrap_or_else(|| vec![narrow]);
            self.alternatives(&wides, &narrows, place);
        }
        // Beside a reference there may be more that must hold, too.
        if let Some(narrow) = self.narrow.target(narrow) {
            let wide = self.wide.target(wide).unwrap_or(wide);
            self.schemas(wide, narrow, &Place { at: place.at.clone(), depth: place.depth + 1 });
        }
        // Beside alternatives there may be more that must hold.
        let more = |fields: &Map<String, Value>| {
            fields.keys().any(|keyword| !["anyOf", "oneOf"].contains(&keyword.as_str()) && tells(keyword))
        };
        if many_wide.is_some() == many_narrow.is_some() || (many_wide.is_none() && more(narrow_fields)) {
            self.keywords(wide_fields, narrow_fields, place);
        }
    }

    /// What a look finds, beside what was found.
    fn attempt(&mut self, look: impl FnOnce(&mut Self)) -> Vec<Change> {
        let (compared, before) = (self.compared.clone(), std::mem::take(&mut self.found));
        look(self);
        let found = std::mem::replace(&mut self.found, before);
        if !found.is_empty() {
            // What did not fit here says nothing about the same pair elsewhere.
            self.compared = compared;
        }
        found
    }

    /// Whether the alternatives are of the same sort. Of `oneOf`, a value fits one alone; beside `anyOf`, only that is
    /// looked into.
    fn alternative_keywords(&mut self, wide: &Map<String, Value>, narrow: &Map<String, Value>, place: &Place) {
        let beside = narrow.contains_key("anyOf");
        match (wide.get("oneOf"), narrow.get("oneOf")) {
            (None, Some(_)) if wide.contains_key("anyOf") => {
                let (former, now) = if self.side == Side::Input { ("anyOf", "oneOf") } else { ("oneOf", "anyOf") };
                self.unclear(place, &format!("its {former} is a {now} now"));
            }
            (Some(wide), Some(narrow))
                if beside && !self.keyword_alike("oneOf", wide, narrow, &mut HashSet::new(), 0) =>
            {
                self.unclear(place, "its oneOf has changed, beside its anyOf");
            }
            (None, Some(_)) if beside => self.unclear(place, "its oneOf has changed, beside its anyOf"),
            _ => {}
        }
    }

    /// Each alternative that there was must fit into one that there is.
    fn alternatives(&mut self, wides: &[&'a Value], narrows: &[&'a Value], place: &Place) {
        for wide in wides {
            let mut fewest: Option<Vec<Change>> = None;
            for narrow in narrows {
                // What is left would be found too large one by one, and what was compared copied each time.
                if self.pairs > PAIRS_MAX {
                    self.unclear(place, TOO_LARGE);
                    return;
                }
                let found = self.attempt(|this| this.schemas(wide, narrow, place));
                if found.is_empty() {
                    fewest = Some(found);
                    break;
                }
                if fewest.as_ref().is_none_or(|fewest| found.len() < fewest.len()) {
                    fewest = Some(found);
                }
            }
            match fewest {
                Some(found) if narrows.len() == 1 || found.is_empty() => self.found.extend(found),
                _ => {
                    let name = named(followed(self.wide, wide));
                    self.narrowed(place, "other alternatives", &format!("the alternative {name}"));
                }
            }
        }
    }

    fn keywords(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, place: &Place) {
        let types = types(wide);
        self.types(&types, narrow, place);
        self.values(wide, narrow, place);
        if types.contains("number") || types.contains("integer") {
            self.numbers(wide, narrow, place);
        }
        if types.contains("string") {
            self.limits(wide, narrow, ["minLength", "maxLength", "characters"], place);
            self.texts(wide, narrow, place);
        }
        if types.contains("array") {
            self.limits(wide, narrow, ["minItems", "maxItems", "items"], place);
            if narrow.get("uniqueItems") == Some(&Value::Bool(true))
                && wide.get("uniqueItems") != narrow.get("uniqueItems")
            {
                self.narrowed(place, "items that all differ", "equal items");
            }
            self.parts(wide, narrow, "items", place);
        }
        if types.contains("object") {
            self.limits(wide, narrow, ["minProperties", "maxProperties", "properties"], place);
            self.objects(wide, narrow, place);
        }
        for keyword in RARE {
            match (wide.get(keyword), narrow.get(keyword)) {
                (_, None) if keyword != "then" && keyword != "else" => {}
                (Some(one), Some(other)) if self.keyword_alike(keyword, one, other, &mut HashSet::new(), 0) => {}
                (None, None) => {}
                _ => self.unclear(place, &format!("its {keyword} has changed")),
            }
        }
    }

    /// Whether two say the same of values, wherever that is written. A pair that is under way, or was, is alike as far
    /// as it goes: if it is not, that is found where it was met first, and then nothing is alike.
    fn alike(&mut self, one: &Value, other: &Value, met: &mut Met, depth: usize) -> bool {
        let (one, other) = (followed(self.wide, one), followed(self.narrow, other));
        if !one.is_object() && !one.is_array() {
            return one == other;
        }
        if !met.insert((one, other)) {
            return true;
        }
        self.pairs += 1;
        if self.pairs > PAIRS_MAX || depth > DEPTH_MAX {
            return false;
        }
        if let (Some(one), Some(other)) = (self.wide.target(one), self.narrow.target(other))
            && !self.alike(one, other, met, depth + 1)
        {
            return false;
        }
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => {
                let telling = |fields: &Map<String, Value>| -> BTreeSet<String> {
                    fields.keys().filter(|keyword| tells(keyword)).cloned().collect()
                };
                let keywords = telling(one);
                keywords == telling(other)
                    && keywords
                        .iter()
                        .all(|keyword| self.keyword_alike(keyword, &one[keyword], &other[keyword], met, depth + 1))
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len()
                    && one.iter().zip(other).all(|(one, other)| self.alike(one, other, met, depth + 1))
            }
            _ => false,
        }
    }

    /// The same of what stands under one keyword. Under some of them stand names, which may be those of keywords.
    fn keyword_alike(&mut self, keyword: &str, one: &Value, other: &Value, met: &mut Met, depth: usize) -> bool {
        match (keyword, one, other) {
            // What they lead to was compared.
            ("$ref", _, _) => true,
            ("const" | "enum", _, _) => one == other,
            (
                "properties" | "patternProperties" | "dependentSchemas" | "dependentRequired",
                Value::Object(one),
                Value::Object(other),
            ) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .all(|(name, one)| other.get(name).is_some_and(|other| self.alike(one, other, met, depth)))
            }
            _ => self.alike(one, other, met, depth),
        }
    }

    fn types(&mut self, wide: &BTreeSet<&str>, narrow: &'a Map<String, Value>, place: &Place) {
        let narrow = types(narrow);
        let allowed: Vec<_> = narrow.iter().copied().collect();
        let lost: Vec<_> = wide.iter().copied().filter(|r#type| !allows(&allowed, r#type)).collect();
        if !lost.is_empty() {
            self.narrowed(place, &allowed.join(", "), &lost.join(", "));
        }
    }

    fn values(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, place: &Place) {
        let Some(narrow) = values(narrow) else { return };
        match values(wide) {
            Some(wide) => {
                let lost: Vec<_> =
                    wide.iter().filter(|value| !narrow.contains(value)).map(ToString::to_string).collect();
                if !lost.is_empty() {
                    self.narrowed(place, "fewer values", &lost.join(", "));
                }
            }
            None => self.narrowed(place, "certain values alone", "others"),
        }
    }

    fn numbers(&mut self, wide: &Map<String, Value>, narrow: &Map<String, Value>, place: &Place) {
        // The higher bound is the stricter one below, the lower one above; of two equal ones, the exclusive one.
        for (keywords, sign) in [(["minimum", "exclusiveMinimum"], 1.0), (["maximum", "exclusiveMaximum"], -1.0)] {
            let bound = |fields: &Map<String, Value>| {
                let of = |keyword, exclusive| Some((fields.get(keyword)?.as_f64()? * sign, exclusive));
                let bounds = [of(keywords[0], false), of(keywords[1], true)];
                bounds
                    .into_iter()
                    .flatten()
                    .max_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal))
            };
            if let Some(bounded) = bound(narrow)
                && bound(wide).is_none_or(|former| former < bounded)
            {
                let limit = bounded.0 * sign;
                let kept = match keywords[usize::from(bounded.1)] {
                    "minimum" => format!("{limit} or more"),
                    "maximum" => format!("{limit} or less"),
                    "exclusiveMinimum" => format!("above {limit}"),
                    _ => format!("below {limit}"),
                };
                self.narrowed(place, &kept, "other numbers");
            }
        }
        let multiple = |fields: &Map<String, Value>| fields.get("multipleOf").and_then(Value::as_f64);
        if let Some(step) = multiple(narrow)
            && multiple(wide).is_none_or(|former| !is_whole(former / step))
        {
            self.narrowed(place, &format!("multiples of {step}"), "other numbers");
        }
    }

    fn limits(
        &mut self,
        wide: &Map<String, Value>,
        narrow: &Map<String, Value>,
        [least, most, parts]: [&str; 3],
        place: &Place,
    ) {
        let of = |fields: &Map<String, Value>, keyword: &str| fields.get(keyword).and_then(Value::as_u64);
        if let Some(limit) = of(narrow, least)
            && of(wide, least).unwrap_or(0) < limit
        {
            self.narrowed(place, &format!("of {limit} {parts} or more"), "of fewer");
        }
        if let Some(limit) = of(narrow, most)
            && of(wide, most).unwrap_or(u64::MAX) > limit
        {
            self.narrowed(place, &format!("of {limit} {parts} at most"), "of more");
        }
    }

    fn texts(&mut self, wide: &Map<String, Value>, narrow: &Map<String, Value>, place: &Place) {
        for keyword in ["pattern", "format", "contentEncoding", "contentMediaType"] {
            if let Some(form) = narrow.get(keyword)
                && wide.get(keyword) != Some(form)
            {
                self.narrowed(place, &format!("the {keyword} {form}"), "other texts");
            }
        }
    }

    fn objects(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, place: &Place) {
        let (wide_named, narrow_named) = (properties(wide), properties(narrow));
        let former = required(wide);
        for name in required(narrow).into_iter().filter(|name| !former.contains(name)) {
            let there = wide_named.is_some_and(|named| named.contains_key(name));
            self.needed(&place.field(name), there);
        }
        for (name, wide_field) in wide_named.into_iter().flatten() {
            let at = place.field(name);
            match (narrow_named.and_then(|named| named.get(name)), narrow.get("additionalProperties")) {
                (Some(narrow_field), _) => self.schemas(wide_field, narrow_field, &at),
                // Fields of an output that come new disturb nobody, unless they were ruled out.
                (None, None | Some(Value::Bool(true))) if self.side == Side::Output => {}
                (None, None | Some(Value::Bool(_))) => self.gone(&at),
                (None, Some(others)) => self.schemas(wide_field, others, &at),
            }
        }
        // Those of an output that were optional already, and are not named any more.
        if self.side == Side::Output {
            let lost = |name: &&String| {
                !required(narrow).contains(&name.as_str()) && !wide_named.is_some_and(|named| named.contains_key(*name))
            };
            for name in narrow_named.into_iter().flat_map(Map::keys).filter(lost) {
                self.gone(&place.field(name));
            }
        }
        self.parts(wide, narrow, "additionalProperties", place);
    }

    /// All parts that have no name of their own.
    fn parts(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, keyword: &str, place: &Place) {
        const ANY: &Value = &Value::Bool(true);
        let wide = wide.get(keyword).unwrap_or(ANY);
        match narrow.get(keyword) {
            Some(Value::Bool(false)) if wide.as_bool() != Some(false) => {
                self.closed(&place.field("*"), if keyword == "items" { "items" } else { "fields" });
            }
            Some(others) => self.schemas(wide, others, &place.field("*")),
            None => {}
        }
    }

    /// A field that the narrower side requires, and the wider one does not; it may not even name it.
    fn needed(&mut self, place: &Place, is_named: bool) {
        let (change, detail) = match self.side {
            Side::Input => (ChangeType::Required, "an input must have it now"),
            Side::Output if is_named => (ChangeType::Removed, "an output had it always, and may lack it now"),
            Side::Output => (ChangeType::Removed, "an output had it always, and has it no more"),
        };
        self.push(place, change, detail.into());
    }

    fn gone(&mut self, place: &Place) {
        let detail = match self.side {
            Side::Input => "an input could have it, and nobody looks at it now",
            Side::Output => "an output could have it, and has it no more",
        };
        self.push(place, ChangeType::Removed, detail.into());
    }

    /// The narrower side has no parts but those that it names.
    fn closed(&mut self, place: &Place, parts: &str) {
        let (change, detail) = match self.side {
            Side::Input => (ChangeType::Narrowed, format!("an input may have no other {parts} now")),
            Side::Output => (ChangeType::Widened, format!("an output had no other {parts}, and may have some now")),
        };
        self.push(place, change, detail);
    }

    /// The narrower side takes only `kept`, and not what is `lost` of the wider one.
    fn narrowed(&mut self, place: &Place, kept: &str, lost: &str) {
        let (change, detail) = match self.side {
            Side::Input => (ChangeType::Narrowed, format!("an input may be {kept} now; it could be {lost}")),
            Side::Output => (ChangeType::Widened, format!("an output was {kept}, and may be {lost} now")),
        };
        self.push(place, change, detail);
    }

    fn unclear(&mut self, place: &Place, detail: &str) {
        self.push(place, ChangeType::Unclear, detail.into());
    }

    fn push(&mut self, place: &Place, change: ChangeType, detail: String) {
        if self.found.len() < CHANGES_MAX {
            self.found.push(Change { at: place.at.clone(), change, detail: shorten(detail, DETAIL_MAX) });
        }
    }
}

/// What a schema refers to in the end, where it says nothing else itself.
fn followed<'a>(document: Document<'a>, mut schema: &'a Value) -> &'a Value {
    // It has an end: circles were refused. Whoever was stored before they were is not followed for ever.
    for _ in 0..DEPTH_MAX {
        let bare =
            schema.as_object().is_some_and(|fields| fields.keys().all(|keyword| keyword == "$ref" || !tells(keyword)));
        match document.target(schema) {
            Some(target) if bare => schema = target,
            _ => return schema,
        }
    }
    schema
}

/// Whether one number is a multiple of another, by their quotient: 1 is one of 0.01, though not in floating point.
fn is_whole(quotient: f64) -> bool {
    (quotient - quotient.round()).abs() <= quotient.abs() * f64::EPSILON * 4.0
}

/// Its keywords; `true` has none.
fn fields(schema: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    schema.as_object().unwrap_or(&NONE)
}

fn tells(keyword: &str) -> bool {
    !ANNOTATIONS.contains(&keyword)
}

fn alternatives(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    let list = fields.get("anyOf").or_else(|| fields.get("oneOf"))?.as_array()?;
    Some(list.iter().collect())
}

/// What a person may know an alternative by.
fn named(schema: &Value) -> String {
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        return format!("{title:?}");
    }
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut tags = fields.filter_map(|(name, field)| Some(format!("{name}: {}", field.get("const")?)));
    let r#type = || schema.get("type").map_or_else(|| "without a name".into(), |r#type| format!("of type {type}"));
    tags.next().unwrap_or_else(r#type)
}

/// The types that it takes, by its `type` or by the values that it names.
fn types(fields: &Map<String, Value>) -> BTreeSet<&str> {
    match (fields.get("type"), values(fields)) {
        (Some(Value::String(one)), _) => [one.as_str()].into(),
        (Some(Value::Array(several)), _) => several.iter().filter_map(Value::as_str).collect(),
        (_, Some(values)) => values.into_iter().map(type_of).collect(),
        _ => TYPES.into(),
    }
}

fn values(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (fields.get("const"), fields.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

fn properties(fields: &Map<String, Value>) -> Option<&Map<String, Value>> {
    fields.get("properties")?.as_object()
}

fn required(fields: &Map<String, Value>) -> BTreeSet<&str> {
    fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests;
