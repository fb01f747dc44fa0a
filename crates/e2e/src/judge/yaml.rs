//! JSON values as YAML that people like to read.

use serde_json::Value;

/// Lines up to this length hold a whole list or map.
const WIDTH: usize = 96;

/// A value as a YAML document.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    block(value, 0, &mut out);
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                pad(indent, out);
                out.push_str(&scalar(key));
                out.push(':');
                after_colon(value, indent, out);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                pad(indent, out);
                let flat = flow(item);
                if indent + flat.len() <= WIDTH || !item.is_object() {
                    out.push_str("- ");
                    out.push_str(&flat);
                    out.push('\n');
                } else {
                    // The first key stands beside the dash.
                    let start = out.len();
                    block(item, indent + 2, out);
                    out.replace_range(start..start + indent + 2, "- ");
                }
            }
        }
        other => {
            pad(indent, out);
            out.push_str(&flow(other));
            out.push('\n');
        }
    }
}

fn after_colon(value: &Value, indent: usize, out: &mut String) {
    let flat = flow(value);
    let nested = matches!(value, Value::Object(_) | Value::Array(_));
    let has_maps = value.as_array().is_some_and(|l| l.iter().any(Value::is_object));
    if !nested || (indent + flat.len() <= WIDTH && !has_maps) {
        out.push(' ');
        out.push_str(&flat);
        out.push('\n');
    } else {
        out.push('\n');
        // Lists stand at the level of their key, as kubectl writes them.
        block(value, if value.is_array() { indent } else { indent + 2 }, out);
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let one = |(key, value): (&String, &Value)| format!("{}: {}", scalar(key), flow(value));
            format!("{{{}}}", map.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A string, quoted if YAML would take it for something else.
fn scalar(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./=@".contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    if starts_well && !is_word && text.chars().all(harmless) {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn short_things_stay_on_a_line_and_long_ones_are_unfolded() {
        let value = json!({
            "kind": "Pod",
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "a",
                    "args": ["main", "a", "/judge", "liveness=ok,bad@4000", "1", "no"],
                    "livenessProbe": {"exec": {"command": ["/actor", "probe", "a"]}, "periodSeconds": 2},
                }],
            },
        });
        let expected = r#"kind: Pod
spec:
  restartPolicy: Never
  containers:
  - name: a
    args: [main, a, /judge, "liveness=ok,bad@4000", "1", "no"]
    livenessProbe: {exec: {command: [/actor, probe, a]}, periodSeconds: 2}
"#;
        assert_eq!(text(&value), expected);
    }
}
