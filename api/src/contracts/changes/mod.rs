//! What a contract breaks of the one before it: who was written for that one may be refused, or miss something.
//!
//! In reading order: [`change`] is what is told, [`comparison`] finds it keyword by keyword, with what [`keywords`] reads of
//! one schema, and what [`alike`] and [`apart`] tell of two.

mod alike;
mod apart;
mod change;
mod comparison;
mod keywords;

use buzzer_shared::contract::on_a_deep_stack;
use buzzer_shared::kind::{DeliveryMode, KindSpec};

use change::CHANGES_MAX;
pub use change::{Change, ChangeType};
use comparison::{Side, compare};

/// What `new` breaks of `old`. Empty when everybody who was written for `old` can go on, as far as plain keywords tell.
pub fn changes(old: &KindSpec, new: &KindSpec) -> Vec<Change> {
    // Inputs that were taken must still be taken; outputs that come now must have been possible before.
    let mut found = on_a_deep_stack(|| compare(Side::Input, &old.input_schema, &new.input_schema));
    found.extend(on_a_deep_stack(|| compare(Side::Output, &new.output_schema, &old.output_schema)));
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

#[cfg(test)]
mod tests;
