//! Resources, where cgroup v2 has the controllers: limits, weights, out of memory, and a leaf for each
//! container by which it is killed.
//!
//! Expected values come from the kubelet (`calculateLinuxResources`, `MilliCPUToQuota`,
//! `MilliCPUToShares`) and from runc (`ConvertCPUSharesToCgroupV2Value`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::objects::{With, c, pod};
use crate::run::{Done, Live, Run};

crate::tests! {
    cgroup2:
    too_much_memory,
    a_child_takes_the_whole_container_along,
    out_of_memory_without_a_limit_of_its_own,
    restarts_after_out_of_memory,
    processor_time_is_limited,
    requests_are_weights,
    pods_are_weighed_against_each_other,
    plain_processes_are_limited,
    limits_as_the_container_sees_them,
    every_container_has_a_leaf,
    daemons_die_with_their_container,
    a_chain_of_forks_is_killed,
    a_container_in_a_shared_namespace_is_killed_alone,
    nothing_is_left_when_killed,
    a_controller_that_was_not_delegated,
    a_group_with_processes_of_its_own,
    without_root_in_a_delegated_group,
    without_root_nor_delegation,
}

/// Takes 200 MiB, once. What `dd` reads a block into, it writes to.
const HOG: &str = "dd if=/dev/zero of=/dev/null bs=200M count=1";

fn limited(container: Value, limits: Value) -> Value {
    container.with(json!({ "resources": { "limits": limits } }))
}

/// The status of a container in the final objects.
fn status<'a>(done: &'a Value, pod: &str, container: &str) -> &'a Value {
    let items = done["items"].as_array().unwrap();
    let pod = items.iter().find(|item| item["metadata"]["name"] == pod).unwrap();
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    statuses.iter().find(|status| status["name"] == container).unwrap()
}

/// Where cgroup v2 is, and what of it is mounted there.
fn mount() -> (PathBuf, PathBuf) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
    let mut words = line.split(' ').skip(3);
    let root = PathBuf::from(words.next().unwrap());
    (PathBuf::from(words.next().unwrap()), root)
}

/// The cgroup of a process, if that is still there.
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let (target, root) = mount();
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(target.join(Path::new(path).strip_prefix(root).ok()?))
}

/// Processes with the mark in their arguments.
fn processes(mark: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let marked = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(mark)
    };
    pids.filter(marked).collect()
}

/// Waits until something is there.
fn until<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A word for the arguments of a test's processes, which tells them from everybody else's.
fn mark(test: &str) -> String {
    format!("hf-{test}-{}", std::process::id())
}

/// The leaf of the container that has a process with this mark.
fn leaf(mark: &str) -> PathBuf {
    until(mark, || {
        let inside = |path: &PathBuf| path.to_string_lossy().contains("/holdfast-");
        processes(mark).into_iter().filter_map(cgroup_of).find(inside)
    })
}

fn read(leaf: &Path, file: &str) -> String {
    let path = leaf.join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// The processor time that a group has used.
fn used(leaf: &Path) -> Duration {
    let stat = read(leaf, "cpu.stat");
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
    Duration::from_micros(micros.parse().unwrap())
}

/// What a group uses of one processor, over two seconds.
fn share(leaf: &Path) -> f64 {
    let (start, before) = (Instant::now(), used(leaf));
    std::thread::sleep(Duration::from_secs(2));
    (used(leaf) - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// The cgroup of the run that a leaf belongs to.
fn run_of(leaf: &Path) -> PathBuf {
    leaf.parent().unwrap().parent().unwrap().to_owned()
}

fn gone(path: &Path) {
    until(&format!("{} is still there", path.display()), || (!path.exists()).then_some(()));
}

/// A run that waits for SIGINT, stopped by it.
fn interrupt(live: Live) -> Done {
    live.signal(Signal::SIGINT);
    live.done().code(130)
}

fn too_much_memory() {
    let hog = limited(c("hog", HOG), json!({ "memory": "32Mi" }));
    let neighbour = c("neighbour", "sleep 1; say alive");
    let done = Run::of(&[pod("web", "Never", vec![], vec![hog, neighbour])]);
    let done = done.args("-o json").done().code(1);
    let end = done.json();
    let hog = &status(&end, "web", "hog")["state"]["terminated"];
    assert_eq!((&hog["reason"], &hog["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{done:#?}");
    let neighbour = &status(&end, "web", "neighbour")["state"]["terminated"];
    assert_eq!(neighbour["reason"], "Completed", "{done:#?}");
    assert_eq!(done.log(), ["alive"]);
    assert_eq!(end["items"][0]["status"]["phase"], "Failed");
}

fn a_child_takes_the_whole_container_along() {
    // The kubelet sets memory.oom.group unless singleProcessOOMKill says otherwise.
    let script = format!("{HOG}; say survived; sleep 1000");
    let hog = limited(c("hog", &script), json!({ "memory": "32Mi" }));
    let done = Run::of(&[pod("web", "Never", vec![], vec![hog])]).done().code(1);
    assert_eq!(done.rows("web").last().unwrap(), "0/1 OOMKilled", "{done:#?}");
    assert!(done.log().is_empty(), "{done:#?}");
}

fn restarts_after_out_of_memory() {
    let script = format!("test -e /log/once && {{ sleep 1; exit 0; }}; touch /log/once; {HOG}");
    let hog = limited(c("hog", &script), json!({ "memory": "32Mi" }));
    let done =
        Run::of(&[pod("web", "OnFailure", vec![], vec![hog])]).args("-o jsonl").done().code(0);
    let events: Vec<Value> =
        done.out.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let hog = |event: &Value| event["object"]["status"]["containerStatuses"][0].clone();
    // While it runs again. An ended container has no lastState (kubelet: podContainerDeletor).
    let again = events
        .iter()
        .map(hog)
        .find(|s| s["state"]["running"].is_object() && s["restartCount"] == 1);
    let again = again.unwrap_or_else(|| panic!("it does not run again: {done:#?}"));
    assert_eq!(again["lastState"]["terminated"]["reason"], "OOMKilled", "{again}");
    let end = hog(events.last().unwrap());
    assert_eq!(end["state"]["terminated"]["reason"], "Completed", "{end}");
}

fn out_of_memory_without_a_limit_of_its_own() {
    // Memory that ends above the container: of the whole machine, as far as the run can tell.
    let world = World::new("oom");
    fs::write(world.own.join("memory.max"), "64M").unwrap();
    let script = format!("{HOG}; say survived; sleep 1000");
    let hog = c("hog", &script);
    let neighbour = c("neighbour", "sleep 1; say alive");
    let run = Run::of(&[pod("web", "Never", vec![], vec![hog, neighbour])]);
    let done = world.inside(run).args("-o json").done().code(1);
    let end = done.json();
    let hog = &status(&end, "web", "hog")["state"]["terminated"];
    assert_eq!((&hog["reason"], &hog["exitCode"]), (&json!("OOMKilled"), &json!(137)), "{done:#?}");
    assert_eq!(done.log(), ["alive"]);
}

/// A container that keeps a processor busy, on the first one, with a word to find it by.
fn busy(name: &str, mark: &str) -> Value {
    c(name, &format!("exec taskset 1 sh -c 'while :; do :; done' {mark}"))
}

/// A pod that is killed at once.
fn impatient(inits: Vec<Value>, containers: Vec<Value>) -> Value {
    pod("web", "Never", inits, containers).spec(json!({ "terminationGracePeriodSeconds": 0 }))
}

/// A container that does nothing, with a word to find it by.
fn idle(name: &str, mark: &str) -> Value {
    c(name, &format!("trap 'exit 0' TERM; sleep 1000 & wait; : {mark}"))
}

fn processor_time_is_limited() {
    let mark = mark("time");
    let container = limited(busy("a", &mark), json!({ "cpu": "100m" }));
    // It gets what it may have, whatever else goes on.
    let world = World::new("time");
    fs::write(world.above.join("cpu.weight"), "10000").unwrap();
    let live = world.inside(Run::of(&[impatient(vec![], vec![container])])).start();
    let leaf = leaf(&mark);
    assert_eq!(read(&leaf, "cpu.max"), "10000 100000");
    assert_eq!(read(&leaf, "cpu.weight"), "17", "what runc makes of 102 shares");
    let share = share(&leaf);
    assert!((0.075..=0.125).contains(&share), "{share} of a processor instead of 0.1");
    interrupt(live);
    gone(&run_of(&leaf));
}

fn requests_are_weights() {
    let (heavy, light) = (mark("heavy"), mark("light"));
    let a = busy("a", &heavy).with(json!({ "resources": { "requests": { "cpu": "1" } } }));
    // Both want a whole processor and get a quarter between them, so that others have the rest.
    let world = World::new("weights");
    fs::write(world.own.join("cpu.max"), "25000 100000").unwrap();
    let b = busy("b", &light).with(json!({ "restartPolicy": "Always" }));
    let run = Run::of(&[impatient(vec![b], vec![a])]);
    let live = world.inside(run).start();
    let (a, b) = (leaf(&heavy), leaf(&light));
    assert_eq!(read(&a, "cpu.weight"), "100", "what runc makes of 1024 shares");
    assert_eq!(read(&b, "cpu.weight"), "1", "what runc makes of 2 shares, the kubelet's least");
    let before = [used(&a), used(&b)];
    std::thread::sleep(Duration::from_secs(2));
    let [of_a, of_b] = [used(&a) - before[0], used(&b) - before[1]];
    assert!(of_a > of_b * 10, "{of_a:?} against {of_b:?}");
    interrupt(live);
}

fn pods_are_weighed_against_each_other() {
    let (heavy, light) = (mark("one"), mark("two"));
    let a = idle("a", &heavy).with(json!({ "resources": { "requests": { "cpu": "2" } } }));
    let init = c("i", "true").with(json!({ "resources": { "requests": { "cpu": "3" } } }));
    let heavy_pod = pod("heavy", "Never", vec![init], vec![a]);
    let light_pod = pod("light", "Never", vec![], vec![idle("b", &light)]);
    let live = Run::of(&[heavy_pod, light_pod]).start();
    let (a, b) = (leaf(&heavy), leaf(&light));
    // kubelet: getCPUWeight of 3072 and of 2 shares.
    assert_eq!(read(a.parent().unwrap(), "cpu.weight"), "118");
    assert_eq!(read(b.parent().unwrap(), "cpu.weight"), "1");
    interrupt(live);
}

fn plain_processes_are_limited() {
    let mut hog = json!({ "name": "hog", "image": "host", "command": ["sh", "-c", HOG] });
    hog = limited(hog, json!({ "memory": "32Mi", "cpu": "1500m" }));
    let mut p = pod("web", "Never", vec![], vec![hog]);
    p["spec"]["volumes"] = json!([]);
    let done = Run::of(&[p]).args("--isolation none").done().code(1);
    assert_eq!(done.rows("web").last().unwrap(), "0/1 OOMKilled", "{done:#?}");
    assert!(!done.said("not kept"), "{done:#?}");
}

fn limits_as_the_container_sees_them() {
    let script = "echo $MEMORY $CPU; cd /sys/fs/cgroup; cat memory.max cpu.max cgroup.procs; \
                  cat /proc/self/cgroup; (echo 1 > cgroup.freeze) 2>/dev/null || echo read-only";
    let field = |resource: &str, divisor: &str| json!({ "resourceFieldRef": { "resource": resource, "divisor": divisor } });
    let a = limited(c("a", script), json!({ "memory": "64Mi", "cpu": "250m" })).with(json!({
        "env": [
            { "name": "MEMORY", "valueFrom": field("limits.memory", "1Mi") },
            { "name": "CPU", "valueFrom": field("limits.cpu", "1m") },
        ],
    }));
    let done = Run::of(&[pod("web", "Never", vec![], vec![a])]).done().code(0);
    let lines = done.written("web", "a");
    let cat = lines.iter().position(|line| line.contains("/")).unwrap();
    assert_eq!(lines[..3], ["64 250", "67108864", "25000 100000"], "{done:#?}");
    // Itself and `cat`, by the numbers of its own namespace.
    assert_eq!(lines[3], "1", "{done:#?}");
    assert!(lines[4..cat].len() == 1, "somebody else's processes: {done:#?}");
    assert!(lines.contains(&"0::/"), "{done:#?}");
    assert_eq!(*lines.last().unwrap(), "read-only");
}

fn every_container_has_a_leaf() {
    for isolation in ["namespaces", "none"] {
        let mark = mark(isolation);
        let container = |name: &str| {
            let script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
            let argv = json!(["sh", "-c", script, format!("{mark}-{name}")]);
            json!({ "name": name, "image": "host", "command": argv })
        };
        let sidecar = container("s").with(json!({ "restartPolicy": "Always" }));
        let mut p = pod("web", "Never", vec![sidecar], vec![container("a"), container("b")]);
        p["spec"]["volumes"] = json!([]);
        let live = Run::of(&[p]).args(&format!("--isolation {isolation}")).start();
        let leaves = ["s", "a", "b"].map(|name| leaf(&format!("{mark}-{name}")));
        assert!(leaves[0] != leaves[1] && leaves[1] != leaves[2] && leaves[0] != leaves[2]);
        assert!(leaves.iter().all(|leaf| leaf.parent() == leaves[0].parent()), "{leaves:?}");
        assert_eq!(run_of(&leaves[0]).parent(), Some(&*mount().0));
        let done = interrupt(live);
        gone(&run_of(&leaves[0]));
        drop(done);
    }
}

/// A script that leaves two daemons behind which ignore SIGTERM and are in sessions of their own, and
/// goes on with `then`.
fn daemons(mark: &str, then: &str) -> String {
    format!(
        "setsid sh -c 'trap \"\" TERM HUP INT; (sleep 1000; : {mark}) & \
         setsid sh -c \"sleep 1000; : {mark}\" & exit 0'; {then}"
    )
}

fn daemons_die_with_their_container() {
    for isolation in ["namespaces", "none"] {
        let mark = mark(&format!("daemons-{isolation}"));
        // Once by its own end, once by a stop that it ignores.
        for end in ["sleep 1; exit 3", "trap '' TERM; while :; do sleep 1000; done"] {
            let script = daemons(&mark, end);
            let argv = json!(["sh", "-c", script]);
            let a = json!({ "name": "a", "image": "host", "command": argv });
            let mut p = pod("web", "Never", vec![], vec![a]);
            p["spec"]["volumes"] = json!([]);
            p["spec"]["terminationGracePeriodSeconds"] = json!(1);
            let live = Run::of(&[p]).args(&format!("--isolation {isolation}")).start();
            let leaf = leaf(&mark);
            if end.ends_with("exit 3") {
                live.done().code(1);
            } else {
                until("two daemons", || (processes(&mark).len() >= 3).then_some(()));
                interrupt(live);
            }
            assert_eq!(processes(&mark), [0; 0], "{isolation}, {end}");
            gone(&run_of(&leaf));
        }
    }
}

fn a_chain_of_forks_is_killed() {
    for isolation in ["namespaces", "none"] {
        let mark = mark(&format!("chain-{isolation}"));
        // Eight chains of processes, each of which lives only until it has made the next.
        let link = "sleep 0.05; setsid sh -c \"$1\" sh \"$1\" $2 & exit 0";
        let script = "trap '' TERM; for i in 1 2 3 4 5 6 7 8; do \
                      setsid sh -c \"$1\" sh \"$1\" $2 & done; while :; do sleep 1000; done";
        let argv = json!(["sh", "-c", script, "sh", link, mark]);
        let a = json!({ "name": "a", "image": "host", "command": argv });
        let mut p = pod("web", "Never", vec![], vec![a]);
        p["spec"]["volumes"] = json!([]);
        p["spec"]["terminationGracePeriodSeconds"] = json!(1);
        let live = Run::of(&[p]).args(&format!("--isolation {isolation}")).start();
        let leaf = leaf(&mark);
        until("all chains", || (read(&leaf, "cgroup.procs").lines().count() > 8).then_some(()));
        let done = interrupt(live);
        assert_eq!(processes(&mark), [0; 0], "{isolation}");
        gone(&run_of(&leaf));
        assert!(done.took < Duration::from_secs(15), "{:?}", done.took);
    }
}

fn a_container_in_a_shared_namespace_is_killed_alone() {
    // No PID 1 of its own takes the daemons along here, only the leaf.
    let mark = mark("shared");
    let a = c("a", &daemons(&mark, "sleep 1; exit 0"));
    // Finds the daemons, but not itself.
    let pattern = mark.replace("shared", "shar[e]d");
    let script = "while test -e /log/wait; do sleep 0.02; done; \
                  grep -l \"$0\" /proc/[0-9]*/cmdline || say none";
    let mut b = c("b", script);
    b["command"].as_array_mut().unwrap().push(json!(pattern));
    let p = pod("web", "Never", vec![], vec![a, b]).spec(json!({ "shareProcessNamespace": true }));
    let run = Run::of(&[p]);
    fs::write(run.path("log/wait"), "").unwrap();
    let live = run.start();
    let leaf = leaf(&mark);
    gone(&leaf);
    fs::remove_file(live.dir.path().join("log/wait")).unwrap();
    let done = live.done().code(0);
    assert_eq!(done.log(), ["none"], "{done:#?}");
    gone(&run_of(&leaf));
}

fn nothing_is_left_when_killed() {
    for isolation in ["namespaces", "none"] {
        for both in [false, true] {
            let mark = mark(&format!("kill-{isolation}-{both}"));
            let script = daemons(&mark, "while :; do sleep 1000; done");
            let a = json!({ "name": "a", "image": "host", "command": ["sh", "-c", script] });
            let a = limited(a, json!({ "memory": "64Mi", "cpu": "1" }));
            let mut p = pod("web", "Never", vec![], vec![a]);
            p["spec"]["volumes"] = json!([]);
            let run = Run::of(&[p]).args(&format!("--isolation {isolation}"));
            let state = run.path("state");
            let mut command = run.command();
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let leaf = leaf(&mark);
            until("daemons", || (processes(&mark).len() >= 3).then_some(()));
            let launcher = children(child.id());
            child.kill().unwrap();
            if both {
                for pid in launcher {
                    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
            }
            child.wait().unwrap();
            let end = Instant::now() + Duration::from_secs(5);
            // Nobody is left to remove it but the next start, once everything is dead.
            while both && run_of(&leaf).exists() {
                let next = Run::of(&[pod("next", "Never", vec![], vec![c("x", "true")])]);
                let next = next.state_dir(&state).done().code(0);
                let left: Vec<_> = processes(&mark).into_iter().map(cgroup_of).collect();
                assert!(Instant::now() < end, "{isolation}: {leaf:?}: {left:?} {next:#?}");
            }
            gone(&run_of(&leaf));
            assert_eq!(processes(&mark), [0; 0], "{isolation}, {both}");
        }
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

/// A group that a run takes for the top of the tree. It goes with the test.
struct World {
    /// Above it, what it may have of controllers is decided.
    above: PathBuf,
    own: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        let (top, _) = mount();
        fs::write(top.join("cgroup.subtree_control"), "+cpu +memory").unwrap();
        let above = top.join(mark(name));
        let own = above.join("own");
        fs::create_dir(&above).unwrap();
        let world = Self { above, own };
        fs::write(world.above.join("cgroup.subtree_control"), "+cpu +memory").unwrap();
        fs::create_dir(&world.own).unwrap();
        world
    }

    /// Runs with this group in the place where cgroup v2 is mounted, and without the directory where
    /// runs see what others have left: they would not find it.
    fn inside(&self, run: Run) -> Run {
        let bind = format!(
            "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount --bind {} {} && exec \"$@\"",
            self.own.display(),
            mount().0.display(),
        );
        run.under(&["unshare", "-m", "sh", "-c", &bind, "sh"])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for group in [&self.own, &self.above] {
            let removed = fs::remove_dir(group);
            if !std::thread::panicking() {
                removed.unwrap_or_else(|e| panic!("{} is not empty: {e}", group.display()));
            }
        }
    }
}

fn a_controller_that_was_not_delegated() {
    let world = World::new("some");
    fs::remove_dir(&world.own).unwrap();
    fs::write(world.above.join("cgroup.subtree_control"), "-memory").unwrap();
    fs::create_dir(&world.own).unwrap();
    let script = "cat /sys/fs/cgroup/cpu.max; test -e /sys/fs/cgroup/memory.max || echo none";
    let a = limited(c("a", script), json!({ "memory": "32Mi", "cpu": "250m" }));
    let b = limited(c("b", "true"), json!({ "memory": "32Mi" }));
    let run = Run::of(&[pod("web", "Never", vec![], vec![a, b])]);
    let done = world.inside(run).done().code(0);
    assert_eq!(done.written("web", "a"), ["25000 100000", "none"], "{done:#?}");
    let said: Vec<_> = done.err.iter().filter(|line| line.contains("not kept")).collect();
    assert_eq!(said.len(), 1, "once, and only for memory: {done:#?}");
    assert!(said[0].contains("memory limits are not kept: there is no memory controller in"));
}

fn a_group_with_processes_of_its_own() {
    let world = World::new("full");
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(world.own.join("cgroup.procs"), other.id().to_string()).unwrap();
    let a = limited(c("a", "say a"), json!({ "memory": "32Mi", "cpu": "250m" }));
    let done = world.inside(Run::of(&[pod("web", "Never", vec![], vec![a])])).done();
    other.kill().unwrap();
    other.wait().unwrap();
    let done = done.code(0);
    assert_eq!(done.log(), ["a"]);
    for controller in ["cpu", "memory"] {
        let said = format!("{controller} limits are not kept: ");
        let line = done.err.iter().find(|line| line.contains(&said));
        assert!(line.is_some_and(|line| line.contains("has processes of its own")), "{done:#?}");
    }
}

const NOBODY: u32 = 65534;

/// `holdfast` as nobody, from a group of its own below `world.own`, which is nobody's if `delegated`.
fn as_nobody(world: &World, run: Run) -> Run {
    let from = world.own.join("from");
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups \"$@\"",
        from.display()
    );
    run.under(&["sh", "-c", &enter, "sh"]).env("HOME", "/nonexistent")
}

fn without_root_in_a_delegated_group() {
    let world = World::new("user");
    let from = world.own.join("from");
    fs::create_dir(&from).unwrap();
    let owned = ["", "cgroup.procs", "cgroup.subtree_control", "from", "from/cgroup.procs"];
    for file in owned {
        std::os::unix::fs::chown(world.own.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for isolation in ["namespaces", "none"] {
        let script = format!("cat /proc/self/cgroup; {HOG}; echo survived; sleep 1000");
        let a = json!({ "name": "a", "image": "host", "command": ["sh", "-c", script] });
        let a = limited(a, json!({ "memory": "32Mi", "cpu": "2" }));
        let mut p = pod("web", "Never", vec![], vec![a]);
        p["spec"]["volumes"] = json!([]);
        let run = Run::of(&[p]).args(&format!("--isolation {isolation}"));
        let done = as_nobody(&world, run).done().code(1);
        assert_eq!(done.rows("web").last().unwrap(), "0/1 OOMKilled", "{done:#?}");
        assert_eq!(done.written("web", "a").len(), 1, "{done:#?}");
        assert!(!done.said("not kept"), "{done:#?}");
    }
    let left: Vec<_> = fs::read_dir(&world.own).unwrap().flatten().collect();
    let left: Vec<_> = left.iter().filter(|e| e.path().is_dir()).map(|e| e.file_name()).collect();
    assert_eq!(left, ["from"]);
    fs::remove_dir(&from).unwrap();
}

fn without_root_nor_delegation() {
    let world = World::new("alien");
    let from = world.own.join("from");
    fs::create_dir(&from).unwrap();
    let a = limited(c("a", "say a"), json!({ "memory": "32Mi" }));
    let run = Run::of(&[pod("web", "Never", vec![], vec![a])]);
    let done = as_nobody(&world, run).done().code(0);
    assert_eq!(done.log(), ["a"]);
    assert!(done.said("limits are not kept: there is no writable cgroup v2 here"), "{done:#?}");
    fs::remove_dir(&from).unwrap();
}
