//! The body of an answer to a client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::audit::Record;
use crate::upstream::{Download, WireError};

/// What is sent, and the record of the request, which is written when this is dropped.
pub(crate) struct Reply {
    content: Content,
    record: Option<Box<Record>>,
}

enum Content {
    Empty,
    Own(Bytes),
    Passed(Download),
    Ending(Box<Ending>),
}

/// A download that is ended from outside.
struct Ending {
    download: Download,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Whether the client is to take it for the end of the answer, as of a watch that the API server
    /// ends; everything else breaks off so that nobody takes a part for the whole.
    cleanly: bool,
}

/// An answer was broken off on purpose.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error("the API server's answer broke off: {0}")]
    Upstream(#[from] WireError),
    #[error("ended by the proxy")]
    Ended,
}

impl Reply {
    pub(crate) fn own(bytes: Bytes, record: Option<Box<Record>>) -> Self {
        let content = if bytes.is_empty() { Content::Empty } else { Content::Own(bytes) };
        Self { content, record }
    }

    pub(crate) fn passed(download: Download, record: Box<Record>) -> Self {
        Self { content: Content::Passed(download), record: Some(record) }
    }

    /// Passed until `end`.
    pub(crate) fn until(
        end: impl Future<Output = ()> + Send + 'static,
        cleanly: bool,
        download: Download,
        record: Box<Record>,
    ) -> Self {
        Self {
            content: Content::Ending(Box::new(Ending { download, end: Box::pin(end), cleanly })),
            record: Some(record),
        }
    }

    fn count(&mut self, data: &Bytes) {
        if let Some(record) = &mut self.record {
            record.sent += data.len() as u64;
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = ReplyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReplyError>>> {
        let data = match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(bytes)))
            }
            Content::Passed(download) => download.poll_data(cx),
            Content::Ending(ending) => match ending.download.poll_data(cx) {
                Poll::Pending if ending.end.as_mut().poll(cx).is_ready() => {
                    let cleanly = ending.cleanly;
                    self.content = Content::Empty;
                    return Poll::Ready((!cleanly).then_some(Err(ReplyError::Ended)));
                }
                data => data,
            },
        };
        data.map(|data| match data {
            None => None,
            Some(Ok(bytes)) => {
                self.count(&bytes);
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(error)) => {
                if let Some(record) = &mut self.record {
                    record.ended_by = Some("apiserver");
                }
                Some(Err(error.into()))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Own(_) => false,
            Content::Passed(download) => download.is_end_stream(),
            Content::Ending(ending) => ending.download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Passed(download) => download.size_hint(),
            Content::Ending(ending) => ending.download.size_hint(),
        }
    }
}
