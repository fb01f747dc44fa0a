//! What a scenario does and asserts, one line a step.

use std::time::Duration;

use holdfast_lifecycle::ProbeKind;

use crate::cond::Cond;
use crate::order::{self, Order};
use crate::text::{Bound, duration, unquote};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// `wait COND [while COND] within D`: let time pass until it holds.
    Wait {
        /// What must come to hold.
        until: Cond,
        /// What must hold until then.
        hold: Option<Cond>,
        /// How long it may take.
        within: Duration,
    },
    /// `always COND for D`: it holds now, at every update and at the end.
    Always {
        /// What must hold.
        cond: Cond,
        /// For how long.
        span: Duration,
    },
    /// `ever COND`: it held at some published update so far.
    Ever(Cond),
    /// `stays COND`: once it was published, every later update kept it.
    Stays(Cond),
    /// `run D` or `run $T`: let time pass.
    Run(Span),
    /// `image C IMAGE`: change the image of a container in the spec.
    Image(String, String),
    /// `delete [grace=D]`.
    Delete(Option<Duration>),
    /// `kubelet down|up`.
    Kubelet(bool),
    /// `sandbox stop`: its processes are killed and it is not ready any more.
    StopSandbox,
    /// `prune C…`: the runtime forgets the ended runs of these containers.
    Prune(Vec<String>),
    /// `evict REASON`.
    Evict(String),
    /// `gate NAME true|false`.
    Gate(String, bool),
    /// `deadline D`: set `activeDeadlineSeconds`.
    Deadline(Duration),
    /// `kill C CODE`: the process of a container ends by itself.
    Kill(String, i32),
    /// `mark`: remember the time.
    Mark,
    /// `elapsed LO..HI`: time since the mark.
    Elapsed(Duration, Duration),
    /// `check COND`: it holds now.
    Check(Cond),
    /// `expect …`: assertions on the log.
    Expect(Vec<Order>),
    /// `event some|none REASON ["text"]`, since the mark if there is one.
    Event {
        /// Whether there must be one.
        some: bool,
        /// Its reason.
        reason: String,
        /// What its message contains.
        contains: String,
    },
    /// `starts C BOUND`: how often the process was started.
    Starts(String, Bound),
    /// `delays C N LO..HI`: each of the last N times from an end to the next start.
    Delays(String, usize, Duration, Duration),
    /// `probes C startup|readiness|liveness BOUND`: how often the probe was run.
    Probes(String, ProbeKind, Bound),
    /// `grace C D`: the grace period that the runtime was last told for the container.
    Grace(String, Duration),
    /// `stopped C LO..HI`: when, after the mark, the container was first told to stop.
    Stopped(String, Duration, Duration),
    /// `hook C post|pre BOUND`: how often the hook's own work was observed.
    Hook(String, bool, Bound),
    /// `ready-after C LO..HI`: from the `Started` field to the `Ready` field becoming true.
    ReadyAfter(String, Duration, Duration),
}

/// A fixed or swept time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    /// This long.
    Fixed(Duration),
    /// `$T`: the value of the case's sweep.
    Swept,
}

fn range(text: &str) -> Result<(Duration, Duration), String> {
    let (lo, hi) = text.split_once("..").ok_or_else(|| format!("`{text}` is not LO..HI"))?;
    Ok((duration(lo)?, duration(hi)?))
}

/// Position of the last word equal to `word`.
fn last(words: &[String], word: &str) -> Option<usize> {
    words.iter().rposition(|w| w == word)
}

impl Step {
    /// Parses a line, if its first word is a step.
    pub(crate) fn parse(words: &[String]) -> Result<Option<Self>, String> {
        let rest = &words[1..];
        let arg = |i: usize| {
            rest.get(i).map(String::as_str).ok_or_else(|| format!("`{}` needs more", words[0]))
        };
        Ok(Some(match words[0].as_str() {
            "wait" => {
                let at = last(rest, "within").ok_or("`wait` needs `within`")?;
                let (head, within) = (&rest[..at], duration(arg(at + 1)?)?);
                let (until, hold) = match last(head, "while") {
                    Some(w) => (&head[..w], Some(Cond::parse(&head[w + 1..])?)),
                    None => (head, None),
                };
                Self::Wait { until: Cond::parse(until)?, hold, within }
            }
            "always" => {
                let at = last(rest, "for").ok_or("`always` needs `for`")?;
                Self::Always { cond: Cond::parse(&rest[..at])?, span: duration(arg(at + 1)?)? }
            }
            "ever" => Self::Ever(Cond::parse(rest)?),
            "stays" => Self::Stays(Cond::parse(rest)?),
            "run" if arg(0)? == "$T" => Self::Run(Span::Swept),
            "run" => Self::Run(Span::Fixed(duration(arg(0)?)?)),
            "image" => Self::Image(arg(0)?.into(), arg(1)?.into()),
            "delete" => Self::Delete(match rest.first() {
                None => None,
                Some(w) => Some(duration(w.strip_prefix("grace=").ok_or("delete [grace=D]")?)?),
            }),
            "kubelet" => Self::Kubelet(match arg(0)? {
                "up" => true,
                "down" => false,
                other => return Err(format!("kubelet up|down, not `{other}`")),
            }),
            "sandbox" if arg(0)? == "stop" => Self::StopSandbox,
            "prune" => Self::Prune(rest.to_vec()),
            "evict" => Self::Evict(arg(0)?.into()),
            "gate" => Self::Gate(arg(0)?.into(), arg(1)? == "true"),
            "deadline" => Self::Deadline(duration(arg(0)?)?),
            "kill" => {
                let code = arg(1)?.parse().map_err(|_| "kill C CODE".to_owned())?;
                Self::Kill(arg(0)?.into(), code)
            }
            "mark" => Self::Mark,
            "elapsed" => {
                let (lo, hi) = range(arg(0)?)?;
                Self::Elapsed(lo, hi)
            }
            "check" => Self::Check(Cond::parse(rest)?),
            "expect" => Self::Expect(order::parse(rest)?),
            "event" => Self::Event {
                some: match arg(0)? {
                    "some" => true,
                    "none" => false,
                    other => return Err(format!("event some|none, not `{other}`")),
                },
                reason: arg(1)?.into(),
                contains: rest.get(2).map_or(Ok(""), |w| unquote(w))?.into(),
            },
            "starts" => Self::Starts(arg(0)?.into(), Bound::parse(arg(1)?)?),
            "delays" => {
                let n = arg(1)?.parse().map_err(|_| "delays C N LO..HI".to_owned())?;
                let (lo, hi) = range(arg(2)?)?;
                Self::Delays(arg(0)?.into(), n, lo, hi)
            }
            "probes" => {
                let kind = match arg(1)? {
                    "startup" => ProbeKind::Startup,
                    "readiness" => ProbeKind::Readiness,
                    "liveness" => ProbeKind::Liveness,
                    other => return Err(format!("there is no {other} probe")),
                };
                Self::Probes(arg(0)?.into(), kind, Bound::parse(arg(2)?)?)
            }
            "grace" => Self::Grace(arg(0)?.into(), duration(arg(1)?)?),
            "stopped" => {
                let (lo, hi) = range(arg(1)?)?;
                Self::Stopped(arg(0)?.into(), lo, hi)
            }
            "hook" => Self::Hook(arg(0)?.into(), arg(1)? == "post", Bound::parse(arg(2)?)?),
            "ready-after" => {
                let (lo, hi) = range(arg(1)?)?;
                Self::ReadyAfter(arg(0)?.into(), lo, hi)
            }
            _ => return Ok(None),
        }))
    }
}
