//! The fuzz target with its seeds, whole and cut off anywhere: it builds, and what it asserts holds.

#[path = "../../../../fuzz/src/manifest.rs"]
mod target;

use std::path::Path;

#[test]
fn the_fuzz_target_holds_for_its_seeds() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/manifest");
    let mut count = 0;
    for seed in std::fs::read_dir(&seeds).unwrap() {
        let bytes = std::fs::read(seed.unwrap().path()).unwrap();
        target::run(&bytes);
        for cut in (0..bytes.len()).step_by(211) {
            target::run(&bytes[..cut]);
            target::run(&bytes[cut..]);
        }
        count += 1;
    }
    assert!(count > 5, "{count} seeds in {}", seeds.display());
}
