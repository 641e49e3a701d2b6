//! Migrations are compiled in: when one changes, the crate must be compiled again.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
