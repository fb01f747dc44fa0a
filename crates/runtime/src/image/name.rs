//! Image references: `[DOMAIN/]PATH[:TAG][@DIGEST]`.
//!
//! The grammar and the words of its errors are those of `distribution/reference`
//! (`ParseNormalizedNamed`), which the kubelet asks before it pulls.

use std::fmt;

/// A valid image reference, with Docker's defaults for what was left out of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// `docker.io/library/nginx`: domain and path.
    pub repository: String,
    /// The tag, if one was written.
    pub tag: Option<String>,
    /// The digest, if one was written (`sha256:…`).
    pub digest: Option<String>,
}

/// Why a string is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It does not match the grammar.
    #[error("invalid reference format")]
    Format,
    /// The path has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    NotLowercase(String),
    /// Only a hash, without a name.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    BareHash(String),
    /// The name is longer than 255 characters.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
}

impl ImageName {
    /// Reads a reference as written in a Pod.
    ///
    /// # Errors
    /// [`NameError`] if it is none.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() == 64
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        {
            return Err(NameError::BareHash(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(NameError::Format),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before the last slash belongs to the domain's port.
            Some((name, tag)) if !tag.contains('/') => {
                if !is_tag(tag) {
                    return Err(NameError::Format);
                }
                (name, Some(tag.to_owned()))
            }
            _ => (rest, None),
        };
        let (domain, path) = split_domain(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NameError::NotLowercase(path));
        }
        if !is_domain(&domain) || !path.split('/').all(is_path_component) {
            return Err(NameError::Format);
        }
        let repository = format!("{domain}/{path}");
        if repository.len() > 255 {
            return Err(NameError::TooLong);
        }
        Ok(Self { repository, tag, digest })
    }

    /// The tag that counts: `latest` if neither tag nor digest was written.
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, None) => Some("latest"),
            (None, Some(_)) => None,
        }
    }

    /// Whether this name, as the key of a mapping, is about `image`: same repository, and tag and
    /// digest where the key has them.
    pub fn covers(&self, image: &Self) -> bool {
        self.repository == image.repository
            && self.tag.as_deref().is_none_or(|tag| image.effective_tag() == Some(tag))
            && self.digest.as_deref().is_none_or(|digest| image.digest.as_deref() == Some(digest))
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first component is a domain if it looks like one; else the name is Docker Hub's
/// (distribution: `splitDockerDomain`).
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => ("docker.io", name),
    };
    let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
    let path = if domain == "docker.io" && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    (domain.to_owned(), path)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// `[a-z0-9]+` runs with one `.`, one or two `_`, or any number of `-` between them.
fn is_path_component(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    if !bytes.first().is_some_and(|&b| alnum(b)) || !bytes.last().is_some_and(|&b| alnum(b)) {
        return false;
    }
    part.split(|c: char| alnum(u8::try_from(c).unwrap_or(0)))
        .all(|sep| matches!(sep, "" | "." | "_" | "__") || sep.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// `sha256:` and 64 hex digits, or another algorithm with at least 32.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let algorithm_ok = algorithm.starts_with(|c: char| c.is_ascii_alphabetic())
        && algorithm.bytes().all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b));
    algorithm_ok
        && hex.len() >= 32
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && (algorithm != "sha256" || hex.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ImageName {
        ImageName::parse(text).unwrap_or_else(|err| panic!("{text}: {err}"))
    }

    #[test]
    fn names_get_dockers_defaults() {
        for (text, full) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("zwindler/slow-sidecar", "docker.io/zwindler/slow-sidecar"),
            ("zwindler/slow-sidecar:v1", "docker.io/zwindler/slow-sidecar:v1"),
            ("localhost/app", "localhost/app"),
            ("registry:5000/app:2", "registry:5000/app:2"),
            ("registry.example/a/b__c/d--e:x", "registry.example/a/b__c/d--e:x"),
            ("index.docker.io/busybox", "docker.io/library/busybox"),
            ("[fd00::1]:5000/app", "[fd00::1]:5000/app"),
        ] {
            assert_eq!(name(text).to_string(), full);
        }
        let digest = format!("app@sha256:{}", "a1".repeat(32));
        assert_eq!(name(&digest).effective_tag(), None);
        assert_eq!(name("app").effective_tag(), Some("latest"));
    }

    #[test]
    fn invalid_names_say_why() {
        for (text, error) in [
            ("", "invalid reference format"),
            (
                "Nginx",
                "invalid reference format: repository name (library/Nginx) must be lowercase",
            ),
            ("a b", "invalid reference format"),
            ("app:", "invalid reference format"),
            ("app:-x", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("app_", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b/c", "invalid reference format"),
            ("https://example.com/app", "invalid reference format"),
            ("app@sha256:12", "invalid reference format"),
            ("naïve", "invalid reference format"),
        ] {
            assert_eq!(ImageName::parse(text).unwrap_err().to_string(), error, "{text:?}");
        }
        let hash = "f".repeat(64);
        assert!(matches!(ImageName::parse(&hash), Err(NameError::BareHash(_))));
        assert_eq!(ImageName::parse(&"a/".repeat(150)), Err(NameError::Format));
        assert_eq!(ImageName::parse(&format!("{}a", "a/".repeat(150))), Err(NameError::TooLong));
    }

    #[test]
    fn a_key_without_tag_covers_every_tag() {
        assert!(name("nginx").covers(&name("nginx:1.27")));
        assert!(name("docker.io/library/nginx").covers(&name("nginx")));
        assert!(name("nginx:latest").covers(&name("nginx")));
        assert!(!name("nginx:1.27").covers(&name("nginx")));
        assert!(!name("nginx").covers(&name("other/nginx")));
    }
}
