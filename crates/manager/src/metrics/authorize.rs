//! Who may read metrics: whoever the API server says may `get` the path `/metrics`
//! (controller-runtime: `filters.WithAuthenticationAndAuthorization`).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tracing::debug;

use crate::cluster::API_PATIENCE;

/// Asks the API server, and remembers its answers for a while.
pub(super) struct Authorizer {
    client: Client,
    known: Mutex<HashMap<String, (Instant, Answer)>>,
}

/// A status and what to say with it, if it is a no.
pub(super) type Answer = Result<(), (StatusCode, String)>;

/// How long a yes holds, and a no: as long as in controller-runtime a token, and as a denial.
const HOLDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));
/// More are forgotten: readers are few, and everything else is somebody who tries.
const MOST: usize = 256;

impl Authorizer {
    pub(super) fn new(client: Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Whether whoever sends this `Authorization` may read metrics.
    pub(super) async fn may_read(&self, authorization: Option<&HeaderValue>) -> Answer {
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let token = authorization
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim().to_owned())
            .filter(|token| !token.is_empty())
            .ok_or_else(unauthorized)?;
        if let Some(answer) = self.remembered(&token) {
            return answer;
        }
        let asked = tokio::time::timeout(API_PATIENCE, self.ask(&token)).await;
        match asked {
            Ok(Ok(answer)) => {
                self.remember(token, answer.clone());
                answer
            }
            failed => {
                let words = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the API server did not answer in time".to_owned(),
                };
                debug!(error = words, "cannot find out who may read metrics");
                let text = "Authentication failed".to_owned();
                Err((StatusCode::INTERNAL_SERVER_ERROR, text))
            }
        }
    }

    async fn ask(&self, token: &str) -> kube::Result<Answer> {
        let params = PostParams::default();
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            status: None,
        };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let status = reviews.create(&params, &review).await?.status.unwrap_or_default();
        let user = match (status.authenticated, status.user) {
            (Some(true), Some(user)) => user,
            _ => return Ok(Err((StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()))),
        };
        let UserInfo { username, groups, uid, extra } = user;
        let name = username.clone().unwrap_or_default();
        let access = SubjectAccessReview {
            metadata: ObjectMeta::default(),
            spec: SubjectAccessReviewSpec {
                user: username,
                groups,
                uid,
                extra,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some("/metrics".to_owned()),
                    verb: Some("get".to_owned()),
                }),
                resource_attributes: None,
            },
            status: None,
        };
        let accesses: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let allowed = accesses.create(&params, &access).await?.status.is_some_and(|s| s.allowed);
        Ok(if allowed {
            Ok(())
        } else {
            Err((StatusCode::FORBIDDEN, format!("Authorization denied for user {name}")))
        })
    }

    fn remembered(&self, token: &str) -> Option<Answer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (when, answer) = known.get(token)?;
        let holds = if answer.is_ok() { HOLDS.0 } else { HOLDS.1 };
        (when.elapsed() < holds).then(|| answer.clone())
    }

    fn remember(&self, token: String, answer: Answer) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(token, (Instant::now(), answer));
    }
}
