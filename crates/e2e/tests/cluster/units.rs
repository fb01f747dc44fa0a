//! Programs in a node's namespaces, and its components.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use holdfast_e2e::cluster::Options;
use holdfast_e2e::image::{Image, Node as Entry};
use nix::sys::signal::{SIGKILL, SIGTERM, kill};
use nix::unistd::Pid;

use crate::place::{Place, namespace, phase, pod, possible, shared, tool};

#[tokio::test]
async fn a_program_runs_where_the_kubelet_runs() {
    if !possible() {
        return;
    }
    let cluster = shared().await;
    let node = cluster.node(1).unwrap();
    let output = node
        .command("sh")
        .args(["-c", "hostname; ls /proc/1/root/run/netns >/dev/null; cat /proc/1/cmdline; exit 7"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("node-1\n"), "{said}");
    assert!(said.contains("init"), "process 1 is not the unit's: {said}");
    assert_eq!(output.status.code(), Some(7));

    // What is told to the command reaches the program.
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = node.command("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(Pid::from_raw(child.id().cast_signed()), SIGTERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "told");
    assert_eq!(child.wait().unwrap().code(), Some(3));

    // And when the command is killed, the program does not stay.
    let mut child = node
        .command("sh")
        .args(["-c", "echo ready; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(Pid::from_raw(child.id().cast_signed()), SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(lines.next().is_none(), "the program still holds its output");
}

#[tokio::test]
async fn a_component_that_is_gone_is_missed_and_can_be_started_again() {
    if !possible() {
        return;
    }
    let place = Place::new();
    let cluster = place.up(Options::default()).await;
    let client = cluster.client().unwrap();
    client.create(&pod("default", "stays", "sleep 1000")).await.unwrap();
    phase(&client, "/api/v1/namespaces/default/pods/stays", "Running").await;
    let node = cluster.node(1).unwrap();
    node.signal("containerd", 9).await.unwrap();
    assert_eq!(node.ended("containerd").await.unwrap(), "killed by SIGKILL");
    let status = tool(&["status"], place.path());
    assert!(!status.status.success());
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("containerd of node-1 has ended: killed by SIGKILL"), "{said}");
    node.start("containerd").await.unwrap();
    // The pod has outlived it, and the node takes another.
    client.create(&pod("default", "next", "true")).await.unwrap();
    phase(&client, "/api/v1/namespaces/default/pods/next", "Succeeded").await;
    let stays = client.get("/api/v1/namespaces/default/pods/stays").await.unwrap();
    assert_eq!(stays.pointer("/status/containerStatuses/0/restartCount").unwrap(), 0);
}

#[tokio::test]
async fn an_image_of_local_files_runs_by_the_digest_that_was_printed() {
    if !possible() {
        return;
    }
    let cluster = shared().await;
    let client = cluster.client().unwrap();
    let name = format!("bench.test/hello:{}", std::process::id());
    let mut image = Image::new(&name)
        .with("bin/busybox", Entry::File("/bin/busybox".into()))
        .with("hello", Entry::Data(b"#!/bin/busybox sh\necho hello from $PWD\n".to_vec(), 0o755));
    image.entrypoint = vec!["/hello".into()];
    image.workdir = "/var".into();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hello.tar");
    let digest = image.write(&file).unwrap();
    cluster.load(&file).await.unwrap();
    let namespace = &namespace(&client, "image").await;
    let mut hello = pod(namespace, "hello", "");
    hello["spec"]["containers"][0]["image"] = name.into();
    hello["spec"]["containers"][0].as_object_mut().unwrap().remove("command");
    client.create(&hello).await.unwrap();
    let path = format!("/api/v1/namespaces/{namespace}/pods/hello");
    phase(&client, &path, "Succeeded").await;
    assert_eq!(client.text(&format!("{path}/log")).await.unwrap(), "hello from /var\n");
    let images = std::process::Command::new("ctr")
        .arg("-a")
        .arg(cluster.node(1).unwrap().containerd())
        .args(["-n", "k8s.io", "images", "ls"])
        .output()
        .unwrap();
    let images = String::from_utf8_lossy(&images.stdout).into_owned();
    let line = images.lines().find(|line| line.starts_with("bench.test/hello")).unwrap();
    assert!(line.contains(&digest), "{digest} is not in: {line}");
}
