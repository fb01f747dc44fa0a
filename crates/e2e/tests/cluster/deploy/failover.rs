//! The leader among real pods ends, is killed, frozen, cut off or loses its rights: another leads in time, never
//! two do, and what goes through the proxy of who led goes on.
//!
//! Who leads is told by the Lease, as kubectl watches it, and by what each replica's metrics say meanwhile.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guide;
use super::observe::{Lease, Process, Views, cut_off};
use super::release::{PATIENCE, Release, done, said};
use super::seen::Seen;
use super::tunnel::tunnel_address;
use crate::place::possible;

/// As controller-runtime has them, and what a busy machine may take on top.
const LEASE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(4_400);
const SLACK: Duration = Duration::from_secs(4);
/// The last renewal was so long ago at most.
const RENEWED: Duration = Duration::from_secs(4);

/// Three replicas, and what watches them.
struct Scene<'a> {
    release: &'a Release,
    lease: Lease,
    views: Views,
}

async fn install(name: &str) -> Release {
    let metrics = "manager.args={--metrics-bind-address=:8080,--metrics-secure=false}";
    let release = Release::install(name, "three-replicas", &[metrics]).await;
    release.ready(3).await;
    // So that peers may watch something.
    let view = ["create", "rolebinding", "peers", "--clusterrole=view", "--group=wireguard-peers"];
    release.ask(&view);
    release
}

impl<'a> Scene<'a> {
    fn new(release: &'a Release) -> Self {
        let pods = release.pods().into_iter().map(|name| {
            let pod = release.pod(&name);
            (name, pod["status"]["podIP"].as_str().unwrap().parse().unwrap())
        });
        Self { release, lease: Lease::watch(release), views: Views::of(pods.collect()) }
    }

    /// The pod that leads, once its own metrics say so as well.
    fn leader(&self) -> String {
        let holder = self.lease.holder();
        let pod =
            self.release.pods().into_iter().find(|pod| holder.starts_with(&format!("{pod}_")));
        let pod = pod.unwrap_or_else(|| panic!("{holder} is no pod: {}", self.release.trouble()));
        self.views.until(&pod, true);
        pod
    }

    /// From now on is looked at: what was before does not count.
    fn begin(&self) -> (usize, Instant) {
        self.views.forget();
        (self.lease.now(), Instant::now())
    }

    /// Waits for another leader than this pod as it was; who, and how long after the beginning.
    fn next(&self, (from, begin): (usize, Instant), before: &str) -> (String, Duration) {
        let (at, holder) = self.lease.first("another leads", from, |holder| {
            !holder.is_empty() && !holder.starts_with(&format!("{before}_"))
        });
        let pod = holder.rsplit_once('_').unwrap().0.to_owned();
        self.views.until(&pod, true);
        (pod, at - begin)
    }

    /// What people are told to look at shows the change.
    fn events_tell(&self, words: &[String]) {
        let end = Instant::now() + PATIENCE;
        let shell = guide::command("get events");
        loop {
            let events = self.release.shell(&shell);
            if words.iter().all(|words| events.contains(words)) {
                return;
            }
            assert!(Instant::now() < end, "not all of {words:?} in:\n{events}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A watch that a peer has open through the proxy of a replica.
struct OpenWatch<'a> {
    pod: Seen<'a>,
    release: &'a Release,
}

impl<'a> OpenWatch<'a> {
    /// It is sent from inside of the pod: no connection but this one, for wget makes no other.
    fn new(release: &'a Release, pod: &str) -> Self {
        let address = tunnel_address(&release.pod(pod));
        let pod = Seen::of(release, pod);
        let path = format!("api/v1/namespaces/{}/configmaps?watch=1", release.namespace);
        pod.in_netclient(&format!(
            "wget -qO- 'http://{address}:8085/{path}' </dev/null >/tmp/seen 2>/tmp/said & echo $! >/tmp/wget"
        ));
        let watch = Self { pod, release };
        watch.shows("kube-root-ca.crt");
        watch
    }

    /// It is still the same, and tells of something new.
    fn goes_on(&self, name: &str) {
        self.release.ask(&["create", "configmap", name]);
        self.shows(name);
        self.pod.in_netclient("kill -0 $(cat /tmp/wget)");
    }

    fn shows(&self, name: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.pod.in_netclient("cat /tmp/seen").contains(name) {
            let said = self.pod.in_netclient("cat /tmp/said");
            assert!(Instant::now() < end, "no {name} in the watch; {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn within_the_lease(what: &str, took: Duration) {
    println!("from {what} until the Lease names another: {took:?}");
    assert!(took >= LEASE - RENEWED, "{what}: a lease that had not ended, {took:?}");
    assert!(took <= LEASE + RETRY + SLACK, "{what}: {took:?}");
}

#[tokio::test]
async fn a_leader_that_ends_is_killed_or_frozen_is_followed() {
    if !possible() {
        return;
    }
    let release = install("failover").await;
    let scene = Scene::new(&release);

    let first = scene.leader();
    let watch = OpenWatch::new(&release, &first);
    let begin = scene.begin();
    Process::of(&release, &first).signal(Signal::SIGTERM);
    let (second, took) = scene.next(begin, &first);
    println!("from SIGTERM until the Lease names another: {took:?}");
    // Not the lease's end: it was let go of.
    scene.lease.first("it lets go", begin.0, str::is_empty);
    assert!(took < Duration::from_secs(2), "{took:?}");
    scene.views.never_two(&[&first, &second]);
    scene.events_tell(&[format!("{second}_")]);
    drop(watch);
    release.ready(3).await;

    let begin = scene.begin();
    Process::of(&release, &second).signal(Signal::SIGKILL);
    let (third, took) = scene.next(begin, &second);
    within_the_lease("kill -9", took);
    scene.views.never_two(&[&second, &third]);

    let watch = OpenWatch::new(&release, &third);
    let process = Process::of(&release, &third);
    let begin = scene.begin();
    process.signal(Signal::SIGSTOP);
    let (fourth, took) = scene.next(begin, &third);
    within_the_lease("SIGSTOP", took);
    process.signal(Signal::SIGCONT);
    scene.views.until(&third, false);
    let log = || release.ask(&["logs", &third, "-c", "manager"]);
    let end = Instant::now() + PATIENCE;
    while !log().contains("failed to renew lease") {
        assert!(Instant::now() < end, "{}", log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.views.never_two(&[&third, &fourth]);
    scene.events_tell(&[
        format!("{third}_"),
        "stopped leading".to_owned(),
        format!("{fourth}_"),
        "became leader".to_owned(),
    ]);
    watch.goes_on("after-the-lease-was-lost");
    assert!(process.is_alive(), "it was started again: {}", release.trouble());
    release.ready(3).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_or_loses_its_rights_gives_up() {
    if !possible() {
        return;
    }
    let release = install("cut").await;
    let scene = Scene::new(&release);

    let first = scene.leader();
    let process = Process::of(&release, &first);
    let begin = scene.begin();
    let barrier = cut_off(&release, &process);
    let (second, took) = scene.next(begin, &first);
    within_the_lease("cutting it off", took);
    scene.views.until(&first, false);
    scene.views.never_two(&[&first, &second]);
    Seen::of(&release, &first).until("/readyz", "[-]apiserver failed").await;
    drop(barrier);
    // It lives, and takes part again.
    Seen::of(&release, &first).until("/readyz?verbose", "[+]apiserver ok").await;
    assert!(process.is_alive(), "it was started again: {}", release.trouble());

    let watch = OpenWatch::new(&release, &second);
    let rights = rights(
        &release,
        &json!([
            { "apiGroups": [""], "resources": ["events"], "verbs": ["create"] },
        ]),
    );
    scene.views.until(&second, false);
    let named = "leader election may not update leases in namespace";
    let pod = Seen::of(&release, &second);
    pod.until("/readyz?verbose", named).await;
    assert_eq!(pod.health("/readyz"), "ok", "who does not lead serves");
    let log = release.ask(&["logs", &second, "-c", "manager"]);
    assert_eq!(log.matches(named).count(), 1, "{log}");
    guide::shows(&release, "grep \"leader", &[named, "verbs: [get, update, watch]"]);
    // Tries later it has been told once.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut kubectl = release.kubectl(&["get", "events"]);
    kubectl.args(["--field-selector", "reason=LeaderElection,type=Warning"]);
    let told = done(kubectl.args(["-o", "custom-columns=:source.component,:message"]));
    let about = |line: &&str| line.starts_with(&second) && line.contains(named);
    assert_eq!(told.lines().filter(about).count(), 1, "{told}");
    watch.goes_on("after-the-rights-were-lost");
    // No restart is needed.
    self::rights(&release, &rights);
    let from = scene.lease.now();
    scene.lease.first("somebody leads again", from, |holder| !holder.is_empty());
    assert!(!scene.leader().is_empty());
    release.ready(3).await;
}

/// Gives the Role of the release other rules; what they were.
fn rights(release: &Release, rules: &Value) -> Value {
    let mut role: Value =
        serde_json::from_str(&release.ask(&["get", "role", "holdfast", "-o", "json"])).unwrap();
    let before = std::mem::replace(&mut role["rules"], rules.clone());
    let output = release.tell(&["replace", "-f", "-"], &role.to_string());
    assert!(output.status.success(), "{}", said(&output));
    before
}
