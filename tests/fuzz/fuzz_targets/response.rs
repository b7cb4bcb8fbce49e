//! libFuzzer calls `sessiongate_fuzz::response`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::response::check(bytes));
