//! Roots and mounts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{
    Below, ContainerConfig, Mount, MountSource, Propagation, RootFs, Runtime,
};

use crate::harness::{World, sh, with_pod};

crate::tests! {
    root:
        the_hosts_files_are_copied_on_write,
        devices_are_few_and_work,
        proc_is_masked_unless_privileged,
        layers_are_stacked,
        a_read_only_root_is_read_only_but_mounts_are_not,
        mount_points_are_made_also_through_links,
        a_mount_point_cannot_lead_out_of_the_root,
        a_bind_keeps_its_inode,
        read_only_mounts_and_their_directories,
        what_is_mounted_below_a_read_only_mount,
        a_missing_source_is_a_run_error,
        shared_memory_is_the_pods,
        mounts_are_passed_on_as_asked_for,
        a_mount_that_comes_later_is_seen,
        nothing_is_mounted_on_the_host;
    any:
}

fn mount(source: impl Into<PathBuf>, target: &str) -> Mount {
    Mount {
        source: MountSource::Bind(source.into()),
        target: target.into(),
        read_only: false,
        below: Below::default(),
        propagation: Propagation::Private,
    }
}

fn dir(world: &World, name: &str) -> PathBuf {
    let path = world.runtime.run_dir().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Makes an image of a few static programs: a directory with the host's libraries bound would not be
/// an image, so the test's shell and its libraries are copied.
fn image(world: &World) -> PathBuf {
    let root = dir(world, "image");
    for program in ["/bin/sh", "/bin/cat", "/bin/ls", "/bin/touch", "/bin/stat", "/bin/readlink"] {
        copy_with_libraries(&root, Path::new(program));
    }
    root
}

fn copy_with_libraries(root: &Path, program: &Path) {
    let copy = |path: &Path| {
        let target = root.join(path.strip_prefix("/").unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    };
    copy(program);
    let ldd = std::process::Command::new("ldd").arg(program).output().unwrap();
    for word in
        String::from_utf8_lossy(&ldd.stdout).split_whitespace().filter(|w| w.starts_with('/'))
    {
        copy(Path::new(word));
    }
}

fn layered(number: u64, layers: Vec<PathBuf>, script: &str) -> ContainerConfig {
    let mut config = sh(number, script);
    config.root = RootFs::Layers(layers);
    config
}

fn the_hosts_files_are_copied_on_write() {
    with_pod(async |world| {
        let script = "set -e; echo x > /hf-root-test; echo x > /etc/hf-test; rm /etc/passwd; \
                      echo x > /usr/hf-test; echo x > /tmp/hf-test; cat /hf-root-test; ls /etc/passwd || true";
        let ended = world.sh(1, script).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (0, "x\n"), "{}", ended.stderr);
        for path in ["/hf-root-test", "/etc/hf-test", "/usr/hf-test", "/tmp/hf-test"] {
            assert!(!Path::new(path).exists(), "{path} got out");
        }
        assert!(Path::new("/etc/passwd").exists());
        // Not even another run of it sees them.
        assert_eq!(world.sh(2, "ls /hf-root-test /etc/passwd").await.stdout, "/etc/passwd\n");
        let mode = world.sh(3, "stat -c '%a %U' / /tmp").await;
        assert_eq!(mode.stdout, "755 root\n1777 root\n");
    });
}

fn devices_are_few_and_work() {
    with_pod(async |world| {
        let script = "cd /dev; ls; echo x > null; head -c 3 zero | wc -c; head -c 3 urandom | wc -c; \
                      (echo x > full) 2>/dev/null || echo full; stat -c %a null shm; test -c ptmx && echo ptmx; \
                      echo y > shm/f && echo shm";
        let ended = world.sh(1, script).await;
        let list = "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\n\
                    termination-log\ntty\nurandom\nzero\n";
        assert_eq!(
            ended.stdout,
            format!("{list}3\n3\nfull\n666\n1777\nptmx\nshm\n"),
            "{}",
            ended.stderr
        );
        let mut config = sh(2, "ls /dev | wc -l; mount | grep -c 'sysfs (rw'");
        config.privileged = true;
        config.capabilities = None;
        let ended = world.run(config).await;
        let count: usize = ended.stdout.lines().next().unwrap().parse().unwrap();
        assert!(count > 20, "the host's devices: {count}");
        assert_eq!(ended.stdout.lines().nth(1), Some("1"));
    });
}

fn proc_is_masked_unless_privileged() {
    with_pod(async |world| {
        let script = "(echo 1 > /proc/sys/kernel/domainname) 2>&1 | grep -o 'Read-only.*'; \
                      (echo > /sys/x) 2>&1 | grep -o 'Read-only.*\\|Permission.*'; \
                      cat /proc/timer_list /proc/interrupts | wc -c; ls /sys/firmware | wc -l";
        let ended = world.sh(1, script).await;
        assert_eq!(ended.stdout, "Read-only file system\nRead-only file system\n0\n0\n");
        let mut config = sh(
            2,
            "cat /proc/interrupts | head -c 1 | wc -c; test -w /proc/sys/kernel/domainname && echo w",
        );
        config.privileged = true;
        config.capabilities = None;
        assert_eq!(world.run(config).await.stdout, "1\nw\n");
    });
}

fn layers_are_stacked() {
    with_pod(async |world| {
        let base = image(world);
        let (middle, top) = (dir(world, "middle"), dir(world, "with:colon,and space\\"));
        fs::write(base.join("a"), "base").unwrap();
        fs::write(middle.join("a"), "middle").unwrap();
        fs::write(middle.join("b"), "middle").unwrap();
        fs::write(top.join("b"), "top").unwrap();
        let layers = vec![base.clone(), middle.clone(), top.clone()];
        let ended = world.run(layered(1, layers.clone(), "cat /a /b; echo new > /a; cat /a")).await;
        assert_eq!(ended.stdout, "middletopnew\n", "{}", ended.stderr);
        assert_eq!(fs::read(middle.join("a")).unwrap(), b"middle");
        assert!(!top.join("a").exists());
        // A hundred layers do not fit mount options as paths.
        let mut many = vec![base];
        for number in 0..100 {
            let layer = dir(world, &format!("a-directory-with-a-rather-long-name-{number}"));
            fs::write(layer.join(format!("f{number}")), "x").unwrap();
            many.push(layer);
        }
        let ended = world.run(layered(2, many, "cat /f0 /f50 /f99")).await;
        assert_eq!(ended.stdout, "xxx\n", "{}", ended.stderr);
        let ended = world
            .run(layered(3, vec![layers[0].clone()], "ls -d /proc /dev /sys /tmp; ls /home"))
            .await;
        assert!(ended.stdout.starts_with("/dev\n/proc\n/sys\n"), "{ended:?}");
        assert!(ended.stderr.contains("/home"), "nothing of the host is there");
    });
}

fn a_read_only_root_is_read_only_but_mounts_are_not() {
    with_pod(async |world| {
        let volume = dir(world, "volume");
        for (number, root) in [(1, RootFs::Host), (2, RootFs::Layers(vec![image(world)]))] {
            let script = "touch /x || echo ro; touch /etc/x || echo ro; touch /new/place/f && echo rw; touch /dev/shm/f && echo rw";
            let mut config = sh(number, script);
            config.root = root;
            config.read_only_root = true;
            config.mounts = vec![mount(&volume, "/new/place")];
            let ended = world.run(config).await;
            assert_eq!(ended.stdout, "ro\nro\nrw\nrw\n", "{}", ended.stderr);
            fs::remove_file(volume.join("f")).unwrap();
        }
    });
}

fn mount_points_are_made_also_through_links() {
    with_pod(async |world| {
        let root = image(world);
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../run/not/there.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("/var/really", root.join("data")).unwrap();
        let file = world.runtime.run_dir().join("file");
        fs::write(&file, "content").unwrap();
        let volume = dir(world, "volume");
        fs::write(volume.join("v"), "volume").unwrap();
        let mut config =
            layered(1, vec![root.clone()], "cat /etc/resolv.conf /data/v /var/really/v /deep/er/f");
        config.mounts = vec![
            mount(&file, "/etc/resolv.conf"),
            mount(&volume, "/data"),
            mount(&file, "/deep/er/f"),
        ];
        let ended = world.run(config).await;
        assert_eq!(ended.stdout, "contentvolumevolumecontent\n", "{}", ended.stderr);
        assert!(!root.join("var").exists() && !root.join("run").exists(), "the image is untouched");
    });
}

fn a_mount_point_cannot_lead_out_of_the_root() {
    with_pod(async |world| {
        let root = image(world);
        let outside = dir(world, "outside");
        let up = "../".repeat(20);
        symlink(format!("{up}{}", outside.display()), root.join("up")).unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        let volume = dir(world, "volume");
        for (number, target) in
            ["/up/new", "/absolute/new", &format!("/{up}{}/new", outside.display())]
                .into_iter()
                .enumerate()
        {
            let mut config = layered(number as u64 + 1, vec![root.clone()], "true");
            config.mounts = vec![mount(&volume, target)];
            assert_eq!(world.run(config).await.code, 0);
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{target} got out");
        }
    });
}

fn a_bind_keeps_its_inode() {
    with_pod(async |world| {
        let file = world.runtime.run_dir().join("file");
        fs::write(&file, "old\n").unwrap();
        let mut config = sh(1, "echo up; read x; cat /f");
        config.argv[2] = "echo up; while ! [ -e /go/on ]; do sleep 0.01; done; cat /f".to_owned();
        let go = dir(world, "go");
        config.mounts = vec![mount(&file, "/f"), mount(&go, "/go")];
        world.start(config.clone()).await.unwrap();
        world.line("up").await;
        // As an editor or the kubelet replaces it.
        let new = world.runtime.run_dir().join("new");
        fs::write(&new, "new\n").unwrap();
        fs::rename(&new, &file).unwrap();
        fs::write(go.join("on"), "").unwrap();
        assert_eq!(world.ended(1).await.stdout, "up\nold\n");
        config.instance = InstanceId(2);
        config.name = "c2".to_owned();
        assert_eq!(world.run(config).await.stdout, "up\nnew\n");
    });
}

fn read_only_mounts_and_their_directories() {
    with_pod(async |world| {
        let volume = dir(world, "volume");
        fs::create_dir(volume.join("sub")).unwrap();
        let mut config =
            sh(1, "touch /v/f || echo ro; touch /v/sub/f || echo ro; touch /w/f && echo rw");
        config.mounts =
            vec![Mount { read_only: true, ..mount(&volume, "/v") }, mount(&volume, "/w")];
        assert_eq!(world.run(config).await.stdout, "ro\nro\nrw\n");
    });
}

/// `readOnly` is about the mount itself, `recursiveReadOnly` about all that is below it.
fn what_is_mounted_below_a_read_only_mount() {
    use nix::mount::{MsFlags, mount as sys_mount, umount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    sys_mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    let place = crate::harness::state_dir();
    fs::create_dir_all(place.join("sub")).unwrap();
    sys_mount(Some("tmpfs"), &place.join("sub"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    with_pod(async |world| {
        let text = "for f in /a/f /a/sub/f /b/f /b/sub/f; do touch $f 2>&- && echo $f; done";
        let mut config = sh(1, text);
        let read_only = |target| Mount { read_only: true, ..mount(&place, target) };
        config.mounts = vec![read_only("/a"), Mount { below: Below::ReadOnly, ..read_only("/b") }];
        assert_eq!(world.run(config).await.stdout, "/a/sub/f\n");
    });
    umount(&place.join("sub")).unwrap();
    fs::remove_dir_all(&place).unwrap();
}

fn a_missing_source_is_a_run_error() {
    with_pod(async |world| {
        let mut config = sh(1, "true");
        config.mounts = vec![mount("/no/such/source", "/v")];
        let error = world.start(config.clone()).await.unwrap_err();
        assert_eq!(error.stage, StartStage::Run);
        let words =
            "error mounting \"/no/such/source\" to rootfs at \"/v\": no such file or directory";
        assert_eq!(error.message, words);
        config.mounts = vec![mount("/etc/passwd", "/tmp")];
        let error = world.start(config).await.unwrap_err();
        assert!(error.message.contains("not a directory"), "{}", error.message);
    });
}

fn shared_memory_is_the_pods() {
    with_pod(async |world| {
        assert_eq!(world.sh(1, "echo shared > /dev/shm/hf-test").await.code, 0);
        assert_eq!(
            world
                .sh(2, "cat /dev/shm/hf-test; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2")
                .await
                .stdout,
            "shared\n65536\n"
        );
        assert!(!Path::new("/dev/shm/hf-test").exists());
    });
}

/// A place whose mounts are passed on, in a mount namespace of the test's own. To be made before the
/// launcher is.
fn shared_place() -> PathBuf {
    use nix::mount::{MsFlags, mount as sys_mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    sys_mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    let place = crate::harness::state_dir();
    fs::create_dir_all(&place).unwrap();
    sys_mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    sys_mount(none, &place, none, MsFlags::MS_SHARED, none).unwrap();
    place
}

fn a_mount_that_comes_later_is_seen() {
    use nix::mount::{MsFlags, mount as sys_mount, umount};
    let place = shared_place();
    let later = place.join("later");
    fs::create_dir(&later).unwrap();
    with_pod(async |world| {
        // While this one started, the next one's root was prepared.
        world.sh(1, "true").await;
        let none: Option<&str> = None;
        sys_mount(Some("tmpfs"), &later, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::write(later.join("file"), "seen").unwrap();
        for number in 2..=4 {
            let ended = world.sh(number, &format!("cat {}/file", later.display())).await;
            assert_eq!(ended.stdout, "seen\n", "{ended:?}");
        }
    });
    umount(&later).unwrap();
    umount(&place).unwrap();
    fs::remove_dir(&place).unwrap();
}

fn mounts_are_passed_on_as_asked_for() {
    use nix::mount::{MsFlags, mount as sys_mount, umount};
    let none: Option<&str> = None;
    let place = shared_place();
    for name in ["in", "out", "off"] {
        fs::create_dir(place.join(name)).unwrap();
    }
    with_pod(async |world| {
        let wait = "echo up; for d in /host /off; do i=0; while ! [ -e $d/in/f ] && [ $i -lt 30 ]; do sleep 0.01; i=$((i+1)); done; \
                    [ -e $d/in/f ] && echo seen $d; done; mount -t tmpfs none /both/out && echo mounted; sleep 1000";
        let mut config = sh(1, wait);
        config.privileged = true;
        config.capabilities = None;
        config.mounts = vec![
            Mount { propagation: Propagation::HostToContainer, ..mount(&place, "/host") },
            Mount { propagation: Propagation::Bidirectional, ..mount(&place, "/both") },
            mount(&place, "/off"),
        ];
        world.start(config).await.unwrap();
        world.line("up").await;
        sys_mount(Some("tmpfs"), &place.join("in"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        fs::write(place.join("in/f"), "").unwrap();
        world.line("mounted").await;
        assert_eq!(world.written("c1", false), "up\nseen /host\nmounted\n");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(mounts.contains(&format!("{}/out ", place.display())), "it came out");
        world.runtime.kill(InstanceId(1), false).await;
        world.ended(1).await;
    });
    for name in ["in", "out"] {
        umount(&place.join(name)).unwrap();
    }
    umount(&place).unwrap();
    fs::remove_dir(&place).unwrap();
}

fn nothing_is_mounted_on_the_host() {
    with_pod(async |world| {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let volume = dir(world, "volume");
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o777)).unwrap();
        let mut config = sh(1, "echo up; sleep 1000");
        config.mounts = vec![mount(&volume, "/v")];
        world.start(config).await.unwrap();
        world.line("up").await;
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
        world.runtime.kill(InstanceId(1), false).await;
        world.ended(1).await;
    });
}
