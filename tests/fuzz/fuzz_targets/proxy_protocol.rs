//! libFuzzer calls `sessiongate_fuzz::proxy_protocol`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessiongate_fuzz::proxy_protocol::check(bytes));
