//! Explanations as JSON: `explain -o json`. Times are seconds, and a latest time that nothing bounds is
//! null.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::bounds::{Chance, When};
use crate::explanation::{Explanation, JobForecast};
use crate::picture::words;
use crate::span::Span;
use crate::timeline::Timeline;
use crate::world::JobEnd;

/// The document of these explanations, for a Kubernetes of this minor version, with a line's end at its
/// end.
pub fn document(all: &[Explanation], minor: u32) -> String {
    let workloads = all.iter().map(Workload::of).collect();
    let document = Document { version: 1, kubernetes: format!("1.{minor}"), workloads };
    // Strings and numbers only: nothing that JSON cannot say.
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text + "\n"
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    kubernetes: String,
    workloads: Vec<Workload<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Workload<'a> {
    kind: &'static str,
    name: &'a str,
    pods: u32,
    assumed: &'a [String],
    containers: Vec<Container<'a>>,
    ready: Moment<'a>,
    end: Moment<'a>,
    job: Option<Job<'a>>,
    not_guaranteed: &'a [String],
    kills: &'a [String],
    unknown: &'a [String],
    stop: Vec<Stop<'a>>,
    earliest: Earliest<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Container<'a> {
    name: &'a str,
    kind: &'static str,
    waits_for: String,
    start: Moment<'a>,
    started: Moment<'a>,
    ready: Moment<'a>,
    end: Moment<'a>,
    kills: Vec<Kill>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Kill {
    probe: &'static str,
    after_start: Between,
    chance: &'static str,
}

#[derive(Serialize)]
struct Stop<'a> {
    at: Between,
    what: &'a str,
}

/// The course in which everything takes as little as is known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Earliest<'a> {
    rows: Vec<Row<'a>>,
    goes_on: bool,
    timeline: Timeline,
}

#[derive(Serialize)]
struct Row<'a> {
    at: f64,
    pod: &'a str,
    ready: String,
    status: &'a str,
    restarts: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Moment<'a> {
    Within(Between),
    Never { never: &'a str },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Job<'a> {
    Ends { end: Between, how: End<'a> },
    May { end: Between, may: End<'a> },
    Never { never: &'a str },
}

#[derive(Serialize)]
struct End<'a> {
    complete: bool,
    reason: &'a str,
    pods: usize,
}

/// From the earliest to the latest.
struct Between(Span);

impl Serialize for Between {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Seconds {
            earliest: f64,
            latest: Option<f64>,
        }
        let Span { min, max } = self.0;
        Seconds { earliest: secs(min), latest: max.map(secs) }.serialize(serializer)
    }
}

impl<'a> Workload<'a> {
    fn of(e: &'a Explanation) -> Self {
        let (plan, bounds) = (&e.subject.plan, &e.bounds);
        let containers = plan.ids().map(|id| {
            let (c, b) = (plan.container(id), &bounds.containers[id.index()]);
            let kills = b.kills.iter().map(|kill| Kill {
                probe: words::probe(kill.probe.into()),
                after_start: Between(kill.after),
                chance: match kill.chance {
                    Chance::Certain => "certain",
                    Chance::Possible => "possible",
                    Chance::Excluded => "excluded",
                },
            });
            Container {
                name: &c.name,
                kind: words::kind(Some(c.kind.into())),
                waits_for: holdfast_lifecycle::order::words(plan, &b.waits),
                start: Moment::of(&b.start),
                started: Moment::of(&b.started),
                ready: Moment::of(&b.ready),
                end: Moment::of(&b.end),
                kills: kills.collect(),
            }
        });
        let rows = e.earliest.rows.iter().map(|(at, pod, row)| Row {
            at: secs(*at),
            pod,
            ready: row.ready_text(),
            status: &row.status,
            restarts: row.restarts,
        });
        Self {
            kind: e.subject.kind,
            name: &e.subject.workload,
            pods: e.subject.count,
            assumed: &e.assumed,
            containers: containers.collect(),
            ready: Moment::of(&bounds.ready),
            end: Moment::of(&bounds.end),
            job: e.job.as_ref().map(Job::of),
            not_guaranteed: &e.notes.not_guaranteed,
            kills: &e.notes.kills,
            unknown: &e.notes.unknown,
            stop: e.stops.iter().map(|s| Stop { at: Between(s.at), what: &s.what }).collect(),
            earliest: Earliest {
                rows: rows.collect(),
                goes_on: e.earliest.goes_on,
                timeline: e.timeline(),
            },
        }
    }
}

impl<'a> Moment<'a> {
    fn of(when: &'a When) -> Self {
        match when {
            When::Within(span) => Self::Within(Between(*span)),
            When::Never(why) => Self::Never { never: why },
        }
    }
}

impl<'a> Job<'a> {
    fn of(forecast: &'a JobForecast) -> Self {
        let of =
            |end: &'a JobEnd| End { complete: end.complete, reason: &end.reason, pods: end.pods };
        match forecast {
            JobForecast::Ends { at, end } => Self::Ends { end: Between(*at), how: of(end) },
            JobForecast::May(end) => {
                Self::May { end: Between(Span::exactly(end.at).open()), may: of(end) }
            }
            JobForecast::Never(why) => Self::Never { never: why },
        }
    }
}

/// Milliseconds are enough.
fn secs(d: Duration) -> f64 {
    (d.as_secs_f64() * 1000.0).round() / 1000.0
}
