#![no_main]
//! See `fuzz/src/manifest.rs`: what is there is built and run by the tests too.

#[path = "../src/manifest.rs"]
mod manifest;

libfuzzer_sys::fuzz_target!(|data: &[u8]| manifest::run(data));
