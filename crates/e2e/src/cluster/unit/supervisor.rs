//! Starts components, waits for all that end, and answers [`Request`]s.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::super::layout::Layout;
use super::{Answer, Component, Request, SOCKET, Standing};

/// Makes the socket that requests come by.
pub(super) fn listen(dir: &Path) -> Result<UnixListener> {
    let path = dir.join(SOCKET);
    UnixListener::bind(&path).with_context(|| format!("{}: cannot listen", path.display()))
}

/// Serves until the process ends.
pub(super) fn serve(listener: UnixListener, layout: &Layout, unit: &str) -> Result<()> {
    let supervisor = Arc::new(Supervisor {
        table: Mutex::default(),
        changed: Condvar::new(),
        layout: layout.clone(),
        unit: unit.to_owned(),
    });
    let doors = Arc::clone(&supervisor);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let supervisor = Arc::clone(&doors);
            // A client that goes away is no concern of the unit's.
            std::thread::spawn(move || supervisor.talk(stream));
        }
    });
    supervisor.reap()
}

struct Supervisor {
    table: Mutex<Table>,
    /// Something in the table is different.
    changed: Condvar,
    layout: Layout,
    unit: String,
}

#[derive(Default)]
struct Table {
    components: BTreeMap<String, Entry>,
    /// How many notify sockets there were, which makes their names unique.
    sockets: u64,
}

struct Entry {
    component: Component,
    standing: Standing,
    notify: SocketAddr,
}

impl Supervisor {
    /// Waits for every child, also those that a shim's double fork leaves to process 1.
    fn reap(&self) -> Result<()> {
        loop {
            let (pid, how) = match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit status {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("killed by {signal}")),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => {
                    // No child at all: one can only come from a request, which will say so.
                    drop(self.changed.wait(self.table()).unwrap_or_else(PoisonError::into_inner));
                    continue;
                }
                Err(e) => bail!("wait: {e}"),
            };
            // A component is entered before the lock it was started under is let go.
            let mut table = self.table();
            if let Some(entry) = table
                .components
                .values_mut()
                .find(|entry| entry.standing.pid == pid.as_raw() && entry.standing.ended.is_none())
            {
                entry.standing.ended = Some(how);
                if let Ok(socket) = UnixDatagram::unbound() {
                    let _ = socket.send_to_addr(b"", &entry.notify);
                }
            }
            drop(table);
            self.changed.notify_all();
        }
    }

    fn talk(self: &Arc<Self>, mut stream: UnixStream) -> Result<()> {
        let mut line = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut line)?;
        let answer = serde_json::from_str(&line)
            .map_err(Into::into)
            .and_then(|request| self.answer(request))
            .unwrap_or_else(|e| Answer::Failed(format!("{e:#}")));
        writeln!(stream, "{}", serde_json::to_string(&answer)?)?;
        Ok(())
    }

    fn answer(self: &Arc<Self>, request: Request) -> Result<Answer> {
        match request {
            Request::Start(component) => self.start(&component).map(Answer::Standing),
            Request::Again(name) => {
                let component = self.table().components.get(&name).map(|e| e.component.clone());
                let component = component.with_context(|| unknown(&name))?;
                self.start(&component).map(Answer::Standing)
            }
            Request::List => {
                let table = self.table();
                let all = table.components.iter();
                Ok(Answer::All(all.map(|(k, v)| (k.clone(), v.standing.clone())).collect()))
            }
            Request::Ready(name) => {
                self.when(&name, |now| now.ready || now.ended.is_some()).map(Answer::Standing)
            }
            Request::Ended(name) => {
                self.when(&name, |now| now.ended.is_some()).map(Answer::Standing)
            }
            Request::Signal(name, signal) => {
                let signal = Signal::try_from(signal).context("no such signal")?;
                let table = self.table();
                let entry = table.components.get(&name).with_context(|| unknown(&name))?;
                if entry.standing.ended.is_none() {
                    // The lock is held, so that the process cannot have been reaped meanwhile.
                    nix::sys::signal::kill(Pid::from_raw(entry.standing.pid), signal)?;
                }
                Ok(Answer::Done)
            }
            Request::Run(argv) => self.run(&argv).map(Answer::Output),
        }
    }

    /// Starts a component, or starts it again if it has ended.
    fn start(self: &Arc<Self>, component: &Component) -> Result<Standing> {
        let name = &component.name;
        let log = self.layout.log(&self.unit, name);
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let mut table = self.table();
        if table.components.get(name).is_some_and(|entry| entry.standing.ended.is_none()) {
            bail!("{name} is running already");
        }
        table.sockets += 1;
        // An abstract name: it belongs to the network namespace, and there is no file to remove.
        let socket = format!("bench-notify-{}-{}", self.unit, table.sockets);
        let notify = SocketAddr::from_abstract_name(&socket)?;
        let receiver = UnixDatagram::bind_addr(&notify)?;
        let mut command = self.command(&component.argv)?;
        command
            .envs(&component.env)
            .env("NOTIFY_SOCKET", format!("@{socket}"))
            .stdout(out.try_clone()?)
            .stderr(out);
        let pid = spawn(&mut command)?;
        let standing = Standing { pid, ready: false, ended: None };
        let entry = Entry { component: component.clone(), standing: standing.clone(), notify };
        table.components.insert(name.clone(), entry);
        drop(table);
        // The reaper may be waiting for its first child.
        self.changed.notify_all();
        let supervisor = Arc::clone(self);
        let name = name.clone();
        std::thread::spawn(move || supervisor.listen(&name, pid, &receiver));
        Ok(standing)
    }

    /// Hears what a component says of itself, until it is ready or has ended.
    fn listen(&self, name: &str, pid: i32, receiver: &UnixDatagram) {
        let mut buffer = [0; 4096];
        while let Ok(length) = receiver.recv(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..length]);
            let mut table = self.table();
            let Some(entry) = table.components.get_mut(name) else { return };
            if entry.standing.pid != pid || entry.standing.ended.is_some() {
                return;
            }
            if said.lines().any(|line| line == "READY=1") {
                entry.standing.ready = true;
                drop(table);
                self.changed.notify_all();
                return;
            }
        }
    }

    fn when(&self, name: &str, so: impl Fn(&Standing) -> bool) -> Result<Standing> {
        let mut table = self.table();
        loop {
            let entry = table.components.get(name).with_context(|| unknown(name))?;
            if so(&entry.standing) {
                return Ok(entry.standing.clone());
            }
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs a program to its end. The reaper waits for it, as for everything, so it is a component for
    /// as long as it runs.
    fn run(self: &Arc<Self>, argv: &[String]) -> Result<String> {
        let (mut reader, writer) = std::io::pipe()?;
        let mut command = self.command(argv)?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut table = self.table();
        let pid = spawn(&mut command)?;
        drop(command);
        table.sockets += 1;
        let name = format!("run-{}", table.sockets);
        let standing = Standing { pid, ready: false, ended: None };
        let notify = SocketAddr::from_abstract_name(&name)?;
        let component = Component { name: name.clone(), argv: argv.to_vec(), env: BTreeMap::new() };
        table.components.insert(name.clone(), Entry { component, standing, notify });
        drop(table);
        self.changed.notify_all();
        let mut text = String::new();
        reader.read_to_string(&mut text)?;
        let ended = self.when(&name, |now| now.ended.is_some())?.ended;
        self.table().components.remove(&name);
        match ended.as_deref() {
            Some("exit status 0") => Ok(text),
            how => bail!("`{}`: {}: {}", argv.join(" "), how.unwrap_or_default(), text.trim()),
        }
    }

    fn command(&self, argv: &[String]) -> Result<Command> {
        let (program, args) = argv.split_first().context("no program is named")?;
        let dir = self.layout.unit(&self.unit);
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(&dir)
            .env("TMPDIR", dir.join("tmp"))
            .stdin(Stdio::null())
            .process_group(0);
        Ok(command)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a child that [`Supervisor::reap`] will wait for.
fn spawn(command: &mut Command) -> Result<i32> {
    let program = command.get_program().to_owned();
    let child =
        command.spawn().with_context(|| format!("cannot start {}", program.to_string_lossy()))?;
    Ok(child.id().cast_signed())
}

fn unknown(name: &str) -> String {
    format!("there is no component {name}")
}
