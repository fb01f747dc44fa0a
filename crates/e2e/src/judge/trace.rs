//! Trace files: one pod each, with its manifest, what happened, and what the kubelet published. The
//! tests of the engine read them (`crates/lifecycle/tests/kubelet-traces`).

use serde_json::Value;

use super::watch::Nanos;
use super::world::History;
use super::yaml;

/// The text of a trace file.
pub(super) fn text(about: &str, version: &str, manifest: &Value, history: &History) -> String {
    let mut out = String::new();
    for line in about.lines() {
        out.push_str(&format!("# {line}\n"));
    }
    let clock = seconds(history.start.rem_euclid(1_000_000_000));
    out.push_str(&format!("kubernetes {version}\nclock {clock}\n\nmanifest\n"));
    indent(&yaml::text(manifest), &mut out);
    out.push_str("\nworld\n");
    for (at, line) in &history.world {
        out.push_str(&format!("  {} {line}\n", seconds(*at)));
    }
    out.push_str("\nstates\n");
    for state in &history.states {
        out.push_str(&format!("  @ {}\n", seconds(state.at)));
        for line in &state.lines {
            out.push_str(&format!("    {line}\n"));
        }
    }
    out
}

fn indent(text: &str, out: &mut String) {
    for line in text.lines() {
        out.push_str(&format!("  {line}\n"));
    }
}

/// Seconds with milliseconds.
fn seconds(at: Nanos) -> String {
    let millis = at.div_euclid(1_000_000);
    let (sign, millis) = if millis < 0 { ("-", -millis) } else { ("", millis) };
    format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
}
