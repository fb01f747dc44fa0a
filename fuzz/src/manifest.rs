//! Any bytes → the manifest loader and all that follows it. The target `manifest`, and a test of the loader
//! with the seeds.

use holdfast_lifecycle::job::{Job, JobInput, JobOutput};
use holdfast_lifecycle::{PodStatus, Time};
use holdfast_manifest::expand::{Maker, Replicas, job_pod};
use holdfast_manifest::object::{Object, Pod, Timestamp};
use holdfast_manifest::wire::{Node, Stored, pod_json};
use holdfast_manifest::{Options, Source, Style, load, plan};

/// One input; panics if something is wrong.
pub(crate) fn run(data: &[u8]) {
    let mut options = Options::default();
    // The first byte also chooses the version, so that one corpus covers all of them.
    options.kubernetes = 29 + u32::from(data.first().copied().unwrap_or(0) % 8);
    let source = Source::new("fuzz.yaml", data);
    match load(&[source], &options) {
        Err(findings) => {
            assert!(findings.has_errors() || findings.omitted() > 0);
            check(&findings, data);
        }
        Ok(loaded) => {
            assert!(!loaded.warnings.has_errors());
            check(&loaded.warnings, data);
            let mut state = 1_u64;
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state
            };
            let mut maker = Maker::new(&mut random, Timestamp::from_unix(Time::from_secs(1)));
            for mut object in loaded.objects {
                maker.admit_object(&mut object);
                follow(&object, &mut maker, options.kubernetes);
            }
        }
    }
}

/// Findings can be printed, and mark bytes of the source.
fn check(findings: &holdfast_manifest::Diagnostics, data: &[u8]) {
    for finding in findings.iter() {
        let span = finding.span();
        assert!(span.start <= span.end && span.start <= data.len(), "{span:?}");
        assert!(finding.position().line > 0);
        let line = finding.to_string();
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
    }
    findings.render(Style::Plain);
    findings.render(Style::Colored);
}

/// What is made of an object.
fn follow(object: &Object, maker: &mut Maker<'_>, minor: u32) {
    let json = serde_json_of(object);
    match object {
        Object::Pod(pod) => follow_pod(pod),
        Object::Job(job) => {
            let now = Time::from_secs(1);
            let mut engine = Job::new(plan::job(job), minor, now);
            engine.handle(now, JobInput::Tick);
            let mut pods = 0;
            while let Some(output) = engine.poll() {
                if let JobOutput::CreatePod(new) = output {
                    follow_pod(&job_pod(job, &new, maker));
                    pods += 1;
                    if pods > 3 {
                        break;
                    }
                }
            }
        }
        Object::CronJob(cron_job) => {
            plan::cron_job(cron_job);
        }
        _ => {
            if let Some(replicas) = Replicas::of(object, maker) {
                for i in 0..replicas.count().min(3) {
                    follow_pod(&replicas.pod(i, maker));
                }
            }
        }
    }
    drop(json);
}

fn follow_pod(pod: &Pod) {
    let plan = plan::plan(pod);
    assert!(!plan.containers.is_empty());
    pod_json(pod, &PodStatus::default(), &Node::default(), Stored::default(), &|_| None);
}

/// What is valid can be read again from its own JSON, and is the same.
fn serde_json_of(object: &Object) -> String {
    let json = holdfast_manifest::wire::object_json(object).to_string();
    let mut options = Options::default();
    options.kubernetes = 36;
    let again = load(&[Source::new("again.json", json.as_str())], &options);
    match again {
        Ok(loaded) => {
            let first = holdfast_manifest::wire::object_json(&loaded.objects[0]).to_string();
            assert_eq!(first, json, "the JSON of an object reads back as another object");
        }
        Err(findings) => {
            // A newer version may refuse what an older one accepted, but only with a reason.
            assert!(findings.has_errors() || findings.omitted() > 0);
        }
    }
    json
}
