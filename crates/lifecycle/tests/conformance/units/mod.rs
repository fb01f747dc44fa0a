//! Tables of Kubernetes' unit tests: one line a case, run against the engine's pure functions.
//!
//! ```text
//! F12 "init container terminated non-zero"  A i.X=x r.A=- r.B=-  -> Pending
//! ```

mod actions;
mod columns;
mod conditions;
mod phase;

use crate::Case;
use crate::text::{unquote, words};

/// A line of a table: what is given and what is expected.
#[derive(Clone, Debug)]
struct Row {
    given: Vec<String>,
    expected: Vec<String>,
}

type Check = fn(&Row) -> Result<(), String>;

/// Tables and what checks their lines.
const TABLES: [(&str, &str, Check); 4] = [
    ("actions.txt", include_str!("../tables/actions.txt"), actions::check),
    ("phase.txt", include_str!("../tables/phase.txt"), phase::check),
    ("conditions.txt", include_str!("../tables/conditions.txt"), conditions::check),
    ("columns.txt", include_str!("../tables/columns.txt"), columns::check),
];

/// All cases of all tables.
pub(crate) fn cases() -> Result<Vec<Case>, String> {
    let mut out = Vec::new();
    for (file, text, check) in TABLES {
        let mut base: Vec<String> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let place = format!("{file}:{}", index + 1);
            let words = words(line).map_err(|e| format!("{place}: {e}"))?;
            match words.first().map(String::as_str) {
                None => {}
                Some("base") => base = words[1..].to_vec(),
                Some(_) => out.push(case(&words, &base, place.clone(), check)?),
            }
        }
    }
    Ok(out)
}

fn case(words: &[String], base: &[String], place: String, check: Check) -> Result<Case, String> {
    let [id, name, rest @ ..] = words else { return Err(format!("{place}: ID \"name\" …")) };
    let name = unquote(name).map_err(|e| format!("{place}: {e}"))?.to_owned();
    if let [skip, reason] = rest
        && skip == "skip"
    {
        let reason = unquote(reason).map_err(|e| format!("{place}: {e}"))?.to_owned();
        let run = Box::new(|| Ok(()));
        return Ok(Case { id: id.clone(), name, place, skip: Some(reason), run });
    }
    let arrow = rest.iter().position(|w| w == "->").ok_or_else(|| format!("{place}: no `->`"))?;
    let row = Row {
        given: base.iter().chain(&rest[..arrow]).cloned().collect(),
        expected: rest[arrow + 1..].to_vec(),
    };
    let at = place.clone();
    let run = Box::new(move || check(&row).map_err(|e| format!("{at}: {e}")));
    Ok(Case { id: id.clone(), name, place, skip: None, run })
}

/// `kind.name=value` as its three parts.
fn entry(word: &str) -> Option<(&str, &str, &str)> {
    let (left, value) = word.split_once('=')?;
    let (kind, name) = left.split_once('.')?;
    Some((kind, name, value))
}

/// Whether two things are equal, or how they differ.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: got {got:?}, want {want:?}")) }
}
