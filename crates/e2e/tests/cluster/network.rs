//! Pods of all nodes reach each other, by address and by name.

use holdfast_e2e::cluster::Options;
use serde_json::json;

use crate::place::{Place, phase, pod, possible, shared};

#[tokio::test]
async fn names_and_services_work_across_nodes_beside_another_cluster() {
    if !possible() {
        return;
    }
    // Two clusters at once do not disturb each other.
    let other = shared().await;
    let place = Place::new();
    let cluster = place.up(Options { nodes: 2, ..Options::default() }).await;
    assert_eq!((cluster.nodes(), other.nodes()), (2, 1));
    let client = cluster.client().unwrap();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web" },
        "spec": { "selector": { "role": "web" }, "ports": [{ "port": 80 }] },
    });
    client.create(&service).await.unwrap();
    for node in ["node-1", "node-2"] {
        let script = "mkdir /w && hostname >/w/index.html && exec httpd -f -p 80 -h /w";
        let mut web = pod("default", &format!("web-{node}"), script);
        web["metadata"]["labels"]["role"] = "web".into();
        web["spec"]["nodeName"] = node.into();
        web["spec"]["containers"][0]["readinessProbe"] = json!({ "httpGet": { "port": 80 } });
        client.create(&web).await.unwrap();
    }
    // From each node, until both have answered: by name, to whichever pod is chosen.
    for node in ["node-1", "node-2"] {
        let script = "
            nslookup kubernetes.default.svc.cluster.local && wget -qO- http://nowhere/ && exit 1
            while ! { grep -q node-1 seen && grep -q node-2 seen; }; do
                wget -qO- http://web/ >>seen; wget -qO- http://web.default.svc/ >>seen; sleep 0.2
            done";
        let mut ask = pod("default", &format!("ask-{node}"), script);
        ask["spec"]["nodeName"] = node.into();
        client.create(&ask).await.unwrap();
    }
    for node in ["node-1", "node-2"] {
        phase(&client, &format!("/api/v1/namespaces/default/pods/ask-{node}"), "Succeeded").await;
    }
    // And from the host, to a pod and to a Service.
    for path in ["pods/web-node-2", "services/web"] {
        let object = client.get(&format!("/api/v1/namespaces/default/{path}")).await.unwrap();
        let address = ["/status/podIP", "/spec/clusterIP"]
            .iter()
            .find_map(|pointer| object.pointer(pointer)?.as_str())
            .unwrap();
        let stream = tokio::net::TcpStream::connect((address, 80));
        let within = std::time::Duration::from_secs(10);
        tokio::time::timeout(within, stream).await.unwrap().unwrap();
    }
    assert!(other.client().unwrap().ready().await.is_ok(), "the other cluster suffered");
}
