//! One thing that is told.

use schemars::JsonSchema;
use serde::Serialize;

/// More changes of one contract help nobody.
pub(super) const CHANGES_MAX: usize = 50;
/// So long is what is told of one, in bytes: values may be large.
pub(super) const DETAIL_MAX: usize = 300;

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
