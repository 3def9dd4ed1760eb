//! The program; see `pqhost::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pqhost::cli::main()
}
