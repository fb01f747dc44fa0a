//! The capabilities of a container.

use holdfast_manifest::object::container::{Capabilities, Container};
use holdfast_sys::caps::{DEFAULT, NAMES};

/// The capabilities of a container without the `CAP_`; `None` for all (`privileged`, or `add: [ALL]`
/// with nothing dropped). Additions come before removals, as in containerd (`WithCapabilities`).
pub(super) fn of(container: &Container) -> Option<Vec<String>> {
    let security = container.security_context.as_ref();
    if security.and_then(|s| s.privileged) == Some(true) {
        return None;
    }
    let none = Capabilities::default();
    let asked = security.and_then(|s| s.capabilities.as_ref()).unwrap_or(&none);
    let has_all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut names: Vec<String> = match (has_all(&asked.add), has_all(&asked.drop)) {
        (true, false) if asked.drop.is_empty() => return None,
        (true, false) => NAMES.map(str::to_owned).into(),
        (_, true) => Vec::new(),
        (false, false) => DEFAULT.map(str::to_owned).into(),
    };
    for name in asked.add.iter().filter_map(|name| canonical(name)) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    for name in asked.drop.iter().filter_map(|name| canonical(name)) {
        names.retain(|known| known != name);
    }
    Some(names)
}

/// `capabilities.add` and `capabilities.drop`, for a runtime that has a set of its own (kubelet:
/// `convertToRuntimeCapabilities`).
pub(super) fn changes(container: &Container) -> (Vec<String>, Vec<String>) {
    let security = container.security_context.as_ref();
    let asked = security.and_then(|s| s.capabilities.as_ref());
    asked.map(|asked| (asked.add.clone(), asked.drop.clone())).unwrap_or_default()
}

/// Linux' name of a capability as a Pod writes it; `None` for `ALL` and for what Linux does not know.
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().find(|&&known| known == short).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn caps(security: serde_json::Value) -> Option<Vec<String>> {
        let container = json!({"name": "c", "securityContext": security});
        of(&serde_json::from_value::<Container>(container).unwrap())
    }

    #[test]
    fn added_and_dropped() {
        assert_eq!(caps(json!({})).unwrap(), DEFAULT);
        assert_eq!(caps(json!({"privileged": true, "capabilities": {"drop": ["ALL"]}})), None);
        let some = caps(json!({"capabilities": {
            "add": ["NET_ADMIN", "cap_sys_time", "CHOWN"], "drop": ["KILL", "MKNOD"]}}))
        .unwrap();
        assert_eq!(some.len(), DEFAULT.len());
        assert!(some.contains(&"NET_ADMIN".into()) && some.contains(&"SYS_TIME".into()));
        assert!(!some.contains(&"KILL".into()) && !some.contains(&"MKNOD".into()));
        let only = json!({"capabilities": {"drop": ["all"], "add": ["NET_BIND_SERVICE"]}});
        assert_eq!(caps(only).unwrap(), ["NET_BIND_SERVICE"]);
        assert_eq!(caps(json!({"capabilities": {"drop": ["ALL"]}})), Some(Vec::new()));
        assert_eq!(caps(json!({"capabilities": {"add": ["ALL"]}})), None);
        let most = json!({"capabilities": {"add": ["ALL"], "drop": ["SYS_BOOT"]}});
        assert_eq!(caps(most).unwrap().len(), NAMES.len() - 1);
    }
}
