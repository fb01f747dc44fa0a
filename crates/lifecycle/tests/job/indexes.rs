//! Sets of indexes and names (indexed_job_utils_test.go: TestCalculateSucceededIndexes,
//! TestIntervalsHaveIndex, TestFirstPendingIndexes, TestPodGenerateNameWithIndex).

use holdfast_lifecycle::job::{Indexes, RANDOM_CHARS, generate_name, hostname, random_suffix};
use proptest::prelude::*;

fn set(text: &str) -> Indexes {
    Indexes::parse(text, u32::MAX)
}

#[test]
fn succeeded() {
    // name, before, new, completions -> before as read, after
    let cases: [(&str, &str, &[u32], u32, &str, &str); 12] = [
        ("one index", "", &[1], 2, "", "1"),
        ("two separate", "", &[5, 5, 10], 11, "", "5,10"),
        ("two intervals", "", &[2, 3, 5, 6, 7], 8, "", "2,3,5-7"),
        ("one index and one interval", "", &[0, 2, 3, 4, 5], 6, "", "0,2-5"),
        ("out of range", "", &[0, 1, 2, 4], 5, "", "0-2,4"),
        ("prev interval out of range", "0-5,8-10", &[], 8, "0-5", "0-5"),
        ("prev interval partially out of range", "0-5,8-10", &[], 10, "0-5,8,9", "0-5,8,9"),
        (
            "prev and new separate",
            "0,4,5,10-12",
            &[2, 7, 8],
            13,
            "0,4,5,10-12",
            "0,2,4,5,7,8,10-12",
        ),
        ("prev between new", "3,4,6", &[2, 7, 8], 9, "3,4,6", "2-4,6-8"),
        ("new between prev", "2,7,8", &[3, 4, 6], 9, "2,7,8", "2-4,6-8"),
        ("new within prev", "2-7", &[0, 3, 5, 9], 10, "2-7", "0,2-7,9"),
        ("corrupted interval", "0,1-foo,bar", &[3], 4, "0", "0,3"),
    ];
    for (name, before, new, completions, read, after) in cases {
        let before = Indexes::parse(before, completions);
        assert_eq!(before.to_string(), read, "{name}");
        let new = new.iter().copied().collect();
        assert_eq!(before.union(&new).to_string(), after, "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn contains() {
    let cases = [
        ("empty", "", 4, false),
        ("before all", "2-4,5-7", 1, false),
        ("after all", "2-4,6-8", 9, false),
        ("in between", "2-4,6-8", 5, false),
        ("in first", "2-4,6-8", 2, true),
        ("in second", "2-4,6-8", 8, true),
    ];
    for (name, text, index, has) in cases {
        assert_eq!(set(text).contains(index), has, "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn pending() {
    // name, active, succeeded, failed, count, completions -> first pending
    let cases: [(&str, &str, &str, &str, usize, u32, &[u32]); 6] = [
        ("cnt greater than completions", "", "", "", 5, 3, &[0, 1, 2]),
        ("cnt less than completions", "", "", "", 2, 5, &[0, 1]),
        ("first pods active", "0,1", "", "", 3, 10, &[2, 3, 4]),
        ("last pods active or succeeded", "6", "4,5", "", 6, 6, &[0, 1, 2, 3]),
        ("mixed", "3,5,8", "2-4,9", "", 5, 20, &[0, 1, 6, 7, 10]),
        ("with failed indexes", "3,9", "1,5,9", "2,6,7", 5, 20, &[0, 4, 8, 10, 11]),
    ];
    for (name, active, succeeded, failed, count, completions, want) in cases {
        let taken = set(active).union(&set(succeeded)).union(&set(failed));
        assert_eq!(taken.first_missing(count, completions), want, "{name}");
    }
    println!("{} cases", cases.len());
}

#[test]
fn names() {
    let long = "hhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooooo";
    let cut = "hhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhh-1-";
    let cases = [
        ("short job name", "indexed-job", Some(1), "indexed-job-1-"),
        ("job name exceeds MaxGeneneratedNameLength", long, Some(1), cut),
        (
            "job name with index suffix exceeds MaxGeneratedNameLength",
            "hhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhoo",
            Some(1),
            cut,
        ),
        ("no index", "pi", None, "pi-"),
        (
            "no index, too long",
            long,
            None,
            "hhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooooohhhhhooo",
        ),
    ];
    for (name, job, index, want) in cases {
        assert_eq!(generate_name(job, index), want, "{name}");
    }
    assert_eq!(hostname("indexed-job", 7), "indexed-job-7");
    // Text that is not ASCII is refused elsewhere, and does no harm here.
    assert!(generate_name(&"é".repeat(40), Some(1)).len() <= 58);
    println!("{} cases", cases.len());
}

#[test]
fn suffixes() {
    assert_eq!(random_suffix(0), "bbbbb");
    assert_eq!(random_suffix(1), "cbbbb");
    assert_eq!(random_suffix(27_u64.pow(5) - 1), "99999");
    let all: std::collections::BTreeSet<String> = (0..5_000).map(random_suffix).collect();
    assert_eq!(all.len(), 5_000);
    assert!(all.iter().all(|s| s.len() == 5 && s.bytes().all(|b| RANDOM_CHARS.contains(&b))));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_set_is_a_set(a in prop::collection::btree_set(0_u32..60, 0..20),
                      b in prop::collection::btree_set(0_u32..60, 0..20),
                      count in 0_usize..30) {
        let (one, two): (Indexes, Indexes) = (a.iter().copied().collect(), b.iter().copied().collect());
        let both: std::collections::BTreeSet<u32> = a.union(&b).copied().collect();
        let union = one.union(&two);
        prop_assert_eq!(union.len() as usize, both.len());
        prop_assert!((0..70).all(|i| union.contains(i) == both.contains(&i)));
        prop_assert_eq!(&Indexes::parse(&union.to_string(), 60), &union);
        let missing: Vec<u32> = (0..60).filter(|i| !both.contains(i)).take(count).collect();
        prop_assert_eq!(union.first_missing(count, 60), missing);
    }

    #[test]
    fn any_text_is_read(text in "[-0-9, a]{0,30}", completions in 0_u32..50) {
        let set = Indexes::parse(&text, completions);
        prop_assert!(set.len() <= completions);
        let _ = set.first_missing(5, completions);
    }
}
