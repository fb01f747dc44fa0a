use super::*;

#[test]
fn times_read_well() {
    let of = |s: f64| time(s).to_string();
    let cases = [
        (0.0, "0 s"),
        (0.000_004, "0.1 ms"),
        (0.0012, "1.2 ms"),
        (0.0123, "12 ms"),
        (0.999_4, "999 ms"),
        (0.999_9, "1 s"),
        (1.25, "1.25 s"),
        (9.996, "10 s"),
        (61.04, "61 s"),
        (99.96, "100 s"),
        (119.4, "119 s"),
        (119.6, "2m00s"),
        (125.0, "2m05s"),
        (3720.0, "1h02m"),
        (-0.5, "−500 ms"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(of(seconds), expected, "{seconds}");
    }
    // Nonsense is no reason to fail.
    let _ = (of(f64::MAX), of(f64::INFINITY), of(f64::NAN));
}

#[test]
fn scales_have_few_round_steps() {
    for end in [1e-6, 0.003, 0.07, 1.0, 2.7, 59.0, 61.0, 700.0, 86_400.0, 1e9] {
        for most in 1..12 {
            let steps = scale(end, most);
            assert!(steps.len() <= most + 1, "{end} {most}: {steps:?}");
            assert!(steps.iter().all(|&s| s <= end * 1.001), "{end} {most}: {steps:?}");
        }
    }
    assert_eq!(scale(2.7, 6), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    assert_eq!(scale(700.0, 6), [0.0, 120.0, 240.0, 360.0, 480.0, 600.0]);
}

#[test]
fn text_cannot_leave_its_place() {
    let evil = "</script><b x='1' y=\"2\">&amp;\u{202e}\u{0}\u{b}\u{ffff}\n";
    let escaped = escape(evil);
    assert!(
        !escaped.contains(['<', '>', '"', '\'', '\u{202e}', '\u{0}', '\u{b}', '\u{ffff}', '\n'])
    );
    assert!(escaped.starts_with("&lt;/script&gt;&lt;b x=&#39;1&#39;"));
    assert!(escaped.contains("&amp;amp;"));
    assert_eq!(visible("a\u{202e}b\nc"), "a<U+202E>b\nc");
    assert_eq!(clean("a\nb\u{7}", 10), "a b\u{fffd}");
    assert_eq!(clean("abcdef", 4), "abc…");
    assert_eq!(clean("äöü", 3), "äöü");
    assert_eq!(clean("日本語", 6), "日本語");
    assert_eq!(clean("日本語", 5), "日本…");
    assert_eq!(clean("日本語", 4), "日…");
    assert_eq!([columns("日本"), columns("e\u{301}"), columns("a b")], [4, 1, 3]);
    assert_eq!(padded("日", 4), "日  ");
    // Quick with a long text, of which only the beginning is looked at.
    let long = "x".repeat(100_000);
    assert_eq!(clean(&long, 5), "xxxx…");
}
