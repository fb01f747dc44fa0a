//! `holdfast agent`, and the commands that talk to it.

use std::future::Future;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use holdfast_agent::control::{self, Answer, AskError, PodState, Question, Status};
use holdfast_agent::logs::Limits;
use holdfast_agent::{Settings, init};
use holdfast_lifecycle::Time;
use holdfast_lifecycle::columns::Row;
use holdfast_runtime::config_file::ConfigFile;
use holdfast_sys::launcher;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

use crate::args::{AgentArgs, AgentPlace, LogsArgs, RestartArgs, StatusArgs, StatusAs, StopArgs};
use crate::output::table::{Cells, Widths};
use crate::output::{self, say};
use crate::run::default_state_dir;

/// It cannot run; or not all is well.
const EXIT_NOT_WELL: u8 = 1;

pub(crate) fn run(args: AgentArgs) -> anyhow::Result<u8> {
    // Before anything is read: /proc may be among them.
    if args.mount_missing {
        for place in init::mount_missing()? {
            say!("agent: mounted {place}");
        }
    }
    let config = match &args.config {
        Some(path) => ConfigFile::read(path)?,
        None => ConfigFile::default(),
    };
    let settings = Settings {
        manifests: args.manifests,
        state_dir: state_dir(args.place),
        grace: args.grace,
        minor: args.kubernetes,
        config,
        logs: Limits::default(),
    };
    // Containers are made by a process of one thread, forked before there is any other thread.
    let launcher = launcher::fork().context("cannot start the launcher process")?;
    let runtime = crate::reactor()?;
    let agent = holdfast_agent::run(settings, launcher, |text| say!("{text}"));
    match tokio::task::LocalSet::new().block_on(&runtime, agent) {
        Ok(()) => Ok(0),
        Err(error) => {
            output::error(format_args!("{error}"));
            Ok(EXIT_NOT_WELL)
        }
    }
}

fn state_dir(place: AgentPlace) -> PathBuf {
    place.state_dir.unwrap_or_else(default_state_dir)
}

type Rest = BufReader<UnixStream>;

/// Asks the agent, and does something with its answer.
fn ask<T, F: Future<Output = anyhow::Result<T>>>(
    place: AgentPlace,
    question: &Question,
    then: impl FnOnce(Answer, Rest) -> F,
) -> anyhow::Result<T> {
    let socket = control::socket(&state_dir(place));
    crate::reactor()?.block_on(async {
        let (answer, rest) = control::ask(&socket, question).await?;
        then(answer, rest).await
    })
}

/// Of an agent of another version.
fn strange() -> anyhow::Error {
    anyhow::anyhow!("the agent answers something else; is it of another version?")
}

fn order(place: AgentPlace, question: &Question) -> anyhow::Result<u8> {
    ask(place, question, |answer, _| async move {
        match answer {
            Answer::Done => Ok(0),
            _ => Err(strange()),
        }
    })
}

pub(crate) fn restart(args: RestartArgs) -> anyhow::Result<u8> {
    order(args.place, &Question::Restart { pod: args.pod })
}

pub(crate) fn stop(args: StopArgs) -> anyhow::Result<u8> {
    let question = args.pod.map_or(Question::Shutdown, |pod| Question::Stop { pod });
    order(args.place, &question)
}

pub(crate) fn status(args: StatusArgs) -> anyhow::Result<u8> {
    let status = ask(args.place, &Question::Status, |answer, _| async move {
        match answer {
            Answer::Status(status) => Ok(*status),
            _ => Err(strange()),
        }
    })?;
    output::data(&match args.output {
        StatusAs::Json => serde_json::to_string_pretty(&status)? + "\n",
        StatusAs::Table => table(&status),
    })?;
    let is_well = |pod: &PodState| pod.ready == pod.total || pod.phase == "Succeeded";
    let all = status.faults.is_empty() && status.pods.iter().all(is_well);
    Ok(if all { 0 } else { EXIT_NOT_WELL })
}

/// A row a pod, below it one a container where there are several, and what is wrong.
fn table(status: &Status) -> String {
    let time = |seconds: u64| Time::ZERO + std::time::Duration::from_secs(seconds);
    let row = |pod: &PodState| Row {
        ready: pod.ready,
        total: pod.total,
        status: pod.status.clone(),
        restarts: pod.restarts,
        last_restart: pod.last_restart.map(time),
    };
    let mut widths = Widths::default();
    let cells =
        |pod: &PodState| Cells::of(&pod.name, &row(pod), time(pod.created), time(status.now));
    status.pods.iter().for_each(|pod| widths.fit(&cells(pod)));
    let mut text = String::new();
    if !status.pods.is_empty() {
        text += &(widths.line(&Cells::header(), None) + "\n");
    }
    for pod in &status.pods {
        text += &(widths.line(&cells(pod), Some(&row(pod))) + "\n");
        for container in pod.containers.iter().filter(|_| pod.containers.len() > 1) {
            let kind = if container.init { " (init)" } else { "" };
            let ready = if container.ready { ", ready" } else { "" };
            text += &format!("  {}{kind}: {}{ready}\n", container.name, container.state);
        }
    }
    for name in &status.stopped {
        text += &format!("{name} is stopped; holdfast restart {name} starts it\n");
    }
    for fault in &status.faults {
        text += &format!("{}\n{} is not used as it is now\n", fault.message, fault.file.display());
    }
    if text.is_empty() {
        text = format!("no pods: there is no manifest in {}\n", status.manifests.display());
    }
    if output::is_styled() { text } else { anstream::adapter::strip_str(&text).to_string() }
}

pub(crate) fn logs(args: LogsArgs) -> anyhow::Result<u8> {
    let LogsArgs { pod, container, follow, tail, timestamps, place } = args;
    let question = Question::Logs { pod, container, lines: tail, follow };
    ask(place, &question, |answer, mut rest| async move {
        let Answer::Lines = answer else { return Err(strange()) };
        let mut out = std::io::stdout();
        let mut line = Vec::new();
        loop {
            line.clear();
            if rest.read_until(b'\n', &mut line).await.map_err(AskError::Io)? == 0 {
                return Ok(0);
            }
            let text = if timestamps { &line[..] } else { without_prefix(&line) };
            match out.write_all(text).and_then(|()| out.flush()) {
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => return Ok(0),
                written => written.context("cannot write to standard output")?,
            }
        }
    })
}

/// A line without time, stream and tag.
fn without_prefix(line: &[u8]) -> &[u8] {
    let mut rest = line;
    for _ in 0..3 {
        match rest.iter().position(|b| *b == b' ') {
            Some(at) => rest = &rest[at + 1..],
            None => return line,
        }
    }
    rest
}
