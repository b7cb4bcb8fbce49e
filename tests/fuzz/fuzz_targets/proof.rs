//! libFuzzer calls `sessiongate_fuzz::proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::proof::check(bytes));
