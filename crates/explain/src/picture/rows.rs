//! The rows of a picture, from the top to the bottom: a pod, then its containers; of two timelines that are
//! compared, each beside its counterpart.

use super::scene::{Lane, PodScene, Scene};
use super::words;

/// What is drawn: one timeline, or two that are compared.
#[derive(Debug)]
pub(crate) struct Rows<'s> {
    pub(crate) blocks: Vec<Block<'s>>,
    /// The right end in seconds.
    pub(crate) end: f64,
    /// Two are compared.
    pub(crate) compared: bool,
}

/// A pod, or two that correspond.
#[derive(Debug)]
pub(crate) struct Block<'s> {
    pub(crate) rows: Vec<Row<'s>>,
}

/// A line of the picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'s> {
    pub(crate) pod: &'s PodScene<'s>,
    /// None is the pod itself.
    pub(crate) lane: Option<usize>,
    pub(crate) side: Side,
    /// The first of those that correspond.
    pub(crate) first: bool,
    /// From the top of its block, in pixels.
    pub(crate) y: u32,
}

/// Which of two timelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// There is one only, or it is the first.
    A,
    /// The second.
    B,
}

impl Side {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// The height of a lane without bounds, and of a line of bounds, in pixels.
pub(crate) const LANE: u32 = 36;
pub(crate) const BOUNDS: u32 = 13;
/// The height of a pod's line.
pub(crate) const POD: u32 = 34;
/// Where in a row the bar is, and how high.
pub(crate) const BAR: (u32, u32) = (8, 16);
/// Where the line of the critical path is, and how high.
pub(crate) const PATH: (u32, u32) = (3, 3);

impl<'s> Rows<'s> {
    pub(crate) fn of(scene: &'s Scene<'s>) -> Self {
        let blocks = scene.pods.iter().map(|pod| Block::of([Some(pod), None])).collect();
        Self { blocks, end: scene.end, compared: false }
    }

    /// Both, lane by lane.
    pub(crate) fn compare(a: &'s Scene<'s>, b: &'s Scene<'s>) -> Self {
        let pairs = pairs(&a.pods, &b.pods);
        let blocks = pairs.into_iter().map(Block::of).collect();
        Self { blocks, end: a.end.max(b.end), compared: true }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Row<'s>> {
        self.blocks.iter().flat_map(|b| &b.rows)
    }

    /// What a picture is called.
    pub(crate) fn title(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for row in self.all().filter(|r| r.lane.is_none()) {
            let name = words::clean(row.pod.name, 80).into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        match names.len() {
            0 => "nothing happened".to_owned(),
            1..=3 => names.join(", "),
            n => format!("{}, {} and {} more pods", names[0], names[1], n - 2),
        }
    }
}

impl<'s> Block<'s> {
    /// A pod of each side.
    fn of(pods: [Option<&'s PodScene<'s>>; 2]) -> Self {
        let mut rows: Vec<Row<'s>> = Vec::new();
        let mut y = 0;
        let mut push = |pair: [Option<(&'s PodScene<'s>, Option<usize>)>; 2]| {
            let sides = pair.into_iter().zip([Side::A, Side::B]);
            let there = sides.filter_map(|(one, side)| one.map(|(pod, lane)| (pod, lane, side)));
            for (i, (pod, lane, side)) in there.enumerate() {
                let row = Row { pod, lane, side, first: i == 0, y };
                y += row.height();
                rows.push(row);
            }
        };
        push(pods.map(|pod| pod.map(|p| (p, None))));
        let none: &[Lane<'_>] = &[];
        let [a, b] = pods.map(|p| p.map_or(none, |p| &p.lanes));
        let lane = |side: usize, at: Option<usize>| pods[side].zip(at).map(|(p, at)| (p, Some(at)));
        for (in_a, in_b) in lane_pairs(a, b) {
            push([lane(0, in_a), lane(1, in_b)]);
        }
        Self { rows }
    }

    pub(crate) fn height(&self) -> u32 {
        self.rows.last().map_or(0, |r| r.y + r.height())
    }
}

impl<'s> Row<'s> {
    pub(crate) fn lane(&self) -> Option<&'s Lane<'s>> {
        self.pod.lanes.get(self.lane?)
    }

    pub(crate) fn height(&self) -> u32 {
        let (least, bounds) = match self.lane() {
            Some(lane) => (LANE, lane.bounds.len()),
            None => (POD, self.pod.bounds.len()),
        };
        least + BOUNDS * u32::try_from(bounds).unwrap_or(0)
    }
}

/// Which lanes correspond: those of the same name. Those of the second only come at the end.
pub(crate) fn lane_pairs(a: &[Lane<'_>], b: &[Lane<'_>]) -> Vec<(Option<usize>, Option<usize>)> {
    let place = |all: &[Lane<'_>], name: &str| all.iter().position(|l| l.name == name);
    let of_a = a.iter().enumerate().map(|(i, lane)| (Some(i), place(b, lane.name)));
    let only_b = b.iter().enumerate().filter(|(_, lane)| place(a, lane.name).is_none());
    of_a.chain(only_b.map(|(i, _)| (None, Some(i)))).collect()
}

/// Which pods correspond: those of the same name, then those of the same owner, in their order: the ends of
/// the names of pods of Jobs and Deployments differ from run to run.
pub(crate) fn pairs<'s>(
    a: &'s [PodScene<'s>],
    b: &'s [PodScene<'s>],
) -> Vec<[Option<&'s PodScene<'s>>; 2]> {
    let mut left: Vec<Option<&PodScene<'_>>> = b.iter().map(Some).collect();
    let mut take = |is: &dyn Fn(&PodScene<'_>) -> bool| {
        let slot = left.iter_mut().find(|slot| slot.is_some_and(is))?;
        slot.take()
    };
    let mut of_a: Vec<[Option<&PodScene<'_>>; 2]> =
        a.iter().map(|pod| [Some(pod), take(&|other| other.name == pod.name)]).collect();
    for pair in of_a.iter_mut().filter(|pair| pair[1].is_none()) {
        let Some(pod) = pair[0] else { continue };
        pair[1] = take(&|other| stem(other.name) == stem(pod.name) && same_lanes(other, pod));
    }
    of_a.extend(left.into_iter().flatten().map(|pod| [None, Some(pod)]));
    of_a
}

fn same_lanes(a: &PodScene<'_>, b: &PodScene<'_>) -> bool {
    a.lanes.iter().map(|l| l.name).eq(b.lanes.iter().map(|l| l.name))
}

/// A name without the parts that are made up: `-x7f2k`, `-29921703`.
fn stem(name: &str) -> &str {
    let mut name = name;
    // The end of the pod's name, and the time of the Job's or the hash of the ReplicaSet's.
    for _ in 0..2 {
        let Some((before, last)) = name.rsplit_once('-') else { break };
        let random = last.len() == 5 && last.bytes().all(|b| b.is_ascii_alphanumeric());
        let number = last.len() >= 6
            && last.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
            && last.bytes().any(|b| b.is_ascii_digit());
        if !random && !number {
            break;
        }
        name = before;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::fixture::{Told, shop};
    use crate::timeline::ContainerKind::App;

    #[test]
    fn rows_lie_below_each_other() {
        let timeline = shop();
        let scene = Scene::of(&timeline);
        let rows = Rows::compare(&scene, &scene);
        let block = &rows.blocks[0];
        assert_eq!(block.rows.len(), 8);
        assert!(block.rows.windows(2).all(|w| w[0].y + w[0].height() == w[1].y));
        assert_eq!(block.height(), 2 * POD + 6 * LANE);
        let sides: Vec<_> = block.rows.iter().map(|r| r.side).collect();
        assert_eq!(sides, [Side::A, Side::B].repeat(4));
    }

    #[test]
    fn pods_with_made_up_names_correspond() {
        let of = |names: &[&str]| {
            let told = names.iter().fold(Told::new(), |t, n| t.pod(n, &[("a", App)]));
            told.timeline
        };
        let a = of(&["same", "backup-29921703-xpskb", "web-5d9c7b8f6d-abcde", "only-a"]);
        let b = of(&["web-7c6b5a4f3d-fghij", "backup-29921704-q2rst", "same", "only-b"]);
        let (a, b) = (Scene::of(&a), Scene::of(&b));
        let name = |pod: Option<&PodScene<'_>>| pod.map_or("-", |p| p.name).to_owned();
        let pairs: Vec<_> =
            pairs(&a.pods, &b.pods).iter().map(|&[a, b]| (name(a), name(b))).collect();
        let expected = [
            ("same", "same"),
            ("backup-29921703-xpskb", "backup-29921704-q2rst"),
            ("web-5d9c7b8f6d-abcde", "web-7c6b5a4f3d-fghij"),
            ("only-a", "-"),
            ("-", "only-b"),
        ];
        assert_eq!(pairs, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
