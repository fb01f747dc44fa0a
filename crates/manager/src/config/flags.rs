//! Flags as Go's `flag` package takes them (`-name value`, `--name=value`, a bare `--name` for a
//! boolean), so that the arguments of an existing Deployment mean what they meant.

use std::collections::BTreeMap;

use super::ConfigError;

/// The flags that there are, and whether each is a boolean.
pub(super) const FLAGS: &[(&str, bool)] = &[
    ("enable-http2", true),
    ("health-probe-bind-address", false),
    ("kubeconfig", false),
    ("leader-elect", true),
    ("leader-elect-lease-duration", false),
    ("leader-elect-renew-deadline", false),
    ("leader-elect-retry-period", false),
    ("leader-election-id", false),
    ("leader-election-namespace", false),
    ("metrics-bind-address", false),
    ("metrics-secure", true),
    ("status-file", false),
    ("zap-devel", true),
    ("zap-encoder", false),
    ("zap-log-level", false),
    ("zap-stacktrace-level", false),
    ("zap-time-encoding", false),
];

/// Flag to value; of a flag given twice the last one, as in Go.
pub(super) fn parse(args: &[String]) -> Result<BTreeMap<&'static str, String>, ConfigError> {
    let mut found = BTreeMap::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let bad = |cause: String| ConfigError::Flag { arg: arg.clone(), cause };
        let Some(rest) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(bad("there are only flags here".to_owned()));
        };
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (rest, None),
        };
        let Some((name, boolean)) = FLAGS.iter().find(|(flag, _)| *flag == name) else {
            return Err(bad("no such flag; `holdfast manager --help` lists them".to_owned()));
        };
        let value = match value {
            Some(value) => value,
            None if *boolean => "true".to_owned(),
            None => args.next().ok_or_else(|| bad("its value is missing".to_owned()))?.clone(),
        };
        found.insert(*name, value);
    }
    Ok(found)
}
