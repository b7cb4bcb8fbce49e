//! libFuzzer calls `sessiongate_fuzz::key_set`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::key_set::check(bytes));
