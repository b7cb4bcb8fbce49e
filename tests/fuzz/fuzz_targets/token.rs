//! libFuzzer calls `sessiongate_fuzz::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::token::check(bytes));
