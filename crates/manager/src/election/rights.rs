//! Rights that a replica lacks, and the rule that would give them.

use std::fmt;

/// A right that the API server says this process has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRight {
    /// `get`, `create`, `update`, `watch`.
    pub verb: &'static str,
    /// The resource in plural, such as `leases`.
    pub resource: &'static str,
    /// Where.
    pub namespace: String,
    /// The rule to add to a Role there.
    rule: String,
    /// What the API server said.
    said: String,
}

impl MissingRight {
    /// On the lease of an election.
    pub(super) fn lease(verb: &'static str, namespace: &str, name: &str, said: &str) -> Self {
        // A name cannot be asked for when it is created or watched from a list.
        let rule = format!(
            "{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}} and \
             {{apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [{name}], \
             verbs: [get, update, watch]}}"
        );
        let (namespace, said) = (namespace.to_owned(), said.to_owned());
        Self { verb, resource: "leases", namespace, rule, said }
    }

    /// To tell people by Events.
    pub(super) fn events(namespace: &str, said: &str) -> Self {
        let rule = "{apiGroups: [\"\"], resources: [events], verbs: [create]}".to_owned();
        let (namespace, said) = (namespace.to_owned(), said.to_owned());
        Self { verb: "create", resource: "events", namespace, rule, said }
    }

    /// Whether it is about the same right.
    pub(super) fn is(&self, verb: &str, resource: &str) -> bool {
        self.verb == verb && self.resource == resource
    }

    /// What it means for the election.
    fn consequence(&self) -> &'static str {
        match (self.verb, self.resource) {
            ("watch", _) => "a change of the leader is seen some seconds later",
            (_, "events") => "no Event tells of a change of the leader",
            _ => "this replica cannot be elected",
        }
    }
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, namespace, rule, said } = self;
        write!(
            f,
            "leader election may not {verb} {resource} in namespace {namespace}, so that {}: add to a Role \
             there {rule} (the API server says: {said})",
            self.consequence()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_to_add_is_said() {
        let said = MissingRight::lease("get", "mesh", "l", "leases \"l\" is forbidden").to_string();
        for words in
            ["may not get leases in namespace mesh", "cannot be elected", "[l]", "is forbidden"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        let said = MissingRight::lease("watch", "mesh", "l", "").to_string();
        assert!(said.contains("some seconds later"), "{said}");
        assert!(MissingRight::events("mesh", "").to_string().contains("resources: [events]"));
    }
}
