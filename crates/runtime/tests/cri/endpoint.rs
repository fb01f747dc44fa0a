//! Finding the runtime, and what earlier runs have left there.

use std::io::Write;

use holdfast_runtime::cri::{CriOptions, CriRuntime};
use tokio::sync::mpsc::unbounded_channel;

use crate::bench::{self, Bench, options, private};
use crate::fake::{Answer, Fake, UNIMPLEMENTED};

/// Runs something where tasks can be.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&reactor, test)
}

async fn refused(options: CriOptions) -> String {
    let (sender, _events) = unbounded_channel();
    CriRuntime::connect(options, sender).await.unwrap_err().to_string()
}

#[test]
fn a_runtime_without_cri_is_recognized() {
    block_on(async {
        let temp = private();
        let fake = Fake::start(temp.path());
        fake.decide(|_, _| {
            Answer::Refuse(UNIMPLEMENTED, "unknown service runtime.v1.RuntimeService".into())
        });
        let words = refused(options(&fake, &temp)).await;
        assert!(words.contains("disabled_plugins") && words.contains("unknown service"), "{words}");
        assert!(!temp.path().join("run").exists(), "nothing is made");
    });
}

#[test]
fn someone_else_behind_the_socket_is_recognized() {
    block_on(async {
        let temp = private();
        let path = temp.path().join("http.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        });
        let mut options = CriOptions::new(path.to_str().unwrap().parse().unwrap());
        options.run_state = temp.path().join("run");
        let words = refused(options).await;
        assert!(words.contains("is not the socket of a runtime that speaks CRI v1"), "{words}");
    });
}

#[test]
fn a_directory_for_everyone_is_refused() {
    block_on(async {
        use std::os::unix::fs::PermissionsExt;
        let temp = private();
        let fake = Fake::start(temp.path());
        let options = options(&fake, &temp);
        std::fs::create_dir(&options.run_state).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&options.run_state, open).unwrap();
        let words = refused(options).await;
        assert!(words.contains("everyone may write to it"), "{words}");
    });
}

#[test]
fn what_a_dead_run_left_is_removed_and_nothing_else() {
    bench::with(async |first: Bench| {
        first.up().await;
        // A sandbox of a kubelet's.
        first.fake.table(|table| {
            let (mut config, state) = table.sandboxes.values().next().unwrap().clone();
            config.labels.retain(|key, _| !key.starts_with("io.holdfast."));
            table.sandboxes.insert("foreign".into(), (config, state));
        });
        let connect = async || {
            let (sender, _events) = unbounded_channel();
            CriRuntime::connect(options(&first.fake, &first.temp), sender).await.unwrap()
        };
        let (second, notes) = connect().await;
        assert!(notes.iter().any(|note| note.contains("a kubelet seems to use")), "{notes:?}");
        assert_eq!(first.fake.table(|table| table.sandboxes.len()), 2, "the first run lives");
        second.shutdown().await;
        // The first dies: its lock is gone, its directory and sandbox are not.
        let Bench { fake, runtime, temp, .. } = first;
        let run = temp.path().join("run");
        let dead: Vec<_> = std::fs::read_dir(&run).unwrap().flatten().collect();
        let dead = dead.iter().find(|entry| entry.path().is_dir()).unwrap().path();
        assert!(dead.join("lock").exists());
        std::mem::forget(runtime);
        // The lock is held by this process; a file that nobody has locked takes its place.
        std::fs::remove_file(dead.join("lock")).unwrap();
        std::fs::write(dead.join("lock"), "").unwrap();
        let (sender, _events) = unbounded_channel();
        let (third, notes) = CriRuntime::connect(options(&fake, &temp), sender).await.unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        let left: Vec<String> = fake.table(|table| table.sandboxes.keys().cloned().collect());
        assert_eq!(left, ["foreign"]);
        assert!(!dead.exists());
        third.shutdown().await;
        assert_eq!(fake.table(|table| table.sandboxes.len()), 1);
        let left: Vec<_> = std::fs::read_dir(&run).unwrap().flatten().collect();
        assert!(left.iter().all(|entry| !entry.path().is_dir()), "{left:?}");
    });
}
