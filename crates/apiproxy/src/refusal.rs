//! Every answer that the proxy gives by itself is a Kubernetes `Status` object, so that kubectl and
//! client-go print its message instead of "body was not decodable".

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

/// A request that is not forwarded, or whose forwarding failed, and what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The HTTP status of the answer.
    pub code: StatusCode,
    /// What is wrong, where, and what to do about it.
    pub message: String,
    /// After how many seconds the client may try again.
    pub retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal with `code` that says `message`.
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// 400: no request that a Kubernetes client would send.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 403: this peer may not do this, whatever the API server would say.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 429: a limit of this proxy.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).retry_after(1)
    }

    /// 503: the proxy or the API server is not ready.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(1)
    }

    /// The same with a `Retry-After` of `seconds`.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The reason of the `Status` (apimachinery: `metav1.StatusReason`).
    pub fn reason(&self) -> &'static str {
        match self.code.as_u16() {
            400 => "BadRequest",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            405 => "MethodNotAllowed",
            413 => "RequestEntityTooLarge",
            429 => "TooManyRequests",
            500 | 502 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        }
    }

    /// The `Status` as JSON.
    pub fn body(&self) -> Bytes {
        let mut details = serde_json::Map::new();
        if let Some(seconds) = self.retry_after {
            details.insert("retryAfterSeconds".into(), seconds.into());
        }
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason(),
            "details": details,
            "code": self.code.as_u16(),
        });
        Bytes::from(status.to_string())
    }

    /// The whole answer.
    pub fn response(&self) -> Response<Bytes> {
        let mut response = Response::new(self.body());
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p9_an_answer_of_the_proxy_is_a_status_that_kubectl_can_read() {
        let refusal = Refusal::too_many_requests("slow \"down\"\n");
        let response = refusal.response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["retry-after"], "1");
        let status: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "slow \"down\"\n", "reason": "TooManyRequests",
                "details": {"retryAfterSeconds": 1}, "code": 429,
            })
        );
    }

    #[test]
    fn reasons_are_those_of_apimachinery() {
        for (code, reason) in [
            (400, "BadRequest"),
            (403, "Forbidden"),
            (503, "ServiceUnavailable"),
            (504, "Timeout"),
            (502, "InternalError"),
        ] {
            let code = StatusCode::from_u16(code).unwrap();
            assert_eq!(Refusal::new(code, "").reason(), reason);
        }
    }
}
