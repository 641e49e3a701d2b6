//! A stack for what goes as deep as others say.

/// Many schemas may bear on each level of a value, and one schema hold another hundreds of times.
const STACK: usize = 64 << 20;

/// Runs it on a stack that holds whatever the bounds of schemas and values allow. Only what is used of it takes memory;
/// where the system gives no room for it at all, this panics, as running without would end the process.
pub fn on_a_deep_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::grow(STACK, run)
}
