//! Tells the library where the built Python runtime is, if there is one yet.

#![expect(clippy::disallowed_methods, reason = "cargo talks to build scripts through the environment")]

use std::{env, fs, path::Path};

/// What `runtime/build.sh` makes and the binary embeds.
const FILES: [&str; 2] = ["runtime.wasm.zst", "base.image"];

fn main() {
    let manifest = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let output = env::var("OUT_DIR").expect("cargo sets it");
    for file in FILES {
        let built = Path::new(&manifest).join("runtime/build").join(file);
        println!("cargo::rerun-if-changed={}", built.display());
        // Without a runtime the crate must still compile: the tool that builds the runtime is part of it.
        let content = fs::read(&built).unwrap_or_default();
        fs::write(Path::new(&output).join(file), content).expect("cargo's output directory is writable");
    }
}
