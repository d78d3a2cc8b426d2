//! Rebuilds the crate when a migration changes: they are part of it.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
