//! Who is who: mappings that come, change, go, and cannot be had; seen at the API server, in what the
//! proxy sends there.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::process::{Manager, answer, get};
use super::tls::Tls;
use super::{SOON, ip, netmaker, own_network, until};

/// What the Netmaker server answers next, and what it was asked.
#[derive(Default)]
struct Script {
    answer: String,
    asked: Vec<String>,
    pro: String,
}

/// A manager with a proxy, an API server that says as whom it was asked, and a Netmaker server.
struct World {
    manager: Manager,
    script: Arc<Mutex<Script>>,
}

fn mappings(text: &str) -> String {
    answer(200, &format!("{{\"Code\":200,\"Message\":\"\",\"Response\":{{\"mappings\":{text}}}}}"))
}

impl World {
    fn new(first: String, words: &[&str]) -> Self {
        netmaker();
        ip("addr add 10.90.0.1/24 dev netmaker");
        let dir = tempfile::tempdir().unwrap();
        let tls = Tls::new(dir.path());
        let api = tls.serve(|request| {
            let lines = request
                .lines()
                .filter(|line| line.to_ascii_lowercase().starts_with("impersonate-"));
            answer(200, &lines.map(str::to_ascii_lowercase).collect::<Vec<_>>().join(","))
        });
        let pro = answer(200, "{\"is_pro\":true}");
        let script = Script { answer: first, pro, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let told = Arc::clone(&script);
        let netmaker = tls.serve(move |request| {
            let mut script = told.lock().unwrap();
            script.asked.push(request.to_owned());
            if request.starts_with("GET /api/server/status ") {
                return script.pro.clone();
            }
            assert!(request.starts_with("GET /api/v1/users/network_ip "), "{request}");
            script.answer.clone()
        });
        let ca = format!("API_CA_FILE={}", tls.ca().display());
        let domain = format!("API_SERVER_DOMAIN={netmaker}");
        let kubeconfig = format!("--kubeconfig={}", tls.kubeconfig(api).display());
        let usual = [
            "PROXY_MODE=auth",
            "API_TOKEN=secret",
            "API_SYNC_INTERVAL=1",
            &ca,
            &domain,
            &kubeconfig,
        ];
        let manager = Manager::start_in(&[&usual[..], words].concat(), dir);
        Self { manager, script }
    }

    fn says(&self, answer: String) {
        self.script.lock().unwrap().answer = answer;
    }

    /// As whom the API server is asked; or the code and body of the proxy's own answer; or nothing, while
    /// the proxy does not listen or a session is ended by a change.
    fn who(&self) -> (u16, String) {
        get(SocketAddr::from(([10, 90, 0, 1], 8085)), "/api").unwrap_or_default()
    }

    fn becomes(&self, who: &str) {
        until(who, || self.who().1.contains(who));
    }

    fn check(&self) -> String {
        get(SocketAddr::from(([127, 0, 0, 1], 8081)), "/readyz/user-sync").unwrap().1
    }
}

const JANE: &str = "{\"10.90.0.1\":{\"user\":\"jane\",\"groups\":[\"dev\",\"ops\"]}}";

#[test]
fn p4_s16_users_come_change_and_go() {
    if !own_network("users") {
        return;
    }
    let world = World::new(mappings(JANE), &[]);
    world.manager.ready(true);
    let (code, who) = world.who();
    assert_eq!(code, 200);
    let jane = "impersonate-user: jane,impersonate-group: dev,impersonate-group: ops";
    assert!(who.starts_with(jane), "{who}");
    // The address is somebody else's now.
    world.says(mappings("{\"10.90.0.1\":{\"user\":\"joe\",\"groups\":null}}"));
    world.becomes("impersonate-user: joe");
    assert!(!world.who().1.contains("impersonate-group"));
    // Nobody's: refused, not the default user.
    world.says(mappings("{\"10.90.0.2\":{\"user\":\"joe\"}}"));
    until("refused", || world.who().0 == 403);
    assert!(world.who().1.contains("\"kind\":\"Status\""), "{}", world.who().1);
    // Kubernetes' own names are not for the Netmaker server to give.
    for text in [
        "{\"10.90.0.1\":{\"user\":\"system:admin\"}}",
        "{\"10.90.0.1\":{\"user\":\"jane\",\"groups\":[\"system:masters\"]}}",
    ] {
        world.says(mappings(JANE));
        world.becomes("jane");
        world.says(mappings(text));
        until("refused", || world.who().0 == 403);
    }
    let asked = world.script.lock().unwrap().asked[0].clone();
    assert!(asked.to_ascii_lowercase().contains("\r\nauthorization: bearer secret\r\n"), "{asked}");
}

/// Until the first answer nobody is anybody, and the proxy is not ready; the mode stays what it is, whatever
/// the server says of itself.
#[test]
fn s4_auth_stays_auth_and_nobody_is_anybody_before_the_first_answer() {
    if !own_network("no users yet") {
        return;
    }
    let world = World::new(answer(500, "no"), &[]);
    world.script.lock().unwrap().pro = answer(200, "{\"is_pro\":false}");
    world.manager.says("the mode stays auth");
    until("the proxy listens", || world.manager.said("Binding proxy") == 1);
    until("it says that it is not Pro", || world.check().contains("not Netmaker Pro"));
    assert!(world.check().contains("500 Internal Server Error"), "{}", world.check());
    assert_eq!(world.who().0, 503);
    world.manager.ready(false);
    // What cannot be understood is no answer either.
    for text in
        ["{}", "{\"Response\":{}}", "<html>", "{\"Response\":{\"mappings\":{\"10.90.0.1\":7}}}"]
    {
        world.says(answer(200, text));
        until("it says so", || world.check().contains("cannot be understood"));
        assert_eq!(world.who().0, 503);
    }
    world.says(mappings(JANE));
    world.becomes("jane");
    world.manager.ready(true);
}

/// Mappings hold while the server is away, and not for ever.
#[test]
fn p4_mappings_expire() {
    if !own_network("users that expire") {
        return;
    }
    let world = World::new(mappings(JANE), &["API_SYNC_MAX_AGE=5"]);
    world.becomes("jane");
    world.says(answer(503, ""));
    world.manager.says("Cannot synchronise user mappings");
    assert!(world.who().1.contains("jane"));
    until("they expire", || world.who().0 == 503);
    assert!(world.check().contains("count no more"), "{}", world.check());
    world.manager.ready(false);
    world.says(mappings(JANE));
    world.becomes("jane");
    world.manager.ready(true);
}

/// An answer without an end is not read to the end, and changes nothing.
#[test]
fn a_huge_answer_changes_nothing() {
    if !own_network("a huge answer") {
        return;
    }
    let world = World::new(mappings(JANE), &[]);
    world.becomes("jane");
    let mut huge = String::from(
        "{\"Response\":{\"mappings\":{\"10.90.0.1\":{\"user\":\"joe\"},\"x\":{\"user\":\"",
    );
    huge.push_str(&"a".repeat(17 << 20));
    huge.push_str("\"}}}}");
    world.says(answer(200, &huge));
    world.manager.says("cannot be understood");
    assert!(world.who().1.contains("jane"));
}

/// The same answer again is not sent again.
#[test]
fn an_answer_with_a_mark_is_asked_for_by_it() {
    if !own_network("ETag") {
        return;
    }
    let body = format!("{{\"Response\":{{\"mappings\":{JANE}}}}}");
    let first =
        format!("HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let world = World::new(first, &["API_SYNC_MAX_AGE=3"]);
    world.becomes("jane");
    world.says("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_owned());
    let asked = || world.script.lock().unwrap().asked.clone();
    until("asked by the mark, and past the age", || {
        asked()
            .iter()
            .filter(|head| head.to_ascii_lowercase().contains("if-none-match: \"v1\""))
            .count()
            >= 5
    });
    assert!(world.who().1.contains("jane"));
    world.manager.ready(true);
}

/// A server whose certificate nobody vouches for is not sent the token.
#[test]
fn s8_a_server_that_nobody_vouches_for() {
    if !own_network("an unknown certificate") {
        return;
    }
    let world = World::new(mappings(JANE), &["API_CA_FILE="]);
    world.manager.says("Cannot synchronise user mappings");
    assert!(world.check().contains("invalid peer certificate"), "{}", world.check());
    assert_eq!(world.script.lock().unwrap().asked, [""; 0]);
    assert_eq!(world.who().0, 503);
}

/// A server that takes connections and says nothing holds up nothing: neither health nor the listeners.
#[test]
fn seen_12_a_silent_server_delays_nobody() {
    if !own_network("a silent server") {
        return;
    }
    netmaker();
    ip("addr add 10.90.0.1/24 dev netmaker");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let domain = format!("API_SERVER_DOMAIN={}", silent.local_addr().unwrap());
    let begin = std::time::Instant::now();
    let manager = Manager::with_proxy(&["API_TOKEN=secret", &domain]);
    let health = SocketAddr::from(([127, 0, 0, 1], 8081));
    until("it is alive", || get(health, "/healthz") == Some((200, "ok".to_owned())));
    manager.says("Binding proxy to specific IP");
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    until("only users are missing", || {
        get(health, "/readyz?verbose").is_some_and(|(code, text)| {
            code == 500 && text.contains("[-]user-sync failed: ") && text.contains("[+]proxy ok")
        })
    });
    let proxy = SocketAddr::from(([10, 90, 0, 1], 8085));
    assert_eq!(get(proxy, "/api").unwrap().0, 503);
}
