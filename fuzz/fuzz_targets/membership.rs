#![no_main]
//! See `fuzz/src/membership.rs`: what is there is built and run by the tests too.

#[path = "../src/membership.rs"]
mod membership;

libfuzzer_sys::fuzz_target!(|data: &[u8]| membership::run(data));
