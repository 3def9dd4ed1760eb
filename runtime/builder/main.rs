//! Turns the component that componentize-py made into what pqhost embeds: code without data, and a base image.
//!
//! `build-runtime PYTHON.wasm OUT_DIR` writes `OUT_DIR/runtime.wasm.zst` and `OUT_DIR/base.image`.
//!
//! 1. Snapshot: wizer instruments the component, its export `prime` runs once, and the primed globals and memory become
//!    the component's initial ones.
//! 2. Split: the data segments come out of the core modules and become the base image.
//! 3. Immortality: the reference counts that `prime` names get the value that the interpreter never changes.
//! 4. Reset: an export `reset` is added that sets every mutable global to its initial value.
//!
//! The result is checked with the same rules that the host applies at every start.
#![expect(clippy::print_stderr, reason = "a build tool talks to its user")]

mod immortal;
mod snapshot;
mod split;

use std::{path::PathBuf, time::Instant};

use anyhow::{Context as _, Result, bail};
use pqhost::sandbox::{image::PageSet, rewindable};

/// Highest level that pays: 19 takes a minute for 3 % less.
const ZSTD_LEVEL: i32 = 12;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(input), Some(output), None) = (args.next(), args.next(), args.next()) else {
        bail!("usage: build-runtime PYTHON.wasm OUT_DIR");
    };
    let component = std::fs::read(&input).with_context(|| format!("reading {}", input.display()))?;
    let start = Instant::now();
    let snapshot = snapshot::take(&component).context("taking the snapshot")?;
    eprintln!("primed and snapshot in {:.1} s", start.elapsed().as_secs_f64());
    let split::Split { component, mut memory } =
        split::split(&snapshot.component).context("splitting code from data")?;
    let n_immortal = immortal::set(&mut memory, &snapshot.reference_counts)?;
    let image = PageSet::nonzero(&memory);
    rewindable::check(&component).context("the result breaks a rule of rewinding")?;
    eprintln!(
        "code {} KiB, base image {} of {} pages, {n_immortal} objects made immortal",
        component.len() >> 10,
        image.n_pages(),
        image.memory_bytes() / 4096
    );

    std::fs::create_dir_all(&output)?;
    std::fs::write(output.join("runtime.wasm.zst"), zstd::bulk::compress(&component, ZSTD_LEVEL)?)?;
    std::fs::write(output.join("base.image"), image.encode(ZSTD_LEVEL, &[])?)?;
    eprintln!("runtime built in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
