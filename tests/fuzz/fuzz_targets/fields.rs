//! libFuzzer calls `sessiongate_fuzz::fields`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::fields::check(bytes));
