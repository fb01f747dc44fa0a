//! Pictures of a [`Timeline`]: text for a terminal, SVG and HTML. All are drawn from the same scene, and
//! none of them does any IO.
//!
//! What comes from a manifest or from a program is escaped and shortened; the whole of a long message is
//! only in the details of the page.

pub mod compare;
mod critical;
#[cfg(test)]
mod fixture;
mod html;
mod rows;
mod scene;
mod svg;
pub mod text;
pub(crate) mod words;

use self::rows::Rows;
use self::scene::Scene;
use crate::timeline::Timeline;

/// A picture that stands alone: in a page, in a README, on paper.
pub fn svg(timeline: &Timeline) -> String {
    svg::picture(&Rows::of(&Scene::of(timeline)))
}

/// A page in one file that asks nobody for anything: with zoom, and details by mouse and by keyboard.
pub fn html(timeline: &Timeline) -> String {
    html::page(&Rows::of(&Scene::of(timeline)), timeline.start.as_deref())
}

/// Two timelines in one picture, lane by lane.
pub fn compare_svg(a: &Timeline, b: &Timeline) -> String {
    svg::picture(&Rows::compare(&Scene::of(a), &Scene::of(b)))
}

/// Two timelines in one page, lane by lane.
pub fn compare_html(a: &Timeline, b: &Timeline) -> String {
    html::page(&Rows::compare(&Scene::of(a), &Scene::of(b)), None)
}
