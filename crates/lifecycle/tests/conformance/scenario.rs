//! Scenario tables: cases with a pod, steps and assertions; and groups, whose pod and first steps
//! several cases share.
//!
//! ```text
//! group
//!   pod N grace=30                       # restartPolicy, terminationGracePeriodSeconds
//!   sidecar S1 (600,0)
//!   regular R1 (1,0)
//!   wait phase=Succeeded within 5m
//! case L48 "should complete a Pod successfully and produce log"
//! case L49 "should not restart a restartable init container"
//!   expect !re S1
//! end
//! ```
//! A `pod` line or a container in a case overrides that of its group. `regular c[50] …` stands for fifty
//! containers, `c00` to `c49`.

use std::time::Duration;

use holdfast_lifecycle::plan::{Container, Kind, Plan, RestartPolicy};

use crate::script::{Program, Script, parse_hook, parse_policy, parse_probe, parse_rule};
use crate::step::Step;
use crate::text::{call, duration, unquote, words};

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Its number (`L48`).
    pub(crate) id: String,
    /// The upstream name.
    pub(crate) name: String,
    /// `file:line`.
    pub(crate) place: String,
    /// Why it is left out, if it is.
    pub(crate) skip: Option<String>,
    /// The pod.
    pub(crate) pod: Pod,
    /// What happens, each with its line.
    pub(crate) steps: Vec<(usize, Step)>,
    /// `sweep LO..HI N`: run it N times with `$T` from LO to HI.
    pub(crate) sweep: Option<(Duration, Duration, u32)>,
}

/// The pod of a case.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// The policy.
    pub(crate) policy: RestartPolicy,
    /// TGPS.
    pub(crate) grace: Duration,
    /// `activeDeadlineSeconds`.
    pub(crate) deadline: Option<Duration>,
    /// Readiness gates.
    pub(crate) gates: Vec<String>,
    /// Whether its volumes can never be mounted.
    pub(crate) volumes_missing: bool,
    /// `maxContainerRestartPeriod`.
    pub(crate) backoff_max: Duration,
    /// The first back-off.
    pub(crate) backoff_initial: Duration,
    /// Containers and what they do.
    pub(crate) containers: Vec<(Container, Script)>,
}

impl Default for Pod {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            grace: Duration::from_secs(30),
            deadline: None,
            gates: Vec::new(),
            volumes_missing: false,
            backoff_max: Duration::from_secs(300),
            backoff_initial: Duration::from_secs(10),
            containers: Vec::new(),
        }
    }
}

impl Pod {
    /// The engine's plan of this pod: init list, regulars, ephemerals.
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            namespace: "test".into(),
            name: "pod".into(),
            uid: "uid-1".into(),
            restart_policy: self.policy,
            termination_grace: self.grace,
            active_deadline: self.deadline,
            host_network: false,
            readiness_gates: self.gates.iter().map(|g| g.as_str().into()).collect(),
            containers: self.ordered().map(|(c, _)| c.clone()).collect(),
        }
    }

    /// The containers in plan order.
    pub(crate) fn ordered(&self) -> impl Iterator<Item = &(Container, Script)> {
        let of = |inits: bool, regular: bool| {
            self.containers.iter().filter(move |(c, _)| {
                c.kind.in_init_list() == inits && (c.kind == Kind::Regular) == regular
            })
        };
        of(true, false).chain(of(false, true)).chain(of(false, false))
    }

    fn settings(&mut self, words: &[String]) -> Result<(), String> {
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                self.policy = parse_policy(word)?;
                continue;
            };
            match key {
                "grace" => self.grace = duration(value)?,
                "deadline" => self.deadline = Some(duration(value)?),
                "gate" => self.gates.push(value.into()),
                "volumes" => self.volumes_missing = value == "missing",
                "backoff-max" => self.backoff_max = duration(value)?,
                "backoff-initial" => self.backoff_initial = duration(value)?,
                _ => return Err(format!("a pod has no `{key}`")),
            }
        }
        Ok(())
    }

    fn container(&mut self, kind: Kind, words: &[String]) -> Result<(), String> {
        let name = words.first().ok_or("a container needs a name")?;
        if let Some((stem, n)) = name.strip_suffix(']').and_then(|n| n.split_once('[')) {
            let n: u32 = n.parse().map_err(|_| format!("`{name}` is not name[count]"))?;
            for i in 0..n {
                let mut one = words.to_vec();
                one[0] = format!("{stem}{i:02}");
                self.container(kind, &one)?;
            }
            return Ok(());
        }
        let mut c = Container::new(name, kind, "old");
        let mut s = Script::new();
        let mut start_delay = Duration::ZERO;
        for word in &words[1..] {
            if let Some(program) = Program::parse(word)? {
                s.runs.push(program);
            } else if word == "then" {
            } else if let Some(d) = word.strip_prefix("sd=") {
                start_delay = duration(d)?;
            } else if let Some(image) = word.strip_prefix("img=") {
                c.image = image.into();
            } else if let Some(policy) = word.strip_prefix("cpol=") {
                c.restart_policy = Some(parse_policy(policy)?);
            } else if let Some(n) = word.strip_prefix("startfail=") {
                s.start_failures = if n == "always" {
                    u32::MAX
                } else {
                    n.parse().map_err(|_| "startfail=N|always".to_owned())?
                };
            } else if let Some(i) = call(word, "rule", '{', '}') {
                c.restart_rules.push(parse_rule(i)?);
            } else if let Some(i) = call(word, "files", '{', '}') {
                s.parse_files(i)?;
            } else if let Some(i) = call(word, "sp", '{', '}') {
                let (check, probe) = parse_probe(i)?;
                (s.startup, c.startup) = (Some(check), Some(probe));
            } else if let Some(i) = call(word, "lp", '{', '}') {
                let (check, probe) = parse_probe(i)?;
                (s.liveness, c.liveness) = (Some(check), Some(probe));
            } else if let Some(i) = call(word, "rp", '{', '}') {
                let (check, probe) = parse_probe(i)?;
                (s.readiness, c.readiness) = (Some(check), Some(probe));
            } else if let Some(i) = call(word, "post", '{', '}') {
                (s.post, c.post_start) = (Some(parse_hook(i)?), true);
            } else if let Some(i) = call(word, "pre", '{', '}') {
                (s.pre, c.pre_stop) = (Some(parse_hook(i)?), true);
            } else {
                return Err(format!("a container has no `{word}`"));
            }
        }
        if s.runs.is_empty() {
            return Err(format!("container `{name}` does nothing: give it (d,x,t)"));
        }
        for run in &mut s.runs {
            run.start_delay = start_delay;
        }
        match self.containers.iter_mut().find(|(old, _)| old.name == c.name) {
            Some(old) => *old = (c, s),
            None => self.containers.push((c, s)),
        }
        Ok(())
    }
}

#[derive(Clone, Default)]
struct Draft {
    pod: Pod,
    steps: Vec<(usize, Step)>,
    skip: Option<String>,
    sweep: Option<(Duration, Duration, u32)>,
}

/// Parses a table file.
pub(crate) fn parse(file: &str, text: &str) -> Result<Vec<Scenario>, String> {
    let mut out: Vec<Scenario> = Vec::new();
    let mut group: Option<Draft> = None;
    let mut case: Option<(String, String, usize, Draft)> = None;
    let close = |case: &mut Option<(String, String, usize, Draft)>, out: &mut Vec<Scenario>| {
        if let Some((id, name, line, d)) = case.take() {
            out.push(Scenario {
                id,
                name,
                place: format!("{file}:{line}"),
                skip: d.skip,
                pod: d.pod,
                steps: d.steps,
                sweep: d.sweep,
            });
        }
    };
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let at = |e: String| format!("{file}:{number}: {e}");
        let words = words(line).map_err(at)?;
        let Some(first) = words.first() else { continue };
        match first.as_str() {
            "group" => {
                close(&mut case, &mut out);
                group = Some(Draft::default());
            }
            "end" => {
                close(&mut case, &mut out);
                group = None;
            }
            "case" => {
                close(&mut case, &mut out);
                let [_, id, name] = &words[..] else {
                    return Err(at("case ID \"name\"".into()));
                };
                let name = unquote(name).map_err(at)?.to_owned();
                case = Some((id.clone(), name, number, group.clone().unwrap_or_default()));
            }
            _ => {
                let draft = match (&mut case, &mut group) {
                    (Some((.., d)), _) => d,
                    (None, Some(d)) => d,
                    (None, None) => return Err(at("outside of a case".into())),
                };
                draft.line(number, &words).map_err(at)?;
            }
        }
    }
    close(&mut case, &mut out);
    Ok(out)
}

impl Draft {
    fn line(&mut self, number: usize, words: &[String]) -> Result<(), String> {
        match words[0].as_str() {
            "pod" => self.pod.settings(&words[1..]),
            "init" => self.pod.container(Kind::Init, &words[1..]),
            "sidecar" => self.pod.container(Kind::Sidecar, &words[1..]),
            "regular" => self.pod.container(Kind::Regular, &words[1..]),
            "ephemeral" => self.pod.container(Kind::Ephemeral, &words[1..]),
            "skip" => {
                let reason = words.get(1).ok_or("skip \"reason\"")?;
                self.skip = Some(unquote(reason)?.to_owned());
                Ok(())
            }
            "sweep" => {
                let [_, range, n] = words else { return Err("sweep LO..HI N".into()) };
                let (lo, hi) = range.split_once("..").ok_or("sweep LO..HI N")?;
                let n = n.parse().map_err(|_| "sweep LO..HI N".to_owned())?;
                self.sweep = Some((duration(lo)?, duration(hi)?, n));
                Ok(())
            }
            other => match Step::parse(words)? {
                Some(step) => {
                    self.steps.push((number, step));
                    Ok(())
                }
                None => Err(format!("`{other}` is not known")),
            },
        }
    }
}
