use super::*;
use crate::picture::fixture::{Told, crowd, shop};
use crate::picture::{compare_svg, svg};
use crate::timeline::{Bounded, ContainerKind, ProbeName, Step, Timeline};

/// Everything there is to draw, with texts that nobody should trust.
pub(crate) fn everything() -> Timeline {
    use ContainerKind::{App, Init, Sidecar};
    let evil = "</script></style><script>alert(1)</script>\"'&\u{202e}\u{0}\u{ffff}]]>";
    let mut t = Told::new()
        .pod("every<&>\"'pod", &[("init", Init), ("side", Sidecar), ("app", App), (evil, App)])
        .mark("init", 0, Step::Pull)
        .at(0.5)
        .mark("init", 0, Step::Pulled)
        .sandbox()
        .start("init", &[])
        .at(0.6)
        .running("init", 0)
        .at(1.0)
        .exited("init", 0, 137)
        .mark("init", 0, Step::Refused { reason: format!("{evil}{}", "x".repeat(100_000)) })
        .at(11.0)
        .again("init", 1)
        .running("init", 1)
        .at(12.0)
        .exited("init", 1, 0)
        .mark("side", 0, Step::Start { waited_for: evil.to_owned(), after: vec![] })
        .at(12.1)
        .running("side", 0)
        .probe("side", ProbeName::Startup, Some(false))
        .probe("side", ProbeName::Startup, None)
        .probe("side", ProbeName::Startup, Some(true))
        .ready("side", 0)
        .phase("Running")
        .at(13.0)
        .pre_stop("side")
        .at(14.0)
        .phase(evil)
        .timeline;
    let bound = |container: Option<&str>, what, earliest, latest| Bounds {
        pod: t.pods[0].name.clone(),
        container: container.map(str::to_owned),
        what,
        earliest,
        latest,
        note: evil.to_owned(),
    };
    t.bounds = vec![
        bound(None, Bounded::Ready, 3.0, None),
        bound(Some("app"), Bounded::Kill, 5.0, Some(15.0)),
        bound(Some("app"), Bounded::End, 5.0, Some(5.0)),
    ];
    t
}

/// Every number of a picture lies in it.
#[test]
fn pictures_are_xml_and_nothing_lies_outside() {
    let all = [shop(), crowd(60), everything(), Told::new().timeline];
    for text in all.iter().map(svg).chain([compare_svg(&all[0], &all[2])]) {
        let document = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let root = document.root_element();
        let number = |name: &str| root.attribute(name).unwrap().parse::<f64>().unwrap();
        let (width, height) = (number("width"), number("height"));
        let mut texts = 0;
        for node in root.descendants().filter(roxmltree::Node::is_element) {
            let shift: f64 = node
                .ancestors()
                .filter_map(|n| n.attribute("transform")?.strip_prefix("translate(0 "))
                .map(|t| t.trim_end_matches(')').parse::<f64>().unwrap())
                .sum();
            let of = |name: &str| node.attribute(name).and_then(|v| v.parse::<f64>().ok());
            if let Some(x) = of("x") {
                let right = x + of("width").unwrap_or_default();
                assert!(x >= 0.0 && right <= width + 0.1, "{node:?} reaches {right}");
            }
            if let Some(y) = of("y") {
                assert!(y + shift <= height, "{node:?} is at {}", y + shift);
            }
            if node.has_tag_name("text") {
                texts += 1;
                // A text begins in the picture, and ends in it by a careful guess.
                let label = node.text().unwrap_or_default().chars().count() as f64 * 5.4;
                let x = of("x").unwrap();
                let right = if node.attribute("text-anchor").is_some_and(|a| a != "start") {
                    x
                } else {
                    x + label
                };
                assert!(right <= width, "{:?} ends at {right}", node.text());
            }
        }
        assert!(texts > 0 || all[3].marks.is_empty());
        for bad in ["<script", "http:", "NaN", "inf"] {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(bad), "{bad} in {text}");
        }
        assert!(text.len() < 400_000, "{} bytes", text.len());
    }
}

#[test]
fn what_is_told_is_drawn() {
    let text = svg(&everything());
    let document = roxmltree::Document::parse(&text).unwrap();
    let classes: Vec<&str> = document.descendants().filter_map(|n| n.attribute("class")).collect();
    let expected = [
        "pull",
        "starting",
        "running",
        "ready",
        "stopping",
        "backoff",
        "wait",
        "code",
        "fail",
        "error",
        "pass",
        "path",
        "hook",
        "bounds b-kill",
        "bounds b-ready open",
        "phase pending",
    ];
    for class in expected {
        assert!(classes.contains(&class), "no {class} in {classes:?}");
    }
    let titles: Vec<&str> = document
        .descendants()
        .filter(|n| n.has_tag_name("title"))
        .filter_map(|n| n.text())
        .collect();
    assert!(titles.iter().all(|t| t.chars().count() < 500), "{titles:?}");
    let ready = "ready: 3 s at the earliest, no bound: </script></style>";
    assert!(titles.iter().any(|t| t.starts_with(ready)), "{titles:?}");
}
