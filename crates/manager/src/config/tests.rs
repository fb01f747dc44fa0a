use super::*;

/// Neither a kubelet's hosts file nor a service account.
fn nowhere() -> Places {
    Places { hosts: "/nonexistent".into(), service_account: "/nonexistent".into() }
}

/// `NAME=value` are variables, everything else is a flag.
fn read_at(words: &[&str], places: &Places) -> Result<Config, ConfigError> {
    let is_flag = |word: &&&str| word.starts_with('-') || !word.contains('=');
    let flags: Vec<String> = words.iter().filter(is_flag).map(ToString::to_string).collect();
    let pairs = words.iter().filter(|word| !is_flag(word)).filter_map(|word| word.split_once('='));
    let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Config::read(&flags, &env, places)
}

fn read(words: &[&str]) -> Config {
    read_at(words, &nowhere()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn defaults_are_those_of_the_operator() {
    let config = read(&[]);
    assert_eq!(config.interface, "netmaker");
    assert_eq!(config.retry, Retry { attempts: 10, base: seconds(2), cap: seconds(30) });
    assert_eq!(config.proxy, None);
    assert_eq!(config.health, Some(Health { ip: None, port: Port::Fixed(8081) }));
    assert_eq!((config.metrics, config.election), (None, None));
    assert_eq!(
        config.log,
        Log { json: false, level: tracing::Level::DEBUG, time: TimeEncoding::Rfc3339 }
    );
    assert_eq!(config.status_file.path, PathBuf::from(STATUS_FILE));
    assert_eq!(config.warnings, [""; 0]);

    let proxy = read(&["PROXY_MODE=auth"]).proxy.unwrap();
    assert_eq!(proxy.mode, Mode::Auth);
    assert_eq!(proxy.proxy, Place { ip: None, port: Port::Fixed(8085) });
    assert_eq!(proxy.api, Place { ip: None, port: Port::Fixed(8086) });
    let unmapped = proxy.unmapped.unwrap();
    assert_eq!(unmapped.name, "wireguard-peer");
    assert_eq!(unmapped.groups, ["system:authenticated", "wireguard-peers"]);
}

/// Every setting that makes no sense, and the words that say so.
#[test]
fn what_makes_no_sense_is_an_error_with_its_name_and_value() {
    for (words, said) in [
        (
            &["IFACE_NAME=a-name-of-sixteen"][..],
            "IFACE_NAME=\"a-name-of-sixteen\": no network interface",
        ),
        (&["IFACE_NAME=a/b"], "no network interface"),
        (
            &["WIREGUARD_RETRY_MAX_ATTEMPTS=ten"],
            "WIREGUARD_RETRY_MAX_ATTEMPTS=\"ten\": expected a number",
        ),
        (&["WIREGUARD_RETRY_MAX_ATTEMPTS=0"], "expected a number from 1"),
        (&["WIREGUARD_RETRY_MAX_ATTEMPTS=-1"], "expected a number from 1"),
        (
            &["WIREGUARD_RETRY_BASE_DELAY_SECONDS=2s"],
            "BASE_DELAY_SECONDS=\"2s\": expected whole seconds",
        ),
        (&["WIREGUARD_RETRY_MAX_DELAY_SECONDS=99999999999999999999"], "expected whole seconds"),
        (&["PROXY_MODE=authn"], "PROXY_MODE=\"authn\": expected auth or noauth"),
        (&["PROXY_PORT=0"], "PROXY_PORT=\"0\": expected a port"),
        (&["PROXY_PORT=65536"], "expected a port from 1 to 65535"),
        (&["API_PORT=http"], "API_PORT"),
        (&["PROXY_BIND_IP=netmaker"], "PROXY_BIND_IP=\"netmaker\": expected an IP address"),
        (&["API_BIND_IP=10.0.0.1:80"], "without a port"),
        (&["PROXY_SKIP_TLS_VERIFY=maybe"], "expected true or false"),
        (&["IN_CLUSTER=ja"], "expected true or false"),
        (&["HEALTH_PROBE_PORT=x"], "HEALTH_PROBE_PORT"),
        (&["ENABLE_LEADER_ELECTION=on"], "expected true or false"),
        (&["API_SERVER_DOMAIN=http://api.example.org"], "only https"),
        (&["API_SERVER_DOMAIN=user@api"], "expected HOST"),
        (&["API_SERVER_DOMAIN=api/v1"], "expected HOST"),
        (&["SERVER_HOST=api:99999"], "expected a port"),
        (&["API_SYNC_INTERVAL=0"], "expected whole seconds, 1 or more"),
        (
            &["PROXY_MODE=auth", "API_SERVER_DOMAIN=api.example.org"],
            "neither API_TOKEN nor API_TOKEN_FILE",
        ),
        (
            &["API_SERVER_DOMAIN=a", "API_TOKEN=t", "API_SYNC_INTERVAL=60", "API_SYNC_MAX_AGE=59"],
            "would expire before they are asked for again",
        ),
        (&["PROXY_MODE=auth", "PROXY_PORT=9000", "API_PORT=9000"], "both 9000"),
        (&["PROXY_TLS_CERT_FILE=/c"], "belong together"),
        (&["--no-such-flag"], "no such flag"),
        (&["-health-probe-bind-address"], "its value is missing"),
        (&["--health-probe-bind-address=8081"], "expected :PORT"),
        (&["--metrics-bind-address=:http"], "no number up to 65535"),
        (&["--leader-elect=perhaps"], "--leader-elect=\"perhaps\": expected true or false"),
        (&["serve"], "there are only flags here"),
        (&["--zap-encoder=logfmt"], "expected json or console"),
        (&["--zap-log-level=loud"], "expected debug, info"),
        (&["--zap-time-encoding=unix"], "expected epoch"),
        (&["--zap-stacktrace-level=none"], "expected info, error or panic"),
        (&["--leader-elect"], "leader election needs a namespace"),
        (&["POD_NAME=a"], "leader election needs a namespace"),
        (&["--leader-elect-lease-duration=5s"], "lease duration (5s) > renew deadline (10s)"),
        (&["--leader-elect-retry-period=soon"], "expected a time"),
    ] {
        let error = read_at(words, &nowhere()).expect_err(said).to_string();
        assert!(error.contains(said), "{words:?}: {error}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    assert_eq!(read(&["PROXY_MODE=", "PROXY_PORT= ", "POD_NAME=", "KUBECONFIG="]), read(&[]));
}

#[test]
fn modes_in_any_case() {
    for (text, mode) in [("Auth", Mode::Auth), ("NOAUTH", Mode::NoAuth), (" noauth ", Mode::NoAuth)]
    {
        assert_eq!(read(&[&format!("PROXY_MODE={text}")]).proxy.unwrap().mode, mode);
    }
}

#[test]
fn flags_as_go_takes_them() {
    let same = read(&["--health-probe-bind-address=:9000", "--metrics-bind-address=127.0.0.1:1"]);
    for words in [
        &["-health-probe-bind-address", ":9000", "-metrics-bind-address=127.0.0.1:1"][..],
        &[
            "--health-probe-bind-address=:1",
            "--health-probe-bind-address=:9000",
            "--metrics-bind-address=localhost:1",
        ],
    ] {
        assert_eq!(read(words), same);
    }
    assert_eq!(same.health, Some(Health { ip: None, port: Port::Fixed(9000) }));
    assert!(same.metrics.unwrap().secure);
    assert!(
        !read(&["--metrics-bind-address=:1", "--metrics-secure=false"]).metrics.unwrap().secure
    );
    assert_eq!(read(&["--health-probe-bind-address=0"]).health, None);
    let log = read(&["--zap-devel=false", "--zap-time-encoding=iso8601"]).log;
    assert_eq!(log, Log { json: true, level: tracing::Level::INFO, time: TimeEncoding::Iso8601 });
    let log = read(&["--zap-encoder", "JSON", "--zap-log-level=2"]).log;
    assert_eq!((log.json, log.level), (true, tracing::Level::TRACE));
}

/// What contradicts what, and which of the two holds.
#[test]
fn contradictions_are_warned_about() {
    for (words, said) in [
        (
            &["HEALTH_PROBE_PORT=9001", "--health-probe-bind-address=:8081"][..],
            "HEALTH_PROBE_PORT=9001 holds",
        ),
        (
            &["POD_NAMESPACE=n", "ENABLE_LEADER_ELECTION=false", "--leader-elect"],
            "ENABLE_LEADER_ELECTION=false holds",
        ),
        (&["IN_CLUSTER=true", "KUBECONFIG=/k"], "IN_CLUSTER=true holds"),
        (&["IN_CLUSTER=true", "--kubeconfig=/k"], "--kubeconfig holds"),
        (&["PROXY_MODE=auth", "PROXY_SKIP_TLS_VERIFY=true"], "is not honoured"),
        (
            &["PROXY_MODE=auth", "PROXY_BIND_IP=0.0.0.0"],
            "PROXY_BIND_IP=0.0.0.0 listens on every address",
        ),
        (&["PROXY_MODE=auth", "API_BIND_IP=::"], "API_BIND_IP=:: listens on every address"),
        (
            &[
                "PROXY_MODE=auth",
                "PROXY_PEERS_ONLY=1",
                "PROXY_BIND_IP=10.0.0.1",
                "API_BIND_IP=10.0.0.1",
            ],
            "PROXY_PEERS_ONLY means nothing",
        ),
        (&["PROXY_MODE=noauth", "PROXY_IMPERSONATE_USER=jane"], "keep their own credentials"),
        (&["PROXY_MODE=noauth"], "everybody is anonymous"),
        (&["API_TOKEN=t"], "API_SERVER_DOMAIN is not set"),
        (&["API_SERVER_DOMAIN=a", "API_TOKEN=t", "API_TOKEN_FILE=/t"], "API_TOKEN_FILE holds"),
        (
            &[
                "PROXY_MODE=auth",
                "API_SERVER_DOMAIN=a",
                "API_TOKEN=t",
                "PROXY_IMPERSONATE_GROUPS=g",
            ],
            "nobody gets these groups",
        ),
        (&["HOST_NETWORK=true"], "POD_NAME is not set"),
        (&["ZAP_LOG_LEVEL=loud"], "it is ignored"),
        (&["--enable-http2"], "means nothing here"),
    ] {
        let warnings = read(words).warnings;
        assert!(warnings.iter().any(|words| words.contains(said)), "{words:?}: {warnings:?}");
    }
    assert_eq!(
        read(&["HEALTH_PROBE_PORT=9001", "--health-probe-bind-address=:9001"]).warnings,
        [""; 0]
    );
}

#[test]
fn k11_leader_election_is_on_where_there_are_pods_unless_somebody_says_no() {
    let on = |words: &[&str]| read(&[words, &["POD_NAMESPACE=n"]].concat()).election;
    assert!(on(&[]).is_none());
    assert!(on(&["POD_NAME=a", "ENABLE_LEADER_ELECTION=false"]).is_none());
    assert!(on(&["POD_NAME=a", "--leader-elect", "ENABLE_LEADER_ELECTION=false"]).is_none());
    assert!(on(&["POD_NAME=a", "--leader-elect=false"]).is_none());
    assert!(on(&["ENABLE_LEADER_ELECTION=true"]).is_some());
    let election = on(&["POD_NAME=pod-a"]).unwrap();
    assert_eq!(
        (election.name.as_str(), election.namespace.as_str()),
        ("3820d23d.netmaker.io", "n")
    );
    assert_eq!(
        (election.lease, election.renew, election.retry),
        (seconds(15), seconds(10), seconds(2))
    );
    assert!(election.identity.starts_with("pod-a_"));
    assert_ne!(election.identity, on(&["POD_NAME=pod-a"]).unwrap().identity);
    let told =
        on(&["--leader-elect", "--leader-election-id=x", "--leader-election-namespace=y"]).unwrap();
    assert_eq!((told.name.as_str(), told.namespace.as_str()), ("x", "y"));
}

#[test]
fn who_is_not_mapped() {
    let unmapped = |words: &[&str]| {
        read(&[words, &["PROXY_MODE=auth"]].concat()).proxy.unwrap().unmapped.map(|user| user.name)
    };
    let sync = ["API_SERVER_DOMAIN=api.example.org", "API_TOKEN=t"];
    assert_eq!(unmapped(&[]).as_deref(), Some("wireguard-peer"));
    assert_eq!(unmapped(&sync), None);
    assert_eq!(
        unmapped(&[&sync[..], &["PROXY_IMPERSONATE_USER=jane"]].concat()).as_deref(),
        Some("jane")
    );
    let groups = read(&["PROXY_MODE=auth", "PROXY_IMPERSONATE_GROUPS= a ,, b:c "]).proxy.unwrap();
    assert_eq!(groups.unmapped.unwrap().groups, ["a", "b:c"]);
    let users = read(&[&sync[..], &["PROXY_MODE=auth"]].concat()).proxy.unwrap().users.unwrap();
    assert_eq!((users.interval, users.max_age), (seconds(30), seconds(300)));
    assert_eq!(users.pro_server, "api.example.org");
    assert!(!format!("{users:?}").contains('t') || !format!("{users:?}").contains("token"));
}

/// The host network is what the kubelet says it is.
#[test]
fn ports_on_the_host_network() {
    let temp = tempfile::tempdir().unwrap();
    let hosts = |first: &str| {
        let path = temp.path().join("hosts");
        std::fs::write(&path, format!("{first}\n127.0.0.1 localhost\n")).unwrap();
        Places { hosts: path, ..nowhere() }
    };
    let health = |words: &[&str], places: &Places| {
        let config = read_at(&[words, &["ENABLE_LEADER_ELECTION=false"]].concat(), places).unwrap();
        config.health.unwrap().port
    };
    let pod = ["POD_NAME=a"];
    let host = "# Kubernetes-managed hosts file (host network).";
    assert_eq!(health(&pod, &hosts(host)), Port::Above(8081));
    assert_eq!(health(&[], &hosts(host)), Port::Fixed(8081));
    assert_eq!(health(&pod, &hosts("# Kubernetes-managed hosts file.")), Port::Fixed(8081));
    assert_eq!(health(&["POD_NAME=a", "HOST_NETWORK=false"], &hosts(host)), Port::Fixed(8081));
    assert_eq!(health(&["POD_NAME=a", "HOST_NETWORK=true"], &nowhere()), Port::Above(8081));
    // An explicit port wins, whichever way it is given.
    assert_eq!(health(&["POD_NAME=a", "HEALTH_PROBE_PORT=9000"], &hosts(host)), Port::Fixed(9000));
    let flag = ["POD_NAME=a", "--health-probe-bind-address=:8081"];
    assert_eq!(health(&flag, &hosts(host)), Port::Fixed(8081));
    // Another hosts file: the addresses tell.
    let same = ["POD_NAME=a", "POD_IP=192.0.2.1", "HOST_IP=192.0.2.1"];
    assert_eq!(health(&same, &hosts("127.0.0.1 localhost")), Port::Above(8081));
    let other = ["POD_NAME=a", "POD_IP=10.0.0.1", "HOST_IP=192.0.2.1"];
    assert_eq!(health(&other, &hosts("127.0.0.1 localhost")), Port::Fixed(8081));
}

#[test]
fn where_the_api_server_is() {
    let temp = tempfile::tempdir().unwrap();
    let account = Places { service_account: temp.path().to_owned(), ..nowhere() };
    std::fs::write(temp.path().join("token"), "t").unwrap();
    std::fs::write(temp.path().join("namespace"), "ops\n").unwrap();
    let at = |words: &[&str], places: &Places| read_at(words, places).unwrap();
    let inside = "KUBERNETES_SERVICE_HOST=10.96.0.1";
    assert_eq!(at(&[inside], &account).cluster, Cluster::InCluster);
    assert_eq!(at(&[inside], &account).pod.namespace.as_deref(), Some("ops"));
    assert_eq!(at(&[inside, "IN_CLUSTER=false"], &account).cluster, Cluster::Unknown);
    assert_eq!(at(&[inside, "KUBECONFIG=/k"], &account).cluster, Cluster::Kubeconfig("/k".into()));
    assert_eq!(
        at(&[inside, "KUBECONFIG=/k", "IN_CLUSTER=true"], &account).cluster,
        Cluster::InCluster
    );
    assert_eq!(at(&["--kubeconfig", "/k"], &account).cluster, Cluster::Kubeconfig("/k".into()));
    std::fs::create_dir(temp.path().join(".kube")).unwrap();
    std::fs::write(temp.path().join(".kube/config"), "").unwrap();
    let home = format!("HOME={}", temp.path().display());
    let file = temp.path().join(".kube/config");
    assert_eq!(at(&[&home], &nowhere()).cluster, Cluster::Kubeconfig(file));
}
