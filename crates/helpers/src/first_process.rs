//! The duties of PID 1.

use std::future::Future;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work`, as PID 1 if this process is that: it then ends on SIGTERM and SIGINT, which by default do
/// nothing to PID 1, and reaps the orphans it is given. Elsewhere signals end a process by themselves,
/// and nobody gives us orphans.
///
/// # Errors
/// The number of the signal that ended it.
pub async fn as_first_process<T>(work: impl Future<Output = T>) -> Result<T, i32> {
    if std::process::id() != 1 {
        return Ok(work.await);
    }
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut child)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::child()),
    ) else {
        // Without them it does what it was asked to, as any other program that is PID 1.
        return Ok(work.await);
    };
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return Ok(result),
            _ = terminate.recv() => return Err(SignalKind::terminate().as_raw_value()),
            _ = interrupt.recv() => return Err(SignalKind::interrupt().as_raw_value()),
            _ = child.recv() => while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {},
        }
    }
}
