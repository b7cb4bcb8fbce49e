//! libFuzzer calls `sessiongate_fuzz::target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::target::check(bytes));
