//! Workloads → the pods they make, as Kubernetes' controllers make them.
//!
//! Nothing here reads a clock or a random source: a [`Maker`] holds both, supplied by the caller.

mod batch;
mod replicas;

pub use batch::{cron_job_job, job_pod};
pub use replicas::Replicas;

use holdfast_lifecycle::job::{RANDOM_CHARS, random_suffix};

use crate::object::{Job, Object, ObjectMeta, OwnerReference, Pod, Timestamp};

/// What an API server adds to a new object: a UID, a time, the rest of a generated name.
pub struct Maker<'r> {
    random: &'r mut dyn FnMut() -> u64,
    /// `creationTimestamp` of what is made.
    pub now: Timestamp,
}

impl<'r> Maker<'r> {
    /// A maker that takes its random numbers from `random` and makes objects at the time `now`.
    pub fn new(random: &'r mut dyn FnMut() -> u64, now: Timestamp) -> Self {
        Self { random, now }
    }

    /// Five random characters of Kubernetes' alphabet for names (`SimpleNameGenerator`).
    pub fn suffix(&mut self) -> String {
        random_suffix((self.random)())
    }

    /// A UID (a UUID of version 4).
    pub fn uid(&mut self) -> String {
        let (a, b) = ((self.random)(), (self.random)());
        let (a, b) = ((a & !0xf000) | 0x4000, (b & !(0b11 << 62)) | (0b10 << 62));
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xffff,
            b >> 48,
            b & 0xffff_ffff_ffff
        )
    }

    /// Fills in what a created object has: name, UID, creation time. What is there stays.
    pub fn admit(&mut self, meta: &mut ObjectMeta) {
        /// `maxGeneratedNameLength`.
        const PREFIX: usize = 58;
        if meta.name.is_empty() {
            let end = meta.generate_name.floor_char_boundary(PREFIX);
            meta.name = format!("{}{}", &meta.generate_name[..end], self.suffix());
        }
        if meta.uid.is_empty() {
            meta.uid = self.uid();
        }
        meta.creation_timestamp.get_or_insert(self.now);
        meta.generation = meta.generation.max(1);
    }

    /// [`admit`](Self::admit) for a loaded object of any kind. A Job also gets its selector, and its
    /// template the labels that go with it (registry/batch/job: `generateSelector`).
    pub fn admit_object(&mut self, object: &mut Object) {
        match object {
            Object::Job(job) => self.admit_job(job),
            other => self.admit(other.metadata_mut()),
        }
    }

    /// [`admit_object`](Self::admit_object) for a Job.
    pub fn admit_job(&mut self, job: &mut Job) {
        self.admit(&mut job.metadata);
        if job.spec.manual_selector == Some(true) {
            return;
        }
        let (uid, name) = (&job.metadata.uid, &job.metadata.name);
        let labels = &mut job.spec.template.metadata.labels;
        for (label, value) in [
            ("batch.kubernetes.io/controller-uid", uid),
            ("controller-uid", uid),
            ("batch.kubernetes.io/job-name", name),
            ("job-name", name),
        ] {
            labels.insert(label.to_owned(), value.clone());
        }
        let selector = job.spec.selector.get_or_insert_default();
        let label = "batch.kubernetes.io/controller-uid".to_owned();
        selector.match_labels.insert(label, uid.clone());
    }

    /// A pod of a template: its labels and annotations, and an owner.
    fn pod(
        &mut self,
        template: &crate::object::PodTemplateSpec,
        namespace: &str,
        generate_name: String,
        owner: OwnerReference,
    ) -> Pod {
        let metadata = ObjectMeta {
            generate_name,
            namespace: namespace.to_owned(),
            labels: template.metadata.labels.clone(),
            annotations: template.metadata.annotations.clone(),
            finalizers: template.metadata.finalizers.clone(),
            owner_references: vec![owner],
            ..ObjectMeta::default()
        };
        Pod {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            metadata,
            spec: template.spec.clone(),
            status: None,
        }
    }
}

/// The pods that an object would make, for checks before anything starts: the path of the pod's
/// fields in the object, and a pod.
pub fn pod_of(object: &Object) -> Option<(&'static str, Pod)> {
    let of = |template: &crate::object::PodTemplateSpec| Pod {
        metadata: template.metadata.clone(),
        spec: template.spec.clone(),
        ..Pod::default()
    };
    Some(match object {
        Object::Pod(pod) => ("", pod.clone()),
        Object::Job(o) => ("spec.template.", of(&o.spec.template)),
        Object::CronJob(o) => {
            ("spec.jobTemplate.spec.template.", of(&o.spec.job_template.spec.template))
        }
        Object::Deployment(o) => ("spec.template.", of(&o.spec.template)),
        Object::StatefulSet(o) => ("spec.template.", of(&o.spec.template)),
        Object::DaemonSet(o) => ("spec.template.", of(&o.spec.template)),
        Object::ReplicaSet(o) => ("spec.template.", of(&o.spec.template)),
        Object::ConfigMap(_) | Object::Secret(_) | Object::Service(_) => return None,
    })
}

/// The reference that a controller puts on what it makes (`NewControllerRef`).
fn owner(api_version: &str, kind: &str, meta: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A number as a part of a name (`rand.SafeEncodeString` of its decimal digits).
fn safe_encode(number: u32) -> String {
    let digits = number.to_string();
    digits.bytes().map(|b| char::from(RANDOM_CHARS[usize::from(b) % RANDOM_CHARS.len()])).collect()
}

/// FNV-1a of 32 bits, the hash behind `pod-template-hash`. Kubernetes hashes Go's own print of the
/// template, so equal templates have equal hashes here and there, but not the same ones.
fn fnv32a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

fn template_hash(template: &crate::object::PodTemplateSpec) -> String {
    safe_encode(fnv32a(serde_json::to_string(template).unwrap_or_default().as_bytes()))
}
