//! Output and termination messages.

use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{Below, Mount, MountSource, Propagation};
use holdfast_runtime::{Runtime, RuntimeEvent};

use crate::harness::{sh, with_pod};

crate::tests! {
    root:
        everything_written_comes_before_the_exit,
        output_that_nobody_takes_waits_in_its_container,
        a_background_process_holding_the_pipe_does_not_hold_the_exit,
        stdout_can_be_opened_again_by_any_user,
        the_termination_message_is_read,
        the_log_is_the_message_of_a_failure_if_asked_for,
        a_custom_path_in_a_volume_works;
    any:
}

fn everything_written_comes_before_the_exit() {
    with_pod(async |world| {
        for number in 1..=5 {
            let ended = world.sh(number, "seq 1 20000; echo tail >&2").await;
            assert_eq!(ended.stdout.lines().count(), 20000);
            assert!(ended.stdout.ends_with("\n20000\n"));
            assert_eq!(ended.stderr, "tail\n");
        }
    });
}

fn output_that_nobody_takes_waits_in_its_container() {
    with_pod(async |world| {
        world.start(sh(1, "seq 1 100000; sleep 1000")).await.unwrap();
        // Kept, and not taken.
        let mut kept = Vec::new();
        while kept.len() < 20_000 {
            kept.push(world.events.recv().await.unwrap());
        }
        // The other one ends, and says so, all the same.
        world.start(sh(2, "exit 3")).await.unwrap();
        loop {
            let event = world.events.recv().await.unwrap();
            if matches!(&event, RuntimeEvent::Exited { instance: InstanceId(2), code: 3, .. }) {
                break;
            }
            kept.push(event);
        }
        // The first is held up by its pipe, so its last lines cannot be there.
        world.runtime.kill(InstanceId(1), false).await;
        let ended = world.ended(1).await;
        let lines = kept.len() + ended.stdout.lines().count();
        assert_eq!(ended.code, 137);
        assert!(lines < 60_000, "{lines} lines");
    });
}

fn a_background_process_holding_the_pipe_does_not_hold_the_exit() {
    with_pod(async |world| {
        let ended = world.sh(1, "sleep 1000 & echo main; exit 2").await;
        assert_eq!((ended.code, ended.stdout.as_str()), (2, "main\n"));
    });
}

fn stdout_can_be_opened_again_by_any_user() {
    with_pod(async |world| {
        let mut config = sh(1, "echo again > /dev/stdout; echo error > /dev/stderr");
        config.user.uid = Some(1000);
        config.user.gid = Some(1000);
        let ended = world.run(config).await;
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("again\n", "error\n"));
    });
}

fn the_termination_message_is_read() {
    with_pod(async |world| {
        assert_eq!(world.sh(1, "printf why > /dev/termination-log; exit 1").await.message, "why");
        let mut config = sh(2, "printf other > /run/x/message");
        config.user.uid = Some(1000);
        config.termination_message_path = "/run/x/message".to_owned();
        assert_eq!(world.run(config).await.message, "other");
        let long = world.sh(3, "head -c 9000 /dev/zero | tr '\\0' x > /dev/termination-log").await;
        assert_eq!(long.message.len(), 4096);
        let mut none = sh(4, "echo x > /dev/termination-log");
        none.termination_message_path = String::new();
        assert_eq!(world.run(none).await.message, "");
        let files = std::fs::read_dir(world.runtime.run_dir()).unwrap();
        let names: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        let left = names.iter().find(|name| name.to_string_lossy().starts_with("termination"));
        assert!(names.len() > 1 && left.is_none(), "{names:?}");
    });
}

fn the_log_is_the_message_of_a_failure_if_asked_for() {
    with_pod(async |world| {
        let run = |number, script| {
            let mut config = sh(number, script);
            config.termination_message_from_logs = true;
            config
        };
        assert_eq!(world.run(run(1, "echo a; echo b; exit 1")).await.message, "a\nb\n");
        assert_eq!(world.run(run(2, "echo a; exit 0")).await.message, "");
        let both = "echo log; printf file > /dev/termination-log; exit 1";
        assert_eq!(world.run(run(3, both)).await.message, "file");
        let many = world.run(run(4, "seq 1 1000; exit 1")).await.message;
        assert_eq!((many.lines().count(), many.lines().last()), (80, Some("1000")));
    });
}

fn a_custom_path_in_a_volume_works() {
    with_pod(async |world| {
        let volume = world.runtime.run_dir().join("volume");
        std::fs::create_dir(&volume).unwrap();
        let mut config = sh(1, "printf inside > /data/log; exit 1");
        config.mounts = vec![Mount {
            source: MountSource::Bind(volume),
            target: "/data".into(),
            read_only: false,
            below: Below::default(),
            propagation: Propagation::Private,
        }];
        config.termination_message_path = "/data/log".to_owned();
        assert_eq!(world.run(config).await.message, "inside");
    });
}
