use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{done, holdfast, told, until};

/// A place with a template and the labels of a pod.
struct Place {
    temp: tempfile::TempDir,
}

const TEMPLATE: &str = "dc=customDataCenter\nrack=RACK\n";

impl Place {
    fn new() -> Self {
        let place = Self { temp: tempfile::tempdir().unwrap() };
        place.write("template", TEMPLATE);
        place.write("labels", "app=\"db\"\nvm/rack=\"r7\"\n");
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.temp.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.temp.path().join(name)).unwrap()
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let usual = ["render", "--from", "template", "--to", "out", "--labels-file", "labels"];
        let mut command = holdfast(&[&usual[..], args].concat());
        command.current_dir(self.temp.path());
        command
    }

    fn render(&self, args: &[&str]) -> (i32, String) {
        done(self.command(args))
    }
}

const RACK: [&str; 2] = ["--replace", "RACK=label:vm/rack"];

#[test]
fn a_label_takes_the_place_of_a_word() {
    let place = Place::new();
    assert_eq!(
        place.render(&[&RACK[..], &["--check"]].concat()),
        (1, "out: would be made\n".into())
    );
    assert_eq!(place.render(&RACK), (0, "out: made\n".into()));
    assert_eq!(place.read("out"), "dc=customDataCenter\nrack=r7\n");
    let out = place.temp.path().join("out");
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = std::fs::metadata(&out).unwrap();
    assert_eq!(place.render(&RACK), (0, "out: unchanged\n".into()));
    assert_eq!(place.render(&[&RACK[..], &["--check"]].concat()).0, 0);
    let after = std::fs::metadata(&out).unwrap();
    let times = |meta: &std::fs::Metadata| (meta.ino(), meta.mtime_nsec(), meta.ctime_nsec());
    assert_eq!(times(&after), times(&before));
    place.write("labels", "vm/rack=\"r8\"\n");
    assert_eq!(place.render(&RACK), (0, "out: replaced\n".into()));
    assert_eq!(place.read("out"), "dc=customDataCenter\nrack=r8\n");
    assert_eq!(std::fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
}

/// The system calls of a rendering that could change anything: calls that do nothing else, files that are
/// opened for more than reading, and writes to anything but stderr.
fn changing_calls(place: &Place, args: &[&str]) -> Vec<String> {
    let trace = place.temp.path().join("trace");
    let inner = place.command(args);
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-s", "64", "-e", "signal=none", "-o"]).arg(&trace);
    command.arg(inner.get_program()).args(inner.get_args());
    command.current_dir(place.temp.path()).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().expect("there is no strace; `cargo xtask test` installs it");
    let (code, said) = told(&output);
    assert_eq!(code, 0, "{said}");
    let text = std::fs::read_to_string(&trace).unwrap();
    std::fs::remove_file(&trace).unwrap();
    // `123 openat(AT_FDCWD, "template", O_RDONLY|O_CLOEXEC) = 3`
    let calls = text.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start()));
    let calls: Vec<&str> = calls.filter(|call| call.contains('(')).collect();
    let read =
        |name: &str| calls.iter().any(|call| call.starts_with("open") && call.contains(name));
    assert!(read("\"template\"") && read("/out\""), "nothing was seen of it: {text}");
    // It opens its stderr again, for writes that do not block.
    let own_words = |call: &&str| call.starts_with("open(\"/proc/self/fd/2\"");
    let again = calls.iter().copied().find(own_words);
    let again = again.and_then(|call| Some(format!("{}, ", call.rsplit_once("= ")?.1)));
    let stderr =
        |text: &str| text.starts_with("2, ") || again.as_ref().is_some_and(|n| text.starts_with(n));
    let calls = calls.into_iter().filter(|call| !own_words(call) && changes(call, stderr));
    calls.map(str::to_owned).collect()
}

fn changes(call: &str, stderr: impl Fn(&str) -> bool) -> bool {
    const ALWAYS: [&str; 24] = [
        "rename",
        "link",
        "unlink",
        "symlink",
        "mkdir",
        "rmdir",
        "mknod",
        "chmod",
        "fchmod",
        "chown",
        "fchown",
        "lchown",
        "utime",
        "futimes",
        "truncate",
        "ftruncate",
        "fallocate",
        "setxattr",
        "fsetxattr",
        "creat",
        "sendfile",
        "copy_file_range",
        "splice",
        "flock",
    ];
    let (name, rest) = call.split_once('(').unwrap();
    let for_writing = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];
    match name {
        "open" | "openat" | "openat2" => for_writing.iter().any(|flag| rest.contains(flag)),
        // Its own words about it.
        "write" | "writev" => !stderr(rest),
        "pwrite64" | "pwritev" | "pwritev2" => true,
        "mmap" => rest.contains("MAP_SHARED") && rest.contains("PROT_WRITE"),
        // With `at` and a number: `renameat2`, `utimensat`.
        _ => ALWAYS.iter().any(|always| name.starts_with(always)),
    }
}

/// Not even what would not be seen afterwards: a time that is set back, a lock, a file that comes and goes.
#[test]
fn a_file_that_is_what_it_should_be_is_only_read() {
    let place = Place::new();
    assert_eq!(place.render(&RACK).0, 0);
    assert_eq!(changing_calls(&place, &RACK), [""; 0]);
    assert_eq!(changing_calls(&place, &[&RACK[..], &["--check"]].concat()), [""; 0]);
    // What is seen when there is something to see.
    place.write("labels", "vm/rack=\"r8\"\n");
    let seen = changing_calls(&place, &RACK);
    for call in ["open", "write(", "link", "rename"] {
        assert!(seen.iter().any(|seen| seen.starts_with(call)), "{call}: {seen:#?}");
    }
}

#[test]
fn every_source() {
    let place = Place::new();
    place.write("template", "A B C ${FROM_ENV} D E\n");
    place.write("secret", "s3cret\n");
    place.write("annotations", "note=\"two \\\"words\\\"\"\n");
    let mut command = place.command(&["--annotations-file", "annotations"]);
    command.env("FROM_ENV", "e1").env("OTHER", "e2");
    for replacement in ["A=value:a=b", "B=env:OTHER", "C=file:secret", "D=annotation:note"] {
        command.args(["--replace", replacement]);
    }
    assert_eq!(done(command).0, 0);
    assert_eq!(place.read("out"), "a=b e2 s3cret e1 two \"words\" E\n");
    place.write("t.j2", "{% for k, v in labels | items %}{{ k }}={{ v }}\n{% endfor %}");
    let args = ["render", "--from", "t.j2", "--to", "j", "--labels-file", "labels"];
    let mut command = holdfast(&args);
    command.current_dir(place.temp.path());
    assert_eq!(done(command).0, 0);
    assert_eq!(place.read("j"), "app=db\nvm/rack=r7\n");
}

#[test]
fn without_a_value_the_old_file_stays() {
    let place = Place::new();
    assert_eq!(place.render(&RACK).0, 0);
    let before = place.read("out");
    place.write("bad", "rack=RACK ${NOT_SET_ANYWHERE}\n");
    place.write("garbled", "vm/rack=r7\n");
    for (args, words) in [
        (&["--replace", "RACK=label:vm/rock"][..], "no value for RACK: labels has no \"vm/rock\""),
        (&["--replace", "RACK=env:NOT_SET_ANYWHERE"], "the environment has no NOT_SET_ANYWHERE"),
        (&["--replace", "RACK=file:none"], "cannot read none: No such file"),
        (&["--replace", "RACK=annotation:a"], "--annotations-file"),
        (&["--replace", "RACK=value:a", "--replace", "RACK=value:b"], "replaced twice"),
        (
            &["--replace", "RACK=label:vm/rack", "--labels-file", "garbled"],
            "garbled:1: expected KEY=",
        ),
        (&["--replace", "RACK"], "expected WORD=SOURCE"),
        (&["--replace", "RACK=secret:x"], "no source of a value"),
        (&["--from", "bad"], "bad:1:11: no value for ${NOT_SET_ANYWHERE}"),
        (&["--from", "none"], "cannot read the template none"),
        (&["--to", "no/out"], "cannot write no/out"),
    ] {
        let mut command = holdfast(&["render"]);
        let mut rest = vec!["--labels-file", "labels"];
        for usual in [["--from", "template"], ["--to", "out"]] {
            if !args.contains(&usual[0]) {
                rest.extend(usual);
            }
        }
        if args.contains(&"--labels-file") {
            rest.drain(..2);
        }
        command.args(rest).args(args).current_dir(place.temp.path());
        let (code, said) = done(command);
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert_eq!(place.read("out"), before);
    }
    let (code, said) = place.render(&["--replace", "RUCK=value:a"]);
    assert_eq!(
        (code, said.contains("note: template does not have the word RUCK")),
        (0, true),
        "{said}"
    );
}

/// What a pod is told that lacks what `--from-node` takes. With an API server it is tested in `e2e`.
#[test]
fn a_node_that_cannot_be_asked() {
    let place = Place::new();
    let run = |args: &[&str]| {
        let mut command = holdfast(&["render", "--from", "template", "--to", "out"]);
        command.args(RACK).args(args).current_dir(place.temp.path());
        for name in ["NODE_NAME", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"] {
            command.env_remove(name);
        }
        command.env("HOME", place.temp.path());
        done(command)
    };
    for (args, words) in [
        (&["--from-node"][..], "valueFrom.fieldRef.fieldPath: spec.nodeName"),
        (&["--from-node", "n1"], "no way to the API server"),
        (&["--from-node", "n1", "--watch"], "cannot be used with"),
        (&["--from-node", "n1", "--labels-file", "labels"], "cannot be used with"),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
        assert!(!place.temp.path().join("out").exists());
    }
}

/// Killed at any moment: whoever reads sees the old file or the new one, and nothing is left beside it.
#[test]
fn killed_at_any_instant_it_leaves_nothing_half_made() {
    let place = Place::new();
    let long = |word: &str| format!("{}\n", word.repeat(20_000));
    place.write("template", &long("RACK "));
    let mut seen = std::collections::BTreeSet::new();
    let begin = Instant::now();
    assert_eq!(place.render(&["--replace", "RACK=value:first"]).0, 0);
    let usual = begin.elapsed();
    for round in 0..120_u32 {
        let value = format!("RACK=value:r{round}");
        let mut child = place.command(&["--replace", &value]).spawn().unwrap();
        std::thread::sleep(usual * round / 60);
        let _ = child.kill();
        let whole = child.wait().unwrap().success();
        let text = place.read("out");
        let first = text.split(' ').next().unwrap().to_owned();
        assert_eq!(text, long(&format!("{first} ")), "round {round}");
        if whole {
            assert_eq!(first, format!("r{round}"));
        }
        seen.insert(whole);
    }
    assert_eq!(seen.len(), 2, "all were killed, or none: {seen:?}");
    assert_eq!(place.render(&["--replace", "RACK=value:end"]).0, 0);
    let mut names: Vec<_> =
        std::fs::read_dir(place.temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["labels", "out", "template"]);
}

/// Kills it when a test fails.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Swaps a volume's files as the kubelet does: a new directory, and the link to it renamed.
fn swap(volume: &Path, version: u32, text: &str) {
    let directory = volume.join(format!("..v{version}"));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("labels"), text).unwrap();
    symlink(format!("..v{version}"), volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn what_changes_is_rendered_again() {
    let place = Place::new();
    let volume = place.temp.path().join("podinfo");
    swap(&volume, 1, "vm/rack=\"r1\"\n");
    symlink("..data/labels", volume.join("labels")).unwrap();
    let mut command = holdfast(&["render", "--watch", "--from", "template", "--to", "out"]);
    command.args(RACK).args(["--labels-file", "podinfo/labels"]).current_dir(place.temp.path());
    let mut watching = Watching(command.spawn().unwrap());
    let is = |text: &str| {
        std::fs::read_to_string(place.temp.path().join("out")).is_ok_and(|is| is.contains(text))
    };
    until("the first", || is("rack=r1"));
    swap(&volume, 2, "vm/rack=\"r2\"\n");
    until("another label", || is("rack=r2"));
    // Without a value the file stays, and the next one is taken.
    swap(&volume, 3, "other=\"r3\"\n");
    place.write("template", "new RACK\n");
    std::thread::sleep(Duration::from_millis(100));
    assert!(is("rack=r2"));
    swap(&volume, 4, "vm/rack=\"r4\"\n");
    until("another template", || is("new r4"));
    // Nothing of this changes anything, and nothing is said of it.
    for round in 0..3 {
        place.write("other", &round.to_string());
        place.write("template", "new RACK\n");
        std::thread::sleep(Duration::from_millis(50));
    }
    watching.0.kill().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut watching.0.stderr.take().unwrap(), &mut said).unwrap();
    let error = "error: no value for RACK: podinfo/labels has no";
    assert_eq!(said.matches(error).count(), 1, "{said}");
    assert!(!said.contains("unchanged"), "{said}");
}

#[test]
fn several_at_once_leave_one_whole_file() {
    let place = Place::new();
    let all: Vec<_> = (0..8)
        .map(|n| place.command(&["--replace", &format!("RACK=value:r{n}")]).spawn().unwrap())
        .collect();
    for child in all {
        let (code, said) = told(&child.wait_with_output().unwrap());
        assert_eq!(code, 0, "{said}");
    }
    assert!(place.read("out").starts_with("dc=customDataCenter\nrack=r"));
    assert_eq!(place.read("out").lines().count(), 2);
}
