//! All that `holdfast explain` says of one pod.

use holdfast_lifecycle::fault::Fault;
use holdfast_lifecycle::{Kind, Options};

use crate::assume::{Assume, AssumeError, behaviours};
use crate::bounds::{Chance, PodBounds, When, bounds};
use crate::notes::{Notes, assumed_codes, notes};
use crate::picture::words;
use crate::span::Span;
use crate::stops::{StopStep, stops};
use crate::subject::Subject;
use crate::timeline::{Bounded, Bounds, Timeline};
use crate::world::{self, Course, JobEnd, course};

/// What is known of a pod before it runs.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The pod.
    pub subject: Subject,
    /// What is taken for granted, in words.
    pub assumed: Vec<String>,
    /// Whether something breaks on purpose: in what happens, and not in the bounds.
    pub faulty: bool,
    /// When everything happens.
    pub bounds: PodBounds,
    /// What there is to say beside.
    pub notes: Notes,
    /// How it stops.
    pub stops: Vec<StopStep>,
    /// What happens if everything takes as little as is known.
    pub earliest: Course,
    /// When its Job ends, if it has one.
    pub job: Option<JobForecast>,
}

/// What becomes of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobForecast {
    /// It ends this way, whatever happens within what is assumed.
    Ends {
        /// When.
        at: Span,
        /// How, at the earliest.
        end: JobEnd,
    },
    /// It ends this way at the earliest, but may end otherwise, later, or never.
    May(JobEnd),
    /// It does not end, because.
    Never(String),
}

/// Explains one pod.
///
/// # Errors
/// If an assumption does not fit its containers.
pub fn explain(
    subject: &Subject,
    assumed: &[Assume],
    faults: &[Fault],
    options: &Options,
) -> Result<Explanation, AssumeError> {
    let behaviours = behaviours(subject, assumed)?;
    let bounds = bounds(subject, &behaviours, &options.features());
    let earliest = course(subject, &behaviours, faults, options, &mut world::earliest);
    let job = subject.job.is_some().then(|| {
        let latest = course(subject, &behaviours, faults, options, &mut world::latest);
        forecast(subject, &bounds, &earliest, &latest)
    });
    let mut notes = notes(subject, &behaviours, &bounds);
    notes.unknown.extend(assumed_codes(&subject.plan, &behaviours, &earliest));
    Ok(Explanation {
        notes,
        stops: stops(&subject.plan, &behaviours, &bounds),
        subject: subject.clone(),
        assumed: assumed
            .iter()
            .filter(|one| one.is_about(subject))
            .map(ToString::to_string)
            .collect(),
        faulty: !faults.is_empty(),
        bounds,
        earliest,
        job,
    })
}

/// The end of a Job, from the courses in which everything takes as little and as long as it may.
fn forecast(subject: &Subject, bounds: &PodBounds, first: &Course, last: &Course) -> JobForecast {
    let Some(end) = first.job.clone() else {
        let plan = &subject.plan;
        let why = match &bounds.end {
            When::Never(why) => why.clone(),
            When::Within(_) => {
                let apps = plan.regulars().map(|id| &*plan.container(id).name);
                format!("nothing ends {}", crate::notes::list(&apps.collect::<Vec<_>>()))
            }
        };
        return JobForecast::Never(why);
    };
    let certain = bounds.containers.iter().all(|c| {
        let known = [&c.start, &c.end];
        known.iter().all(|when| when.span().is_none_or(|span| span.max.is_some()))
    });
    match &last.job {
        Some(late) if certain && (late.complete, &late.reason) == (end.complete, &end.reason) => {
            JobForecast::Ends { at: Span::new(end.at, late.at.max(end.at)), end }
        }
        _ => JobForecast::May(end),
    }
}

impl Explanation {
    /// The earliest course with the bounds of each container, for pictures.
    pub fn timeline(&self) -> Timeline {
        let mut timeline = self.earliest.timeline.clone();
        let pod = timeline.pods.first().map(|pod| pod.name.clone()).unwrap_or_default();
        let plan = &self.subject.plan;
        for (id, b) in plan.ids().map(|id| (id, &self.bounds.containers[id.index()])) {
            let name = plan.container(id).name.to_string();
            let mut add = |what, when: &When, note: String| {
                if let When::Within(span) = when {
                    timeline.bounds.push(Bounds {
                        pod: pod.clone(),
                        container: Some(name.clone()),
                        what,
                        earliest: span.min.as_secs_f64(),
                        latest: span.max.map(|max| max.as_secs_f64()),
                        note,
                    });
                }
            };
            add(Bounded::Start, &b.start, holdfast_lifecycle::order::words(plan, &b.waits));
            if plan.container(id).kind == Kind::Init {
                add(Bounded::End, &b.end, String::new());
            } else {
                add(Bounded::Started, &b.started, String::new());
                add(Bounded::Ready, &b.ready, String::new());
            }
            for kill in b.kills.iter().filter(|kill| kill.chance != Chance::Excluded) {
                let note = format!("by its {}", words::probe(kill.probe.into()));
                add(Bounded::Kill, &b.start.later(kill.after), note);
            }
        }
        if let When::Within(span) = self.bounds.ready {
            timeline.bounds.push(Bounds {
                pod,
                container: None,
                what: Bounded::Ready,
                earliest: span.min.as_secs_f64(),
                latest: span.max.map(|max| max.as_secs_f64()),
                note: String::new(),
            });
        }
        timeline
    }
}
