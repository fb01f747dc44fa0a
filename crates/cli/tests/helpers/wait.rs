use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{HOLDFAST, done, holdfast, is_root, told, until};

/// Begins to wait, lets `act` happen when it says that it waits, and says what came of it and how long
/// after `act` it ended.
fn while_waiting(args: &[&str], act: impl FnOnce()) -> (i32, String, Duration) {
    let mut child = holdfast(&[&["wait"], args].concat()).spawn().unwrap();
    let mut begin = [0; 11];
    child.stderr.as_mut().unwrap().read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"waiting for");
    act();
    let acted = Instant::now();
    let (code, said) = told(&child.wait_with_output().unwrap());
    (code, said, acted.elapsed())
}

/// A machine that does other things too may take a while; what it takes at rest is in the benchmarks.
const SOON: Duration = Duration::from_millis(1500);

#[test]
fn a_port_that_opens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let target = format!("tcp://{address}");
    let mut opened = None;
    let (code, said, took) = while_waiting(&[&target], || {
        opened = Some(TcpListener::bind(address).unwrap());
    });
    assert_eq!(code, 0, "{said}");
    assert!(took < SOON, "{took:?}");
    assert!(said.contains(&format!("tcp://{address} is there after ")), "{said}");
}

#[test]
fn what_is_not_there_in_time_is_said_with_what_was_seen() {
    let begin = Instant::now();
    let missing = ["tcp://127.0.0.1:1", "file:/no/such/file", "interface:nope"];
    let args = [&["wait", "--timeout", "300ms", "file:/etc"], &missing[..]].concat();
    let (code, said) = done(holdfast(&args));
    assert_eq!(code, 1);
    assert!((Duration::from_millis(300)..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    for words in [
        "tcp://127.0.0.1:1 is not there within 300ms: dial tcp 127.0.0.1:1: connect: connection refused",
        "file:/no/such/file is not there within 300ms: no such file or directory",
        "interface:nope is not there within 300ms: there is no such interface",
        "file:/etc is there",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // What is seen again and again is said once.
    assert_eq!(said.matches("waiting for tcp").count(), 1, "{said}");
}

#[test]
fn once_is_an_exec_probe() {
    let begin = Instant::now();
    let (code, said) = done(holdfast(&["wait", "--once", "tcp://127.0.0.1:1", "file:/etc"]));
    assert_eq!(code, 1);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: tcp://127.0.0.1:1 is not there: dial tcp"), "{said}");
    assert_eq!(done(holdfast(&["wait", "--once", "file:/etc"])), (0, String::new()));
    assert!(begin.elapsed() < SOON);
    // One that takes the connection and says nothing does not hold it up.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (code, said) = done(holdfast(&["wait", "--once", "--timeout", "200ms", &url]));
    assert_eq!(code, 1);
    assert!(
        said.contains("Client.Timeout exceeded") || said.contains("no answer within"),
        "{said}"
    );
}

/// Answers each request with the next of these statuses, and the last one for ever.
fn web(statuses: &'static [u16]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ready?x=1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let all = statuses.iter().chain(std::iter::repeat(statuses.last().unwrap()));
        for (stream, status) in listener.incoming().zip(all) {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /ready?x=1 HTTP/1.1\r\n"));
            let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        }
    });
    url
}

#[test]
fn a_url_answers_with_the_wanted_status() {
    let url = web(&[500, 503, 204]);
    let (code, said) = done(holdfast(&["wait", &url]));
    assert_eq!(code, 0, "{said}");
    for words in ["status 500", "status 503", "is there after ", "status 204"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let url = web(&[200, 418]);
    let (code, said) = done(holdfast(&["wait", "--status", "418", &url]));
    assert_eq!(code, 0, "{said}");
    let url = web(&[404]);
    let (code, said) = done(holdfast(&["wait", "--timeout", "200ms", &url]));
    assert_eq!((code, said.contains("within 200ms: status 404")), (1, true), "{said}");
}

/// A server that takes a connection before it can answer: the next try is another connection.
#[test]
fn a_silent_server_is_asked_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let _silent = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        write!(stream, "HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (code, said) = done(holdfast(&["wait", "--timeout", "18s", &url]));
    assert_eq!(code, 0, "{said}");
}

#[test]
fn files_and_sockets_that_appear() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    // In a directory that is not there yet.
    let (code, said, took) = while_waiting(&[&format!("file:{}", at("a/b/c").display())], || {
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/c"), "").unwrap();
    });
    assert!(code == 0 && took < SOON, "{took:?}: {said}");
    // By a rename, as what is written atomically.
    std::fs::write(at("part"), "").unwrap();
    let (code, said, took) = while_waiting(&[&format!("file:{}", at("whole").display())], || {
        std::fs::rename(at("part"), at("whole")).unwrap();
    });
    assert!(code == 0 && took < SOON, "{took:?}: {said}");
    let mut sockets = Vec::new();
    let (code, said, took) = while_waiting(&[&format!("unix:{}", at("stream").display())], || {
        sockets.push(UnixListener::bind(at("stream")).unwrap());
    });
    assert!(code == 0 && took < SOON, "{took:?}: {said}");
    let _datagrams = UnixDatagram::bind(at("datagram")).unwrap();
    assert_eq!(
        done(holdfast(&["wait", "--once", &format!("unix:{}", at("datagram").display())])).0,
        0
    );
    // A socket that nobody listens to any more, and a file that is no socket.
    drop(sockets);
    for (name, seen) in [("stream", "connection refused"), ("whole", "connection refused")] {
        let target = format!("unix:{}", at(name).display());
        let (code, said) = done(holdfast(&["wait", "--once", &target]));
        assert_eq!((code, said.contains(seen)), (1, true), "{said}");
    }
}

#[test]
fn names() {
    assert_eq!(done(holdfast(&["wait", "-q", "dns:localhost"])), (0, String::new()));
    let (code, said) = done(holdfast(&["wait", "--timeout", "300ms", "dns:no.such.invalid"]));
    assert_eq!(code, 1);
    assert!(said.contains("error: dns:no.such.invalid is not there within 300ms: "), "{said}");
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_interface_that_comes_up() {
    if !is_root("an interface that comes up") {
        return;
    }
    // Of this test's thread, and of what it starts.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let once = || done(holdfast(&["wait", "--once", "interface:wgt"]));
    assert!(once().1.contains("there is no such interface"));
    ip("link add wgt type veth peer name wgp");
    assert!(once().1.contains("it is down"));
    ip("addr add 10.99.0.1/24 dev wgt");
    assert!(once().1.contains("it is down"));
    let (code, said, took) = while_waiting(&["interface:wgt"], || ip("link set wgt up"));
    assert!(code == 0 && took < SOON && said.contains("10.99.0.1"), "{took:?}: {said}");
    ip("addr del 10.99.0.1/24 dev wgt");
    let seen = once().1;
    assert!(seen.contains("no address") || seen.contains("only a link-local address"), "{seen}");
    let (code, said, took) =
        while_waiting(&["interface:wgt"], || ip("addr add fd99::1/64 dev wgt nodad"));
    assert!(code == 0 && took < SOON && said.contains("fd99::1"), "{took:?}: {said}");
    // It goes, and another one comes by the same name.
    ip("link del wgt");
    let (code, said, took) = while_waiting(&["interface:wgt"], || {
        ip("link add wgt type veth peer name wgp");
        ip("link set wgt up");
        ip("addr add 10.99.0.2/24 dev wgt");
    });
    assert!(code == 0 && took < SOON && said.contains("10.99.0.2"), "{took:?}: {said}");
}

#[test]
fn the_command_takes_its_place() {
    let wait = |args: &[&str]| holdfast(&[&["wait", "-q", "file:/etc", "--"], args].concat());
    let child = wait(&["sh", "-c", "echo $$; exit 7"]).spawn().unwrap();
    let pid = child.id();
    assert_eq!(told(&child.wait_with_output().unwrap()), (7, format!("{pid}\n")));
    assert_eq!(done(wait(&["no-such-command"])).0, 127);
    let (code, said) = done(wait(&["/etc"]));
    assert_eq!((code, said.contains("cannot run /etc")), (126, true), "{said}");
    // Its signals are as they were for us.
    let show = ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    let mut plain = Command::new(show[0]);
    plain.args(&show[1..]);
    assert_eq!(done(wait(&show)), done(plain));
}

#[test]
fn bad_usage() {
    for args in [
        &["wait"][..],
        &["wait", "db:5432"],
        &["wait", "tcp://db"],
        &["wait", "file:/x", "--timeout", "soon"],
        &["wait", "http://x/", "--status", "2xx"],
        &["wait", "--", "true"],
    ] {
        assert_eq!(done(holdfast(args)).0, 2, "{args:?}");
    }
}

/// As PID 1 it ends on SIGTERM, which would do nothing to PID 1, and leaves no zombies.
#[test]
fn as_the_first_process_of_a_container() {
    if !is_root("PID 1") {
        return;
    }
    let script = format!("(sleep 0.2 &); exec {HOLDFAST} wait --timeout 60s file:/no/such/file");
    let mut shell = Command::new("unshare");
    shell.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", &script]);
    let mut outside = shell.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begin = [0; 11];
    outside.stderr.as_mut().unwrap().read_exact(&mut begin).unwrap();
    let inside = only_child(&outside);
    until("the orphan is reaped", || children(inside).is_empty());
    kill(Pid::from_raw(inside), Signal::SIGTERM).unwrap();
    let begin = Instant::now();
    // `unshare` ends as its child did.
    assert_eq!(outside.wait().unwrap().code(), Some(128 + Signal::SIGTERM as i32));
    assert!(begin.elapsed() < SOON);
}

fn only_child(of: &Child) -> i32 {
    let found = children(of.id().cast_signed());
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

fn children(of: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Datagrams are not asked for: `tcp://` on a UDP port is refused, not taken for there.
#[test]
fn a_udp_port_is_no_tcp_port() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", socket.local_addr().unwrap());
    assert_eq!(done(holdfast(&["wait", "--once", &target])).0, 1);
}
