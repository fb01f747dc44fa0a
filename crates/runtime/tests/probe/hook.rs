use std::cell::Cell;
use std::time::{Duration, Instant};

use holdfast_manifest::object::IntOrString;
use holdfast_runtime::contract::ExecOutcome;
use holdfast_runtime::hook::{Done, Handler, HookError, Owner, run as run_hook};
use holdfast_runtime::probe::{Exec, HttpGet};

use crate::server::{Server, http, https, response, run};
use crate::{LOCAL, SHORT, closed_port, no_exec};

const OWNER: Owner<'_> =
    Owner { namespace: "default", pod: "web", uid: "3e09-4b95", container: "app" };

async fn hook(handler: Handler) -> Result<Done, String> {
    run_hook(&LOCAL, &handler, OWNER, no_exec).await.map_err(|e| e.to_string())
}

async fn exec(outcome: Result<ExecOutcome, String>) -> Result<Done, String> {
    let runs = Cell::new(0);
    let command = ["/bin/sh", "-c", "exit 1"].map(str::to_owned).to_vec();
    let handler = Handler::Exec(Exec { command: command.clone() });
    let result = run_hook(&LOCAL, &handler, OWNER, async |argv: &[String], limit| {
        assert_eq!((argv, limit), (&command[..], None));
        runs.set(runs.get() + 1);
        outcome.clone()
    })
    .await;
    assert_eq!(runs.get(), 1, "a hook is not tried again");
    result.map_err(|e: HookError| e.to_string())
}

fn get(port: u16, path: &str) -> HttpGet {
    HttpGet { https: false, host: None, port, path: path.to_owned(), headers: Vec::new() }
}

#[test]
fn a_command_must_end_well() {
    run(async {
        let ended = |code, output: &str| {
            Ok(ExecOutcome::Ended { code, output: output.as_bytes().to_vec() })
        };
        assert_eq!(exec(ended(0, "")).await, Ok(Done::Plainly));
        let words = "Exec lifecycle hook ([/bin/sh -c exit 1]) for Container \"app\" in Pod \
                     \"web_default(3e09-4b95)\" failed - error: command '/bin/sh -c exit 1' exited \
                     with 1: , message: \"no\\n\"";
        assert_eq!(exec(ended(1, "no\n")).await, Err(words.to_owned()));
        let words = "Exec lifecycle hook ([/bin/sh -c exit 1]) for Container \"app\" in Pod \
                     \"web_default(3e09-4b95)\" failed - error: no such file, message: \"\"";
        assert_eq!(exec(Err("no such file".to_owned())).await, Err(words.to_owned()));
    });
}

#[test]
fn any_answer_is_good() {
    run(async {
        let server = http(|path| match path {
            "/away" => response("302 Found", "Location: http://0.0.0.0/\r\n", ""),
            "/broken" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_owned(),
            _ => response("500 Internal Server Error", "", ""),
        })
        .await;
        for path in ["/", "/away", "/broken"] {
            let handler = Handler::HttpGet(get(server.port(), path));
            assert_eq!(hook(handler).await, Ok(Done::Plainly), "{path}");
        }
        assert!(server.requests()[0].contains("User-Agent: kube-lifecycle/1.35\r\n"));
    });
}

#[test]
fn no_answer_is_bad() {
    run(async {
        let (_holder, port) = closed_port();
        let words = format!(
            "HTTP lifecycle hook (/start) for Container \"app\" in Pod \"web_default(3e09-4b95)\" \
             failed - error: Get \"http://127.0.0.1:{port}/start\": dial tcp 127.0.0.1:{port}: \
             connect: connection refused"
        );
        assert_eq!(hook(Handler::HttpGet(get(port, "/start"))).await, Err(words));
    });
}

#[test]
fn https_stays_https_if_the_server_can() {
    run(async {
        let server = https(|_| response("404 Not Found", "", "")).await;
        let handler = Handler::HttpGet(HttpGet { https: true, ..get(server.port(), "/") });
        assert_eq!(hook(handler).await, Ok(Done::Plainly));
        assert_eq!(server.requests().len(), 1);
    });
}

#[test]
fn https_falls_back_to_http_without_secrets() {
    run(async {
        let server = http(|_| response("200 OK", "", "")).await;
        let headers =
            [("Authorization", "Basic x"), ("X-A", "b")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let get = HttpGet { https: true, headers: headers.to_vec(), ..get(server.port(), "/") };
        let words = format!(
            "request to HTTPS lifecycle hook {} got HTTP response, retry with HTTP succeeded",
            server.address
        );
        assert_eq!(hook(Handler::HttpGet(get)).await, Ok(Done::FellBack(words)));
        let request = server.requests().concat();
        assert!(request.contains("X-A: b\r\n") && !request.contains("Authorization"), "{request}");
    });
}

#[test]
fn other_tls_errors_do_not_fall_back() {
    run(async {
        let server = Server::new("127.0.0.1:0", async |_stream, log| {
            log.lock().unwrap().push(String::new());
        })
        .await;
        let handler = Handler::HttpGet(HttpGet { https: true, ..get(server.port(), "/") });
        assert!(hook(handler).await.unwrap_err().contains("Get \"https://127.0.0.1:"));
        assert_eq!(server.requests().len(), 1);
    });
}

#[test]
fn tcp_sockets_are_no_hooks() {
    run(async {
        let handler = |port| Handler::TcpSocket { host: "10.0.0.1".to_owned(), port };
        let words = "Cannot run handler: invalid handler: &LifecycleHandler{Exec:nil,HTTPGet:nil,\
                     TCPSocket:&TCPSocketAction{Port:{0 8080 },Host:10.0.0.1,},Sleep:nil,}";
        assert_eq!(hook(handler(IntOrString::Int(8080))).await, Err(words.to_owned()));
        let named = hook(handler(IntOrString::String("web".to_owned()))).await.unwrap_err();
        assert!(named.contains("Port:{1 0 web},"), "{named}");
    });
}

#[test]
fn sleep_takes_its_time_and_can_be_cut_short() {
    run(async {
        let start = Instant::now();
        assert_eq!(hook(Handler::Sleep(SHORT)).await, Ok(Done::Plainly));
        assert!(start.elapsed() >= SHORT);
        assert_eq!(hook(Handler::Sleep(Duration::ZERO)).await, Ok(Done::Plainly));
        let long = hook(Handler::Sleep(Duration::from_secs(3600)));
        assert!(tokio::time::timeout(SHORT, long).await.is_err());
    });
}
