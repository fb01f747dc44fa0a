//! A CRI runtime of our own, for what a real one cannot be made to do: sandboxes and containers are
//! entries of a table, and the test decides how each call ends.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use holdfast_runtime::cri::api::{self, Call, ContainerState, PodSandboxState};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// How a call ends.
#[derive(Clone, Debug)]
pub enum Answer {
    /// As the table says.
    Usual,
    /// With a status: code and message.
    Refuse(u32, String),
    /// Never.
    Hang,
    /// As the table says, but the connection breaks before the answer.
    BreakAfter,
}

/// Decides about a call by its method (`RunPodSandbox`) and how often that was called before.
type Decide = Box<dyn Fn(&str, usize) -> Answer + Send + Sync>;

pub struct Fake {
    pub socket: PathBuf,
    pub inner: Arc<Inner>,
    accept: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
pub struct Inner {
    decide: Mutex<Option<Decide>>,
    /// Method and request of every call.
    calls: Mutex<Vec<(String, Bytes)>>,
    /// Calls that the caller gave up.
    pub cancelled: AtomicUsize,
    pub table: Mutex<Table>,
    streams: Mutex<Vec<UnboundedSender<Bytes>>>,
    connections: Mutex<Vec<JoinHandle<()>>>,
    next: AtomicUsize,
}

#[derive(Default)]
pub struct Table {
    pub sandboxes: BTreeMap<String, (api::PodSandboxConfig, PodSandboxState)>,
    pub containers: BTreeMap<String, Entry>,
    /// Images that are there.
    pub images: HashMap<String, api::Image>,
    /// Whether it has `GetContainerEvents`.
    pub events: bool,
    /// Whether its default handler has `recursiveReadOnly` mounts.
    pub read_only_below: bool,
    /// What `ExecSync` answers.
    pub exec: api::ExecSyncResponse,
}

pub struct Entry {
    pub sandbox: String,
    pub config: api::ContainerConfig,
    pub status: api::ContainerStatus,
    pub log: PathBuf,
}

pub const UNKNOWN: u32 = 2;
pub const DEADLINE_EXCEEDED: u32 = 4;
pub const NOT_FOUND: u32 = 5;
pub const UNIMPLEMENTED: u32 = 12;

impl Fake {
    /// Serves on a socket in `dir`, from a task.
    pub fn start(dir: &Path) -> Self {
        let fake =
            Self { socket: dir.join("fake.sock"), inner: Arc::default(), accept: Mutex::default() };
        fake.listen();
        fake
    }

    pub fn listen(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = tokio::net::UnixListener::bind(&self.socket).unwrap();
        let inner = Arc::clone(&self.inner);
        let accept = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let own = Arc::clone(&inner);
                let service = hyper::service::service_fn(move |request| {
                    let inner = Arc::clone(&own);
                    async move { Ok::<_, Infallible>(inner.serve(request).await) }
                });
                let connection = tokio::spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // An error is a connection that broke.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
                inner.connections.lock().unwrap().push(connection);
            }
        });
        *self.accept.lock().unwrap() = Some(accept);
    }

    /// As if it were killed: no connection is left, and nobody listens.
    pub fn die(&self) {
        if let Some(accept) = self.accept.lock().unwrap().take() {
            accept.abort();
        }
        self.inner.break_all();
        let _ = std::fs::remove_file(&self.socket);
    }

    pub fn decide(&self, decide: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) {
        *self.inner.decide.lock().unwrap() = Some(Box::new(decide));
    }

    pub fn table<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut self.inner.table.lock().unwrap())
    }

    /// The requests of one kind so far.
    pub fn requests<Q: Call>(&self) -> Vec<Q> {
        let method = Q::PATH.rsplit('/').next().unwrap();
        let calls = self.inner.calls.lock().unwrap();
        let of_kind = calls.iter().filter(|call| call.0 == method);
        of_kind.map(|call| Q::decode(call.1.clone()).unwrap()).collect()
    }

    /// How often a method was called.
    pub fn count(&self, method: &str) -> usize {
        self.inner.calls.lock().unwrap().iter().filter(|call| call.0 == method).count()
    }

    /// Ends the container of this name, and tells those who listen.
    pub fn exit(&self, name: &str, code: i32) {
        self.change(name, |status| {
            status.set_state(ContainerState::Exited);
            status.exit_code = code;
        });
    }

    /// Changes the status of the container of this name, and tells those who listen.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut api::ContainerStatus)) {
        let id = self.table(|table| {
            let (id, entry) = table
                .containers
                .iter_mut()
                .find(|(_, e)| e.config.metadata.as_ref().unwrap().name == name)
                .expect("such a container");
            change(&mut entry.status);
            id.clone()
        });
        self.inner.tell(&id);
    }
}

impl Inner {
    fn break_all(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|task| task.abort());
        self.streams.lock().unwrap().clear();
    }

    fn tell(&self, id: &str) {
        let event = api::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: api::ContainerEventType::Stopped.into(),
        };
        let bytes = framed(&event);
        self.streams.lock().unwrap().retain(|stream| stream.send(bytes.clone()).is_ok());
    }

    async fn serve(self: Arc<Self>, request: http::Request<Incoming>) -> http::Response<Reply> {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = body.slice(5..);
        let before = {
            let mut calls = self.calls.lock().unwrap();
            calls.push((method.clone(), body.clone()));
            calls.iter().filter(|call| call.0 == method).count() - 1
        };
        let decided =
            self.decide.lock().unwrap().as_ref().map_or(Answer::Usual, |d| d(&method, before));
        let answer = match decided {
            Answer::Usual => self.usual(&method, body),
            Answer::Refuse(code, message) => Err((code, message)),
            Answer::Hang => {
                let _given_up = Count(Arc::clone(&self));
                std::future::pending().await
            }
            Answer::BreakAfter => {
                let _ = self.usual(&method, body);
                self.break_all();
                std::future::pending().await
            }
        };
        if method == "GetContainerEvents" && answer.is_ok() {
            let (sender, receiver) = unbounded_channel();
            self.streams.lock().unwrap().push(sender);
            // grpc-go sends the headers with the first message; the client must not wait for them.
            return respond(Reply::Stream(receiver), None);
        }
        match answer {
            Ok(bytes) => respond(Reply::Once(Some(bytes), (0, String::new())), None),
            Err((code, message)) => respond(Reply::End, Some((code, message))),
        }
    }

    fn usual(&self, method: &str, body: Bytes) -> Result<Bytes, (u32, String)> {
        fn read<Q: Call>(body: Bytes) -> Q {
            Q::decode(body).unwrap()
        }
        let not_found = |id: &str| (NOT_FOUND, format!("{id}: not found"));
        let mut table = self.table.lock().unwrap();
        let number = || self.next.fetch_add(1, Ordering::Relaxed);
        Ok(match method {
            "Version" => framed(&api::VersionResponse {
                runtime_name: "fake".into(),
                runtime_version: "1".into(),
                runtime_api_version: "v1".into(),
            }),
            "Status" => {
                let condition = |kind: &str| api::RuntimeCondition {
                    kind: kind.into(),
                    status: true,
                    ..api::RuntimeCondition::default()
                };
                let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
                let status = Some(api::RuntimeStatus { conditions });
                let recursive_read_only_mounts = table.read_only_below;
                let features = Some(api::RuntimeHandlerFeatures { recursive_read_only_mounts });
                let handler = api::RuntimeHandler { name: String::new(), features };
                framed(&api::StatusResponse {
                    status,
                    runtime_handlers: vec![handler],
                    ..api::StatusResponse::default()
                })
            }
            "RunPodSandbox" => {
                let config = read::<api::RunPodSandboxRequest>(body).config.unwrap();
                let id = format!("sandbox{}", number());
                table.sandboxes.insert(id.clone(), (config, PodSandboxState::Ready));
                framed(&api::RunPodSandboxResponse { pod_sandbox_id: id })
            }
            "StopPodSandbox" => {
                let id = read::<api::StopPodSandboxRequest>(body).pod_sandbox_id;
                let sandbox = table.sandboxes.get_mut(&id).ok_or_else(|| not_found(&id))?;
                sandbox.1 = PodSandboxState::NotReady;
                for entry in table.containers.values_mut().filter(|entry| entry.sandbox == id) {
                    if entry.status.state() == ContainerState::Running {
                        entry.status.set_state(ContainerState::Exited);
                        entry.status.exit_code = 137;
                    }
                }
                framed(&api::Empty {})
            }
            "RemovePodSandbox" => {
                let id = read::<api::RemovePodSandboxRequest>(body).pod_sandbox_id;
                table.sandboxes.remove(&id);
                table.containers.retain(|_, entry| entry.sandbox != id);
                framed(&api::Empty {})
            }
            "PodSandboxStatus" => {
                let id = read::<api::PodSandboxStatusRequest>(body).pod_sandbox_id;
                let (_, state) = table.sandboxes.get(&id).ok_or_else(|| not_found(&id))?;
                let network = Some(api::PodSandboxNetworkStatus { ip: "10.1.2.3".into() });
                let status = api::PodSandboxStatus { id, state: (*state).into(), network };
                framed(&api::PodSandboxStatusResponse {
                    status: Some(status),
                    info: HashMap::new(),
                })
            }
            "ListPodSandbox" => {
                let filter = read::<api::ListPodSandboxRequest>(body).filter.unwrap_or_default();
                let sandbox = |(id, (config, state)): (&String, &(api::PodSandboxConfig, _))| {
                    api::PodSandbox {
                        id: id.clone(),
                        metadata: config.metadata.clone(),
                        state: i32::from(*state),
                        labels: config.labels.clone(),
                    }
                };
                let items = table.sandboxes.iter().map(sandbox);
                let items = items.filter(|s| selects(&filter.label_selector, &s.labels)).collect();
                framed(&api::ListPodSandboxResponse { items })
            }
            "CreateContainer" => {
                let request = read::<api::CreateContainerRequest>(body);
                let config = request.config.unwrap();
                let logs = request.sandbox_config.unwrap().log_directory;
                let log = Path::new(&logs).join(&config.log_path);
                std::fs::write(&log, "").unwrap();
                let id = format!("container{}", number());
                let status = api::ContainerStatus { id: id.clone(), ..Default::default() };
                let entry = Entry { sandbox: request.pod_sandbox_id, config, status, log };
                table.containers.insert(id.clone(), entry);
                framed(&api::CreateContainerResponse { container_id: id })
            }
            "StartContainer" => {
                let id = read::<api::StartContainerRequest>(body).container_id;
                let entry = table.containers.get_mut(&id).ok_or_else(|| not_found(&id))?;
                entry.status.set_state(ContainerState::Running);
                framed(&api::Empty {})
            }
            "StopContainer" => {
                let id = read::<api::StopContainerRequest>(body).container_id;
                let entry = table.containers.get_mut(&id).ok_or_else(|| not_found(&id))?;
                entry.status.set_state(ContainerState::Exited);
                entry.status.exit_code = 143;
                drop(table);
                self.tell(&id);
                framed(&api::Empty {})
            }
            "RemoveContainer" => {
                let id = read::<api::RemoveContainerRequest>(body).container_id;
                table.containers.remove(&id);
                framed(&api::Empty {})
            }
            "ListContainers" => {
                let filter = read::<api::ListContainersRequest>(body).filter.unwrap_or_default();
                let container = |(id, entry): (&String, &Entry)| api::Container {
                    id: id.clone(),
                    pod_sandbox_id: entry.sandbox.clone(),
                    metadata: entry.config.metadata.clone(),
                    state: entry.status.state,
                    labels: entry.config.labels.clone(),
                };
                let all = table.containers.iter().map(container);
                let fits = |c: &api::Container| selects(&filter.label_selector, &c.labels);
                framed(&api::ListContainersResponse { containers: all.filter(fits).collect() })
            }
            "ContainerStatus" => {
                let id = read::<api::ContainerStatusRequest>(body).container_id;
                let entry = table.containers.get(&id).ok_or_else(|| not_found(&id))?;
                let status = Some(entry.status.clone());
                framed(&api::ContainerStatusResponse { status, info: HashMap::new() })
            }
            "ExecSync" => framed(&table.exec),
            "GetContainerEvents" if table.events => Bytes::new(),
            "ImageStatus" => {
                let image = read::<api::ImageStatusRequest>(body).image.unwrap().image;
                let found = |name: &String, i: &api::Image| *name == image || i.id == image;
                let image = table.images.iter().find(|(name, i)| found(name, i));
                framed(&api::ImageStatusResponse { image: image.map(|found| found.1.clone()) })
            }
            "PullImage" => {
                let name = read::<api::PullImageRequest>(body).image.unwrap().image;
                let id = format!("sha256:{name}");
                let image = api::Image { id: id.clone(), ..api::Image::default() };
                table.images.insert(name, image);
                framed(&api::PullImageResponse { image_ref: id })
            }
            other => return Err((UNIMPLEMENTED, format!("unknown method {other}"))),
        })
    }
}

/// Counts a call that is dropped.
struct Count(Arc<Inner>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A message as gRPC frames it.
fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&[0]);
    bytes.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn respond(reply: Reply, refusal: Option<(u32, String)>) -> http::Response<Reply> {
    let mut response = http::Response::builder().header("content-type", "application/grpc");
    if let Some((code, message)) = refusal {
        response = response.header("grpc-status", code).header("grpc-message", message);
    }
    response.body(reply).unwrap()
}

/// The body of an answer.
pub enum Reply {
    /// One message, then the status.
    Once(Option<Bytes>, (u32, String)),
    /// Messages as they come.
    Stream(UnboundedReceiver<Bytes>),
    /// Nothing: the status is among the headers.
    End,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Once(message, (code, text)) => {
                if let Some(message) = message.take() {
                    return Poll::Ready(Some(Ok(Frame::data(message))));
                }
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", (*code).into());
                trailers.insert("grpc-message", text.parse().unwrap());
                *self = Self::End;
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Self::Stream(messages) => {
                messages.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::End => Poll::Ready(None),
        }
    }
}
