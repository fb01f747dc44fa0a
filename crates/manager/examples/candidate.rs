//! One candidate of an election, to watch it by hand and in tests: `KUBECONFIG` says where, stdout what happens.
//!
//! ```text
//! cargo run -p holdfast-manager --example candidate -- IDENTITY NAMESPACE LEASE [LEASE RENEW RETRY]
//! ```
//!
//! Durations are in milliseconds. Each line begins with the nanoseconds since the machine's start:
//! `state LEADING HOLDER`, `acts` (every 10 ms while it leads), `health WORDS`, `ended`. SIGTERM is a clean
//! stop.

use std::time::Duration;

use futures_util::FutureExt;
use holdfast_manager::config;
use holdfast_manager::election::{Leadership, Term, Work, now, start};
use holdfast_manager::health::Verdict;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn say(at: holdfast_election::Time, words: &str) {
    println!("{} {words}", at.as_nanos());
}

/// Work that says when it acts; the time is from before it looked whether it may.
fn work() -> Work {
    Box::new(|Term { leadership, stop, .. }: Term| {
        let act = |leadership: &Leadership| {
            let at = now();
            if leadership.is_leading() {
                say(at, "acts");
            }
        };
        async move {
            while !stop.is_cancelled() {
                act(&leadership);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        .boxed()
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| "a TLS provider is installed already")?;
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [identity, namespace, name, durations @ ..] = &args[..] else {
        return Err("IDENTITY NAMESPACE LEASE [LEASE RENEW RETRY]".into());
    };
    let duration = |n: usize, default: u64| {
        durations.get(n).map_or(Ok(default), |text| text.parse()).map(Duration::from_millis)
    };
    let config = config::Election {
        name: name.clone(),
        namespace: namespace.clone(),
        identity: identity.clone(),
        lease: duration(0, 15_000)?,
        renew: duration(1, 10_000)?,
        retry: duration(2, 2_000)?,
    };
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let elected = start(kube::Config::infer().await?, &config, Some(work()))?;
    let check = elected.check();
    let mut state = elected.state();
    let mut health = Verdict::Ok;
    loop {
        {
            let state = state.borrow_and_update();
            let holder = state.holder.as_deref().unwrap_or("-");
            say(now(), &format!("state {} {holder}", state.leading));
        }
        let verdict = check.ask();
        if verdict != health {
            say(now(), &format!("health {verdict:?}"));
            health = verdict;
        }
        tokio::select! {
            changed = state.changed() => changed?,
            _ = end.recv() => break,
        }
    }
    say(now(), "stopping");
    elected.stop().await;
    say(now(), "ended");
    Ok(())
}
