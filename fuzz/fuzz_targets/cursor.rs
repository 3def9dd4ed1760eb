//! Any text is read or refused as a cursor, and the host's own cursors are read as what they were made of.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pqhost::ingress::fuzzing::check_cursor(input));
