//! Start, exit, stop, kill, sandboxes.

use std::time::{Duration, Instant};

use holdfast_lifecycle::StartStage;
use holdfast_lifecycle::status::InstanceId;
use holdfast_runtime::contract::{Runtime, RuntimeEvent};

use crate::harness::{Ended, pod, sandbox, sh, with_pod};

crate::tests! {
    root:
        exit_codes_and_output,
        a_missing_program_is_a_run_error_in_the_words_of_runc,
        pid_one_and_host_name,
        term_stops_and_kill_follows_after_the_grace_period,
        pid_one_without_a_handler_ignores_term,
        a_stop_signal_is_sent,
        kill_can_look_like_out_of_memory,
        stopping_a_sandbox_kills_what_runs_in_it,
        a_new_sandbox_replaces_a_lost_one,
        environment_and_working_directory,
        a_number_cannot_be_used_twice,
        a_big_environment_is_passed;
    any:
}

fn exit_codes_and_output() {
    with_pod(async |world| {
        let ended = world.sh(1, "echo out; echo err >&2; printf no-newline; exit 3").await;
        let Ended { code, oom, message, stdout, stderr } = ended;
        assert_eq!((code, oom, message.as_str()), (3, false, ""));
        assert_eq!((stdout.as_str(), stderr.as_str()), ("out\nno-newline\n", "err\n"));
        assert_eq!(world.sh(2, "true").await.code, 0);
        assert_eq!(world.sh(3, "sh -c 'kill -9 $$'").await.code, 137);
    });
}

fn a_missing_program_is_a_run_error_in_the_words_of_runc() {
    with_pod(async |world| {
        let mut config = sh(1, "");
        for (program, words) in [
            ("nope", "exec: \"nope\": executable file not found in $PATH"),
            ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
            ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
        ] {
            config.argv = vec![program.to_owned()];
            let error = world.start(config.clone()).await.unwrap_err();
            assert_eq!((error.stage, error.message.as_str()), (StartStage::Run, words));
        }
        // Nothing of it is left: the same number can be started.
        assert_eq!(world.sh(1, "exit 4").await.code, 4);
    });
}

fn pid_one_and_host_name() {
    with_pod(async |world| {
        let ended = world.sh(1, "echo $$; hostname; echo /proc/[0-9]*").await;
        // The shell is all there is.
        assert_eq!(ended.stdout, "1\nweb\n/proc/1\n");
    });
}

fn term_stops_and_kill_follows_after_the_grace_period() {
    with_pod(async |world| {
        world
            .start(sh(1, "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done"))
            .await
            .unwrap();
        world.line("up").await;
        world.runtime.stop(InstanceId(1), Duration::from_secs(5)).await;
        let ended = world.ended(1).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (7, "up\nbye\n"));

        world.start(sh(2, "trap '' TERM; echo deaf; while :; do sleep 0.01; done")).await.unwrap();
        world.line("deaf").await;
        let start = Instant::now();
        world.runtime.stop(InstanceId(2), Duration::from_millis(150)).await;
        assert_eq!(world.ended(2).await.code, 137);
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(2), "{took:?}");
    });
}

fn pid_one_without_a_handler_ignores_term() {
    with_pod(async |world| {
        let mut config = sh(1, "");
        config.argv = ["sleep", "1000"].map(str::to_owned).to_vec();
        world.start(config).await.unwrap();
        let start = Instant::now();
        world.runtime.stop(InstanceId(1), Duration::from_millis(100)).await;
        assert_eq!(
            world.ended(1).await.code,
            137,
            "killed, as the kernel shields PID 1 from SIGTERM"
        );
        assert!(start.elapsed() >= Duration::from_millis(100));
    });
}

fn a_stop_signal_is_sent() {
    with_pod(async |world| {
        let mut config =
            sh(1, "trap 'echo usr1; exit 0' USR1; echo up; while :; do sleep 0.01; done");
        config.stop_signal = 10;
        world.start(config).await.unwrap();
        world.line("up").await;
        world.runtime.stop(InstanceId(1), Duration::from_secs(5)).await;
        assert_eq!(world.ended(1).await.stdout, "up\nusr1\n");
    });
}

fn kill_can_look_like_out_of_memory() {
    with_pod(async |world| {
        world.start(sh(1, "sleep 1000")).await.unwrap();
        world.runtime.kill(InstanceId(1), true).await;
        let ended = world.ended(1).await;
        assert_eq!((ended.code, ended.oom), (137, true));
        world.start(sh(2, "sleep 1000")).await.unwrap();
        world.runtime.kill(InstanceId(2), false).await;
        let ended = world.ended(2).await;
        assert_eq!((ended.code, ended.oom), (137, false));
        // Nothing happens to what is not there.
        world.runtime.kill(InstanceId(2), false).await;
        world.runtime.stop(InstanceId(99), Duration::ZERO).await;
        world.runtime.remove(InstanceId(2)).await;
    });
}

fn stopping_a_sandbox_kills_what_runs_in_it() {
    with_pod(async |world| {
        for number in 1..=3 {
            world.start(sh(number, "sleep 1000")).await.unwrap();
        }
        world.runtime.stop_sandbox(&pod(), 0).await;
        for number in 1..=3 {
            assert_eq!(world.ended(number).await.code, 137);
        }
        let error = world.start(sh(4, "true")).await.unwrap_err();
        assert_eq!(error.stage, StartStage::Create);
        // Not lost: it was stopped.
        assert!(!matches!(world.events.try_recv(), Ok(RuntimeEvent::SandboxLost { .. })));
    });
}

fn a_new_sandbox_replaces_a_lost_one() {
    with_pod(async |world| {
        world.start(sh(1, "sleep 1000")).await.unwrap();
        world.runtime.stop_sandbox(&pod(), 0).await;
        world.ended(1).await;
        let mut config = sandbox();
        config.attempt = 1;
        config.hostname = Some("again".to_owned());
        world.runtime.create_sandbox(&config).await.unwrap();
        assert_eq!(world.sh(2, "hostname").await.stdout, "again\n");
        // An old attempt's end does not touch the new one.
        world.runtime.stop_sandbox(&pod(), 0).await;
        assert_eq!(world.sh(3, "hostname").await.stdout, "again\n");
    });
}

fn environment_and_working_directory() {
    with_pod(async |world| {
        let mut config = sh(1, "pwd; env | sort | grep -v '^_=\\|^PWD='; echo \"$A\"");
        config.env.push(("A".to_owned(), "with space\nand line".to_owned()));
        config.cwd = Some("/made/for/it".into());
        let ended = world.run(config).await;
        assert_eq!(
            ended.stdout,
            "/made/for/it\nA=with space\nHOME=/root\nPATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin\n\
             and line\nwith space\nand line\n",
        );
        assert!(!std::path::Path::new("/made").exists(), "made in the container only");
    });
}

fn a_number_cannot_be_used_twice() {
    with_pod(async |world| {
        world.start(sh(1, "sleep 1000")).await.unwrap();
        let error = world.start(sh(1, "true")).await.unwrap_err();
        assert_eq!(error.stage, StartStage::Create);
        world.runtime.kill(InstanceId(1), false).await;
        world.ended(1).await;
        // Known until it is removed, as in any runtime.
        assert!(world.start(sh(1, "true")).await.is_err());
        world.runtime.remove(InstanceId(1)).await;
        assert_eq!(world.sh(1, "true").await.code, 0);
    });
}

fn a_big_environment_is_passed() {
    with_pod(async |world| {
        let mut config = sh(1, "echo ${#BIG0} ${#BIG9}");
        for number in 0..10 {
            config.env.push((format!("BIG{number}"), "x".repeat(100_000)));
        }
        assert_eq!(world.run(config).await.stdout, "100000 100000\n");
    });
}
