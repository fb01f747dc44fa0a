//! Tests of the whole door: bytes in, objects or findings out.

mod corpus;

use holdfast_manifest::{Diagnostics, Loaded, Options, Source, load};

/// Loads one source called `test.yaml`.
fn read(text: impl Into<Vec<u8>>) -> Result<Loaded, Diagnostics> {
    load(&[Source::new("test.yaml", text)], &Options::default())
}
