//! Any bytes → the reader of timelines and all that is drawn of one. The target `timeline`, and a test of the
//! pictures with the seeds.

use holdfast_explain::picture;
use holdfast_explain::timeline::Timeline;

/// One input; panics if something is wrong.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(timeline) = Timeline::parse(text) else { return };
    let again = Timeline::parse(&timeline.to_json());
    assert_eq!(again.ok().as_ref(), Some(&timeline), "its JSON reads back as another timeline");
    let nothing = Timeline { pods: Vec::new(), marks: Vec::new(), ..timeline.clone() };
    let columns = [40, 83, 200].map(|width| picture::text::gantt(&timeline, width, false));
    let compared = picture::compare::compare(&timeline, &nothing, ["a", "b"], false);
    for text in columns.iter().chain([&compared]) {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }
    let pictures = [picture::svg(&timeline), picture::compare_svg(&nothing, &timeline)];
    let pages = [picture::html(&timeline), picture::compare_html(&timeline, &nothing)];
    for text in pictures.iter().chain(&pages) {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains("NaN") && !text.contains("inf\""), "{text:?}");
    }
}
