//! Tests of the whole door: bytes in, objects or findings out.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod corpus;
mod dialect;
mod expand;
mod hostile;
mod messages;
mod plan;
mod render;
mod seeds;
mod wire;

use holdfast_manifest::object::{Job, Object, Pod};
use holdfast_manifest::{Diagnostics, Loaded, Options, Source, load};

/// Loads one source called `test.yaml`.
fn read(text: impl Into<Vec<u8>>) -> Result<Loaded, Diagnostics> {
    load(&[Source::new("test.yaml", text)], &Options::default())
}

/// Loads one source by the rules of a Kubernetes minor version.
fn read_as(minor: u32, text: &str) -> Result<Loaded, Diagnostics> {
    let mut options = Options::default();
    options.kubernetes = minor;
    load(&[Source::new("test.yaml", text)], &options)
}

/// The only object of a text.
#[track_caller]
fn one(text: &str) -> Object {
    let mut objects = read(text).unwrap_or_else(|e| panic!("{e}")).objects;
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

/// The only object of a text, a Pod.
#[track_caller]
fn pod(text: &str) -> Pod {
    match one(text) {
        Object::Pod(pod) => pod,
        other => panic!("not a Pod: {other:?}"),
    }
}

/// The only object of a text, a Job.
#[track_caller]
fn job(text: &str) -> Job {
    match one(text) {
        Object::Job(job) => job,
        other => panic!("not a Job: {other:?}"),
    }
}

/// A Pod of which a test gives the lines of `spec` after `containers`, indented by two.
fn pod_with(spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers: [{{name: c, image: i}}]\n{spec}"
    )
}

/// A Pod of one container, of which a test gives the lines after `image`, indented by four.
fn container_with(fields: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    image: i\n{fields}"
    )
}

/// The messages of a text that must be refused, without their place.
#[track_caller]
fn messages(result: Result<Loaded, Diagnostics>) -> Vec<String> {
    match result {
        Ok(loaded) => panic!("accepted: {:?}", loaded.objects),
        Err(findings) => findings.iter().map(|d| d.message.clone()).collect(),
    }
}
