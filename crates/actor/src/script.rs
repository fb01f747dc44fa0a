//! What a run of a container does, as words.
//!
//! | step | meaning |
//! |---|---|
//! | `exit=CODE@T` | it ends with CODE at T; without it, it runs for ever |
//! | `term=CODE@MS` | on SIGTERM it ends with CODE, MS later; `term=ignore` ignores it; default `0@0` |
//! | `PROBE=A[,A@T]…` | its answers to a probe: A is `ok`, `bad` or `hang`, from T on; default `ok` |
//! | `print=TEXT` | it prints TEXT |
//! | `message=TEXT` | it writes TEXT as its termination message |
//!
//! A time T is `MS`, milliseconds after the start of the run, or `NAME+MS`, after the first start of
//! the container called NAME: so that what happens in one container keeps its distance from what
//! happens in another, however long the start of either takes.

use std::time::Duration;

use crate::moment::At;

/// The steps of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) exit: Option<(u8, At)>,
    pub(crate) term: Term,
    pub(crate) print: Option<String>,
    pub(crate) message: Option<String>,
    /// The answers to each probe that is not always passed.
    pub(crate) answers: Vec<(String, Answers)>,
    pub(crate) ports: Ports,
}

/// What SIGTERM does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Term {
    Ignore,
    Exit(u8, Duration),
}

/// Where it listens; the same in every run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ports {
    pub(crate) http: Option<u16>,
    pub(crate) grpc: Option<u16>,
    /// Ports that are open while the answer to the probe is `ok`.
    pub(crate) tcp: Vec<(String, u16)>,
}

/// Answers to a probe, each from a time on; the first from the beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(Vec<(At, Answer)>);

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Bad,
    /// None at all.
    Hang,
}

impl Default for Term {
    fn default() -> Self {
        Self::Exit(0, Duration::ZERO)
    }
}

impl Script {
    /// The script of the run with this number, from 0.
    pub(crate) fn parse(words: &[&str], run: usize) -> Result<Self, String> {
        let mut script = Self::default();
        let is_port = |w: &&&str| ["http=", "grpc=", "tcp="].iter().any(|p| w.starts_with(p));
        let ports = words.iter().take_while(is_port).count();
        for word in &words[..ports] {
            script.port(word)?;
        }
        let runs: Vec<&[&str]> = words[ports..].split(|w| *w == "/").collect();
        for step in runs.get(run).or(runs.last()).copied().unwrap_or_default() {
            script.step(step)?;
        }
        Ok(script)
    }

    /// The answers to a probe.
    pub(crate) fn answers(&self, probe: &str) -> Answers {
        let answers = self.answers.iter().find(|(name, _)| name == probe);
        answers.map_or_else(Answers::default, |(_, answers)| answers.clone())
    }

    fn port(&mut self, word: &str) -> Result<(), String> {
        let number = |text: &str| text.parse::<u16>().map_err(|e| format!("{word:?}: {e}"));
        match word.split_once('=') {
            Some(("http", port)) => self.ports.http = Some(number(port)?),
            Some(("grpc", port)) => self.ports.grpc = Some(number(port)?),
            Some(("tcp", rest)) => {
                let (probe, port) = rest.split_once(':').ok_or_else(|| format!("{word:?}"))?;
                self.ports.tcp.push((probe.to_owned(), number(port)?));
            }
            _ => return Err(format!("{word:?} is no port")),
        }
        Ok(())
    }

    fn step(&mut self, step: &str) -> Result<(), String> {
        let (name, value) = step.split_once('=').ok_or_else(|| format!("{step:?} has no ="))?;
        match name {
            "exit" => {
                let (code, at) = end(value)?;
                self.exit = Some((code, At::parse(at)?));
            }
            "term" if value == "ignore" => self.term = Term::Ignore,
            "term" => {
                let (code, after) = end(value)?;
                let after = after.parse().map_err(|e| format!("{step:?}: {e}"))?;
                self.term = Term::Exit(code, Duration::from_millis(after));
            }
            "print" => self.print = Some(value.to_owned()),
            "message" => self.message = Some(value.to_owned()),
            "startup" | "readiness" | "liveness" => {
                self.answers.push((name.to_owned(), Answers::parse(value)?));
            }
            _ => return Err(format!("{step:?}: there is no such step")),
        }
        Ok(())
    }
}

impl Answers {
    /// Reads `A,A@MS,…`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            let (answer, at) = match part.split_once('@') {
                Some((answer, at)) => (answer, At::parse(at)?),
                None => (part, At::default()),
            };
            let answer = match answer {
                "ok" => Answer::Ok,
                "bad" => Answer::Bad,
                "hang" => Answer::Hang,
                _ => return Err(format!("{part:?}: expected ok, bad or hang")),
            };
            Ok((at, answer))
        };
        text.split(',').map(one).collect::<Result<_, _>>().map(Self)
    }

    /// The answer at a time, given when each of the others begins.
    pub(crate) fn at(&self, now: Duration, when: impl Fn(&At) -> Option<Duration>) -> Answer {
        let begun = |(at, _): &&(At, Answer)| when(at).is_some_and(|at| at <= now);
        self.0.iter().rev().find(begun).map_or(Answer::Ok, |&(_, answer)| answer)
    }

    /// Whether it is always the same.
    pub(crate) fn is_constant(&self) -> bool {
        self.0.len() < 2
    }

    /// The text it was read from.
    pub(crate) fn text(&self) -> String {
        let one = |(at, answer): &(At, Answer)| format!("{}@{}", answer.text(), at.text());
        self.0.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

impl Answer {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Bad => "bad",
            Self::Hang => "hang",
        }
    }
}

/// Reads `CODE@TIME`.
fn end(text: &str) -> Result<(u8, &str), String> {
    let (code, at) = text.split_once('@').ok_or_else(|| format!("{text:?} is not CODE@TIME"))?;
    Ok((code.parse().map_err(|e| format!("{code:?}: {e}"))?, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_steps_and_the_last_ones_serve_for_the_rest() {
        let words = ["http=80", "tcp=liveness:81", "exit=1@5", "/", "term=ignore", "exit=0@7"];
        let first = Script::parse(&words, 0).unwrap();
        assert_eq!(first.exit, Some((1, At::parse("5").unwrap())));
        assert!(matches!(first.term, Term::Exit(0, Duration::ZERO)));
        let third = Script::parse(&words, 2).unwrap();
        assert_eq!(third.exit, Some((0, At::parse("7").unwrap())));
        assert!(matches!(third.term, Term::Ignore));
        assert_eq!(third.ports.http, Some(80));
        assert_eq!(third.ports.tcp, [("liveness".to_owned(), 81)]);
        assert!(Script::parse(&["exit=1"], 0).is_err());
    }

    #[test]
    fn answers_change_with_time() {
        let script = Script::parse(&["liveness=bad,ok@2000,hang@app+4000"], 0).unwrap();
        let answers = script.answers("liveness");
        let when = |at: &At| at.since(None, Some(Duration::from_secs(10)));
        let own = |at: &At| at.since(Some(Duration::ZERO), None);
        assert_eq!(answers.at(Duration::from_secs(3), own), Answer::Ok);
        assert_eq!(answers.at(Duration::from_secs(1), own), Answer::Bad);
        assert_eq!(answers.at(Duration::from_secs(14), when), Answer::Hang);
        assert_eq!(script.answers("startup").at(Duration::ZERO, own), Answer::Ok);
        assert_eq!(answers.text(), "bad@0,ok@2000,hang@app+4000");
    }
}
