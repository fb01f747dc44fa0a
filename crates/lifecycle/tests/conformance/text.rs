//! Words of a table line: whitespace-separated, but `"…"`, `{…}` and `(…)` keep theirs together.

use std::time::Duration;

/// Splits a line into words; a `#` outside quotes starts a comment.
pub(crate) fn words(line: &str) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut word = String::new();
    let mut depth = 0_i32;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            _ if quoted => word.push(c),
            '#' if depth == 0 && word.is_empty() => break,
            '{' | '(' => {
                depth += 1;
                word.push(c);
            }
            '}' | ')' => {
                depth -= 1;
                word.push(c);
            }
            c if c.is_whitespace() && depth == 0 => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if quoted || depth != 0 {
        return Err("unbalanced quotes or brackets".into());
    }
    if !word.is_empty() {
        out.push(word);
    }
    Ok(out)
}

/// The text between the quotes of a quoted word.
pub(crate) fn unquote(word: &str) -> Result<&str, String> {
    word.strip_prefix('"')
        .and_then(|w| w.strip_suffix('"'))
        .ok_or_else(|| format!("`{word}` should be in quotes"))
}

/// A duration such as `20s`, `2m`, `1m30s`, `250ms` or bare seconds (`1.5`).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration");
    if let Ok(secs) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(secs).map_err(|_| bad());
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let value: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..unit_len] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(bad()),
        };
        total += Duration::try_from_secs_f64(value * unit).map_err(|_| bad())?;
        rest = &rest[unit_len..];
    }
    Ok(total)
}

/// The inside of `name{…}` or `name(…)`, if the word is one.
pub(crate) fn call<'a>(word: &'a str, name: &str, open: char, close: char) -> Option<&'a str> {
    word.strip_prefix(name)?.strip_prefix(open)?.strip_suffix(close)
}

/// Whether a number satisfies `=3`, `>=3`, `<3`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    op: Op,
    value: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Bound {
    /// Parses an operator followed by a number.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (op, rest) = [
            (">=", Op::Ge),
            ("<=", Op::Le),
            ("!=", Op::Ne),
            (">", Op::Gt),
            ("<", Op::Lt),
            ("=", Op::Eq),
        ]
        .into_iter()
        .find_map(|(sign, op)| Some((op, text.strip_prefix(sign)?)))
        .ok_or_else(|| format!("`{text}` has no comparison"))?;
        let value = rest.parse().map_err(|_| format!("`{rest}` is not a number"))?;
        Ok(Self { op, value })
    }

    /// Whether `n` satisfies the bound.
    pub(crate) const fn holds(self, n: i64) -> bool {
        match self.op {
            Op::Eq => n == self.value,
            Op::Ne => n != self.value,
            Op::Lt => n < self.value,
            Op::Le => n <= self.value,
            Op::Gt => n > self.value,
            Op::Ge => n >= self.value,
        }
    }
}
