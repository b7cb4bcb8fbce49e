//! libFuzzer calls `sessiongate_fuzz::framing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::framing::check(bytes));
