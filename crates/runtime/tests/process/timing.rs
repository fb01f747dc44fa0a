//! What a container costs above a bare fork and exec of the same program.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_runtime::contract::Runtime;

use crate::harness::{pod, sh, with_pod};

crate::tests! {
    root:
        five_containers_of_true,
        two_hundred_at_once;
    any:
}

const COUNT: u64 = 5;
const ROUNDS: u64 = 40;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn five_containers_of_true() {
    with_pod(async |world| {
        let (mut bare, mut to_exec, mut to_end) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for _ in 0..COUNT {
                let start = Instant::now();
                Command::new("/bin/true").stdout(Stdio::piped()).output().unwrap();
                bare.push(start.elapsed());
            }
            for number in 0..COUNT {
                let mut config = sh(round * COUNT + number + 1, "");
                config.argv = vec!["/bin/true".to_owned()];
                let start = Instant::now();
                world.start(config).await.unwrap();
                to_exec.push(start.elapsed());
                world.ended(round * COUNT + number + 1).await;
                to_end.push(start.elapsed());
            }
        }
        let (bare, to_exec, to_end) = (median(bare), median(to_exec), median(to_end));
        println!(
            "bare fork+exec to end {bare:?}; container: to exec {to_exec:?}, to end {to_end:?}"
        );
        // The promise is 2 ms on a quiet machine; this bound only catches a blunder.
        assert!(to_end < bare + Duration::from_millis(20), "{to_end:?} against {bare:?}");
    });
}

/// Two hundred containers in one pod, and all of them running together.
fn two_hundred_at_once() {
    with_pod(async |world| {
        let start = Instant::now();
        for number in 1..=200 {
            let mut config = sh(number, "");
            config.argv = vec!["sleep".to_owned(), "1000".to_owned()];
            world.start(config).await.unwrap();
        }
        let started = start.elapsed();
        world.runtime.stop_sandbox(&pod(), 0).await;
        for number in 1..=200 {
            assert_eq!(world.ended(number).await.code, 137);
        }
        println!(
            "200 containers: started in {started:?}, all gone after {:?}",
            start.elapsed() - started
        );
    });
}
