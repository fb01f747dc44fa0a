//! What the program weighs. `cargo xtask image` refuses an image of more than 20 MB, but makes a release build for
//! that, which takes minutes. This holds it between: nothing large comes in unnoticed.

use super::HOLDFAST;

/// Bytes that are loaded of a development build: a fifth more than on 2026-11-22, when the release build had 17.1
/// MB. Whoever must raise it looks at the image first.
const MOST_OF_DEV: u64 = 62_000_000;
/// Of a release build: what was promised.
const MOST: u64 = 20_000_000;

#[test]
fn nothing_large_has_come_in() {
    let program = std::fs::read(HOLDFAST).unwrap();
    let loaded = loaded(&program);
    let most = if cfg!(debug_assertions) { MOST_OF_DEV } else { MOST };
    println!("loaded of the program: {loaded} bytes");
    assert!(loaded <= most, "{loaded} bytes are loaded of the program, and {most} may be");
}

/// The bytes of all segments that are loaded, without symbols and the like (ELF: `PT_LOAD`, `p_filesz`).
fn loaded(elf: &[u8]) -> u64 {
    let number = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&elf[at..at + size]);
        u64::from_le_bytes(bytes)
    };
    assert_eq!(elf[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian");
    let index = |at, size| usize::try_from(number(at, size)).unwrap();
    let (table, size, count) = (index(0x20, 8), index(0x36, 2), index(0x38, 2));
    let headers = (0..count).map(|n| table + n * size);
    headers.filter(|at| number(*at, 4) == 1).map(|at| number(at + 0x20, 8)).sum()
}
