//! Input that is no manifest, or too much of one: a clear error, never a panic, never unbounded
//! memory.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use holdfast_manifest::{Limits, Options, Source, Style, load};
use proptest::prelude::*;

use super::{messages, read};

/// Reads what must be refused, and gives the first finding in one line. It must not take long, even
/// unoptimized.
#[track_caller]
fn refused(text: impl Into<Vec<u8>>) -> String {
    let start = Instant::now();
    let findings = read(text).expect_err("accepted");
    findings.render(Style::Plain);
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    findings.iter().next().expect("an error without a finding").to_string()
}

#[test]
fn what_is_no_text() {
    assert_eq!(
        refused(*b"\x7fELF\x02\x01\0\0\xff\xfe"),
        "test.yaml:1:9: error: this is a binary file, not a manifest"
    );
    assert_eq!(
        refused(*b"a: b\nname: caf\xe9\n"),
        "test.yaml:2:10: error: not UTF-8: invalid byte 0xe9"
    );
    assert_eq!(
        refused(*b"\xff\xfea\0:\0"),
        "test.yaml:1:1: error: the text is UTF-16; only UTF-8 is read (save the file as UTF-8)"
    );
    assert_eq!(refused("a: b\0"), "test.yaml:1:5: error: this is a binary file, not a manifest");
}

#[test]
fn what_is_no_yaml() {
    for (text, expected) in [
        ("a: [1, 2\nb: 3\n", "test.yaml:2:"),
        ("a: 'x\n", "test.yaml:"),
        ("\ta: b\n", "test.yaml:1:"),
        ("a: *x\n", "test.yaml:1:4"),
        ("a: &x [*x]\n", "test.yaml:1:8: error: anchor value contains itself"),
        ("? [a]\n: b\n", "test.yaml:1:"),
        ("- a\n", "test.yaml:1:1: error: a document must be a mapping with apiVersion and kind"),
        ("just text\n", "test.yaml:1:1: error: a document must be a mapping"),
        ("name: {{ .Values.name }}\n", "test.yaml:1:8: error: a key must be a string"),
        ("{\"a\": 1,,}", "test.yaml:1:9: error: not JSON: expected a key in quotes"),
        ("{\"a\": \"\\x\"}", "test.yaml:1:9: error: not JSON: unknown escape"),
        ("{\"a\": 1", "test.yaml:1:8: error: not JSON: expected `,` or `}`"),
        ("a: .inf\n", "test.yaml:1:4: error: JSON has no number \".inf\""),
        ("a: !!int x\n", "test.yaml:1:"),
        ("null: a\n", "test.yaml:1:1: error: a key cannot be null"),
        ("<<: 3\n", "test.yaml:1:1: error: map merge requires map or sequence of maps"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(expected), "{text:?}: {error}");
    }
}

#[test]
fn two_broken_documents_are_two_findings() {
    let findings = read("a: [\n---\nb: 'x\n---\napiVersion: v1\nkind: Pod\n").unwrap_err();
    assert!(findings.iter().count() >= 2, "{findings}");
}

#[test]
fn duplicate_keys() {
    assert_eq!(
        refused("apiVersion: v1\nkind: Pod\nkind: Job\n"),
        "test.yaml:3:1: error: key \"kind\" already set in map \
         (remove one of the two, or put `---` between two documents)"
    );
    assert!(refused("{\"a\": 1, \"a\": 2}").starts_with("test.yaml:1:10: error: key \"a\""));
    let mut many = String::new();
    for i in 0..50_000 {
        writeln!(many, "k{i}: v").unwrap();
    }
    many.push_str("k7: again\n");
    assert!(refused(many).starts_with("test.yaml:50001:1: error: key \"k7\" already set"));
}

#[test]
fn depth() {
    for text in [
        "[".repeat(100_000),
        format!("a: {}", "{a: ".repeat(10_000)),
        "{\"a\":".repeat(50_000),
        "- ".repeat(10_000),
        (0..2_000).fold(String::new(), |mut s, i| {
            writeln!(s, "{}a:", " ".repeat(i)).unwrap();
            s
        }),
    ] {
        let error = refused(text);
        assert!(
            error.contains("nest") || error.contains("deep") || error.contains("limit"),
            "{error}"
        );
    }
    // Depth by aliases counts as well.
    let mut aliases = "a0: &a0 [x]\n".to_owned();
    for i in 1..200 {
        writeln!(aliases, "a{i}: &a{i} [*a{}]", i - 1).unwrap();
    }
    assert!(refused(aliases).contains("nested deeper than 100 levels"));
}

#[test]
fn alias_bombs() {
    let mut lists = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..40 {
        let previous = format!("*a{}", i - 1);
        writeln!(lists, "a{i}: &a{i} [{}]", vec![previous; 10].join(", ")).unwrap();
    }
    assert!(refused(lists).contains("more than 1000000 values"));
    let mut merges = "base: &b\n".to_owned();
    for i in 0..2_000 {
        writeln!(merges, "  k{i}: v").unwrap();
    }
    for i in 0..2_000 {
        writeln!(merges, "m{i}: {{<<: *b}}").unwrap();
    }
    assert!(refused(merges).contains("more than 1000000 values"));
}

#[test]
fn size() {
    let mut options = Options::default();
    options.limits = Limits { bytes: 1000, ..Limits::default() };
    let source = Source::new("big.yaml", "#".repeat(1001));
    let findings = load(&[source], &options).unwrap_err();
    assert_eq!(
        findings.to_string(),
        "big.yaml:1:1: error: the input has 1001 bytes; at most 1000 are read (split the file)"
    );
    assert!(refused(vec![b'['; 17 << 20]).contains("at most 16777216 are read"));
    options.limits = Limits { nodes: 1000, ..Limits::default() };
    for (count, expected) in [(500, "document must be a mapping"), (1000, "more than 1000 values")]
    {
        let many = Source::new("many.yaml", format!("[{}]", "a,".repeat(count)));
        let findings = load(&[many], &options).unwrap_err();
        assert!(findings.to_string().contains(expected), "{findings}");
    }
    // Documents are counted together.
    let documents = Source::new("many.yaml", "---\na: b\n".repeat(600));
    let findings = load(&[documents], &options).unwrap_err();
    assert!(findings.to_string().contains("more than 1000 values"), "{findings}");
}

fn ten_thousand() -> String {
    let mut text =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: big}\nspec:\n  containers:\n".to_owned();
    for i in 0..10_000 {
        writeln!(text, "  - name: c{i}\n    image: i").unwrap();
    }
    text
}

#[test]
fn ten_thousand_containers_are_read() {
    let start = Instant::now();
    assert_eq!(super::pod(&ten_thousand()).spec.containers.len(), 10_000);
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
}

#[test]
fn ten_thousand_errors_are_listed_up_to_a_number() {
    for wrong in [("image: i", "imag: i"), ("name: c", "name: C")] {
        let start = Instant::now();
        let findings = read(ten_thousand().replace(wrong.0, wrong.1)).unwrap_err();
        assert_eq!((findings.iter().count(), findings.omitted()), (100, 9_900));
        assert!(findings.to_string().ends_with("… and 9900 more"));
        assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    }
}

#[test]
fn an_error_is_shown_safely() {
    // A line of one megabyte is not printed, and control characters are escaped.
    let long = format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"x\": \"{}\"}}",
        "y".repeat(1 << 20)
    );
    let findings = read(long).unwrap_err();
    assert!(findings.render(Style::Plain).len() < 4_000);
    let findings = read("apiVersion: v1\nkind: Pod\n\"\\e[31m\": 1\n").unwrap_err();
    assert!(!findings.render(Style::Plain).contains('\u{1b}'));
    assert!(!findings.to_string().contains('\u{1b}'));
}

#[test]
fn every_error_of_every_document() {
    let text = "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
    assert_eq!(
        messages(read(text)),
        [
            "metadata.name: Required value: name or generateName is required",
            "spec.containers: Required value",
            "spec.containers: Required value",
        ]
    );
}

/// The seeds of the fuzz target, as something to damage.
fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/manifest");
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    all.sort();
    all.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(bytes);
    }

    #[test]
    fn any_yaml_like_text(text in "[-a-c:{}\\[\\],&*!|>'\"#%@ \\n\\t0-9.~<]{0,200}") {
        check(text.into_bytes());
    }

    #[test]
    fn damaged_manifests(
        seed in 0..100_usize,
        cut in any::<prop::sample::Index>(),
        len in 0..30_usize,
        put in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let seeds = seeds();
        let mut bytes = seeds[seed % seeds.len()].clone();
        let from = cut.index(bytes.len());
        let to = (from + len).min(bytes.len());
        bytes.splice(from..to, put);
        check(bytes);
    }
}

fn check(bytes: Vec<u8>) {
    match read(bytes) {
        Ok(loaded) => drop(loaded.warnings.render(Style::Plain)),
        Err(findings) => {
            assert!(findings.has_errors());
            findings.render(Style::Colored);
            findings.iter().for_each(|f| assert!(f.position().line > 0));
        }
    }
}
