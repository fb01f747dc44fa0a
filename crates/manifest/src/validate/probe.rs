//! Probes, hooks and their handlers (`validateProbe`, `validateHandler`).

use super::{Cx, names};
use crate::object::container::{
    ExecAction, GrpcAction, HttpGetAction, Lifecycle, LifecycleHandler, SleepAction,
    TcpSocketAction,
};
use crate::object::{Container, IntOrString, Probe};
use crate::path::Path;

/// Hooks and probes of a container that may have them; `grace` is the pod's.
pub(super) fn all(cx: &mut Cx, container: &Container, grace: i64, os: bool, path: Path<'_>) {
    if let Some(lifecycle) = &container.lifecycle {
        hooks(cx, lifecycle, grace, os, path.field("lifecycle"));
    }
    for (probe, name) in [
        (&container.liveness_probe, "livenessProbe"),
        (&container.readiness_probe, "readinessProbe"),
        (&container.startup_probe, "startupProbe"),
    ] {
        let Some(probe) = probe else { continue };
        let path = path.field(name);
        one(cx, probe, path);
        if name == "readinessProbe" {
            if let Some(grace) = probe.termination_grace_period_seconds {
                let path = path.field("terminationGracePeriodSeconds");
                cx.errors.invalid(path, grace, "must not be set for readinessProbes");
            }
        } else if probe.success_threshold != 1 {
            let path = path.field("successThreshold");
            cx.errors.invalid(path, probe.success_threshold, "must be 1");
        }
    }
}

fn one(cx: &mut Cx, probe: &Probe, path: Path<'_>) {
    let handler = Handler {
        exec: probe.exec.as_ref(),
        http_get: probe.http_get.as_ref(),
        tcp_socket: probe.tcp_socket.as_ref(),
        grpc: probe.grpc.as_ref(),
        sleep: None,
    };
    handler.check(cx, 0, path);
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        cx.non_negative(path.field(name), value.into());
    }
    if let Some(grace) = probe.termination_grace_period_seconds.filter(|&g| g <= 0) {
        let path = path.field("terminationGracePeriodSeconds");
        cx.errors.invalid(path, grace, "must be greater than 0");
    }
}

fn hooks(cx: &mut Cx, lifecycle: &Lifecycle, grace: i64, os: bool, path: Path<'_>) {
    if let Some(hook) = &lifecycle.post_start {
        Handler::of_hook(hook).check(cx, grace, path.field("postStart"));
    }
    if let Some(hook) = &lifecycle.pre_stop {
        Handler::of_hook(hook).check(cx, grace, path.field("preStop"));
    }
    if let Some(signal) = &lifecycle.stop_signal {
        let path = path.field("stopSignal");
        if !cx.since(33, path, "ContainerStopSignals") {
            return;
        }
        if !os {
            cx.errors.forbidden(path, "may not be set for containers with empty `spec.os.name`");
        } else if !SIGNALS.contains(&signal.as_str()) && !is_real_time(signal) {
            cx.errors.not_supported(path, signal, SIGNALS);
        }
    }
}

/// The signals a Linux container may be stopped by, real-time ones apart.
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// `SIGRTMIN`, `SIGRTMIN+1`, …, `SIGRTMAX-1`, `SIGRTMAX`.
fn is_real_time(signal: &str) -> bool {
    let offset = |prefix: &str, sign: char, max: u32| {
        signal.strip_prefix(prefix).is_some_and(|rest| {
            rest.is_empty()
                || rest
                    .strip_prefix(sign)
                    .and_then(|n| n.parse::<u32>().ok())
                    .is_some_and(|n| (1..=max).contains(&n))
        })
    };
    offset("SIGRTMIN", '+', 15) || offset("SIGRTMAX", '-', 14)
}

/// The handlers of a probe or a hook, of which exactly one must be there.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HttpGetAction>,
    tcp_socket: Option<&'a TcpSocketAction>,
    grpc: Option<&'a GrpcAction>,
    sleep: Option<&'a SleepAction>,
}

impl<'a> Handler<'a> {
    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        Self {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }

    fn check(&self, cx: &mut Cx, grace: i64, path: Path<'_>) {
        let mut one = false;
        let mut first = |cx: &mut Cx, path: Path<'_>| {
            if one {
                cx.errors.forbidden(path, "may not specify more than 1 handler type");
            }
            !std::mem::replace(&mut one, true)
        };
        if let Some(exec) = self.exec {
            let path = path.field("exec");
            if first(cx, path) && exec.command.is_empty() {
                cx.errors.required(path.field("command"), "");
            }
        }
        if let Some(http) = self.http_get {
            let path = path.field("httpGet");
            if first(cx, path) {
                http_get(cx, http, path);
            }
        }
        if let Some(tcp) = self.tcp_socket {
            let path = path.field("tcpSocket");
            if first(cx, path) {
                port(cx, &tcp.port, path.field("port"));
            }
        }
        if let Some(grpc) = self.grpc {
            let path = path.field("grpc");
            if first(cx, path) {
                port(cx, &IntOrString::Int(grpc.port), path.field("port"));
            }
        }
        if let Some(sleep) = self.sleep {
            let path = path.field("sleep");
            if first(cx, path) {
                sleep_action(cx, sleep, grace, path);
            }
        }
        if !one {
            cx.errors.required(path, "must specify a handler type");
        }
    }
}

/// `validateSleepAction`; a sleep of zero seconds is allowed since 1.33.
fn sleep_action(cx: &mut Cx, sleep: &SleepAction, grace: i64, path: Path<'_>) {
    if !cx.since(30, path, "PodLifecycleSleepAction") || grace < 0 {
        return;
    }
    let zero = cx.minor >= 33;
    let least = i64::from(!zero);
    if sleep.seconds < least || sleep.seconds > grace {
        let least = if zero { "non-negative" } else { "greater than 0" };
        let detail =
            format!("must be {least} and less than terminationGracePeriodSeconds ({grace})");
        cx.errors.invalid(path.field("seconds"), sleep.seconds, detail);
    }
}

fn http_get(cx: &mut Cx, http: &HttpGetAction, path: Path<'_>) {
    port(cx, &http.port, path.field("port"));
    if !["HTTP", "HTTPS"].contains(&http.scheme.as_str()) {
        cx.errors.not_supported(path.field("scheme"), &http.scheme, &["HTTP", "HTTPS"]);
    }
    let headers = path.field("httpHeaders");
    for (i, header) in http.http_headers.iter().enumerate() {
        let path = headers.index(i);
        cx.messages(path.field("name"), &header.name, names::http_header(&header.name));
    }
}

/// `ValidatePortNumOrName`.
fn port(cx: &mut Cx, port: &IntOrString, path: Path<'_>) {
    match port {
        IntOrString::Int(n) => number(cx, *n, path),
        IntOrString::String(name) => cx.messages(path, name, names::port_name(name)),
    }
}

/// `IsValidPortNum`.
pub(super) fn number(cx: &mut Cx, port: i32, path: Path<'_>) {
    if !(1..=65535).contains(&port) {
        cx.errors.invalid(path, port, names::range(1, 65535));
    }
}
