use super::*;
use crate::picture::fixture::{Told, crowd, shop};
use crate::timeline::{ContainerKind, Step};

fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        out += before;
        rest = after.split_once('m').unwrap().1;
    }
    out + rest
}

#[test]
fn a_pod_as_text() {
    let text = gantt(&shop(), 80, false);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "shop  Ready at 1.6 s, Succeeded at 2.7 s");
    assert!(lines[2].starts_with("◆ migrate  init"), "{text}");
    assert!(lines[2].ends_with("exit 0"), "{text}");
    assert!(
        lines[3].contains("sidecar ·") && lines[3].contains('▒') && lines[3].contains('█'),
        "{text}"
    );
    assert!(lines[4].contains("app") && lines[4].contains('█'), "{text}");
    let path = "critical path: sandbox 20 ms → migrate 510 ms → tunnel 1.02 s → app 50 ms";
    assert_eq!(lines[5], path);
    // Without failures, the legend has no sign of one.
    assert!(!text.contains(FAILED), "{text}");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for timeline in [shop(), crowd(60), Told::new().timeline] {
        for width in [40, 57, 80, 120, 237] {
            let text = gantt(&timeline, width, false);
            let longest = text.lines().map(|l| l.chars().count()).max().unwrap_or_default();
            assert!(longest <= width, "{longest} > {width}:\n{text}");
            assert_eq!(plain(&gantt(&timeline, width, true)), text);
        }
    }
}

#[test]
fn what_is_short_shows_all_the_same() {
    let t = Told::new()
        .pod("p", &[("i", ContainerKind::Init), ("a", ContainerKind::App)])
        .at(0.0)
        .sandbox()
        .start("i", &[])
        .running("i", 0)
        .exited("i", 0, 3)
        .at(1000.0)
        .again("i", 1)
        .running("i", 1)
        .at(1000.001)
        .exited("i", 1, 0)
        .timeline;
    let text = gantt(&t, 80, false);
    let lane = text.lines().find(|l| l.contains(" i ")).unwrap();
    assert!(lane.contains(FAILED) && lane.contains('~') && lane.contains('▒'), "{text}");
    assert!(lane.ends_with("exit 0, 1 restart"), "{text}");
}

#[test]
fn names_cannot_write_to_the_terminal() {
    let t = Told::new().pod("a\u{1b}[2Jb\u{202e}", &[("x\n\u{7}", ContainerKind::App)]);
    let t = t.at(1.0).mark("x\n\u{7}", 0, Step::Running).timeline;
    let text = gantt(&t, 80, false);
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
}

/// A name of a file may be anything. What is wide takes two columns, an accent none, and no name has so many
/// of them that it covers what is around it.
#[test]
fn wide_names_keep_the_columns() {
    let names = ["数据库与它的缓存服务器", "e\u{301}t\u{e9}", "☁\u{fe0f}☁\u{fe0f}", "plain"];
    let zalgo = format!("z{}", "\u{301}".repeat(10_000));
    let containers: Vec<(&str, ContainerKind)> =
        names.into_iter().chain([&*zalgo]).map(|name| (name, ContainerKind::App)).collect();
    let mut t = Told::new().pod("数据库", &containers).at(1.0);
    for (name, _) in &containers {
        t = t.running(name, 0);
    }
    for width in [40, 60, 80, 200] {
        let text = gantt(&t.timeline, width, false);
        let widths = text.lines().map(words::columns);
        assert!(widths.max().unwrap_or_default() <= width, "{text}");
        assert!(text.lines().all(|line| line.len() < 4 * width), "{}", text.len());
        // All bars begin in the same column.
        let lanes: Vec<&str> = text.lines().filter(|l| l.contains(" app ")).collect();
        let begin = |line: &&str| words::columns(&line[..line.find(" app ").unwrap()]);
        assert_eq!(lanes.len(), 5, "{text}");
        assert!(lanes.iter().map(begin).all(|at| at == begin(&lanes[0])), "{text}");
    }
    let both = super::super::compare::compare(&t.timeline, &t.timeline, ["a", "b"], false);
    let ends: Vec<usize> =
        both.lines().filter(|line| line.ends_with(" 0")).map(words::columns).collect();
    assert!(ends.len() == 5 && ends.iter().all(|end| *end == ends[0]), "{both}");
}

#[test]
fn what_nothing_bounds_is_open() {
    let mut t = Told::new().pod("p", &[("a", ContainerKind::App)]).timeline;
    let bound = |what, earliest, latest| Bounds {
        pod: "p".into(),
        container: Some("a".into()),
        what,
        earliest,
        latest,
        note: String::new(),
    };
    t.bounds = vec![bound(Bounded::Start, 1.0, Some(3.0)), bound(Bounded::Ready, 2.0, None)];
    t.bounds.push(bound(Bounded::Kill, 10.0, Some(10.0)));
    let text = gantt(&t, 80, false);
    let line = |what: &str| text.lines().find(|l| l.trim_start().starts_with(what)).unwrap();
    assert!(line("start").contains('┤') && line("start").ends_with("1 s–3 s"), "{text}");
    assert!(line("ready").contains('→') && line("ready").ends_with("≥ 2 s"), "{text}");
    assert!(line("kill").contains('┼') && line("kill").ends_with("10 s"), "{text}");
}
