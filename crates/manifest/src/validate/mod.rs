//! Kubernetes' validation of what Holdfast reads, with Kubernetes' messages and field paths
//! (`pkg/apis/{core,batch,apps}/validation`).
//!
//! Two liberties: where Kubernetes leaves the index out of a path (`volumeMounts.subPath`), it is
//! there; and where an API server of an older version would silently drop a field of a newer one,
//! the field is refused, since the pod would not run as it says.

mod batch;
mod config;
mod container;
mod errors;
mod meta;
mod names;
mod pod;
mod probe;
mod resources;
mod scheduling;
mod selector;
mod volume;
mod workload;

use crate::diagnostic::FieldError;
use crate::load::Options;
use crate::object::{Object, Volume};
use crate::path::Path;

use errors::Errors;

/// What is wrong with a defaulted object, and how many more findings there were.
pub(crate) fn object(object: &Object, options: &Options) -> (Vec<FieldError>, usize) {
    let mut cx = Cx { errors: Errors::new(options.max_findings), minor: options.kubernetes };
    match object {
        Object::Pod(o) => pod::pod(&mut cx, o),
        Object::Job(o) => batch::job(&mut cx, o),
        Object::CronJob(o) => batch::cron_job(&mut cx, o),
        Object::Deployment(o) => workload::deployment(&mut cx, o),
        Object::StatefulSet(o) => workload::stateful_set(&mut cx, o),
        Object::DaemonSet(o) => workload::daemon_set(&mut cx, o),
        Object::ReplicaSet(o) => workload::replica_set(&mut cx, o),
        Object::ConfigMap(o) => config::config_map(&mut cx, o),
        Object::Secret(o) => config::secret(&mut cx, o),
        Object::Service(o) => config::service(&mut cx, o),
    }
    cx.errors.into_parts()
}

/// What every check needs.
struct Cx {
    errors: Errors,
    /// The Kubernetes minor version.
    minor: u32,
}

impl Cx {
    /// Refuses a field that the chosen version does not have.
    fn since(&mut self, minor: u32, path: Path<'_>, feature: &str) -> bool {
        if self.minor >= minor {
            return true;
        }
        self.errors.forbidden(
            path,
            format!("needs Kubernetes 1.{minor} ({feature}), and 1.{} is asked for", self.minor),
        );
        false
    }

    /// `ValidateNonnegativeField`.
    fn non_negative(&mut self, path: Path<'_>, value: i64) {
        if value < 0 {
            self.errors.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    /// One `Invalid value` for every message.
    fn messages(&mut self, path: Path<'_>, value: &str, messages: Vec<String>) {
        for message in messages {
            self.errors.invalid(path, value, message);
        }
    }
}

/// The names of the sources that a volume has.
pub(crate) fn volume_kinds(volume: &Volume) -> impl Iterator<Item = &'static str> + '_ {
    volume::kinds(volume)
}
