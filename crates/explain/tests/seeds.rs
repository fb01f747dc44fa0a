//! The fuzz target with its seeds, and with what becomes of them if something in them is exchanged: it
//! builds, and what it asserts holds.

#![allow(clippy::unwrap_used, reason = "a test program")]

#[path = "../../../fuzz/src/timeline.rs"]
mod target;

use std::path::Path;

/// What is put in the place of something.
const ODD: [&str; 10] = [
    "0",
    "-1",
    "1e308",
    "1e-320",
    "4294967295",
    "\"\"",
    "null",
    "\"\\u202e\\u0007\"",
    "\"x\"",
    "[]",
];

#[test]
fn the_fuzz_target_holds_for_its_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/timeline");
    let mut count = 0;
    for seed in std::fs::read_dir(&seeds).unwrap() {
        let text = std::fs::read_to_string(seed.unwrap().path()).unwrap();
        target::run(text.as_bytes());
        // Each value in its turn, one of many at a time: `"at": 0.1,`.
        let values: Vec<(usize, usize)> = text
            .match_indices(": ")
            .map(|(at, _)| (at + 2, at + text[at..].find(['\n', ',', '}']).unwrap()))
            .collect();
        assert!(values.len() > 30, "{}", values.len());
        for (turn, (from, to)) in values.into_iter().enumerate() {
            for odd in [ODD[turn % ODD.len()], ODD[(turn / 3 + 4) % ODD.len()]] {
                target::run([&text[..from], odd, &text[to..]].concat().as_bytes());
            }
        }
        count += 1;
    }
    assert!(count > 1, "{count} seeds in {}", seeds.display());
}
