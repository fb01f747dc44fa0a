//! The machine that the numbers come from.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    // The clock starts at zero and is normalized.
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// Processor, cores, memory and kernel in one line.
pub fn describe() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches("kB").trim().parse::<u64>().ok())
        .map_or_else(String::new, |kib| format!(", {} GiB", kib >> 20));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let root = if rustix::process::geteuid().is_root() { "root" } else { "not root" };
    format!("{cpu}, {cores} cores{memory}, Linux {}, {root}", kernel.trim())
}

/// The first `name: value` of a file of such lines.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The load averages of the last 1, 5 and 15 minutes: how busy others keep the machine.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Waits until at most a tenth of the processors' time is used, but no longer than `limit`. Returns
/// the percentage that others used last.
pub fn wait_until_quiet(limit: Duration) -> u64 {
    let start = Instant::now();
    let mut last = processor_time();
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = processor_time();
        let (busy, all) = (now.0.saturating_sub(last.0), now.1.saturating_sub(last.1));
        let used = busy * 100 / all.max(1);
        if used <= 10 || start.elapsed() >= limit {
            return used;
        }
        last = now;
    }
}

/// Ticks that all processors together were busy, and all ticks (`/proc/stat`).
fn processor_time() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .map(|line| {
            line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect()
        })
        .unwrap_or_default();
    let all = ticks.iter().sum();
    // The fourth and fifth are idle and waiting for IO.
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (all - idle, all)
}
