//! `securityContext`, limits and sharing.

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{Limits, Runtime, RuntimeEvent};
use holdfast_runtime::process::{Isolation, Network};

use crate::harness::{sandbox, sh, with, with_pod};

crate::tests! {
    root:
        capabilities_of_root,
        capabilities_of_others,
        added_dropped_and_refused_capabilities,
        privileged_keeps_everything,
        users_and_groups,
        no_new_privileges,
        a_limit_without_a_controller_is_said_once,
        a_shared_pid_namespace,
        the_loss_of_a_shared_pid_namespace_is_told,
        host_namespaces,
        umask_signals_and_descriptors_are_fresh;
    any:
}

const CAPS: &str = "grep Cap /proc/self/status | tr -s '\\t' ' '";

fn capabilities_of_root() {
    with_pod(async |world| {
        let ended = world.sh(1, CAPS).await;
        assert_eq!(
            ended.stdout,
            "CapInh: 0000000000000000\nCapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\n\
             CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\n"
        );
    });
}

fn capabilities_of_others() {
    with_pod(async |world| {
        let mut config = sh(1, CAPS);
        config.user.uid = Some(1000);
        config.user.gid = Some(1000);
        let ended = world.run(config).await;
        assert_eq!(
            ended.stdout,
            "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
             CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\n"
        );
    });
}

fn added_dropped_and_refused_capabilities() {
    with_pod(async |world| {
        let mut config = sh(1, "grep CapEff /proc/self/status | cut -f2; chown 1 /tmp || echo no");
        config.capabilities = Some(vec!["NET_ADMIN".to_owned()]);
        assert_eq!(world.run(config).await.stdout, "0000000000001000\nno\n");
        let mut config = sh(2, "true");
        config.capabilities = Some(vec!["NOT_A_CAP".to_owned()]);
        let error = world.start(config).await.unwrap_err();
        assert_eq!(error.stage, StartStage::Create);
        assert_eq!(error.message, "unknown capability \"CAP_NOT_A_CAP\"");
        let own = holdfast_sys::caps::Caps::own().unwrap();
        let lacking = ["SYS_RESOURCE", "SYS_MODULE", "SYS_BOOT"]
            .into_iter()
            .find(|name| !own.contains(holdfast_sys::caps::Caps::named(name).unwrap()));
        if let Some(name) = lacking {
            let mut config = sh(3, "true");
            config.capabilities.as_mut().unwrap().push(name.to_owned());
            let error = world.start(config).await.unwrap_err();
            assert_eq!(error.stage, StartStage::Create);
            assert!(error.message.contains(name), "{}", error.message);
        }
    });
}

fn privileged_keeps_everything() {
    with_pod(async |world| {
        let mut config = sh(1, "grep CapEff /proc/self/status | cut -f2");
        config.privileged = true;
        config.capabilities = None;
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        assert_eq!(world.run(config).await.stdout.trim(), own);
    });
}

fn users_and_groups() {
    with_pod(async |world| {
        let mut config =
            sh(1, "id -u; id -g; id -G; echo $HOME; cat /etc/shadow 2>/dev/null || echo denied");
        config.user.uid = Some(1);
        config.user.gid = Some(2);
        config.user.groups = vec![2, 3, 4];
        assert_eq!(world.run(config).await.stdout, "1\n2\n2 3 4\n/usr/sbin\ndenied\n");
        // Nothing said: root, without the caller's further groups only if some are given.
        assert_eq!(world.sh(2, "id -u; id -g").await.stdout, "0\n0\n");
    });
}

fn no_new_privileges() {
    with_pod(async |world| {
        let script = "grep NoNewPrivs /proc/self/status | cut -f2";
        assert_eq!(world.sh(1, script).await.stdout, "0\n");
        let mut config = sh(2, script);
        config.no_new_privileges = true;
        assert_eq!(world.run(config).await.stdout, "1\n");
    });
}

fn a_limit_without_a_controller_is_said_once() {
    with_pod(async |world| {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .or_else(|_| std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers"))
            .unwrap_or_default();
        let has = controllers.split_whitespace().any(|word| word == "memory");
        for number in 1..=2 {
            let mut config = sh(number, "head -c 100000000 /dev/zero | tail | wc -c");
            config.limits = Limits { memory: Some(30_000_000), ..Limits::default() };
            let ended = world.run(config).await;
            if has {
                assert!(ended.oom, "{ended:?}");
            } else {
                assert_eq!((ended.code, ended.oom), (0, false));
            }
        }
        let mut warnings = Vec::new();
        while let Ok(warning) = world.warnings.try_recv() {
            warnings.push(warning);
        }
        assert_eq!(warnings.len(), usize::from(!has), "{warnings:?}");
    });
}

fn a_shared_pid_namespace() {
    with(Isolation::Namespaces, Network::Host, async |world| {
        let mut config = sandbox();
        config.share_process_namespace = true;
        world.runtime.create_sandbox(&config).await.unwrap();
        world.start(sh(1, "echo up; exec sleep 777")).await.unwrap();
        world.line("up").await;
        let ended = world.sh(2, "cat /proc/1/comm; [ $$ != 1 ] && echo not-one").await;
        assert_eq!(ended.stdout, "hf-pause\nnot-one\n", "{ended:?}");
        assert_eq!(
            world.exec(1, "exit 3").await,
            holdfast_runtime::contract::ExecOutcome::Ended { code: 3, output: vec![] }
        );
        // A container's end takes what it left behind along, and leaves the others alone.
        let ended = world.sh(3, "(setsid sleep 778 &) ; exit 4").await;
        assert_eq!(ended.code, 4);
        let count = |number| {
            format!(
                "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null; echo; done | grep -c '^sleep {number}'"
            )
        };
        assert_eq!(world.sh(4, &count(778)).await.stdout, "0\n");
        assert_eq!(world.sh(5, &count(777)).await.stdout, "1\n");
        world.runtime.stop(InstanceId(1), std::time::Duration::from_secs(5)).await;
        assert_eq!(world.ended(1).await.code, 143, "not PID 1, so SIGTERM ends it");
    });
}

/// The PID-namespace holders of this test: its launcher's children of that name.
fn holders() -> Vec<i32> {
    let parent = |path: &std::path::Path| -> Option<String> {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("PPid:\t"))?.to_owned())
    };
    let is_holder = |path: std::path::PathBuf| -> Option<i32> {
        let comm = std::fs::read_to_string(path.join("comm")).ok()?;
        let launcher = std::path::Path::new("/proc").join(parent(&path)?);
        let ours = comm == "hf-pause\n" && parent(&launcher)? == std::process::id().to_string();
        ours.then(|| path.file_name()?.to_str()?.parse().ok())?
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| is_holder(entry.ok()?.path())).collect()
}

fn the_loss_of_a_shared_pid_namespace_is_told() {
    with(Isolation::Namespaces, Network::Host, async |world| {
        let mut config = sandbox();
        config.share_process_namespace = true;
        world.runtime.create_sandbox(&config).await.unwrap();
        let mut victim = sh(1, "echo up; kill -9 1; sleep 1000");
        victim.privileged = true;
        world.start(victim).await.unwrap();
        world.line("up").await;
        // PID 1 is shielded from its own namespace, so the test kills it from outside.
        let mut holder = Vec::new();
        while holder.is_empty() {
            holder = holders();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(holder[0]),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let mut lost = false;
        let mut exited = false;
        while !(lost && exited) {
            match world.next().await {
                RuntimeEvent::SandboxLost { attempt: 0, .. } => lost = true,
                RuntimeEvent::Exited { code: 137, .. } => exited = true,
                other => assert!(matches!(other, RuntimeEvent::Output { .. }), "{other:?}"),
            }
        }
    });
}

fn host_namespaces() {
    with(Isolation::Namespaces, Network::Host, async |world| {
        let mut config = sandbox();
        config.host_pid = true;
        config.host_ipc = true;
        config.hostname = None;
        world.runtime.create_sandbox(&config).await.unwrap();
        let names = ["pid", "ipc", "uts", "net"];
        let own: Vec<String> = names
            .iter()
            .map(|name| {
                std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string()
            })
            .collect();
        let script = "for n in pid ipc uts net; do readlink /proc/self/ns/$n; done; (setsid sleep 779 &); exit 6";
        let ended = world.sh(1, script).await;
        assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), own, "{ended:?}");
        assert_eq!(ended.code, 6);
        world
            .start(sh(2, "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done"))
            .await
            .unwrap();
        world.line("up").await;
        assert_eq!(
            world.exec(2, "readlink /proc/self/ns/mnt > /tmp/x; exit 1").await,
            holdfast_runtime::contract::ExecOutcome::Ended { code: 1, output: vec![] }
        );
        world.runtime.stop(InstanceId(2), std::time::Duration::from_secs(5)).await;
        assert_eq!(world.ended(2).await.code, 9, "the signal reached the process behind the shim");
        // What the first one left behind is gone, though it was a session of its own.
        let script = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep '^sleep 779'; done; true";
        assert_eq!(world.sh(3, script).await.stdout, "");
    });
}

fn umask_signals_and_descriptors_are_fresh() {
    with_pod(async |world| {
        let script = "umask; grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f2; ls /proc/$$/fd; readlink /proc/$$/fd/0; \
                      cut -d' ' -f5,6 /proc/$$/stat";
        let ended = world.sh(1, script).await;
        assert_eq!(
            ended.stdout,
            "0022\n0000000000000000\n0000000000000000\n0\n1\n2\n/dev/null\n1 1\n"
        );
    });
}
