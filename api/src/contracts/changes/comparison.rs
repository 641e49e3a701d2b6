//! Two schemas, keyword by keyword.

use std::collections::{BTreeSet, HashSet};

use buzzer_shared::contract::{Document, allows};
use buzzer_shared::text::shorten;
use serde_json::{Map, Value};

use super::alike::Likeness;
use super::apart::Apart;
use super::change::{CHANGES_MAX, Change, ChangeType, DETAIL_MAX};
use super::keywords::{
    alternatives, fields, followed, has_field, is_whole, named, properties, required, tells, text, types, values,
};

/// So many pairs of schemas are compared; alternatives of alternatives make many.
pub(super) const PAIRS_MAX: usize = 5_000;
pub(super) const TOO_LARGE: &str = "the schemas are too large to be compared to their end";
/// So deep do the two go into each other.
pub(super) const DEPTH_MAX: usize = 100;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// Where `narrow` refuses what `wide` takes.
pub(super) fn compare(side: Side, wide: &Value, narrow: &Value) -> Vec<Change> {
    let mut comparison = Comparison {
        side,
        wide: Document { root: wide },
        narrow: Document { root: narrow },
        compared: HashSet::new(),
        found: Vec::new(),
        pairs: 0,
        apart: Apart::of(Document { root: narrow }),
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
pub(super) type Met = HashSet<(*const Value, *const Value)>;

#[derive(Debug)]
pub(super) struct Comparison<'a> {
    side: Side,
    wide: Document<'a>,
    narrow: Document<'a>,
    /// Pairs that were compared, or are: what refers to itself must come to an end.
    compared: Met,
    found: Vec<Change>,
    pairs: usize,
    apart: Apart<'a>,
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
    fn alternative_keywords(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, place: &Place) {
        let beside = narrow.contains_key("anyOf");
        match (wide.get("oneOf"), narrow.get("oneOf")) {
            (None, Some(_)) if wide.contains_key("anyOf") => {
                let (former, now) = if self.side == Side::Input { ("anyOf", "oneOf") } else { ("oneOf", "anyOf") };
                self.unclear(place, &format!("its {former} is a {now} now"));
            }
            (Some(wide), Some(narrow)) if beside && !self.alike("oneOf", wide, narrow) => {
                self.unclear(place, "its oneOf has changed, beside its anyOf");
            }
            (None, Some(_)) if beside => self.unclear(place, "its oneOf has changed, beside its anyOf"),
            (wide, Some(narrow)) if !beside => self.choice(wide, narrow, place),
            _ => {}
        }
    }

    /// Of `oneOf`, a value that fits two alternatives is refused. Those that both were there refused it before.
    fn choice(&mut self, wide: Option<&'a Value>, narrow: &'a Value, place: &Place) {
        let list = |list: &'a Value| list.as_array().map(Vec::as_slice).unwrap_or_default();
        let (before, now) = (wide.map(list).unwrap_or_default(), list(narrow));
        let mut were_there = None;
        for (at, one) in now.iter().enumerate() {
            for (beside, other) in now.iter().enumerate().skip(at + 1) {
                if self.apart.are(one, other) {
                    continue;
                }
                let were_there = were_there.get_or_insert_with(|| self.among(before, now));
                if !(were_there[at] && were_there[beside]) {
                    let detail = match self.side {
                        Side::Input => "what fits two alternatives of its oneOf is refused now",
                        Side::Output => "an output may fit two alternatives of its former oneOf now",
                    };
                    self.unclear(place, detail);
                    return;
                }
            }
        }
    }

    /// For each schema of the narrower side, whether one of these of the wider side says the same: each one of its own.
    fn among(&mut self, wides: &[Value], narrows: &[Value]) -> Vec<bool> {
        let mut left: Vec<_> = wides.iter().collect();
        let mut take = |narrow: &Value| {
            let found = left.iter().position(|wide| self.likeness().schemas(wide, narrow, 0));
            found.map(|at| left.swap_remove(at)).is_some()
        };
        narrows.iter().map(&mut take).collect()
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
                (Some(one), Some(other)) if self.alike(keyword, one, other) => {}
                (None, None) => {}
                _ => self.unclear(place, &format!("its {keyword} has changed")),
            }
        }
    }

    fn alike(&mut self, keyword: &str, wide: &Value, narrow: &Value) -> bool {
        self.likeness().keyword(keyword, wide, narrow, 0)
    }

    fn likeness(&mut self) -> Likeness<'a, '_> {
        Likeness { one: self.wide, other: self.narrow, pairs: &mut self.pairs, met: Met::new() }
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
                let narrow: HashSet<_> = narrow.into_iter().map(text).collect();
                let lost: Vec<_> = wide.into_iter().map(text).filter(|value| !narrow.contains(value)).collect();
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
        let former = required(wide);
        for name in required(narrow).into_iter().filter(|name| !former.contains(name)) {
            self.needed(&place.field(name), has_field(wide, name));
        }
        self.named_fields(wide, narrow, place);
        self.newly_named_fields(wide, narrow, place);
        self.parts(wide, narrow, "additionalProperties", place);
    }

    /// The fields that the wider side names.
    fn named_fields(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, place: &Place) {
        let narrow_named = properties(narrow);
        for (name, wide_field) in properties(wide).into_iter().flatten() {
            let at = place.field(name);
            match (narrow_named.and_then(|named| named.get(name)), narrow.get("additionalProperties")) {
                (Some(narrow_field), _) => self.schemas(wide_field, narrow_field, &at),
                // Fields of an output that come new disturb nobody, unless they were ruled out.
                (None, None | Some(Value::Bool(true))) if self.side == Side::Output => {}
                (None, Some(Value::Bool(false))) if self.side == Side::Input => self.refused(&at),
                (None, None | Some(Value::Bool(_))) => self.gone(&at),
                (None, Some(others)) => self.schemas(wide_field, others, &at),
            }
        }
    }

    /// The fields that the narrower side alone names.
    fn newly_named_fields(&mut self, wide: &'a Map<String, Value>, narrow: &'a Map<String, Value>, place: &Place) {
        let others = wide.get("additionalProperties").filter(|others| others.is_object());
        let former = required(narrow);
        for (name, field) in properties(narrow).into_iter().flatten().filter(|(name, _)| !has_field(wide, name)) {
            match others {
                Some(others) => self.schemas(others, field, &place.field(name)),
                // An output had it now and then, and one that it had always was told of already.
                None if self.side == Side::Output && !former.contains(name.as_str()) => self.gone(&place.field(name)),
                None => {}
            }
        }
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

    fn refused(&mut self, place: &Place) {
        self.push(place, ChangeType::Removed, "an input could have it, and is refused with it now".into());
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
