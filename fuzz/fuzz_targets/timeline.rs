#![no_main]
//! See `fuzz/src/timeline.rs`: what is there is built and run by the tests too.

#[path = "../src/timeline.rs"]
mod timeline;

libfuzzer_sys::fuzz_target!(|data: &[u8]| timeline::run(data));
