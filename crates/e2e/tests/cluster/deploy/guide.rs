//! The commands that the documentation tells people to look with (docs/deploy.md), as they stand there.

use super::release::Release;

/// Whoever follows the row of the table that has these words sees all that is named.
pub fn shows(release: &Release, row: &str, expected: &[&str]) {
    let said = release.shell(&command(row));
    for words in expected {
        assert!(said.contains(words), "{row}: no {words:?} in:\n{said}");
    }
}

/// The one command of the documentation that has these words.
pub fn command(row: &str) -> String {
    let path = holdfast_e2e::workspace().join("docs/deploy.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `kubectl ")?.split_once("` | "));
    let found: Vec<&str> = rows.map(|(command, _)| command).filter(|c| c.contains(row)).collect();
    let [command] = found[..] else { panic!("{row}: {found:?}") };
    // A table needs its own signs escaped.
    format!("kubectl {}", command.replace("\\|", "|"))
}

/// With netclient beside, and more than one replica.
pub fn of_replicas(release: &Release) {
    shows(release, "get pods -l", &["2/2", "Running"]);
    shows(release, "describe pods", &["Started", "netclient:", "manager:"]);
    shows(release, "grep -i", &["Found WireGuard interface", "Binding proxy to specific IP"]);
    shows(release, "logs -l control-plane=controller-manager -c netclient", &["joined: 10.101."]);
    shows(release, "ip addr show", &["netmaker", "inet 10.101."]);
    shows(release, "wait --health", &[]);
    shows(release, "get events", &["became leader"]);
    let leads = release.shell(&command("get lease"));
    assert!(release.pods().iter().any(|pod| leads.starts_with(&format!("{pod}_"))), "{leads}");
}
