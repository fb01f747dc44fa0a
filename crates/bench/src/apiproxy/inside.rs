//! The two programs that the measurement starts as processes of their own, so that each has its own memory:
//! an API server that always gives the same answer, and holdfast's proxy.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use holdfast_apiproxy::{
    ClientCertificate, Config, Hosts, Identity, Limits, Mode, Proxy, SystemNames, Timeouts, Token,
    Unmapped, Upstream,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The API server.
    Upstream,
    /// The proxy.
    Proxy,
    /// The proxy, writing its audit lines to /dev/null.
    Audited,
}

/// Runs until its standard input ends, so that it cannot outlive who has started it.
///
/// # Errors
/// If the certificates in `directory` cannot be used, or no port is free.
pub fn run(role: Role, directory: &Path, upstream: Option<&str>) -> Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // The proxy has threads of its own.
    let runtime = match role {
        Role::Upstream => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        Role::Proxy | Role::Audited => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?
        }
    };
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        match role {
            Role::Upstream => answer(listener, directory).await,
            Role::Proxy | Role::Audited => {
                if role == Role::Audited {
                    let nowhere = std::fs::File::options().write(true).open("/dev/null")?;
                    tracing_subscriber::fmt().with_writer(nowhere).init();
                }
                let upstream = upstream.context("the proxy needs --upstream")?;
                let proxy = Proxy::new(config(directory, upstream)?)?;
                proxy.serve(listener, None, CancellationToken::new()).await;
                Ok(())
            }
        }
    })
}

fn config(directory: &Path, upstream: &str) -> Result<Config> {
    let file = |name: &str| std::fs::read(directory.join(name)).ok();
    let groups = file("groups").unwrap_or_else(|| b"wireguard-peers".to_vec());
    let group = String::from_utf8(groups)?;
    let client = file("client.crt").zip(file("client.key"));
    let token = directory.join("token");
    let user = Identity {
        user: "wireguard-peer".into(),
        groups: vec![group.clone()],
        ..Identity::default()
    };
    Ok(Config {
        mode: Mode::Auth {
            unmapped: Unmapped::As(user),
            allowed: SystemNames { groups: [group].into(), ..SystemNames::default() },
            await_mappings: false,
        },
        upstream: Upstream {
            url: upstream.to_owned(),
            ca: std::fs::read(directory.join("ca.crt"))?,
            client: client.map(|(chain, key)| ClientCertificate { chain, key }),
            token: token.is_file().then_some(Token::File(token)),
            server_name: None,
        },
        hosts: Hosts::default(),
        limits: Limits::default(),
        timeouts: Timeouts::default(),
    })
}

/// Reads requests without a body, and answers each with the same bytes; a watch with one event a second, an exec
/// with what it is sent.
async fn answer(listener: TcpListener, directory: &Path) -> Result<()> {
    let chain = CertificateDer::from_pem_file(directory.join("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_file(directory.join("tls.key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let body = "x".repeat(BODY);
    let fixed: Arc<[u8]> = format!(
        "HTTP/1.1 200 OK\r\nAudit-Id: 5f0c2b1e\r\nCache-Control: no-cache, private\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n{body}"
    )
    .into_bytes()
    .into();
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, fixed) = (acceptor.clone(), Arc::clone(&fixed));
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut stream = acceptor.accept(stream).await?;
            let (mut buffer, mut have) = (vec![0; 4096], 0);
            loop {
                let read = stream.read(&mut buffer[have..]).await?;
                if read == 0 {
                    return Ok(());
                }
                have += read;
                if !buffer[..have].ends_with(b"\r\n\r\n") {
                    continue;
                }
                let is_watch = buffer.starts_with(b"GET /api/v1/pods?watch");
                have = 0;
                let is_exec = buffer.starts_with(b"GET /exec");
                if is_exec {
                    stream.write_all(SWITCHED).await?;
                    stream.flush().await?;
                    // Frames come back as they are, which is all that whoever sent them looks for.
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    tokio::io::copy(&mut reader, &mut writer).await?;
                    return Ok(());
                }
                if is_watch {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                        .await?;
                    loop {
                        stream.write_all(b"9\r\n{\"a\": 1}\n\r\n").await?;
                        stream.flush().await?;
                        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    }
                }
                stream.write_all(&fixed).await?;
                stream.flush().await?;
            }
            #[expect(unreachable_code, reason = "names the type of the errors above")]
            std::io::Result::Ok(())
        });
    }
}

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// As large as the answer to `/version`.
const BODY: usize = 260;
