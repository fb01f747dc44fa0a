//! Controllers without pods: what they want made ends as it is told.

use std::time::Duration;

use holdfast_lifecycle::{Phase, columns};
use holdfast_manifest::object::Timestamp;
use holdfast_manifest::{Source, load};

use super::*;

/// Controllers of these objects, and the pods they have made.
struct World {
    controllers: Controllers,
    now: Time,
    random: u64,
    /// Pods that there are, by owner.
    pods: Vec<(Owner, Pod)>,
    /// What was told of Jobs.
    told: Vec<(ChangeKind, String)>,
}

impl World {
    fn new(manifest: &str, schedule: bool) -> Self {
        let source = Source::new("test.yaml", manifest.as_bytes().to_vec());
        let objects = load(&[source], &Default::default()).unwrap().objects;
        let mut world = Self {
            controllers: Controllers::default(),
            now: Time::from_secs(1_800_000_030),
            random: 0,
            pods: Vec::new(),
            told: Vec::new(),
        };
        for mut object in objects {
            let now = world.now;
            world.with_maker(|controllers, maker| {
                maker.admit_object(&mut object);
                controllers.add(object, now, schedule, 35, maker);
            });
        }
        world
    }

    fn with_maker<T>(&mut self, act: impl FnOnce(&mut Controllers, &mut Maker<'_>) -> T) -> T {
        let mut next = || {
            self.random += 1;
            self.random.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let mut maker = Maker::new(&mut next, Timestamp::from_unix(self.now));
        act(&mut self.controllers, &mut maker)
    }

    /// Does what is wished for until nothing is; every pod ends at once in this phase.
    fn settle(&mut self, phase: Phase) {
        loop {
            let now = self.now;
            let (wishes, notices) =
                self.with_maker(|controllers, maker| controllers.sync(now, maker));
            for notice in notices {
                if let Notice::Job(change) = notice {
                    self.told.push((change.kind, change.job.metadata.name.clone()));
                }
            }
            if wishes.is_empty() {
                return;
            }
            for wish in wishes {
                match wish {
                    Wish::Create(pod, owner) => self.run(*pod, owner, phase),
                    Wish::Delete(owner) => {
                        self.pods.retain(|(of, _)| *of != owner);
                        self.controllers.gone(owner, now);
                    }
                }
            }
        }
    }

    fn run(&mut self, pod: Pod, owner: Owner, phase: Phase) {
        self.controllers.created(owner, &pod.metadata.name, self.now);
        let plan = plan::plan(&pod);
        let status = PodStatus { phase, start_time: Some(self.now), ..PodStatus::default() };
        let features = holdfast_lifecycle::Options::default().features();
        let change = PodChange {
            at: self.now,
            kind: ChangeKind::Modified,
            uid: Arc::clone(&plan.uid),
            row: columns::row(&plan, &status, columns::Meta::default(), &features),
            pod: Rc::new(pod.clone()),
            plan: Rc::new(plan),
            status: Rc::new(status),
            deletion: None,
            container_ids: Default::default(),
        };
        self.pods.push((owner, pod));
        self.controllers.changed(owner, &change, self.now);
        self.controllers.ended(owner);
    }

    fn pass(&mut self, time: Duration, phase: Phase) {
        let end = self.now + time;
        while let Some(at) = self.controllers.next_timer().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.settle(phase);
        }
        self.now = end;
    }
}

const CRON_JOB: &str = "
apiVersion: batch/v1
kind: CronJob
metadata: { name: tick }
spec:
  schedule: '* * * * *'
  successfulJobsHistoryLimit: 2
  failedJobsHistoryLimit: 1
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers: [{ name: a, image: host, command: ['true'] }]
";

#[test]
fn a_schedule_keeps_no_more_than_its_history() {
    for (phase, kept) in [(Phase::Succeeded, 2), (Phase::Failed, 1)] {
        let mut world = World::new(CRON_JOB, true);
        world.settle(phase);
        world.pass(Duration::from_secs(24 * 3600), phase);
        let told = |kind| world.told.iter().filter(|t| t.0 == kind).count();
        assert_eq!(told(ChangeKind::Added), 24 * 60, "{phase:?}");
        assert_eq!(told(ChangeKind::Deleted), 24 * 60 - kept);
        assert_eq!(world.controllers.jobs.len(), kept);
        assert_eq!(world.pods.len(), kept);
        assert!(world.controllers.failed.is_empty(), "names are kept without end");
        assert!(!world.controllers.are_done());
    }
}

/// `kubectl create job --from=cronjob/…` does not ask whether the CronJob is suspended; its schedule does.
#[test]
fn a_suspended_cron_job_runs_only_without_its_schedule() {
    let manifest = CRON_JOB.replace("  schedule:", "  suspend: true\n  schedule:");
    for (schedule, jobs) in [(false, 1), (true, 0)] {
        let mut world = World::new(&manifest, schedule);
        world.settle(Phase::Succeeded);
        world.pass(Duration::from_secs(3600), Phase::Succeeded);
        let made = world.told.iter().filter(|t| t.0 == ChangeKind::Added).count();
        assert_eq!((made, world.controllers.are_done()), (jobs, !schedule));
    }
}

#[test]
fn a_job_that_failed_counts_when_it_is_gone() {
    let job = "
apiVersion: batch/v1
kind: Job
metadata: { name: once }
spec:
  backoffLimit: 0
  ttlSecondsAfterFinished: 5
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: a, image: host, command: ['false'] }]
";
    let mut world = World::new(job, false);
    world.settle(Phase::Failed);
    assert_eq!(world.controllers.failed_jobs().collect::<Vec<_>>(), ["job/once"]);
    world.pass(Duration::from_secs(60), Phase::Failed);
    assert!(world.controllers.jobs.is_empty());
    assert_eq!(world.told.last(), Some(&(ChangeKind::Deleted, "once".to_owned())));
    assert_eq!(world.controllers.failed_jobs().collect::<Vec<_>>(), ["job/once"]);
    assert!(world.controllers.are_done());
}
