use super::*;
use crate::picture::fixture::{Told, crowd, shop};
use ContainerKind::{App, Init};

fn whats(lane: &Lane<'_>) -> Vec<(What, u32, i64, i64)> {
    let ms = |s: f64| (s * 1e3).round() as i64;
    lane.segments.iter().map(|s| (s.what, s.run, ms(s.span.from), ms(s.span.to))).collect()
}

#[test]
fn each_state_of_a_life_is_a_segment() {
    let timeline = shop();
    let scene = Scene::of(&timeline);
    let pod = &scene.pods[0];
    let tunnel = &pod.lanes[1];
    let expected = [
        (What::Waiting, 0, 0, 530),
        (What::Starting, 0, 530, 540),
        (What::Running, 0, 540, 1550),
        (What::Started, 0, 1550, 1550),
        (What::Ready, 0, 1550, 2600),
        (What::Stopping, 0, 2600, 2700),
    ];
    let expected: Vec<_> = expected.into_iter().filter(|e| e.3 > e.2).collect();
    assert_eq!(whats(tunnel), expected);
    assert_eq!(tunnel.segments[0].why, "Exited of migrate");
    assert_eq!(tunnel.exits, [Exit { at: 2.7, code: 0, run: 0 }]);
    assert_eq!(
        tunnel.probes.iter().map(|p| p.passed).collect::<Vec<_>>(),
        [Some(false), Some(true)]
    );
    assert_eq!(pod.ready, [Span { from: 1.6, to: 2.6, open: false }]);
    let phases: Vec<_> = pod.phases.iter().map(|p| p.1).collect();
    assert_eq!(phases, ["Pending", "Running", "Succeeded"]);
    assert!(tunnel.segments.iter().all(|s| !s.span.open));
}

#[test]
fn runs_follow_each_other_in_one_lane() {
    let t = Told::new().pod("p", &[("i", Init)]).at(0.0).sandbox().mark("i", 0, Step::Pull);
    let t = t.at(1.0).mark("i", 0, Step::Pulled).start("i", &[]).at(1.1).running("i", 0);
    let t = t.at(2.0).exited("i", 0, 1);
    let t = t.mark("i", 0, Step::Refused { reason: "back-off 10s".into() });
    let t = t.at(12.0).again("i", 1).at(12.1).running("i", 1).at(13.0).exited("i", 1, 0).timeline;
    let scene = Scene::of(&t);
    let lane = &scene.pods[0].lanes[0];
    let expected = [
        (What::Pull, 0, 0, 1000),
        (What::Starting, 0, 1000, 1100),
        (What::Running, 0, 1100, 2000),
        (What::BackOff, 0, 2000, 12000),
        (What::Starting, 1, 12000, 12100),
        (What::Running, 1, 12100, 13000),
    ];
    assert_eq!(whats(lane), expected);
    assert_eq!(lane.restarts, 1);
}

#[test]
fn a_run_that_was_not_watched_to_its_end_is_open() {
    let t = Told::new().pod("p", &[("a", App), ("b", App)]).at(1.0).running("a", 0).at(2.0);
    let t = t.ready("a", 0).at(4.0).phase("Running").timeline;
    let scene = Scene::of(&t);
    let pod = &scene.pods[0];
    assert_eq!(pod.lanes[0].segments.last().unwrap().span, Span { from: 2.0, to: 4.0, open: true });
    assert_eq!(whats(&pod.lanes[1]), [(What::Waiting, 0, 0, 4000)]);
    assert!(pod.ready.is_empty());
}

#[test]
fn what_is_not_in_the_list_has_a_lane_at_the_end() {
    let t = Told::new().pod("known", &[("a", App)]).at(1.0).running("ghost", 0).running("a", 0);
    let mut t = t.timeline;
    t.marks.push(Mark { pod: "stranger".into(), ..t.marks[0].clone() });
    let scene = Scene::of(&t);
    let names =
        |pod: &PodScene<'_>| pod.lanes.iter().map(|l| l.name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&scene.pods[0]), ["a", "ghost"]);
    assert_eq!((scene.pods[1].name, names(&scene.pods[1])), ("stranger", vec!["ghost".to_owned()]));
    assert_eq!(scene.pods[0].lanes[1].kind, None);
}

#[test]
fn nothing_and_no_time_can_be_drawn() {
    let none = Told::new().timeline;
    assert!(Scene::of(&none).end > 0.0);
    let t = Told::new().pod("p", &[("a", App)]).at(0.0).running("a", 0).exited("a", 0, 0).timeline;
    let scene = Scene::of(&t);
    assert!(scene.end > 0.0);
    assert_eq!(whats(&scene.pods[0].lanes[0]), [(What::Running, 0, 0, 0)]);
}

#[test]
fn many_answers_that_say_the_same_are_one() {
    let mut t = Told::new().pod("p", &[("a", App)]).at(0.0).running("a", 0);
    for i in 0..1000 {
        t = t.at(f64::from(i)).probe("a", ProbeName::Liveness, Some(i != 500));
    }
    let scene = Scene::of(&t.timeline);
    let counts: Vec<_> =
        scene.pods[0].lanes[0].probes.iter().map(|p| (p.count, p.passed)).collect();
    assert_eq!(counts, [(500, Some(true)), (1, Some(false)), (499, Some(true))]);
    let sixty = crowd(60);
    assert_eq!(Scene::of(&sixty).pods[0].lanes.len(), 60);
}
