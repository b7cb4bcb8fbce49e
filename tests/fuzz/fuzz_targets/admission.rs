//! libFuzzer calls `sessiongate_fuzz::admission`.

#![no_main]

use sessiongate_fuzz::admission::{Call, check};

libfuzzer_sys::fuzz_target!(|call: Call<'_>| check(&call));
