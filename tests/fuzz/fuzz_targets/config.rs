//! libFuzzer calls `sessiongate_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::config::check(bytes));
