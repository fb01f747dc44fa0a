//! The directory of manifests, as the kubelet reads static pods: files of Pods, whole again whenever something changes.
//!
//! A file that cannot be read as it should is reported, and what it last said goes on: a typing error in an editor must
//! not stop a service. A file that is removed takes its pods with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use holdfast_manifest::{Object, Options, Source, Style};
use holdfast_runtime::config::{self, RunBy};

use crate::services::Wanted;

/// What the directory says, and what it said last where it is broken.
#[derive(Debug, Default)]
pub struct Directory {
    good: BTreeMap<PathBuf, Vec<Wanted>>,
    /// What is wrong, by file, for people.
    pub faults: BTreeMap<PathBuf, String>,
}

/// Reads a valid object: what the process runtime cannot do of it, and kinds that are no services.
fn refused(object: &Object) -> Vec<(String, String)> {
    match object {
        Object::Pod(pod) => {
            let found = config::unsupported(pod, RunBy::Process).into_iter();
            found.map(|f| (f.path, f.reason)).collect()
        }
        other => {
            let reason = format!(
                "a {} is not run by the agent, whose services are Pods; `holdfast run` runs it",
                other.kind()
            );
            vec![("kind".to_owned(), reason)]
        }
    }
}

impl Directory {
    /// Reads everything anew. All pods that are wanted now, in the order of their files.
    ///
    /// # Errors
    /// If the directory cannot be listed; then nothing has changed.
    pub fn read(&mut self, dir: &Path, minor: u32) -> std::io::Result<Vec<Wanted>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if is_manifest(&path) {
                files.push(path);
            }
        }
        files.sort();
        self.good.retain(|file, _| files.contains(file));
        self.faults.clear();
        let mut options = Options::default();
        options.kubernetes = minor;
        options.refuse = Some(refused);
        for file in files {
            match read_file(&file, &options) {
                // It was removed between the listing and the reading.
                Err(None) => drop(self.good.remove(&file)),
                Err(Some(fault)) => drop(self.faults.insert(file, fault)),
                Ok(pods) => drop(self.good.insert(file, pods)),
            }
        }
        Ok(self.without_doubles())
    }

    /// A name belongs to the first file that has it.
    fn without_doubles(&mut self) -> Vec<Wanted> {
        let mut taken: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut wanted = Vec::new();
        for one in self.good.values().flatten() {
            let name = &one.pod.metadata.name;
            if let Some(first) = taken.get(name) {
                let fault = format!(
                    "the pod {name:?} is in {} already; rename one of them",
                    first.display()
                );
                self.faults.entry(one.file.clone()).or_insert(fault);
                continue;
            }
            taken.insert(name.clone(), one.file.clone());
            wanted.push(one.clone());
        }
        wanted
    }
}

/// Kubelet: `extractFromDir`; files of editors and of atomic writers begin with a dot.
fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let fits = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    !hidden && fits && path.is_file()
}

/// The pods of a file; `None` as an error if it is not there.
fn read_file(file: &Path, options: &Options) -> Result<Vec<Wanted>, Option<String>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(file)
        .and_then(|open| open.take(options.limits.bytes as u64 + 1).read_to_end(&mut bytes));
    match read {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(None),
        Err(e) => return Err(Some(format!("cannot read {}: {e}", file.display()))),
        Ok(_) => {}
    }
    let loaded =
        holdfast_manifest::load(&[Source::new(file.display().to_string(), bytes)], options)
            .map_err(|wrong| Some(wrong.render(Style::Plain).trim_end().to_owned()))?;
    let pods = loaded.objects.into_iter().filter_map(|object| match object {
        Object::Pod(pod) => Some(Wanted { file: file.to_owned(), pod }),
        _ => None,
    });
    Ok(pods.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  containers: [{name: c, image: host, command: [sleep, '1']}]
";

    fn names(wanted: &[Wanted]) -> Vec<&str> {
        wanted.iter().map(|w| w.pod.metadata.name.as_str()).collect()
    }

    #[test]
    fn a_broken_file_keeps_what_it_said_and_a_removed_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let mut directory = Directory::default();
        write("b.yaml", &POD.replace("NAME", "one"));
        write(
            "a.json",
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"two"},"spec":{"containers":[{"name":"c","image":"host"}]}}"#,
        );
        write(".b.yaml.swp", "nonsense");
        write("notes.txt", "nonsense");
        assert_eq!(names(&directory.read(dir.path(), 35).unwrap()), ["two", "one"]);
        assert!(directory.faults.is_empty());

        write(
            "b.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\nspec: {container: []}\n",
        );
        assert_eq!(names(&directory.read(dir.path(), 35).unwrap()), ["two", "one"]);
        let fault = &directory.faults[&dir.path().join("b.yaml")];
        assert!(fault.contains("container") && fault.contains(":4:"), "{fault}");

        write("c.yaml", &POD.replace("NAME", "two"));
        assert_eq!(names(&directory.read(dir.path(), 35).unwrap()), ["two", "one"]);
        assert!(directory.faults[&dir.path().join("c.yaml")].contains("a.json already"));

        write("c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {}\n");
        directory.read(dir.path(), 35).unwrap();
        assert!(directory.faults[&dir.path().join("c.yaml")].contains("services are Pods"));

        fs::remove_file(dir.path().join("b.yaml")).unwrap();
        assert_eq!(names(&directory.read(dir.path(), 35).unwrap()), ["two"]);
    }
}
