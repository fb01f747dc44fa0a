//! The YAML that kubectl reads, and JSON.

use holdfast_manifest::object::{IntOrString, Object};

use super::{messages, one, pod, pod_with, read};

fn data(text: &str) -> Vec<(String, String)> {
    match one(text) {
        Object::ConfigMap(map) => map.data.into_iter().collect(),
        other => panic!("not a ConfigMap: {other:?}"),
    }
}

fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata:\n{data}")
}

#[test]
fn yaml_1_1_words_and_numbers() {
    let file_mode = |mode: &str| {
        pod_with(&format!(
            "  volumes: [{{name: v, secret: {{secretName: s, defaultMode: {mode}}}}}]\n"
        ))
    };
    for (text, mode) in [
        ("0400", 0o400),
        ("256", 256),
        ("0o400", 0o400),
        ("0x100", 256),
        ("2.56e2", 256),
        ("1_0", 10),
    ] {
        let pod = pod(&file_mode(text));
        let secret = pod.spec.volumes[0].secret.as_ref().unwrap();
        assert_eq!(secret.default_mode, Some(mode), "{text}");
    }
    for (text, value) in [("on", true), ("y", true), ("No", false), ("false", false)] {
        assert_eq!(pod(&pod_with(&format!("  hostPID: {text}\n"))).spec.host_pid, value, "{text}");
    }
    assert_eq!(
        messages(read(pod_with("  hostname: on\n  subdomain: 1.0\n"))),
        [
            "spec.hostname: expected a string, found the boolean true",
            "spec.subdomain: expected a string, found the number 1",
        ]
    );
    assert_eq!(pod(&pod_with("  nodeName: 'on'\n")).spec.node_name, "on");
    assert_eq!(pod(&pod_with("  nodeName: !!str on\n")).spec.node_name, "on");
    assert_eq!(pod(&pod_with("  nodeName: 2001-01-02\n")).spec.node_name, "2001-01-02");
    assert_eq!(pod(&pod_with("  nodeName: ~\n")).spec.node_name, "");
}

#[test]
fn keys_are_strings() {
    let map = data(&config("  1: a\n  on: b\n  1.10: c\n  0777: d\n"));
    let keys: Vec<_> = map.iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(keys, ["1", "1.1", "511", "true"]);
}

#[test]
fn block_scalars() {
    let map = data(&config("  a: |\n    x\n    y\n  b: >-\n    x\n    y\n  c: \"\\u00e9\\n\"\n"));
    let values: Vec<_> = map.iter().map(|(_, v)| v.as_str()).collect();
    assert_eq!(values, ["x\ny\n", "x y", "é\n"]);
}

/// As in kubectl: a key after the `<<` wins over it, the `<<` wins over a key before it, and of a
/// list the first mapping wins.
#[test]
fn merge_keys() {
    let text = "x: &x {a: '1', b: '2'}\ny: &y {b: '3', c: '4'}\n";
    let read = |data: &str| {
        let all = format!(
            "apiVersion: v1\nkind: List\n{text}items:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {{name: m}}\n  data:\n{data}"
        );
        data_of(&all)
    };
    assert_eq!(read("    <<: *x\n    a: '9'\n"), "a=9 b=2");
    assert_eq!(read("    a: '9'\n    <<: *x\n"), "a=1 b=2");
    assert_eq!(read("    <<: [*x, *y]\n"), "a=1 b=2 c=4");
    assert_eq!(read("    <<: *x\n    <<: *y\n"), "a=1 b=3 c=4");
    assert_eq!(read("    '<<': q\n").len(), 0);
}

fn data_of(text: &str) -> String {
    // A quoted `<<` is a key like any other, and no valid one.
    let Ok(loaded) = read(text) else { return String::new() };
    match &loaded.objects[0] {
        Object::ConfigMap(map) => {
            map.data.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
        }
        other => panic!("not a ConfigMap: {other:?}"),
    }
}

#[test]
fn anchors_are_values() {
    let text = pod_with("  nodeSelector: &a {x: z}\n  overhead: {}\n")
        .replace("metadata: {name: p}", "metadata: {name: &n p, labels: {app: *n}}");
    assert_eq!(pod(&text).metadata.labels["app"], "p");
}

#[test]
fn documents_lists_and_json() {
    let loaded = read(
        "# only a comment\n---\n---\napiVersion: v1\nkind: PodList\nitems:\n\
         - metadata: {name: a}\n  spec: {containers: [{name: c, image: i}]}\n\
         - apiVersion: v1\n  kind: Pod\n  metadata: {name: b}\n  spec: {containers: [{name: c, image: i}]}\n\
         ---\n{}\n...\n",
    )
    .unwrap();
    assert_eq!(loaded.objects.len(), 2);
    assert_eq!(loaded.objects[0].kind(), "Pod");

    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","annotations":{"k":"\ud83d\ude00\/\t"}},
	"spec":{"containers":[{"name":"c","image":"i","livenessProbe":{"tcpSocket":{"port":8080}}}]}}"#;
    let pod = pod(json);
    assert_eq!(pod.metadata.annotations["k"], "😀/\t");
    let probe = pod.spec.containers[0].liveness_probe.as_ref().unwrap();
    assert_eq!(probe.tcp_socket.as_ref().unwrap().port, IntOrString::Int(8080));
    let two = format!("{json}\n{}", json.replace("\"a\"", "\"b\""));
    assert_eq!(read(two).unwrap().objects.len(), 2);
    // Flow-style YAML begins with a brace too.
    let flow = "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: b}}";
    assert_eq!(data(flow), [("a".to_owned(), "b".to_owned())]);
    let bom = format!("\u{feff}{flow}");
    assert_eq!(data(&bom).len(), 1);
    let crlf = config("  a: b\r\n  c: d\r\n").replace('\n', "\r\n").replace("\r\r", "\r");
    assert_eq!(data(&crlf).len(), 2);
}

#[test]
fn other_kinds_are_left_out_with_a_word() {
    let loaded = read(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n---\n\
         apiVersion: serving.knative.dev/v1\nkind: Service\n",
    )
    .unwrap();
    assert!(loaded.objects.is_empty());
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "test.yaml:2:7: warning: v1 ServiceAccount is not run by holdfast; it is left out",
            "test.yaml:6:7: warning: serving.knative.dev/v1 Service is not run by holdfast; \
             it is left out",
        ]
    );
    for (text, expected) in [
        (
            "apiVersion: extensions/v1beta1\nkind: Deployment\n",
            "no matches for kind \"Deployment\" in version \"extensions/v1beta1\"",
        ),
        ("apiVersion: v1\n", "kind must be set"),
        ("kind: Pod\n", "apiVersion must be set"),
        ("apiVersion: v1\nkind: List\nitems: 3\n", "items: expected a list"),
    ] {
        assert_eq!(messages(read(text)), [expected]);
    }
}

#[test]
fn a_kind_that_kubernetes_does_not_have_is_an_error() {
    let findings = read("apiVersion: v1\nkind: Pot\nmetadata: {name: p}\n").unwrap_err();
    let text = findings.to_string();
    assert!(
        text.contains("test.yaml:2:7: error: no matches for kind \"Pot\" in version \"v1\""),
        "{text}"
    );
    assert!(
        findings.render(holdfast_manifest::Style::Plain).contains("did you mean \"Pod\"?"),
        "{text}"
    );
    for (text, expected) in [
        (
            "apiVersion: v1\nkind: Deployment\n",
            "no matches for kind \"Deployment\" in version \"v1\"",
        ),
        (
            "apiVersion: batch/v1\nkind: Jobs\n",
            "no matches for kind \"Jobs\" in version \"batch/v1\"",
        ),
        (
            "apiVersion: v1\nkind: PotList\nitems: [{metadata: {name: p}}]\n",
            "no matches for kind \"Pot\" in version \"v1\"",
        ),
    ] {
        assert_eq!(messages(read(text)), [expected]);
    }
    // A custom resource may have any kind.
    assert_eq!(read("apiVersion: example.com/v1\nkind: Pot\n").unwrap().warnings.iter().count(), 1);
}

#[test]
fn names_are_unique() {
    let pod = pod_with("");
    let twice = format!("{pod}---\n{pod}");
    assert_eq!(messages(read(twice)), ["Pod/p is already defined in namespace \"default\""]);
    let apart = format!("{pod}---\n{}", pod.replace("name: p", "name: p, namespace: other"));
    assert_eq!(read(apart).unwrap().objects.len(), 2);
}

#[test]
fn quantities() {
    let text =
        "      limits: {cpu: 0.5, memory: 1.5Gi, ephemeral-storage: 2e3, nvidia.com/gpu: 1}\n";
    let pod = pod(&super::container_with(&format!("    resources:\n{text}")));
    let limits = &pod.spec.containers[0].resources.limits;
    assert_eq!(limits["cpu"].milli_value(), 500);
    assert_eq!(limits["memory"].value(), 3 << 29);
    assert_eq!(limits["ephemeral-storage"].value(), 2000);
    // Requests default to limits.
    assert_eq!(pod.spec.containers[0].resources.requests["cpu"].milli_value(), 500);
    for wrong in ["1.5GB", "ten", "1e", "--1", "1.2.3", "''"] {
        let text = format!("    resources: {{limits: {{memory: {wrong}}}}}\n");
        let found = messages(read(super::container_with(&text)));
        assert!(found[0].contains("quantities must match the regular expression"), "{found:?}");
    }
}

/// `SetDefaults_Pod`: on the host's network a port of a container is one of the host; not in a template
/// (DefaultHostNetworkHostPortsInPodTemplates is off).
#[test]
fn ports_on_the_hosts_network() {
    let spec = "{hostNetwork: true, containers: [{name: c, image: i, ports: [{containerPort: 80}, \
                {containerPort: 81, hostPort: 81}]}]}";
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {spec}\n");
    let ports: Vec<i32> =
        super::pod(&text).spec.containers[0].ports.iter().map(|p| p.host_port).collect();
    assert_eq!(ports, [80, 81]);
    let apart = super::pod(&text.replace("hostNetwork: true, ", ""));
    assert_eq!(apart.spec.containers[0].ports[0].host_port, 0);
    let template = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{selector: {{matchLabels: {{a: \
         b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {spec}}}}}\n"
    );
    let Object::Deployment(deployment) = super::one(&template) else { panic!("no Deployment") };
    assert_eq!(deployment.spec.template.spec.containers[0].ports[0].host_port, 0);
}
