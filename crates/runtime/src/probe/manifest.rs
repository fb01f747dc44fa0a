//! From the handlers of a manifest to those that can be run: ports resolved, defaults filled in.

use std::collections::HashMap;

use holdfast_manifest::object::IntOrString;
use holdfast_manifest::object::container as object;

use super::{Exec, Grpc, Handler, HttpGet, TcpSocket};
use crate::config::expand;

/// Why a handler of a manifest cannot be run, in the kubelet's words. A probe answers with
/// [`ProbeResult::Error`](holdfast_lifecycle::ProbeResult::Error) then, a hook fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// A port name that the container does not have.
    #[error("port {0:?} not found")]
    PortNotFound(String),
    /// A number that is no port.
    #[error("invalid port number: {0}")]
    InvalidPort(i32),
    /// None of the known handlers is there.
    #[error("missing probe handler for container {0:?}")]
    Missing(String),
}

impl Handler {
    /// The handler of a probe of `container`.
    ///
    /// # Errors
    /// If a named port is not among the container's ports, or there is no handler.
    pub fn from_manifest(
        probe: &object::Probe,
        container: &object::Container,
    ) -> Result<Self, HandlerError> {
        if let Some(exec) = &probe.exec {
            return Ok(Self::Exec(Exec { command: expand_static(&exec.command, &container.env) }));
        }
        if let Some(get) = &probe.http_get {
            return http_get(get, container).map(Self::HttpGet);
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = resolve_port(&tcp.port, container)?;
            return Ok(Self::TcpSocket(TcpSocket { host: host(&tcp.host), port }));
        }
        if let Some(grpc) = &probe.grpc {
            let port = check_port(grpc.port)?;
            return Ok(Self::Grpc(Grpc {
                port,
                service: grpc.service.clone().unwrap_or_default(),
            }));
        }
        Err(HandlerError::Missing(container.name.clone()))
    }
}

/// The `httpGet` of a probe or hook (`pkg/probe/http`: `NewRequestForHTTPGetAction`).
pub(crate) fn http_get(
    get: &object::HttpGetAction,
    container: &object::Container,
) -> Result<HttpGet, HandlerError> {
    Ok(HttpGet {
        https: get.scheme.eq_ignore_ascii_case("https"),
        host: host(&get.host),
        port: resolve_port(&get.port, container)?,
        path: get.path.clone(),
        headers: get.http_headers.iter().map(|h| (h.name.clone(), h.value.clone())).collect(),
    })
}

/// An exec probe sees the environment only through `$(VAR)`, and of it only what stands in the
/// manifest itself: a variable with `valueFrom` counts as empty (kubelet:
/// `ExpandContainerCommandOnlyStatic`).
fn expand_static(command: &[String], env: &[object::EnvVar]) -> Vec<String> {
    let values: HashMap<&str, &str> =
        env.iter().map(|var| (var.name.as_str(), var.value.as_str())).collect();
    command
        .iter()
        .map(|word| expand(word, |name| values.get(name).map(|v| (*v).to_owned())))
        .collect()
}

fn host(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| name.to_owned())
}

/// `pkg/probe`: `ResolveContainerPort`.
fn resolve_port(port: &IntOrString, container: &object::Container) -> Result<u16, HandlerError> {
    match port {
        IntOrString::Int(number) => check_port(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .find(|port| port.name == *name)
            .ok_or_else(|| HandlerError::PortNotFound(name.clone()))
            .and_then(|port| check_port(port.container_port)),
    }
}

fn check_port(number: i32) -> Result<u16, HandlerError> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(HandlerError::InvalidPort(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> object::Container {
        object::Container {
            name: "web".to_owned(),
            ports: vec![
                object::ContainerPort {
                    name: "http".to_owned(),
                    container_port: 8081,
                    host_port: 80,
                    ..Default::default()
                },
                object::ContainerPort { name: "bad".to_owned(), ..Default::default() },
            ],
            env: vec![
                object::EnvVar {
                    name: "FILE".to_owned(),
                    value: "/tmp/ok".to_owned(),
                    ..Default::default()
                },
                object::EnvVar { name: "IP".to_owned(), ..Default::default() },
            ],
            ..Default::default()
        }
    }

    fn tcp(port: IntOrString) -> Result<Handler, HandlerError> {
        let action = object::TcpSocketAction { port, host: String::new() };
        let probe = object::Probe { tcp_socket: Some(action), ..Default::default() };
        Handler::from_manifest(&probe, &container())
    }

    #[test]
    fn named_ports_are_the_containers() {
        let name = |name: &str| IntOrString::String(name.to_owned());
        assert_eq!(tcp(name("http")), Ok(Handler::TcpSocket(TcpSocket { host: None, port: 8081 })));
        let errors = [
            (name("https"), "port \"https\" not found"),
            (name("8081"), "port \"8081\" not found"),
            (name("bad"), "invalid port number: 0"),
            (IntOrString::Int(70000), "invalid port number: 70000"),
            (IntOrString::Int(-1), "invalid port number: -1"),
        ];
        for (port, want) in errors {
            assert_eq!(tcp(port).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn a_command_sees_static_variables_only() {
        let command = ["test", "-f", "$(FILE)", "$(IP)", "$(HOSTNAME)"].map(str::to_owned).to_vec();
        let probe =
            object::Probe { exec: Some(object::ExecAction { command }), ..Default::default() };
        let Ok(Handler::Exec(Exec { command })) = Handler::from_manifest(&probe, &container())
        else {
            panic!("not an exec handler");
        };
        assert_eq!(command, ["test", "-f", "/tmp/ok", "", "$(HOSTNAME)"]);
    }

    #[test]
    fn all_fields_of_a_request_arrive() {
        let action = object::HttpGetAction {
            path: "/ready".to_owned(),
            port: IntOrString::String("http".to_owned()),
            host: "example.com".to_owned(),
            scheme: "HTTPS".to_owned(),
            http_headers: vec![object::HttpHeader { name: "A".to_owned(), value: "b".to_owned() }],
        };
        let probe = object::Probe { http_get: Some(action), ..Default::default() };
        let want = HttpGet {
            https: true,
            host: Some("example.com".to_owned()),
            port: 8081,
            path: "/ready".to_owned(),
            headers: vec![("A".to_owned(), "b".to_owned())],
        };
        assert_eq!(Handler::from_manifest(&probe, &container()), Ok(Handler::HttpGet(want)));
    }

    #[test]
    fn no_handler_is_an_error() {
        let missing = Handler::from_manifest(&object::Probe::default(), &container());
        assert_eq!(missing, Err(HandlerError::Missing("web".to_owned())));
    }
}
