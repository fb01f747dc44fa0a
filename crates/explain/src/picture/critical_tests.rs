use super::*;
use crate::picture::fixture::{Told, crowd, shop};
use crate::picture::scene::Scene;
use crate::timeline::{ContainerKind, Timeline};

use ContainerKind::{App, Init, Sidecar};

/// The path of the first pod: names, and where each stretch ends in milliseconds.
fn of(timeline: &Timeline) -> (Goal, Vec<(String, i64)>) {
    let scene = Scene::of(timeline);
    let pod = &scene.pods[0];
    let path = &pod.path;
    // Without a gap, from the pod's beginning to the goal.
    assert!(path.stretches.windows(2).all(|w| w[0].to == w[1].from), "{path:?}");
    if let (Some(first), Some(last)) = (path.stretches.first(), path.stretches.last()) {
        assert_eq!((first.from, last.to), (pod.from, path.at), "{path:?}");
    }
    let name = |lane: Option<usize>| lane.map_or("-", |l| pod.lanes[l].name).to_owned();
    let ms = |s: f64| (s * 1e3).round() as i64;
    (path.goal, path.stretches.iter().map(|s| (name(s.lane), ms(s.to))).collect())
}

fn named(parts: &[(&str, i64)]) -> Vec<(String, i64)> {
    parts.iter().map(|&(n, t)| (n.to_owned(), t)).collect()
}

#[test]
fn the_path_to_ready_goes_through_what_was_waited_for() {
    let expected = named(&[("-", 20), ("migrate", 530), ("tunnel", 1550), ("app", 1600)]);
    assert_eq!(of(&shop()), (Goal::Ready, expected));
}

#[test]
fn the_last_to_become_ready_decides_not_the_last_to_start() {
    let told = Told::new().pod("p", &[("slow", App), ("quick", App)]).at(0.0).sandbox();
    let told = told.start("slow", &[]).at(0.1).running("slow", 0);
    let told = told.start("quick", &[("slow", Reached::Running)]).at(0.2).running("quick", 0);
    let told = told.ready("quick", 0).at(5.0).ready("slow", 0);
    assert_eq!(of(&told.timeline), (Goal::Ready, named(&[("slow", 5000)])));
}

#[test]
fn of_several_waits_the_last_to_be_over_counts() {
    let told = Told::new().pod("p", &[("side", Sidecar), ("a", App), ("b", App)]).at(0.0).sandbox();
    let told =
        told.start("side", &[]).running("side", 0).at(1.0).started("side", 0).ready("side", 0);
    let told = told.start("a", &[("side", Reached::Started)]).at(2.0).running("a", 0).ready("a", 0);
    let told = told.start("b", &[("side", Reached::Started), ("a", Reached::Running)]);
    let told = told.at(3.0).running("b", 0).ready("b", 0);
    let expected = named(&[("side", 1000), ("a", 2000), ("b", 3000)]);
    assert_eq!(of(&told.timeline), (Goal::Ready, expected));
}

#[test]
fn a_restart_and_its_back_off_are_its_own_time() {
    let told = Told::new().pod("p", &[("i", Init), ("a", App)]).at(0.5).sandbox().start("i", &[]);
    let told =
        told.running("i", 0).at(1.0).exited("i", 0, 1).at(11.0).again("i", 1).running("i", 1);
    let told = told.at(12.0).exited("i", 1, 0).start("a", &[("i", Reached::Exited)]);
    let told = told.at(12.5).running("a", 0).ready("a", 0);
    let expected = named(&[("-", 500), ("i", 1000), ("i", 12000), ("a", 12500)]);
    assert_eq!(of(&told.timeline), (Goal::Ready, expected));
}

#[test]
fn without_ready_its_end_is_the_goal() {
    let told = Told::new().pod("p", &[("a", Init), ("b", App)]).at(0.0).sandbox().start("a", &[]);
    let told = told.running("a", 0).at(2.0).exited("a", 0, 1).phase("Failed");
    assert_eq!(of(&told.timeline), (Goal::Ended, named(&[("a", 2000)])));
}

#[test]
fn what_still_waits_is_open() {
    let told = Told::new().pod("p", &[("s", Sidecar), ("a", App)]).at(0.0).sandbox();
    let told = told.start("s", &[]).at(0.1).running("s", 0).at(9.0).probe(
        "s",
        crate::timeline::ProbeName::Startup,
        Some(false),
    );
    assert_eq!(of(&told.timeline), (Goal::Open, named(&[("s", 9000)])));
}

#[test]
fn nothing_has_no_path() {
    assert!(Scene::of(&Told::new().timeline).pods.is_empty());
    let told = Told::new().pod("p", &[("a", App)]);
    assert_eq!(of(&told.timeline).1, []);
    let told = Told::new().pod("p", &[]).at(1.0).sandbox();
    assert_eq!(of(&told.timeline).1, []);
}

/// A document that nobody wrote, or somebody wrote by hand.
#[test]
fn two_that_wait_for_each_other_end_the_walk() {
    let told = Told::new().pod("p", &[("a", App), ("b", App)]).at(1.0);
    let told = told.running("a", 0).running("b", 0);
    let told = told.start("a", &[("b", Reached::Running)]).start("b", &[("a", Reached::Running)]);
    let told = told.running("a", 0).running("b", 0).ready("a", 0).ready("b", 0);
    let scene = Scene::of(&told.timeline);
    assert_eq!(scene.pods[0].path.goal, Goal::Ready);
}

#[test]
fn sixty_in_a_row() {
    let (goal, path) = of(&crowd(60));
    assert_eq!(goal, Goal::Ready);
    // The init containers, each after the one before, and the last: it starts and is ready last.
    assert_eq!(path.len(), 61);
    assert_eq!(path.last().unwrap(), &("container-59".to_owned(), 8950));
}
