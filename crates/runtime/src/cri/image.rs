//! Images of the runtime: whether they are there, and pulling them.

use std::collections::BTreeMap;

use holdfast_lifecycle::status::Reason;
use tonic::Code;

use super::CriRuntime;
use super::api;
use super::client::{CallError, REQUEST};
use super::keyring::{Credentials, Keyring};
use crate::contract::{PullRequest, RootFs};
use crate::image::{Image, ImageConfig, ImageName, PullError, PullPolicy};

/// What a registry's trouble begins with (cri-api: `ErrRegistryUnavailable`,
/// `ErrSignatureValidationFailed`).
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";
const SIGNATURE_FAILED: &str = "SignatureValidationFailed";

impl CriRuntime {
    /// Makes sure that an image is there (kubelet: `EnsureImageExists`).
    pub(super) async fn pull_image(&self, request: &PullRequest) -> Result<Image, PullError> {
        let wanted = self.inner.renamed(&request.image);
        // Who names what stands for an image means what is there: no registry may know that name, and
        // `Always` is the default of every image without a tag.
        let policy = match request.policy {
            PullPolicy::Always if wanted != request.image => PullPolicy::IfNotPresent,
            policy => policy,
        };
        let image = with_tag(wanted).map_err(|error| PullError {
            reason: "InvalidImageName".into(),
            message: format!(
                "Failed to apply default image tag {wanted:?}: couldn't parse image name \
                 {wanted:?}: {error}"
            ),
        })?;
        let present = self.image_status(&image).await.map_err(|error| PullError {
            reason: "ImageInspectError".into(),
            message: format!("Failed to inspect image {wanted:?}: {}", error.words()),
        })?;
        let found = match (present, policy) {
            (Some(found), PullPolicy::IfNotPresent | PullPolicy::Never) => found,
            (None, PullPolicy::Never) => {
                return Err(PullError {
                    reason: "ErrImageNeverPull".into(),
                    message: format!(
                        "Container image {wanted:?} is not present with pull policy of Never"
                    ),
                });
            }
            (None, _) | (Some(_), PullPolicy::Always) => {
                self.really_pull(&image, request).await.map_err(|words| refused(wanted, &words))?
            }
        };
        Ok(image_of(found))
    }

    /// The image of a name or reference, if it is there.
    async fn image_status(&self, image: &str) -> Result<Option<api::Image>, CallError> {
        let request = api::ImageStatusRequest { image: Some(spec(image)) };
        Ok(self.inner.client.call(request, Some(REQUEST)).await?.image)
    }

    /// Pulls, with each credential that fits in turn (kubelet: `PullImage`). An error is in the words
    /// of the kubelet's client. There is no time limit: a registry may be slow.
    async fn really_pull(&self, image: &str, request: &PullRequest) -> Result<api::Image, String> {
        let keyring = self.keyring(&request.secrets);
        let sandbox = self.inner.state.borrow().newest_sandbox(&request.pod);
        let config = sandbox.map(|sandbox| sandbox.config);
        let name = ImageName::parse(image).map(|name| name.repository).unwrap_or_default();
        let found = keyring.lookup(&name);
        let tries: Vec<Option<Credentials>> = match found.is_empty() {
            true => vec![None],
            false => found.into_iter().map(Some).collect(),
        };
        let mut errors = Vec::new();
        for credentials in tries {
            let request = api::PullImageRequest {
                image: Some(spec(image)),
                auth: credentials.map(auth),
                sandbox_config: config.clone(),
            };
            match self.inner.client.call(request, None).await {
                Ok(answer) => {
                    let reference = answer.image_ref;
                    return match self.image_status(&reference).await {
                        Ok(Some(found)) => Ok(found),
                        Ok(None) => Ok(api::Image { id: reference, ..api::Image::default() }),
                        Err(error) => Err(error.words()),
                    };
                }
                Err(error) => errors.push(pull_words(&error)),
            }
        }
        Err(aggregate(errors))
    }

    fn keyring(&self, secrets: &[(String, BTreeMap<String, Vec<u8>>)]) -> Keyring {
        let mut keyring = Keyring::default();
        for (kind, data) in secrets {
            if let Err(error) = keyring.add_secret(kind, data) {
                self.inner.client.warn(format!("an imagePullSecret of type {kind}: {error}"));
            }
        }
        keyring.and_then(&self.inner.keyring)
    }
}

/// An image with the default tag where it has neither tag nor digest (kubelet:
/// `applyDefaultImageTag`).
pub(super) fn with_tag(image: &str) -> Result<String, crate::image::NameError> {
    let name = ImageName::parse(image)?;
    Ok(match (&name.tag, &name.digest) {
        (None, None) => format!("{image}:latest"),
        _ => image.to_owned(),
    })
}

fn spec(image: &str) -> api::ImageSpec {
    api::ImageSpec { image: image.to_owned(), user_specified_image: String::new() }
}

fn auth(credentials: Credentials) -> api::AuthConfig {
    let Credentials { username, password, identity_token } = credentials;
    // Without the registry's address, as the kubelet leaves it: which it is for has been decided, and
    // containerd takes none without a scheme.
    api::AuthConfig { username, password, identity_token, ..api::AuthConfig::default() }
}

fn pull_words(error: &CallError) -> String {
    // gRPC has no words for these, so the runtime begins its own with them.
    let message = error.message();
    match message.starts_with(REGISTRY_UNAVAILABLE) || message.starts_with(SIGNATURE_FAILED) {
        true if error.is(Code::Unknown) => message,
        _ => error.words(),
    }
}

/// kubelet: `NewAggregate`.
fn aggregate(mut errors: Vec<String>) -> String {
    let mut seen = std::collections::HashSet::new();
    errors.retain(|error| seen.insert(error.clone()));
    match errors.len() {
        1 => errors.swap_remove(0),
        _ => format!("[{}]", errors.join(", ")),
    }
}

/// kubelet: `evalCRIPullErr`.
fn refused(image: &str, words: &str) -> PullError {
    let special = |prefix: &'static str, why: &str| {
        let rest = words.strip_prefix(prefix)?;
        let message = format!("image pull failed for {image} because {why}{rest}");
        Some(PullError { reason: Reason::Borrowed(prefix), message })
    };
    special(REGISTRY_UNAVAILABLE, "the registry is unavailable")
        .or_else(|| special(SIGNATURE_FAILED, "the signature validation failed"))
        .unwrap_or_else(|| PullError { reason: "ErrImagePull".into(), message: words.to_owned() })
}

/// What the driver needs to know of it. Who runs it is asked before a start (kubelet: `getImageUser`).
fn image_of(image: api::Image) -> Image {
    let user = match (image.uid, image.username) {
        (Some(uid), _) => uid.value.to_string(),
        (None, name) if !name.is_empty() => name,
        (None, _) => "0".to_owned(),
    };
    let mut digests = image.repo_digests;
    Image {
        id: if digests.is_empty() { image.id.clone() } else { digests.swap_remove(0) },
        root: RootFs::Image(image.id),
        config: ImageConfig { user, ..ImageConfig::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_their_tag() {
        for (image, expected) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ] {
            assert_eq!(with_tag(image).unwrap(), expected);
        }
        let digest = format!("a@sha256:{}", "0".repeat(64));
        assert_eq!(with_tag(&digest).unwrap(), digest);
        for bad in ["", "UPPER", "a b", "a:"] {
            assert!(with_tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn failures_read_as_the_kubelets() {
        let error = refused("x", "rpc error: code = NotFound desc = no");
        assert_eq!(error.reason, "ErrImagePull");
        let error = refused("x", "RegistryUnavailable: down");
        assert_eq!(error.reason, "RegistryUnavailable");
        assert_eq!(
            error.message,
            "image pull failed for x because the registry is unavailable: down"
        );
        let error = refused("x", "SignatureValidationFailed: bad");
        assert_eq!(
            error.message,
            "image pull failed for x because the signature validation failed: bad"
        );
        assert_eq!(aggregate(vec!["a".into(), "b".into(), "a".into()]), "[a, b]");
        assert_eq!(aggregate(vec!["a".into(), "a".into()]), "a");
    }

    #[test]
    fn the_user_of_an_image() {
        let of = |uid: Option<i64>, name: &str| {
            image_of(api::Image {
                id: "sha256:1".into(),
                uid: uid.map(|value| api::Int64Value { value }),
                username: name.into(),
                ..api::Image::default()
            })
            .config
            .user
        };
        assert_eq!([of(Some(5), ""), of(None, "web"), of(None, "")], ["5", "web", "0"]);
    }
}
