//! Conditions on a published status: `phase=Running and R1:rc>=1`, `I1:exited=0 => I1:rc=0; gone`.
//!
//! `;` joins clauses that must all hold, `=>` is an implication, `and` or a space a conjunction, `!` a
//! negation. `every:` and `any:` speak of the regular containers.

use holdfast_lifecycle::PodStatus;
use holdfast_lifecycle::status::{ContainerStatus, State};

use crate::text::{Bound, unquote};

/// A parsed condition, with its text for messages.
#[derive(Clone, Debug)]
pub(crate) struct Cond {
    /// As written.
    pub(crate) text: String,
    clauses: Vec<Clause>,
}

#[derive(Clone, Debug)]
struct Clause {
    given: Vec<Atom>,
    then: Vec<Atom>,
}

#[derive(Clone, Debug)]
struct Atom {
    negated: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Phase(String),
    Reason(String),
    Message(String),
    Gone,
    Ended,
    Container(String, Facet),
    Condition(String, bool),
    ConditionReason(String, String),
    ConditionMessage(String, String),
}

#[derive(Clone, Debug)]
enum Facet {
    Listed,
    Running,
    Waiting(Option<String>),
    Exited(Option<i32>),
    ExitReason(String),
    LastExit(Option<i32>),
    LastReason(String),
    Count(Bound),
    Ready,
    Started,
    Image(String),
    HasInstance,
}

/// What a condition is evaluated against.
pub(crate) struct Scene<'a> {
    /// The published status.
    pub(crate) status: &'a PodStatus,
    /// Whether the pod's object is gone.
    pub(crate) gone: bool,
}

impl Cond {
    /// Parses the words of a condition.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let text = words.join(" ");
        let mut clauses = Vec::new();
        for clause in split(words, ";") {
            let sides: Vec<Vec<String>> = split(&clause, "=>");
            let (given, then) = match &sides[..] {
                [then] => (Vec::new(), then),
                [given, then] => (atoms(given)?, then),
                _ => return Err(format!("`{text}`: too many `=>`")),
            };
            clauses.push(Clause { given, then: atoms(then)? });
        }
        Ok(Self { text, clauses })
    }

    /// Whether it holds.
    pub(crate) fn holds(&self, scene: &Scene<'_>) -> bool {
        self.clauses.iter().all(|c| {
            !c.given.iter().all(|a| a.holds(scene)) || c.then.iter().all(|a| a.holds(scene))
        })
    }
}

/// Splits at words equal to `mark`, or ending in it for `;`.
fn split(words: &[String], mark: &str) -> Vec<Vec<String>> {
    let mut out = vec![Vec::new()];
    for word in words {
        if word == mark {
            out.push(Vec::new());
        } else if let Some(head) = word.strip_suffix(mark).filter(|_| mark == ";") {
            if let Some(last) = out.last_mut() {
                last.push(head.to_owned());
            }
            out.push(Vec::new());
        } else if let Some(last) = out.last_mut() {
            last.push(word.clone());
        }
    }
    out.retain(|part| !part.is_empty());
    out
}

fn atoms(words: &[String]) -> Result<Vec<Atom>, String> {
    words.iter().filter(|w| *w != "and").map(|w| atom(w)).collect()
}

fn atom(word: &str) -> Result<Atom, String> {
    let (negated, rest) = match word.strip_prefix('!') {
        Some(r) => (true, r),
        None => (false, word),
    };
    Ok(Atom { negated, what: what(rest)? })
}

fn value(text: &str) -> Result<String, String> {
    if text.starts_with('"') { unquote(text).map(str::to_owned) } else { Ok(text.to_owned()) }
}

fn what(text: &str) -> Result<What, String> {
    match text {
        "gone" => return Ok(What::Gone),
        "ended" => return Ok(What::Ended),
        _ => {}
    }
    for (key, make) in [
        ("phase=", What::Phase as fn(String) -> What),
        ("reason=", What::Reason),
        ("message=", What::Message),
    ] {
        if let Some(v) = text.strip_prefix(key) {
            return Ok(make(value(v)?));
        }
    }
    let (name, facet) = text.split_once(':').ok_or_else(|| format!("`{text}` says nothing"))?;
    let pair = |f: &str| {
        f.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .ok_or_else(|| format!("`{text}` has no value"))
    };
    match name {
        "cond" => {
            let (kind, v) = pair(facet)?;
            return Ok(What::Condition(kind, v == "True"));
        }
        "why" => {
            let (kind, v) = pair(facet)?;
            return Ok(What::ConditionReason(kind, value(&v)?));
        }
        "text" => {
            let (kind, v) = pair(facet)?;
            return Ok(What::ConditionMessage(kind, value(&v)?));
        }
        _ => {}
    }
    let (key, arg) = match facet.split_once('=') {
        Some((k, v)) if k.chars().all(|c| c.is_ascii_alphabetic()) => (k, Some(v)),
        _ => (facet, None),
    };
    let code = |v: &str| v.parse::<i32>().map_err(|_| format!("`{v}` is not an exit code"));
    let facet = match (key, arg) {
        ("listed", None) => Facet::Listed,
        ("running", None) => Facet::Running,
        ("waiting", v) => Facet::Waiting(v.map(value).transpose()?),
        ("exited", v) => Facet::Exited(v.map(code).transpose()?),
        ("exit", Some(v)) => Facet::ExitReason(value(v)?),
        ("last", v) => Facet::LastExit(v.map(code).transpose()?),
        ("lastexit", Some(v)) => Facet::LastReason(value(v)?),
        ("ready", None) => Facet::Ready,
        ("started", None) => Facet::Started,
        ("id", None) => Facet::HasInstance,
        ("image", Some(v)) => Facet::Image(value(v)?),
        _ => match facet.strip_prefix("rc") {
            Some(bound) => Facet::Count(Bound::parse(bound)?),
            None => return Err(format!("a container has no `{facet}`")),
        },
    };
    Ok(What::Container(name.into(), facet))
}

/// The status of the container called `name`.
pub(crate) fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    status.all().find(|c| &*c.name == name)
}

impl Atom {
    fn holds(&self, scene: &Scene<'_>) -> bool {
        self.what.holds(scene) != self.negated
    }
}

impl What {
    fn holds(&self, scene: &Scene<'_>) -> bool {
        let s = scene.status;
        let condition = |name: &str| s.conditions.iter().find(|c| c.kind.as_str() == name);
        match self {
            Self::Phase(p) => s.phase.as_str() == p,
            Self::Reason(r) => s.reason == r.as_str(),
            Self::Message(m) => s.message == m.as_str(),
            Self::Gone => scene.gone,
            Self::Ended => s.phase.is_terminal(),
            Self::Condition(name, v) => condition(name).is_some_and(|c| c.status == *v),
            Self::ConditionReason(name, r) => {
                condition(name).is_some_and(|c| c.reason == r.as_str())
            }
            Self::ConditionMessage(name, m) => {
                condition(name).is_some_and(|c| c.message == m.as_str())
            }
            Self::Container(name, facet) if name == "every" => {
                !s.regular.is_empty() && s.regular.iter().all(|c| facet.holds(c))
            }
            Self::Container(name, facet) if name == "any" => {
                s.regular.iter().any(|c| facet.holds(c))
            }
            Self::Container(name, facet) => find(s, name).is_some_and(|c| facet.holds(c)),
        }
    }
}

impl Facet {
    fn holds(&self, c: &ContainerStatus) -> bool {
        match self {
            Self::Listed => true,
            Self::Running => c.state.is_running(),
            Self::Waiting(reason) => match &c.state {
                State::Waiting { reason: r, .. } => reason.as_ref().is_none_or(|x| r == x),
                _ => false,
            },
            Self::Exited(code) => {
                c.state.terminated().is_some_and(|t| code.is_none_or(|x| t.exit_code == x))
            }
            Self::ExitReason(r) => c.state.terminated().is_some_and(|t| t.reason == *r),
            Self::LastExit(code) => {
                c.last_state.as_ref().is_some_and(|t| code.is_none_or(|x| t.exit_code == x))
            }
            Self::LastReason(r) => c.last_state.as_ref().is_some_and(|t| t.reason == *r),
            Self::Count(bound) => bound.holds(i64::from(c.restart_count)),
            Self::Ready => c.ready,
            Self::Started => c.started == Some(true),
            Self::Image(image) => *c.image == **image,
            Self::HasInstance => c.instance.is_some(),
        }
    }
}
