//! Without root, and without namespaces.

use std::path::Path;
use std::time::Duration;

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{
    Below, ContainerConfig, ExecOutcome, Mount, MountSource, Propagation, RootFs, Runtime,
};
use holdfast_runtime::process::{Isolation, Mode, Network};

use crate::harness::{World, pod, sandbox, sh, with};

crate::tests! {
    root:
        rootless_containers_are_isolated,
        rootless_users_other_than_root,
        rootless_mounts_and_read_only_roots,
        rootless_memory_volumes,
        rootless_refusals,
        without_user_namespaces_plain_processes_run,
        namespaces_asked_for_but_impossible_are_an_error,
        what_a_command_leaves_in_plain_processes_ends_with_the_container,
        plain_as_root;
    any:
        plain_processes,
        plain_orphans_are_killed,
        plain_refusals,
}

/// Becomes nobody. The process must be dumpable again, or its `/proc` files stay root's.
fn become_nobody() {
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(65534.into(), 65534.into(), 65534.into()).unwrap();
    nix::unistd::setresuid(65534.into(), 65534.into(), 65534.into()).unwrap();
    nix::sys::prctl::set_dumpable(true).unwrap();
}

fn rootless(test: impl AsyncFnOnce(&mut World)) {
    become_nobody();
    with(Isolation::Auto, Network::Host, async |world| {
        assert_eq!(world.runtime.mode(), Mode::Rootless, "{:?}", world.notices);
        world.runtime.create_sandbox(&sandbox()).await.unwrap();
        test(world).await;
    });
}

fn plain(test: impl AsyncFnOnce(&mut World)) {
    with(Isolation::None, Network::Host, async |world| {
        assert_eq!(world.runtime.mode(), Mode::Plain);
        world.runtime.create_sandbox(&sandbox()).await.unwrap();
        test(world).await;
    });
}

fn rootless_containers_are_isolated() {
    rootless(async |world| {
        let ended = world.sh(1, "echo $$; hostname; id -u; id -g; echo /proc/[0-9]*").await;
        assert_eq!(ended.stdout, "1\nweb\n0\n0\n/proc/1\n", "{ended:?}");
        let script = "set -e; echo x > /hf-rootless; echo x > /tmp/hf-rootless; mkdir /usr/hf-rootless; \
                      cat /hf-rootless; ls / | grep -c .; echo x > /dev/null; head -c 2 /dev/urandom | wc -c";
        let ended = world.sh(2, script).await;
        assert_eq!((ended.code, ended.stdout.starts_with("x\n")), (0, true), "{ended:?}");
        for path in ["/hf-rootless", "/tmp/hf-rootless", "/usr/hf-rootless"] {
            assert!(!Path::new(path).exists(), "{path} got out");
        }
        let ended = world.sh(3, "printf why > /dev/termination-log; exit 3").await;
        assert_eq!((ended.code, ended.message.as_str()), (3, "why"));
        world
            .start(sh(4, "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"))
            .await
            .unwrap();
        world.line("up").await;
        let expected = ExecOutcome::Ended { code: 6, output: b"web\n".to_vec() };
        assert_eq!(world.exec(4, "hostname; exit 6").await, expected);
        world.runtime.stop(InstanceId(4), Duration::from_secs(5)).await;
        assert_eq!(world.ended(4).await.code, 5);
    });
}

fn rootless_users_other_than_root() {
    rootless(async |world| {
        let mut config = sh(
            1,
            "id -u; id -g; grep CapEff /proc/self/status | cut -f2; echo up; exec sleep 1000",
        );
        config.user.uid = Some(1000);
        config.user.gid = Some(2000);
        config.user.groups = vec![3000];
        world.start(config).await.unwrap();
        world.line("up").await;
        assert_eq!(world.written("c1", false), "1000\n2000\n0000000000000000\nup\n");
        let expected = ExecOutcome::Ended { code: 0, output: b"1000\n2000\n".to_vec() };
        assert_eq!(world.exec(1, "id -u; id -g").await, expected);
        let warning = world.warnings.try_recv().unwrap();
        assert!(warning.contains("supplementary groups"), "{warning}");
        world.runtime.kill(InstanceId(1), false).await;
        assert_eq!(world.ended(1).await.code, 137);
    });
}

fn bind(source: &Path, target: &str) -> Mount {
    Mount {
        source: MountSource::Bind(source.to_owned()),
        target: target.into(),
        read_only: false,
        below: Below::default(),
        propagation: Propagation::Private,
    }
}

fn rootless_mounts_and_read_only_roots() {
    rootless(async |world| {
        let volume = world.runtime.run_dir().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let script = "echo data > /new/place/f; touch /x || echo ro; touch /usr/x || echo ro; cat /ro/f; touch /ro/g || echo ro";
        let mut config = sh(1, script);
        config.read_only_root = true;
        config.mounts =
            vec![bind(&volume, "/new/place"), Mount { read_only: true, ..bind(&volume, "/ro") }];
        let ended = world.run(config).await;
        assert_eq!(ended.stdout, "ro\nro\ndata\nro\n", "{ended:?}");
        assert_eq!(std::fs::read(volume.join("f")).unwrap(), b"data\n");
        // An image: the host's /usr with the links to it that a root has.
        let root = world.runtime.run_dir().join("image");
        std::fs::create_dir(&root).unwrap();
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        let mut config = sh(2, "echo x > /y; cat /y; ls /");
        config.root = RootFs::Layers(vec![root]);
        config.mounts = vec![bind(Path::new("/usr"), "/usr")];
        let ended = world.run(config).await;
        assert_eq!(ended.stdout, "x\nbin\ndev\nlib\nlib64\nproc\nsbin\nsys\nusr\ny\n", "{ended:?}");
    });
}

fn rootless_memory_volumes() {
    rootless(async |world| {
        let mut volume = crate::memory::volume("m");
        if let MountSource::PodTmpfs(tmpfs) = &mut volume.source {
            tmpfs.gid = Some(65534);
        }
        let text =
            "head -c 2000000 /dev/zero > /m/big || rm /m/big; echo kept > /m/f; stat -c '%a %g' /m";
        let config =
            |number, text| ContainerConfig { mounts: vec![volume.clone()], ..sh(number, text) };
        let ended = world.run(config(1, text)).await;
        assert_eq!(ended.stdout, "3777 0\n", "{ended:?}");
        assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
        assert_eq!(world.run(config(2, "ls /m; cat /m/f")).await.stdout, "f\nkept\n");
    });
}

fn rootless_refusals() {
    rootless(async |world| {
        let mut config = sh(1, "true");
        config.mounts = vec![Mount {
            propagation: Propagation::Bidirectional,
            ..bind(Path::new("/tmp"), "/b")
        }];
        let error = world.start(config).await.unwrap_err();
        assert_eq!(error.stage, StartStage::Create);
        assert!(error.message.contains("needs root"), "{}", error.message);
        world.runtime.stop_sandbox(&pod(), 0).await;
        let mut config = sandbox();
        config.share_process_namespace = true;
        world.runtime.create_sandbox(&config).await.unwrap();
        world.start(sh(2, "echo up; exec sleep 1000")).await.unwrap();
        world.line("up").await;
        assert_eq!(world.sh(3, "cat /proc/1/comm").await.stdout, "hf-pause\n");
        world.runtime.stop_sandbox(&pod(), 0).await;
        assert_eq!(world.ended(2).await.code, 137);
    });
    let launcher = holdfast_sys::launcher::fork().unwrap();
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    reactor.block_on(async {
        let state = crate::harness::state_dir();
        let options = holdfast_runtime::process::ProcessOptions {
            network: Network::Pod,
            state_dir: state.clone(),
            ..Default::default()
        };
        let (events, _keep) = tokio::sync::mpsc::unbounded_channel();
        let error = holdfast_runtime::process::ProcessRuntime::new(launcher, options, events).await;
        assert!(error.unwrap_err().to_string().contains("needs root"));
        // Its launcher has cleaned up and is gone.
        let left: Vec<_> =
            std::fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"]);
        std::fs::remove_dir_all(state).unwrap();
    });
}

/// A place where no (further) user namespace can be made, as on machines that forbid them.
fn forbid_namespaces() {
    become_nobody();
    holdfast_sys::userns::enter(65534, 65534).unwrap();
    std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
}

fn without_user_namespaces_plain_processes_run() {
    forbid_namespaces();
    with(Isolation::Auto, Network::Host, async |world| {
        assert_eq!(world.runtime.mode(), Mode::Plain);
        assert_eq!(world.notices.len(), 1);
        let notice = &world.notices[0];
        assert!(notice.starts_with("no isolation (user namespaces are forbidden"), "{notice}");
        assert!(!notice.contains('\n'));
        world.runtime.create_sandbox(&sandbox()).await.unwrap();
        assert_eq!(world.sh(1, "echo fine; exit 3").await.stdout, "fine\n");
    });
}

fn namespaces_asked_for_but_impossible_are_an_error() {
    forbid_namespaces();
    let launcher = holdfast_sys::launcher::fork().unwrap();
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    reactor.block_on(async {
        let state = crate::harness::state_dir();
        let options = holdfast_runtime::process::ProcessOptions {
            isolation: Isolation::Namespaces,
            state_dir: state.clone(),
            ..Default::default()
        };
        let (events, _keep) = tokio::sync::mpsc::unbounded_channel();
        let error = holdfast_runtime::process::ProcessRuntime::new(launcher, options, events).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("namespaces cannot be made here: user namespaces are forbidden"),
            "{error}"
        );
        let left: Vec<_> =
            std::fs::read_dir(&state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".lock"]);
        std::fs::remove_dir_all(state).unwrap();
    });
}

fn plain_processes() {
    plain(async |world| {
        assert_eq!(
            world.notices.len(),
            1,
            "one line says what is not isolated: {:?}",
            world.notices
        );
        let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
        let ended = world.sh(1, "readlink /proc/self/ns/pid; echo err >&2; exit 3").await;
        assert_eq!((ended.code, ended.stdout.trim()), (3, own.to_str().unwrap()));
        assert_eq!(ended.stderr, "err\n");
        let mut config = sh(2, "");
        config.argv = vec!["nope".to_owned()];
        let error = world.start(config).await.unwrap_err();
        assert_eq!(
            (error.stage, error.message.as_str()),
            (StartStage::Run, "exec: \"nope\": executable file not found in $PATH")
        );
        world
            .start(sh(3, "trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done"))
            .await
            .unwrap();
        world.line("up").await;
        assert_eq!(
            world.exec(3, "echo in; exit 5").await,
            ExecOutcome::Ended { code: 5, output: b"in\n".to_vec() }
        );
        world.runtime.stop(InstanceId(3), Duration::from_secs(5)).await;
        assert_eq!(world.ended(3).await.code, 4);
        // SIGTERM ends a process that is not PID 1.
        world.start(sh(4, "echo up; exec sleep 1000")).await.unwrap();
        world.line("up").await;
        world.runtime.stop(InstanceId(4), Duration::from_secs(5)).await;
        assert_eq!(world.ended(4).await.code, 143);
        let mut logs = sh(5, "echo last; exit 1");
        logs.termination_message_from_logs = true;
        assert_eq!(world.run(logs).await.message, "last\n");
    });
}

/// Whether a process with this argument is there.
fn runs(argument: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().any(|entry| {
        let cmdline = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        cmdline.split(|byte| *byte == 0).any(|word| word == argument.as_bytes())
    })
}

/// Waits until one is there.
async fn until_runs(argument: &str) {
    for _ in 0..500 {
        if runs(argument) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{argument} does not run");
}

fn plain_orphans_are_killed() {
    plain(async |world| {
        let own = std::process::id();
        let orphan = format!("1000.{own}1");
        // Daemons: sessions of their own whose parents are gone.
        let script =
            format!("(setsid sleep {orphan} &); (setsid sleep {orphan} &); echo done; exit 2");
        assert_eq!(world.sh(1, &script).await.code, 2);
        assert!(!runs(&orphan), "gone before the exit is told");
        let script = format!("(setsid sleep {orphan} &); echo up; sleep {orphan}");
        world.start(sh(2, &script)).await.unwrap();
        world.line("up").await;
        until_runs(&orphan).await;
        world.runtime.kill(InstanceId(2), false).await;
        assert_eq!(world.ended(2).await.code, 137);
        assert!(!runs(&orphan));
    });
}

fn plain_refusals() {
    plain(async |world| {
        let refused = async |config, word: &str| {
            let error = world.start(config).await.unwrap_err();
            assert_eq!(error.stage, StartStage::Create);
            assert!(
                error.message.contains(word) && error.message.contains("namespaces"),
                "{}",
                error.message
            );
        };
        let mut config = sh(1, "true");
        config.mounts = vec![bind(Path::new("/tmp"), "/data")];
        refused(config, "/data").await;
        let mut config = sh(1, "true");
        config.root = RootFs::Layers(vec!["/".into()]);
        refused(config, "image").await;
        let mut config = sh(1, "true");
        config.read_only_root = true;
        refused(config, "readOnlyRootFilesystem").await;
        // What Kubernetes writes for every pod is no reason to refuse all pods.
        let mut config = sh(1, "echo ok");
        config.mounts = vec![bind(Path::new("/etc/hosts"), "/etc/hosts")];
        assert_eq!(world.run(config).await.stdout, "ok\n");
    });
}

fn plain_as_root() {
    plain(async |world| {
        let mut config = sh(1, "id -u; id -G; grep CapBnd /proc/self/status | cut -f2");
        config.user.uid = Some(1000);
        config.user.gid = Some(1001);
        config.user.groups = vec![1002];
        assert_eq!(world.run(config).await.stdout, "1000\n1001 1002\n00000000a80425fb\n");
    });
}

fn what_a_command_leaves_in_plain_processes_ends_with_the_container() {
    // As an ordinary user, without a cgroup that would find it.
    become_nobody();
    plain(async |world| {
        let own = std::process::id();
        let left = format!("1000.{own}2");
        world.start(sh(1, "echo up; exec sleep 1000")).await.unwrap();
        world.line("up").await;
        let outcome = world.exec(1, &format!("setsid sleep {left} & echo started; exit 3")).await;
        assert_eq!(outcome, ExecOutcome::Ended { code: 3, output: b"started\n".to_vec() });
        // As in Kubernetes it lives on.
        until_runs(&left).await;
        let argv = ["sh", "-c", &format!("setsid sleep {left}.5 & sleep 1000")].map(str::to_owned);
        let timeout = Some(Duration::from_millis(50));
        let outcome = world.runtime.exec(InstanceId(1), &argv, timeout).await.unwrap();
        assert_eq!(outcome, ExecOutcome::TimedOut);
        world.runtime.kill(InstanceId(1), false).await;
        assert_eq!(world.ended(1).await.code, 137);
        assert!(!runs(&left) && !runs(&format!("{left}.5")));
    });
}
