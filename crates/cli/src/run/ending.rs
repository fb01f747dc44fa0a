//! How a run ends: by signals, and not before its output has been taken.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::EXIT_INTERRUPTED;
use crate::output::outlet::{ERR, OUT};

/// How long the readers of a run that was killed by a second Ctrl-C may take to read the rest.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a run needs to end.
pub(super) struct Ending {
    /// They are events from here on.
    pub(super) signals: Signals,
    /// Whether somebody has asked twice already.
    pub(super) is_hasty: bool,
}

impl Ending {
    pub(super) fn new() -> anyhow::Result<Self> {
        let signals = Signals::new().context("cannot listen for signals")?;
        Ok(Self { signals, is_hasty: false })
    }

    /// Waits until all output has been written, when nothing of the run is left that could hold anybody
    /// up. A reader may take its time; another signal ends the waiting.
    ///
    /// # Errors
    /// That of the run, or if stdout did not take everything; a reader that wants no more (`| head`) is
    /// none.
    pub(super) async fn of(mut self, result: anyhow::Result<u8>) -> anyhow::Result<u8> {
        let patience = async {
            match self.is_hasty {
                true => tokio::time::sleep(PATIENCE).await,
                false => self.signals.next().await,
            }
        };
        let is_written = tokio::select! {
            biased;
            () = async { tokio::join!(OUT.drained(), ERR.drained()); } => true,
            () = patience => false,
        };
        if !is_written {
            OUT.give_up();
            ERR.give_up();
            return Ok(EXIT_INTERRUPTED);
        }
        let code = result?;
        match OUT.error() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("not all output could be written to stdout")
            }
            _ => Ok(code),
        }
    }
}

/// SIGINT, SIGTERM and SIGHUP: all of them ask to stop.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    pub(super) async fn next(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}
