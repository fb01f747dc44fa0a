//! Who may know whom: the architecture as a table, checked against the sources.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::loc::{packages, read, relative, rust_files};
use crate::run::{cargo, root};

/// A crate of the workspace.
struct Room {
    name: &'static str,
    /// A crate may only depend on crates of lower floors. `None` is outside the house: it may know
    /// everybody, and nobody may depend on it.
    floor: Option<u8>,
    /// Crates that must not be anywhere in its tree of dependencies; `*` at the end stands for any
    /// ending.
    strangers: &'static [&'static str],
}

/// The house. A new crate has to be entered here, and in `CONTRIBUTING.md`.
const HOUSE: &[Room] = &[
    Room { name: "holdfast-cli", floor: Some(4), strangers: &[] },
    Room {
        name: "holdfast-helpers",
        floor: Some(3),
        strangers: &["kube*", "k8s-openapi", "clap*"],
    },
    Room { name: "holdfast-agent", floor: Some(3), strangers: &["kube*", "k8s-openapi", "clap*"] },
    Room { name: "holdfast-manager", floor: Some(3), strangers: &["holdfast-runtime", "clap*"] },
    Room {
        name: "holdfast-apiproxy",
        floor: Some(2),
        strangers: &["kube*", "k8s-openapi", "clap*"],
    },
    Room {
        name: "holdfast-explain",
        floor: Some(2),
        strangers: &["tokio*", "kube*", "k8s-openapi", "clap*"],
    },
    Room {
        name: "holdfast-runtime",
        floor: Some(2),
        strangers: &["kube*", "k8s-openapi", "clap*"],
    },
    Room {
        name: "holdfast-wireguard",
        floor: Some(2),
        strangers: &["kube*", "k8s-openapi", "clap*"],
    },
    Room {
        name: "holdfast-manifest",
        floor: Some(1),
        strangers: &["tokio*", "k8s-openapi", "kube*"],
    },
    Room { name: "holdfast-sys", floor: Some(1), strangers: &["holdfast-*", "tokio*"] },
    Room { name: "holdfast-election", floor: Some(0), strangers: IMPURE },
    Room { name: "holdfast-lifecycle", floor: Some(0), strangers: IMPURE },
    Room { name: "holdfast-serf", floor: Some(0), strangers: IMPURE_BUT_FOR_FORMATS },
    Room { name: "holdfast-membership", floor: Some(0), strangers: SEALED },
    Room { name: "holdfast-actor", floor: None, strangers: &[] },
    Room { name: "holdfast-bench", floor: None, strangers: &[] },
    Room { name: "holdfast-e2e", floor: None, strangers: &[] },
    Room { name: "xtask", floor: None, strangers: &[] },
];

/// What the pure rooms must do without: clocks, IO, async and formats.
const IMPURE: &[&str] = &[
    "async*",
    "chrono",
    "crossbeam*",
    "futures*",
    "getrandom",
    "granit-parser",
    "holdfast-*",
    "libc",
    "mio",
    "nix",
    "rand*",
    "rustix",
    "serde*",
    "socket2",
    "time",
    "tokio*",
    "windows*",
];

/// What a pure room that speaks somebody else's wire format must do without.
const IMPURE_BUT_FOR_FORMATS: &[&str] = &[
    "async*",
    "chrono",
    "crossbeam*",
    "futures*",
    "getrandom",
    "holdfast-*",
    "mio",
    "nix",
    "rustix",
    "socket2",
    "time",
    "tokio*",
];

/// What `membership` must do without. It has cryptography, and with it what `ring` and foca bring along (which
/// it does not use: its dice are seeded by the caller), and it reads one JSON file's content.
const SEALED: &[&str] = &[
    "async*",
    "chrono",
    "crossbeam*",
    "futures*",
    "holdfast-*",
    "kube*",
    "mio",
    "nix",
    "rustix",
    "socket2",
    "time",
    "tokio*",
    "windows*",
];

/// What the sources of the pure rooms must not say: that would be a clock, IO or a thread.
const IMPURE_WORDS: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "async fn",
    "SystemRandom",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "std::thread",
    "thread_rng",
];

/// The one crate that may contain `unsafe`.
const UNSAFE: &str = "sys";

pub(crate) fn run() -> Result<()> {
    let mut faults = Vec::new();
    for member in members()? {
        let Some(room) = HOUSE.iter().find(|room| room.name == member) else {
            faults.push(format!("{member}: not in the table of crates/xtask/src/purity.rs"));
            continue;
        };
        check_tree(room, &mut faults)?;
    }
    for package in packages()? {
        check_unsafe(&package, &mut faults)?;
    }
    for room in ["election", "lifecycle", "membership", "serf"] {
        for file in rust_files(&root().join("crates").join(room).join("src"))? {
            let text = read(&file)?;
            for (line, words) in spoken(&text) {
                for word in IMPURE_WORDS.iter().filter(|&word| words.contains(word)) {
                    let at = relative(&file);
                    faults.push(format!("{}:{line}: {room} says `{word}`", at.display()));
                }
            }
        }
    }
    if !faults.is_empty() {
        for fault in &faults {
            println!("{fault}");
        }
        bail!("{} faults in the architecture (docs/architecture.md)", faults.len());
    }
    eprintln!("xtask: {} crates keep to the architecture", packages()?.len());
    Ok(())
}

/// The crates of the workspace.
fn members() -> Result<Vec<String>> {
    let tree =
        cargo(["tree", "--workspace", "--depth", "0", "--prefix", "none", "--format", "{p}"])
            .args(["--locked"])
            .text()?;
    Ok(names(&tree).into_iter().collect())
}

fn check_tree(room: &Room, faults: &mut Vec<String>) -> Result<()> {
    let tree =
        cargo(["tree", "--package", room.name, "--edges", "normal,build", "--prefix", "none"])
            .args(["--format", "{p}", "--locked"])
            .text()?;
    for name in names(&tree).iter().filter(|&name| name != room.name) {
        if room.strangers.iter().any(|pattern| matches(pattern, name)) {
            faults
                .push(format!("{} must not know {name} (cargo tree -p {0} -i {name})", room.name));
        }
        let Some(other) = HOUSE.iter().find(|room| room.name == name) else { continue };
        let allowed = match (room.floor, other.floor) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(from), Some(to)) => to < from,
        };
        if !allowed {
            faults.push(format!("{} must not depend on {name}: arrows only go down", room.name));
        }
    }
    Ok(())
}

/// The names in lines such as `name v1.2.3 (path)`.
fn names(tree: &str) -> BTreeSet<String> {
    tree.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Outside of `sys` every crate root forbids unsafe code, and no file has the word.
fn check_unsafe(package: &Path, faults: &mut Vec<String>) -> Result<()> {
    if package.file_name().is_some_and(|name| name == UNSAFE) {
        return Ok(());
    }
    let mut roots = vec![package.join("src/lib.rs"), package.join("src/main.rs")];
    roots.extend(rust_files(&package.join("src/bin"))?);
    for file in roots.iter().filter(|file| file.is_file()) {
        if !read(file)?.contains("#![forbid(unsafe_code)]") {
            let at = relative(file);
            faults.push(format!("{}: no #![forbid(unsafe_code)]", at.display()));
        }
    }
    for file in rust_files(package)? {
        let text = read(&file)?;
        for (line, words) in spoken(&text) {
            if has_word(words, "unsafe") {
                let at = relative(&file);
                faults.push(format!("{}:{line}: unsafe outside of crates/{UNSAFE}", at.display()));
            }
        }
    }
    Ok(())
}

/// The lines of a file with their numbers, without comments and without what is in quotes.
fn spoken(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (i + 1, code.split('"').next().unwrap_or_default())
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_and_beginnings() {
        assert!(matches("tokio*", "tokio-rustls") && matches("tokio*", "tokio"));
        assert!(matches("rand", "rand") && !matches("rand", "rand_core"));
    }

    #[test]
    fn only_code_is_looked_at() {
        let text = "// unsafe\nlet x = \"unsafe\"; // unsafe\nunsafe { y() }\nunsafe_code\n";
        let found: Vec<usize> =
            spoken(text).filter(|(_, l)| has_word(l, "unsafe")).map(|(n, _)| n).collect();
        assert_eq!(found, [3]);
    }

    #[test]
    fn names_of_a_tree() {
        let tree = "a v1.0.0 (/x)\nb v2.0.0\nb v2.0.0 (*)\n\nc v0.1.0 (proc-macro)\n";
        assert_eq!(names(tree).into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }
}
