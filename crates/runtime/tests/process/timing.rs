//! What a container costs above a bare fork and exec of the same program.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{sh, with_pod};

crate::tests! {
    root:
        five_containers_of_true;
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
