//! `computePodActions`: what a sync does, from what the runtime holds.
//!
//! `r.r0=run` is a container and its newest run; later words change them: `r1=111` (or `0`, `created`,
//! `unknown`, `run`, `none`), `only=i2` and `none` forget the other runs, `past:r0=0` is an older run.
//! `probed=s1,s2` gives startup and liveness probes that pass, `live:r1=fail` sets a result (`fail`,
//! `ok`, `unknown`, `none`), `image:r1` and `resize:i0` change the spec, `cpol:r0,r1=A` and `rule:r2=42`
//! (restart all containers) add to it, `sandbox=dead|noip|none`, `attempt=1`, `restarting`.
//! After `->`: `nothing`, or `kill-pod`, `new-sandbox`, `attempt=1`, `start=r0,r1`, `kill=r1`,
//! `reset=r0!,r0',r2` (`!` is killed first, `'` the older run).

use std::collections::BTreeMap;

use holdfast_lifecycle::actions::{self, Context, PodActions};
use holdfast_lifecycle::plan::{ContainerId, Plan, Probe, ProbeKind};
use holdfast_lifecycle::probe::{Outcome, ProbeResults};
use holdfast_lifecycle::status::Terminated;
use holdfast_lifecycle::view::{Instance, InstanceState, RuntimeView, Sandbox};
use holdfast_lifecycle::{InstanceId, Options, RestartPolicy, Time};

use super::phase::{container, empty_plan};
use super::{Row, entry, same};
use crate::script::{parse_policy, parse_rule};

struct Scene {
    plan: Plan,
    states: Vec<Option<InstanceState>>,
    past: Vec<Option<InstanceState>>,
    /// Images of the runs, where they differ from the plan's.
    stale: Vec<bool>,
    results: ProbeResults,
    sandbox: Option<(u32, bool, bool)>,
    restarting: bool,
}

fn state(code: &str) -> Result<Option<InstanceState>, String> {
    Ok(Some(match code {
        "none" => return Ok(None),
        "run" => InstanceState::Running { started_at: Time::ZERO },
        "created" => InstanceState::Created,
        "unknown" => InstanceState::Unknown,
        code => InstanceState::Exited(Terminated {
            exit_code: code.parse().map_err(|_| format!("`{code}` is not a state"))?,
            finished_at: Some(Time::from_secs(1)),
            ..Terminated::default()
        }),
    }))
}

impl Scene {
    fn id(&self, name: &str) -> Result<ContainerId, String> {
        self.plan.find(name).ok_or_else(|| format!("no container `{name}`"))
    }

    fn read(given: &[String]) -> Result<Self, String> {
        let mut s = Self {
            plan: empty_plan(),
            states: Vec::new(),
            past: Vec::new(),
            stale: Vec::new(),
            results: ProbeResults::default(),
            sandbox: Some((0, true, true)),
            restarting: false,
        };
        for word in given {
            s.word(word).map_err(|e| format!("`{word}`: {e}"))?;
        }
        Ok(s)
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        if let Some((letter, name, code)) = entry(word) {
            self.plan.containers.push(container(letter, name)?);
            self.states.push(state(code)?);
            self.past.push(None);
            self.stale.push(false);
            return Ok(());
        }
        match word {
            "none" => self.states.fill(None),
            "restarting" => self.restarting = true,
            _ => match word.split_once(':') {
                Some((key, rest)) => self.change(key, rest)?,
                None => match word.split_once('=') {
                    Some((key, value)) => self.set(key, value)?,
                    None => self.plan.restart_policy = parse_policy(word)?,
                },
            },
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "only" => {
                let mut keep = Vec::new();
                for name in value.split(',') {
                    keep.push(self.id(name)?.index());
                }
                for (i, s) in self.states.iter_mut().enumerate() {
                    if !keep.contains(&i) {
                        *s = None;
                    }
                }
            }
            "probed" => {
                for name in value.split(',') {
                    let id = self.id(name)?;
                    let c = &mut self.plan.containers[id.index()];
                    (c.startup, c.liveness) = (Some(Probe::default()), Some(Probe::default()));
                    for kind in [ProbeKind::Startup, ProbeKind::Liveness] {
                        self.results.set(id, kind, Some(Outcome::Success));
                    }
                }
            }
            "sandbox" => {
                let attempt = self.sandbox.map_or(0, |s| s.0);
                self.sandbox = match value {
                    "none" => None,
                    "dead" => Some((attempt, false, true)),
                    "noip" => Some((attempt, true, false)),
                    _ => return Err("dead, noip or none".into()),
                };
            }
            "attempt" => {
                let attempt = value.parse().map_err(|_| "a number".to_owned())?;
                self.sandbox = self.sandbox.map(|s| (attempt, s.1, s.2));
            }
            name => {
                let id = self.id(name)?;
                self.states[id.index()] = state(value)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, key: &str, rest: &str) -> Result<(), String> {
        let (names, value) = rest.split_once('=').unwrap_or((rest, ""));
        for name in names.split(',') {
            let id = self.id(name)?;
            let c = &mut self.plan.containers[id.index()];
            match key {
                "live" | "start" => {
                    let outcome = match value {
                        "fail" => Some(Outcome::Failure),
                        "ok" => Some(Outcome::Success),
                        "unknown" => Some(Outcome::Unknown),
                        "none" => None,
                        _ => return Err("fail, ok, unknown or none".into()),
                    };
                    let (kind, probe) = if key == "live" {
                        (ProbeKind::Liveness, &mut c.liveness)
                    } else {
                        (ProbeKind::Startup, &mut c.startup)
                    };
                    probe.get_or_insert_default();
                    self.results.set(id, kind, outcome);
                }
                "image" => self.stale[id.index()] = true,
                "resize" => c.resources = 7,
                "cpol" => c.restart_policy = Some(parse_policy(value)?),
                "rule" => {
                    if c.kind != holdfast_lifecycle::Kind::Sidecar {
                        c.restart_policy = Some(RestartPolicy::Never);
                    }
                    let rule = format!("RestartAllContainers In {value}");
                    c.restart_rules.push(parse_rule(&rule)?);
                }
                "past" => self.past[id.index()] = state(value)?,
                _ => return Err("not known".into()),
            }
        }
        Ok(())
    }

    fn view(&self) -> RuntimeView {
        let mut view = RuntimeView::new(&self.plan);
        if let Some((attempt, ready, ip)) = self.sandbox {
            let ip = ip.then(|| std::net::IpAddr::from([10, 0, 0, 10]));
            view.sandboxes.push(Sandbox { attempt, ready, ip });
        }
        let mut next = 0;
        for list in [&self.past, &self.states] {
            for (i, state) in list.iter().enumerate() {
                let Some(state) = state else { continue };
                next += 1;
                let image = &self.plan.containers[i].image;
                view.push(Instance {
                    id: InstanceId(next),
                    container: ContainerId(i as u32),
                    sandbox: self.sandbox.map_or(0, |s| s.0),
                    state: state.clone(),
                    image: if self.stale[i] { "another".into() } else { image.clone() },
                    image_id: "".into(),
                    created_at: Time::from_secs(next),
                    restart_count: 0,
                });
            }
        }
        view
    }
}

pub(super) fn check(row: &Row) -> Result<(), String> {
    let scene = Scene::read(&row.given)?;
    let view = scene.view();
    let features = Options { minor: 36, ..Options::default() }.features();
    let got = actions::compute(&Context {
        plan: &scene.plan,
        view: &view,
        results: &scene.results,
        features: &features,
        deleted: false,
        restarting_all: scene.restarting,
    });
    let got = describe(&scene, &view, &got);
    let mut want = BTreeMap::new();
    for word in &row.expected {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key != "nothing" {
            want.insert(key.to_owned(), value.to_owned());
        }
    }
    same("actions", &got, &want)
}

/// The actions in the words of the table; what is not done is left out.
fn describe(scene: &Scene, view: &RuntimeView, got: &PodActions) -> BTreeMap<String, String> {
    let name = |id: ContainerId| scene.plan.container(id).name.to_string();
    let mut out = BTreeMap::new();
    let mut put = |key: &str, list: Vec<String>| {
        if !list.is_empty() {
            out.insert(key.to_owned(), list.join(","));
        }
    };
    let start = [&got.start_ephemeral, &got.start_init, &got.start_regular];
    put("start", start.into_iter().flatten().map(|&id| name(id)).collect());
    let mut killed: Vec<ContainerId> = got.kill.iter().map(|k| k.container).collect();
    killed.sort();
    put("kill", killed.into_iter().map(name).collect());
    let resets = got.reset.iter().map(|r| {
        let newest = view.newest(r.container).map(|i| i.id) == Some(r.instance);
        let older = if newest { "" } else { "'" };
        let kill = if r.kill { "!" } else { "" };
        format!("{}{older}{kill}", name(r.container))
    });
    put("reset", resets.collect());
    if got.attempt != 0 {
        put("attempt", vec![got.attempt.to_string()]);
    }
    if got.kill_pod {
        out.insert("kill-pod".into(), String::new());
    }
    if got.create_sandbox {
        out.insert("new-sandbox".into(), String::new());
    }
    out
}
