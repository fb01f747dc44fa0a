//! What is explained: the pods of a manifest, each with what the engine is told of it.

use std::time::Duration;

use holdfast_lifecycle::job::JobSpec;
use holdfast_lifecycle::{Plan, Time};
use holdfast_manifest::expand::{Maker, Replicas, cron_job_job, pod_of};
use holdfast_manifest::object::container::{LifecycleHandler, SleepAction};
use holdfast_manifest::object::{Object, Pod, Timestamp};
use holdfast_manifest::plan;

/// One pod, or one of the equal pods of a workload.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `kind` of the object in the manifest.
    pub kind: &'static str,
    /// Its name: assumptions may name it.
    pub workload: String,
    /// How many such pods it makes at first.
    pub count: u32,
    /// The pod for the engine. Where the name is generated, it is the workload's.
    pub plan: Plan,
    /// postStart and preStop of each container, in the plan's order.
    pub hooks: Vec<[Option<Hook>; 2]>,
    /// The rules of its Job, if it is of one.
    pub job: Option<JobSpec>,
}

/// A hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `sleep`: the manifest says how long it takes.
    Sleep(Duration),
    /// A command or a request: nobody knows.
    Unknown,
}

impl Subject {
    /// The pod of an object; `None` if nothing runs for it.
    pub fn of(object: &Object) -> Option<Self> {
        let (_, mut pod) = pod_of(object)?;
        // Nothing here depends on names and UIDs, and the time is virtual.
        let mut random = || 0;
        let mut maker = Maker::new(&mut random, Timestamp::from_unix(Time::ZERO));
        let workload = object.metadata().name.clone();
        pod.metadata.name.clone_from(&workload);
        let mut this = Self::of_pod(&pod);
        this.kind = object.kind();
        match object {
            Object::Job(job) => this.job = Some(plan::job(job)),
            Object::CronJob(cron) => {
                this.job = Some(plan::job(&cron_job_job(cron, &workload, "", &mut maker)));
            }
            other => {
                this.count = Replicas::of(other, &mut maker).map_or(1, |replicas| replicas.count());
            }
        }
        this.workload = workload;
        Some(this)
    }

    /// A pod by itself.
    pub fn of_pod(pod: &Pod) -> Self {
        let plan = plan::plan(pod);
        let spec = &pod.spec;
        let containers = spec.init_containers.iter().chain(&spec.containers);
        let hooks = containers.chain(&spec.ephemeral_containers).map(|c| {
            let lifecycle = c.lifecycle.as_ref();
            [
                lifecycle.and_then(|l| l.post_start.as_ref()).map(hook),
                lifecycle.and_then(|l| l.pre_stop.as_ref()).map(hook),
            ]
        });
        let hooks = hooks.collect();
        Self { kind: "Pod", workload: plan.name.to_string(), count: 1, plan, hooks, job: None }
    }
}

fn hook(handler: &LifecycleHandler) -> Hook {
    match &handler.sleep {
        Some(SleepAction { seconds, .. }) => {
            Hook::Sleep(Duration::from_secs(u64::try_from(*seconds).unwrap_or(0)))
        }
        None => Hook::Unknown,
    }
}
