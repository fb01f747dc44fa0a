//! Traces of things that no kubelet did: each must be found out, or the comparison is worth nothing.

/// A trace, and one thing in it changed so that it is not what happened.
pub(crate) struct Spoilt {
    pub(crate) how: &'static str,
    pub(crate) text: String,
}

/// Everything that is spoilt in a trace, one thing at a time.
pub(crate) fn all(text: &str) -> Vec<Spoilt> {
    let lines: Vec<&str> = text.lines().collect();
    let in_world = |what: &str| {
        let is_it = |line: &&str| line.split_whitespace().nth(1) == Some(what);
        lines.iter().rposition(is_it)
    };
    let mut all = Vec::new();
    let mut add = |how, lines: Vec<String>| all.push(Spoilt { how, text: lines.join("\n") });
    let owned = || lines.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();
    if let Some(at) = in_world("started") {
        let mut without = owned();
        without.remove(at);
        add("a start is left out", without);
        let mut twice = owned();
        twice.insert(at, lines[at].to_owned());
        add("a container is started twice", twice);
        let mut other = owned();
        other[at] = later(lines[at], 40);
        let moved = other.remove(at);
        let end = other.iter().position(|l| l == "states").map_or(other.len(), |at| at - 1);
        other.insert(end, moved);
        add("a start comes 40 s later", other);
    }
    // What the kubelet published last of a container, and the row of kubectl's.
    let changes: [(&'static str, &str, &str); 5] = [
        ("a container was restarted once more", " restarts 0", " restarts 1"),
        ("an exit code is another", " exited 0 ", " exited 9 "),
        ("the phase is another", "    phase Running", "    phase Unknown"),
        ("a condition is another", "condition Initialized True", "condition Initialized False"),
        ("kubectl says something else", "    row ", "    row 9"),
    ];
    for (how, from, to) in changes {
        let states = lines.iter().position(|l| *l == "states").unwrap_or(lines.len());
        if let Some(at) = lines.iter().rposition(|l| l.contains(from)).filter(|at| *at > states) {
            let mut changed = owned();
            changed[at] = lines[at].replacen(from, to, 1);
            add(how, changed);
        }
    }
    all
}

/// The line of `world`, so many seconds later.
fn later(line: &str, seconds: u64) -> String {
    let line = line.trim_start();
    let (at, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (whole, part) = at.split_once('.').unwrap_or((at, "000"));
    let whole = whole.parse::<u64>().map_or(seconds, |whole| whole + seconds);
    format!("  {whole}.{part} {rest}")
}
