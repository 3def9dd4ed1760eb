//! Any text is scanned for placeholders, and keeps everything else.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pqhost::data::fuzzing::check_scanner(input));
