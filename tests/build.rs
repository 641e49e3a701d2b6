//! Links a `getrandom` without chance into the program `simulate`, and into nothing else.

fn main() {
    let chance = "src/bin/getrandom.c";
    println!("cargo::rerun-if-changed={chance}");
    for object in cc::Build::new().file(chance).compile_intermediates() {
        println!("cargo::rustc-link-arg-bin=simulate={}", object.display());
    }
    // The crates that ask for chance look for it by name.
    println!("cargo::rustc-link-arg-bin=simulate=-Wl,--export-dynamic-symbol=getrandom");
}
