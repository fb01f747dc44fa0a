//! The proxy's own token. The kubelet replaces it in its file long before it expires, so it is read again
//! when it is some seconds old (client-go: `cachingTokenSource`), and at once after a 401.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use crate::config;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(
        "the proxy's token cannot be read from {path:?}: {source}; is the service account's token mounted?"
    )]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the proxy's token{0} is empty or no token")]
    Malformed(String),
}

#[derive(Debug)]
pub(crate) struct Token {
    source: Source,
    cached: ArcSwapOption<Cached>,
    /// Someone is reading the file.
    reading: AtomicBool,
    /// The API server did not accept the token.
    refused: AtomicBool,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Static(HeaderValue),
}

#[derive(Debug)]
struct Cached {
    header: HeaderValue,
    read: Instant,
}

impl Token {
    pub(crate) fn new(token: &config::Token) -> Result<Self, TokenError> {
        let source = match token {
            config::Token::File(path) => Source::File(path.clone()),
            config::Token::Static(token) => Source::Static(header(token, String::new())?),
        };
        Ok(Self {
            source,
            cached: ArcSwapOption::empty(),
            reading: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        })
    }

    /// The `Authorization` for a request. While one task reads the file, others go on with the token there is.
    /// If the file cannot be read, a token that was read before is used until the API server refuses it.
    pub(crate) async fn authorization(&self) -> Result<HeaderValue, TokenError> {
        let path = match &self.source {
            Source::Static(header) => return Ok(header.clone()),
            Source::File(path) => path,
        };
        let cached = self.cached.load();
        let Some(cached) = cached.as_ref() else {
            return self.read(path).await;
        };
        let fresh = cached.read.elapsed() < AGE && !self.refused.load(Ordering::Relaxed);
        if fresh || self.reading.swap(true, Ordering::Acquire) {
            return Ok(cached.header.clone());
        }
        let _done = Done(&self.reading);
        self.refused.store(false, Ordering::Relaxed);
        match self.read(path).await {
            Ok(header) => Ok(header),
            Err(error) => {
                tracing::warn!(%error, "Using the token that was read before");
                Ok(cached.header.clone())
            }
        }
    }

    /// The API server answered 401: the next request reads the file again, if not just done.
    pub(crate) fn refused(&self) {
        let just_read = |cached: &Cached| cached.read.elapsed() < Duration::from_secs(1);
        if !self.cached.load().as_deref().is_some_and(just_read) {
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    async fn read(&self, path: &PathBuf) -> Result<HeaderValue, TokenError> {
        let text = tokio::fs::read_to_string(path).await;
        let text = text.map_err(|source| TokenError::Read { path: path.clone(), source })?;
        let header = header(text.trim(), format!(" in {path:?}"))?;
        self.cached.store(Some(std::sync::Arc::new(Cached {
            header: header.clone(),
            read: Instant::now(),
        })));
        Ok(header)
    }
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn header(token: &str, place: String) -> Result<HeaderValue, TokenError> {
    let legal = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    match value {
        Ok(mut value) if legal => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => Err(TokenError::Malformed(place)),
    }
}

/// As old as a token may be that is used without looking for another (client-go: 10 s leeway).
const AGE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    async fn text(token: &Token) -> String {
        let header = token.authorization().await.unwrap();
        header.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn p5_a_replaced_token_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let token = Token::new(&config::Token::File(path.clone())).unwrap();
        assert_eq!(text(&token).await, "Bearer one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(text(&token).await, "Bearer one", "fresh enough");
        token.age(AGE);
        assert_eq!(text(&token).await, "Bearer two");

        std::fs::write(&path, "three").unwrap();
        token.age(Duration::from_secs(2));
        token.refused();
        assert_eq!(text(&token).await, "Bearer three", "after a 401");

        std::fs::remove_file(&path).unwrap();
        token.age(AGE);
        assert_eq!(text(&token).await, "Bearer three", "better than none");
    }

    #[tokio::test]
    async fn a_token_that_is_none_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = Token::new(&config::Token::File(path.clone())).unwrap();
        assert!(matches!(token.authorization().await, Err(TokenError::Read { .. })));
        for text in ["", "\n", "a b", "a\r\nImpersonate-User: x"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(token.authorization().await, Err(TokenError::Malformed(_))));
            Token::new(&config::Token::Static(text.to_owned())).unwrap_err();
        }
    }

    impl Token {
        fn age(&self, by: Duration) {
            let cached = self.cached.load_full().unwrap();
            self.cached.store(Some(std::sync::Arc::new(Cached {
                header: cached.header.clone(),
                read: cached.read.checked_sub(by).unwrap(),
            })));
        }
    }
}
