//! Calls to the runtime, and what happens when it is gone for a while.
//!
//! A runtime that is restarted keeps its containers. So a call that finds nobody waits until the
//! runtime answers again ([`Client::call`]), for a minute at the most: nothing of a pod fails because
//! its runtime was updated. Calls that make something cannot simply be repeated, as nobody knows
//! whether the first try did it: their callers use [`Client::once`] and look.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::api::{self, Call};
use super::endpoint::Endpoint;

/// kubelet: `runtimeRequestTimeout`.
pub(super) const REQUEST: Duration = Duration::from_secs(120);
/// How long a call waits for a runtime that is gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a runtime that is gone is asked whether it is back: nothing tells when it will answer.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// kubelet: `maxMsgSize`.
const MAX_MESSAGE: usize = 16 << 20;

/// The connection to a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    endpoint: Endpoint,
    outage: Rc<Outage>,
}

#[derive(Debug, Default)]
struct Outage {
    since: Cell<Option<Instant>>,
    back: Notify,
    /// Nobody wants to wait any more.
    impatient: Cell<bool>,
    warnings: RefCell<Option<UnboundedSender<String>>>,
}

/// A call that was not answered well.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// The connection broke or could not be made: nobody knows whether the runtime has done it.
    Gone(String),
    /// The time was over.
    TimedOut,
    /// The runtime refused.
    Refused { code: Code, message: String },
}

impl CallError {
    /// The runtime's own words.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Gone(words) => words.clone(),
            Self::TimedOut => "context deadline exceeded".to_owned(),
            Self::Refused { message, .. } => message.clone(),
        }
    }

    /// What the kubelet's client makes of them.
    pub(super) fn words(&self) -> String {
        let code = match self {
            Self::Gone(_) => Code::Unavailable,
            Self::TimedOut => Code::DeadlineExceeded,
            Self::Refused { code, .. } => *code,
        };
        // Go spells one of them in its own way.
        let code = match code {
            Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        };
        format!("rpc error: code = {code} desc = {}", self.message())
    }

    pub(super) fn is(&self, wanted: Code) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_))
    }

    /// Sorts what tonic says: a status that it has made up itself has a source.
    fn from_status(status: &Status, endpoint: &Endpoint) -> Self {
        // containerd answers before its CRI part is up.
        let starting = status.message().contains("server is not initialized yet");
        if status.source().is_none() && !starting {
            return Self::Refused { code: status.code(), message: status.message().to_owned() };
        }
        let mut deepest = status.message().to_owned();
        let mut source = status.source();
        while let Some(error) = source {
            deepest = error.to_string();
            source = error.source();
        }
        Self::Gone(format!("connection error: {}: {deepest}", endpoint.path().display()))
    }
}

impl Client {
    /// A client; nothing is sent before the first call. The outages of the runtime are told to
    /// `warnings`.
    pub(super) fn new(endpoint: &Endpoint, warnings: Option<UnboundedSender<String>>) -> Self {
        // A path is always a valid URI of this form, as `Endpoint` has checked it.
        let uri = format!("unix://{}", endpoint.path().display());
        let channel = tonic::transport::Endpoint::from_shared(uri)
            .unwrap_or_else(|_| tonic::transport::Endpoint::from_static("unix:///"))
            .connect_lazy();
        let outage = Outage { warnings: RefCell::new(warnings), ..Outage::default() };
        Self { channel, endpoint: endpoint.clone(), outage: Rc::new(outage) }
    }

    /// Makes a call, once.
    pub(super) async fn once<Q: Call>(
        &self,
        request: Q,
        limit: Option<Duration>,
    ) -> Result<Q::Answer, CallError> {
        let answer = self.greeting(request, limit).await;
        if let Err(CallError::Gone(words)) = &answer {
            self.lost(words);
        }
        answer
    }

    /// Makes a call to someone who may never have been there.
    pub(super) async fn greeting<Q: Call>(
        &self,
        request: Q,
        limit: Option<Duration>,
    ) -> Result<Q::Answer, CallError> {
        let answer = async {
            let mut grpc = self.grpc().await?;
            let path = PathAndQuery::from_static(Q::PATH);
            let codec = ProstCodec::<Q, Q::Answer>::default();
            let answer = grpc.unary(Request::new(request), path, codec).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| CallError::from_status(&status, &self.endpoint))
        };
        match limit {
            Some(limit) => match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(CallError::TimedOut),
            },
            None => answer.await,
        }
    }

    /// Makes a call that does no harm if it is made twice; waits for a runtime that is gone.
    pub(super) async fn call<Q: Call>(
        &self,
        request: Q,
        limit: Option<Duration>,
    ) -> Result<Q::Answer, CallError> {
        loop {
            match self.once(request.clone(), limit).await {
                Err(error) if error.is_gone() && self.returned().await => {}
                other => return other,
            }
        }
    }

    /// What happens to all containers. The answer's headers come with the first event, so this may
    /// take for ever.
    pub(super) async fn events(&self) -> Result<Streaming<api::ContainerEventResponse>, CallError> {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(api::GetEventsRequest::PATH);
        let codec = ProstCodec::<api::GetEventsRequest, api::ContainerEventResponse>::default();
        let stream = grpc.server_streaming(Request::new(api::GetEventsRequest {}), path, codec);
        stream
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| CallError::from_status(&status, &self.endpoint))
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, CallError> {
        let mut grpc = Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        match grpc.ready().await {
            Ok(()) => Ok(grpc),
            Err(error) => {
                let status = Status::from_error(Box::new(error));
                Err(CallError::from_status(&status, &self.endpoint))
            }
        }
    }

    /// Whether the runtime is gone at the moment, as far as anyone has noticed.
    pub(super) fn is_gone(&self) -> bool {
        self.outage.since.get().is_some()
    }

    /// From now on nobody waits for a runtime that is gone.
    pub(super) fn stop_waiting(&self) {
        self.outage.impatient.set(true);
        self.outage.back.notify_waiters();
    }

    /// Waits until a runtime that is gone answers again; false if it does not in time.
    pub(super) async fn returned(&self) -> bool {
        let Some(since) = self.outage.since.get() else { return true };
        let back = self.outage.back.notified();
        tokio::pin!(back);
        back.as_mut().enable();
        if self.outage.impatient.get() {
            return false;
        }
        let left = PATIENCE.saturating_sub(since.elapsed());
        let _ = tokio::time::timeout(left, back).await;
        !self.is_gone()
    }

    /// Waits as long as it takes for a runtime that is gone.
    pub(super) async fn surely_returned(&self) {
        while self.is_gone() {
            let back = self.outage.back.notified();
            let _ = tokio::time::timeout(PATIENCE, back).await;
        }
    }

    /// Remembers that the runtime is gone, and looks out for it.
    fn lost(&self, words: &str) {
        if self.is_gone() {
            return;
        }
        self.outage.since.set(Some(Instant::now()));
        self.warn(format!(
            "the container runtime is gone ({words}); containers go on, and what is to be done with \
             them waits until it is back"
        ));
        let client = self.clone();
        tokio::task::spawn_local(async move {
            while client.greeting(api::StatusRequest::default(), Some(REQUEST)).await.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
            client.outage.since.set(None);
            client.outage.back.notify_waiters();
            client.warn("the container runtime is back".to_owned());
        });
    }

    pub(super) fn warn(&self, text: String) {
        if let Some(sender) = &*self.outage.warnings.borrow() {
            // Nobody listens any more: then nobody misses it.
            let _ = sender.send(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_the_kubelets() {
        let refused = |code, text: &str| CallError::Refused { code, message: text.into() };
        for (error, words) in [
            (refused(Code::NotFound, "no"), "rpc error: code = NotFound desc = no"),
            (refused(Code::Cancelled, "x"), "rpc error: code = Canceled desc = x"),
            (
                CallError::TimedOut,
                "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            ),
            (CallError::Gone("g".into()), "rpc error: code = Unavailable desc = g"),
        ] {
            assert_eq!(error.words(), words);
        }
    }
}
