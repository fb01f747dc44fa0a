//! The output of containers, each line with the name of its container.

use super::name_style;

/// The line `[pod/container] text`; bytes that are not text are shown as such, control characters
/// that could move the cursor are not passed on.
pub(crate) fn line(pod: &str, container: &str, text: &[u8]) -> String {
    let style = name_style(&format!("{pod}/{container}"));
    let text: String = String::from_utf8_lossy(text)
        .chars()
        .map(|c| match c {
            '\t' | '\x1b' => c,
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect();
    let reset = if text.contains('\x1b') { "\x1b[0m" } else { "" };
    format!("{style}[{pod}/{container}]{style:#} {}{reset}", sgr_only(&text))
}

/// Keeps colours (`ESC [ … m`) and drops every other escape sequence.
fn sgr_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(body) = rest.strip_prefix('[') {
            let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == '?'));
            match end {
                Some(end) => {
                    let last = body[end..].chars().next().map_or(0, char::len_utf8);
                    if body[end..].starts_with('m') {
                        out.push_str("\x1b[");
                        out.push_str(&body[..=end]);
                    }
                    rest = &body[end + last..];
                }
                None => rest = "",
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_cursor_moves_do_not() {
        assert_eq!(sgr_only("a\x1b[31mb\x1b[0mc"), "a\x1b[31mb\x1b[0mc");
        assert_eq!(sgr_only("a\x1b[2Jb\x1b[1;1Hc"), "abc");
        assert_eq!(sgr_only("end\x1b["), "end");
        assert_eq!(sgr_only("x\x1b]0;title"), "x]0;title");
        assert_eq!(sgr_only("ü\x1b[é!"), "ü!");
    }

    #[test]
    fn lines_carry_their_container() {
        let plain = anstream::adapter::strip_str(&line("pod", "app", b"hello\rworld")).to_string();
        assert_eq!(plain, "[pod/app] hello\u{fffd}world");
    }
}
