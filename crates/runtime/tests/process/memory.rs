//! Memory file systems of pods.

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{
    Below, ContainerConfig, Mount, MountSource, PodTmpfs, PodUid, Propagation, Runtime, User,
};

use crate::harness::{pod, sandbox, sh, with_pod};

crate::tests! {
    root:
        a_full_volume_says_so,
        the_containers_of_a_pod_share_it,
        it_lives_as_long_as_the_pod,
        parts_of_it_are_found_or_made,
        a_part_never_leads_out,
        it_belongs_to_the_group;
    any:
}

const MIB: u64 = 1 << 20;

fn tmpfs(name: &str) -> PodTmpfs {
    PodTmpfs { name: name.to_owned(), size: Some(MIB), gid: None, sub_path: None }
}

fn at(tmpfs: PodTmpfs, target: &str) -> Mount {
    Mount {
        source: MountSource::PodTmpfs(tmpfs),
        target: PathBuf::from(target),
        read_only: false,
        below: Below::default(),
        propagation: Propagation::Private,
    }
}

/// A volume of 1 MiB at `/<name>`.
pub fn volume(name: &str) -> Mount {
    at(tmpfs(name), &format!("/{name}"))
}

fn part(name: &str, path: &str, target: &str) -> Mount {
    at(PodTmpfs { sub_path: Some(path.into()), ..tmpfs(name) }, target)
}

fn script(number: u64, script: &str, mounts: Vec<Mount>) -> ContainerConfig {
    ContainerConfig { mounts, ..sh(number, script) }
}

/// How many memory volumes the launcher holds.
fn held() -> usize {
    let pid = std::process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap();
    let mounts = |child: &str| fs::read_to_string(format!("/proc/{child}/mountinfo")).unwrap();
    let all: String = children.split_whitespace().map(mounts).collect();
    all.matches("/mnt/memory-").count()
}

fn a_full_volume_says_so() {
    with_pod(async |world| {
        let text = "head -c 2000000 /dev/zero > /m/f; echo $?; stat -c %s /m/f; stat -f -c %T /m; \
                    stat -c %a /m; df -k /m | tail -1 | tr -s ' ' | cut -d' ' -f2";
        let ended = world.run(script(1, text, vec![volume("m")])).await;
        assert_eq!(ended.stdout, "1\n1048576\ntmpfs\n1777\n1024\n");
        assert!(ended.stderr.contains("No space left on device"), "{}", ended.stderr);
        // Another volume of the pod has room, and without a size there is the kernel's.
        let large = at(PodTmpfs { size: None, ..tmpfs("large") }, "/large");
        let text = "head -c 2000000 /dev/zero > /large/f && head -c 9999 /dev/zero > /n/f && ls /n";
        assert_eq!(world.run(script(2, text, vec![volume("n"), large])).await.stdout, "f\n");
    });
}

fn the_containers_of_a_pod_share_it() {
    with_pod(async |world| {
        let wait = "while ! [ -e /m/go ]; do sleep 0.01; done; cat /m/go; echo yes > /m/answer";
        world.start(script(1, wait, vec![volume("m")])).await.unwrap();
        let text = "echo now > /m/go; while ! [ -s /m/answer ]; do sleep 0.01; done; cat /m/answer";
        assert_eq!(world.run(script(2, text, vec![volume("m")])).await.stdout, "yes\n");
        assert_eq!(world.ended(1).await.stdout, "now\n");
        // Read-only for one of them.
        let read_only = Mount { read_only: true, ..volume("m") };
        let text = "cat /m/answer; touch /m/x || echo ro";
        assert_eq!(world.run(script(3, text, vec![read_only])).await.stdout, "yes\nro\n");
        // Another pod has volumes of its own.
        let other = PodUid::from("other");
        let mut config = sandbox();
        config.pod = other.clone();
        world.runtime.create_sandbox(&config).await.unwrap();
        let config = script(4, "ls /m; echo seen", vec![volume("m")]);
        let ended = world.run(ContainerConfig { pod: other, ..config }).await;
        assert_eq!(ended.stdout, "seen\n");
    });
}

fn it_lives_as_long_as_the_pod() {
    let mut state = PathBuf::new();
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    with_pod(async |world| {
        state.clone_from(&world.state);
        let look = "cat /m/f; echo more >> /m/f";
        assert_eq!(world.run(script(1, look, vec![volume("m")])).await.stdout, "");
        // A restarted container.
        assert_eq!(world.run(script(2, look, vec![volume("m")])).await.stdout, "more\n");
        // A new sandbox.
        world.runtime.stop_sandbox(&pod(), 0).await;
        let mut config = sandbox();
        config.attempt = 1;
        world.runtime.create_sandbox(&config).await.unwrap();
        assert_eq!(world.run(script(3, look, vec![volume("m")])).await.stdout, "more\nmore\n");
        assert_eq!(held(), 1);
        assert_eq!(mounts(), before, "the host has no part in it");
        // The end of the pod.
        world.runtime.stop_sandbox(&pod(), 1).await;
        world.runtime.remove_pod(&pod()).await;
        config.attempt = 2;
        world.runtime.create_sandbox(&config).await.unwrap();
        assert_eq!(held(), 0);
        assert_eq!(world.run(script(4, look, vec![volume("m")])).await.stdout, "");
    });
    assert_eq!(mounts(), before);
    assert!(!state.exists() || fs::read_dir(&state).unwrap().next().is_none());
}

fn parts_of_it_are_found_or_made() {
    with_pod(async |world| {
        let make = script(1, "echo text > /p/f; stat -c %a /p", vec![part("m", "a/b", "/p")]);
        assert_eq!(world.run(make).await.stdout, "1777\n");
        let text = "cat /m/a/b/f; ln -s a/b /m/link; stat -c %a /m/a";
        assert_eq!(world.run(script(2, text, vec![volume("m")])).await.stdout, "text\n1777\n");
        // One file, and through a link that stays inside.
        let mounts = vec![part("m", "a/b/f", "/file"), part("m", "link", "/p")];
        let ended = world.run(script(3, "cat /file /p/f", mounts)).await;
        assert_eq!(ended.stdout, "text\ntext\n");
    });
}

fn a_part_never_leads_out() {
    with_pod(async |world| {
        let text = "ln -s /etc /m/abs; ln -s ../../../../etc /m/up; ln -s nothing /m/none";
        world.run(script(1, text, vec![volume("m")])).await;
        for path in ["abs", "up", "abs/passwd", "none", "up/made"] {
            let config = script(2, "true", vec![part("m", path, "/p")]);
            let error = world.start(config).await.unwrap_err();
            assert_eq!(error.stage, StartStage::Config, "{path}");
            let words = "failed to prepare subPath for volumeMount \"m\" of container \"c2\"";
            assert_eq!(error.message, words, "{path}");
            world.runtime.remove(InstanceId(2)).await;
        }
        assert!(!Path::new("/etc/made").exists());
    });
}

fn it_belongs_to_the_group() {
    with_pod(async |world| {
        let owned = || at(PodTmpfs { gid: Some(4711), ..tmpfs("m") }, "/m");
        let inside = PodTmpfs { gid: Some(4711), sub_path: Some("d".into()), ..tmpfs("m") };
        let text = "stat -c '%a %g' /m /d; echo x > /m/f && echo y > /d/f; \
                    stat -c %g /m/f /d/f";
        let mut config = script(1, text, vec![owned(), at(inside, "/d")]);
        config.user =
            User { uid: Some(1000), gid: Some(1000), groups: vec![4711], ..User::default() };
        let ended = world.run(config).await;
        assert_eq!(ended.stdout, "3777 4711\n3777 4711\n4711\n4711\n", "{}", ended.stderr);
    });
}
