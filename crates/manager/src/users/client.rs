//! Asks the Netmaker server, by HTTPS, whose certificate is always verified: it is sent an
//! administrator's token, and its answers are who may do what.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::info;

use super::Mappings;
use crate::config::{Token, Users};

/// One question and its answer take no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// About a hundred thousand users.
const MOST: usize = 16 << 20;

/// What a server said.
#[derive(Debug)]
pub(super) enum Answer {
    /// These are the users.
    Mappings(Mappings),
    /// They are those of the answer before.
    Same,
}

/// Why nothing is known of users.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("cannot read {what} {path}: {error}", path = path.display())]
    File { what: &'static str, path: PathBuf, error: io::Error },
    #[error("the token is nothing that a header can carry; it should be one line of text")]
    Token,
    #[error("no certificate authority is known: set API_CA_FILE")]
    NoRoots,
    #[error("cannot reach {server}: {error}")]
    Connect { server: String, error: String },
    #[error("no answer from {server} within {PATIENCE:?}")]
    Late { server: String },
    #[error("{server} answered {status}{hint}")]
    Status { server: String, status: StatusCode, hint: &'static str, retry_after: Option<Duration> },
    #[error("the answer of {server} cannot be understood: {error}")]
    Body { server: String, error: String },
}

/// Asks, and remembers the last answer's mark.
pub(super) struct Client {
    users: Users,
    mark: Option<HeaderValue>,
}

impl Client {
    pub(super) fn new(users: Users) -> Self {
        Self { users, mark: None }
    }

    /// Who is who.
    pub(super) async fn mappings(&mut self) -> Result<Answer, AskError> {
        let server = self.users.server.clone();
        let mut request = Request::get("/api/v1/users/network_ip")
            .header(header::AUTHORIZATION, self.authorization()?);
        if let Some(mark) = &self.mark {
            request = request.header(header::IF_NONE_MATCH, mark);
        }
        let asked = tokio::time::timeout(PATIENCE, async {
            let (response, body) = self.ask(&server, request).await?;
            match response.status() {
                StatusCode::NOT_MODIFIED if self.mark.is_some() => Ok((Answer::Same, None)),
                StatusCode::OK => {
                    let mappings = Mappings::parse(&body).map_err(|error| AskError::Body {
                        server: server.clone(),
                        error: error.to_string(),
                    })?;
                    let mark = response.headers().get(header::ETAG).cloned();
                    Ok((Answer::Mappings(mappings), mark))
                }
                _ => Err(refused(&server, &response)),
            }
        });
        let (answer, mark) =
            asked.await.map_err(|_| AskError::Late { server: server.clone() })??;
        if matches!(answer, Answer::Mappings(_)) {
            self.mark = mark;
        }
        Ok(answer)
    }

    /// Whether the server says that it is Netmaker Pro; `None` if it says nothing. Only a hint for people:
    /// nothing is decided by it.
    pub(super) async fn is_pro(&self) -> Option<bool> {
        #[derive(Deserialize)]
        struct Status {
            is_pro: bool,
        }
        #[derive(Deserialize)]
        struct Wrapped {
            #[serde(rename = "Response")]
            response: Status,
        }
        let request = Request::get("/api/server/status");
        let asked = self.ask(&self.users.pro_server, request);
        let (response, body) = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let bare = serde_json::from_slice(&body).map(|status: Status| status.is_pro);
        let wrapped =
            || serde_json::from_slice(&body).map(|status: Wrapped| status.response.is_pro);
        let pro = bare.or_else(|_| wrapped()).ok()?;
        info!(server = self.users.pro_server, pro, "Asked whether the server is Netmaker Pro");
        Some(pro)
    }

    /// The token as it is now: a file may have another one than before.
    fn authorization(&self) -> Result<HeaderValue, AskError> {
        let read;
        let token = match &self.users.token {
            Token::Text(text) => text,
            Token::File(path) => {
                read = std::fs::read_to_string(path).map_err(|error| AskError::File {
                    what: "the token",
                    path: path.clone(),
                    error,
                })?;
                read.trim()
            }
        };
        if token.is_empty() {
            return Err(AskError::Token);
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| AskError::Token)?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn ask(
        &self,
        server: &str,
        request: http::request::Builder,
    ) -> Result<(Response<()>, Bytes), AskError> {
        let connect = |error: &dyn std::fmt::Display| AskError::Connect {
            server: server.to_owned(),
            error: error.to_string(),
        };
        let authority: http::uri::Authority = server.parse().map_err(|e| connect(&e))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|e| connect(&e))?;
        let tls = TlsConnector::from(Arc::new(self.tls()?));
        let port = authority.port_u16().unwrap_or(443);
        let stream = TcpStream::connect((host, port)).await.map_err(|e| connect(&e))?;
        let stream = tls.connect(name, stream).await.map_err(|e| connect(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| connect(&e))?;
        let request = request
            .header(header::HOST, server)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|e| connect(&e))?;
        let answer = async {
            let response: Response<Incoming> =
                sender.send_request(request).await.map_err(|e| connect(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MOST).collect().await.map_err(|error| {
                AskError::Body { server: server.to_owned(), error: error.to_string() }
            })?;
            Ok((Response::from_parts(head, ()), body.to_bytes()))
        };
        // The connection is driven for as long as the answer takes.
        tokio::select! {
            answer = answer => answer,
            never = async { let _ = connection.await; std::future::pending().await } => never,
        }
    }

    /// The certificates to trust are read anew each time: they may be replaced, as the token.
    fn tls(&self) -> Result<ClientConfig, AskError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs().certs;
        if system.is_empty() {
            // An image without files: what browsers trust.
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        } else {
            roots.add_parsable_certificates(system);
        }
        if let Some(path) = &self.users.ca_file {
            let file = |error| AskError::File { what: "API_CA_FILE", path: path.clone(), error };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| file(io::Error::other(error)))?;
            if certificates.is_empty() {
                return Err(file(io::Error::other("there is no certificate in it")));
            }
            roots.add_parsable_certificates(certificates);
        }
        if roots.is_empty() {
            return Err(AskError::NoRoots);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| AskError::Connect {
                server: self.users.server.clone(),
                error: error.to_string(),
            })?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

fn refused(server: &str, response: &Response<()>) -> AskError {
    let status = response.status();
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": the token of API_TOKEN is not accepted"
        }
        StatusCode::NOT_FOUND => ": it has no user mappings, which Netmaker Pro has",
        _ => "",
    };
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok());
    let retry_after = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    AskError::Status { server: server.to_owned(), status, hint, retry_after }
}
