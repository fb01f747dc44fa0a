//! `$(VAR)` references, exactly as Kubernetes expands them.
//!
//! After third_party/forked/golang/expansion: `$(NAME)` is replaced, `$$` is a dollar sign, and
//! whatever cannot be understood or resolved stays as it is written.

/// Expands the references in `input`; `lookup` gives the value of a name.
pub fn expand(input: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = match after.chars().next() {
            // A dollar at the end stays.
            None => {
                expanded.push('$');
                after
            }
            // `$$` is one dollar, whatever follows: `$$(A)` is `$(A)`.
            Some('$') => {
                expanded.push('$');
                &after[1..]
            }
            Some('(') => match after.find(')') {
                Some(end) => {
                    let name = &after[1..end];
                    match lookup(name) {
                        Some(value) => expanded.push_str(&value),
                        None => {
                            expanded.push_str("$(");
                            expanded.push_str(name);
                            expanded.push(')');
                        }
                    }
                    &after[end + 1..]
                }
                // Not closed.
                None => {
                    expanded.push_str("$(");
                    &after[1..]
                }
            },
            Some(c) => {
                expanded.push('$');
                expanded.push(c);
                &after[c.len_utf8()..]
            }
        };
    }
    expanded.push_str(rest);
    expanded
}

/// Expands with the values of a list, the last of a name counting.
pub(super) fn expand_list(input: &str, env: &[(String, String)]) -> String {
    expand(input, |name| value(env, name))
}

/// Expands a `subPathExpr`, in which every reference must resolve
/// (kubelet: `ExpandContainerVolumeMounts`).
///
/// # Errors
/// Names the missing variables.
pub(crate) fn expand_sub_path(input: &str, env: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(Vec::new());
    let expanded = expand(input, |name| {
        let found = value(env, name);
        if found.is_none() {
            missing.borrow_mut().push(format!("missing value for {name:?}"));
        }
        Some(found.unwrap_or_default())
    });
    match missing.into_inner().as_slice() {
        [] => Ok(expanded),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn value(env: &[(String, String)], name: &str) -> Option<String> {
    env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kubernetes_expands() {
        let env: Vec<(String, String)> = [
            ("VAR_A", "A"),
            ("VAR_B", "B"),
            ("VAR_C", "C"),
            ("VAR_REF", "$(VAR_A)"),
            ("VAR_EMPTY", ""),
            ("", "nameless"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (input, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("___$(VAR_C)", "___C"),
            ("$(VAR_A)-$(VAR_A)", "A-A"),
            ("$(VAR_A)$(VAR_B)$(VAR_C)", "ABC"),
            ("$(VAR_EMPTY)", ""),
            ("foo$(VAR_EMPTY)bar", "foobar"),
            // Values are not expanded again.
            ("$(VAR_REF)", "$(VAR_A)"),
            ("$(VAR_DNE)", "$(VAR_DNE)"),
            ("f000-$(VAR_DNE)-$(VAR_A)", "f000-$(VAR_DNE)-A"),
            // Escapes.
            ("$$(VAR_A)", "$(VAR_A)"),
            ("___$$(VAR_B)___", "___$(VAR_B)___"),
            ("$$$(VAR_A)", "$A"),
            ("$$$$(VAR_A)", "$$(VAR_A)"),
            ("$$$$$(VAR_A)", "$$A"),
            ("$$", "$"),
            ("$", "$"),
            ("$$$", "$$"),
            ("foo$", "foo$"),
            // What is not understood stays.
            ("$VAR_A", "$VAR_A"),
            ("${VAR_A}", "${VAR_A}"),
            ("$(VAR_A", "$(VAR_A"),
            ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
            ("$()", "nameless"),
            ("$( VAR_A)", "$( VAR_A)"),
            ("$(VAR_A))", "A)"),
            ("$é(VAR_A)", "$é(VAR_A)"),
            ("\n$(VAR_A)\n", "\nA\n"),
            ("$(VAR_A$$)", "$(VAR_A$$)"),
        ] {
            assert_eq!(expand_list(input, &env), expected, "{input:?}");
        }
    }

    #[test]
    fn a_sub_path_needs_every_value() {
        let env = [("POD".to_owned(), "p-0".to_owned()), ("E".to_owned(), String::new())];
        assert_eq!(expand_sub_path("logs/$(POD)$(E)", &env).as_deref(), Ok("logs/p-0"));
        assert_eq!(expand_sub_path("$$(POD)", &env).as_deref(), Ok("$(POD)"));
        let error = expand_sub_path("$(NODE)", &env).unwrap_err();
        assert_eq!(error, "missing value for \"NODE\"");
        let error = expand_sub_path("$(A)/$(B)", &env).unwrap_err();
        assert_eq!(error, "[missing value for \"A\", missing value for \"B\"]");
    }
}
