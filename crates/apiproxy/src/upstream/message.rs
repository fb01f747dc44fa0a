//! HTTP/1.1 as it is spoken with the API server (RFC 9112): how a request is written, how an answer's head and
//! body are read. Pure; whatever is unclear about where an answer ends is an error.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request, response};
use std::mem::MaybeUninit;

/// An answer that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("its head is no HTTP/1.1: {0}")]
    Head(httparse::Error),
    #[error("its head is larger than {HEAD} bytes")]
    TooLarge,
    #[error("its status or a header is no legal one")]
    Illegal,
    #[error("its Content-Length is no number, or there are several")]
    Length,
    #[error("its Transfer-Encoding is not chunked")]
    Coding,
    #[error("its body is not chunked as it should be")]
    Chunk,
}

/// How the body of a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
}

/// Writes the head of a request; `body` is `None` if there is none.
pub(super) fn write_head(head: &request::Parts, body: Option<Sending>, out: &mut Vec<u8>) {
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    put(head.method.as_str().as_bytes());
    put(b" ");
    put(head.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    put(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        put(name.as_str().as_bytes());
        put(b": ");
        put(value.as_bytes());
        put(b"\r\n");
    }
    match body {
        Some(Sending::Length(length)) => put(format!("content-length: {length}\r\n").as_bytes()),
        Some(Sending::Chunked) => put(b"transfer-encoding: chunked\r\n"),
        None if matches!(head.method, Method::POST | Method::PUT | Method::PATCH) => {
            put(b"content-length: 0\r\n");
        }
        None => {}
    }
    put(b"\r\n");
}

/// Where the body of an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes more.
    Length(u64),
    Chunked(Chunks),
    /// With the connection.
    Close,
}

/// Where in a chunked body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line of a chunk's size.
    Size,
    /// So many bytes before the end of a chunk.
    Data(u64),
    /// In the line end after a chunk.
    End,
    /// In the trailers, of which so many bytes have come.
    Trailers(usize),
    Over,
}

impl Framing {
    pub(super) const EMPTY: Self = Self::Length(0);

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunks::Over))
    }

    /// Reads on over what is no data, as far as it has come.
    pub(super) fn skip(&mut self, bytes: &mut BytesMut) -> Result<(), Malformed> {
        match self {
            Self::Chunked(chunks) => chunks.next(bytes).map(|_| ()),
            Self::Length(_) | Self::Close => Ok(()),
        }
    }

    /// Takes data from `bytes`, as much as there is up to the end of a chunk; `None` if more bytes are needed, or
    /// it is over.
    pub(super) fn take(&mut self, bytes: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match self {
            Self::Length(left) | Self::Chunked(Chunks::Data(left)) if *left > 0 => {
                let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= now as u64;
                Ok((now > 0).then(|| bytes.split_to(now).freeze()))
            }
            Self::Length(_) => Ok(None),
            Self::Close => Ok((!bytes.is_empty()).then(|| bytes.split().freeze())),
            Self::Chunked(chunks) => {
                if !chunks.next(bytes)? {
                    return Ok(None);
                }
                self.take(bytes)
            }
        }
    }
}

impl Chunks {
    /// Reads on to the next data; `false` if more bytes are needed, or it is over.
    fn next(&mut self, bytes: &mut BytesMut) -> Result<bool, Malformed> {
        loop {
            match *self {
                Self::Over => return Ok(false),
                Self::Data(0) => *self = Self::End,
                Self::Data(_) => return Ok(true),
                Self::End => {
                    match &bytes[..] {
                        [b'\r', b'\n', ..] => bytes.advance(2),
                        [] | [b'\r'] => return Ok(false),
                        _ => return Err(Malformed::Chunk),
                    }
                    *self = Self::Size;
                }
                Self::Size => {
                    let Some(line) = line(bytes, LINE)? else { return Ok(false) };
                    *self = match size(&bytes[..line])? {
                        0 => Self::Trailers(0),
                        size => Self::Data(size),
                    };
                    bytes.advance(line + 2);
                }
                // They are not passed on: nobody asks the API server for any.
                Self::Trailers(before) => {
                    let Some(line) = line(bytes, TRAILERS.saturating_sub(before))? else {
                        return Ok(false);
                    };
                    bytes.advance(line + 2);
                    *self = if line == 0 { Self::Over } else { Self::Trailers(before + line + 2) };
                }
            }
        }
    }
}

/// The length of the first line without its end; `None` if it has not come yet.
fn line(bytes: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) if at <= limit && at > 0 && bytes[at - 1] == b'\r' => Ok(Some(at - 1)),
        None if bytes.len() <= limit => Ok(None),
        _ => Err(Malformed::Chunk),
    }
}

/// The size at the beginning of a chunk's first line; extensions mean nothing.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
    let legal = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| legal).ok_or(Malformed::Chunk)?;
    u64::from_str_radix(text, 16).map_err(|_| Malformed::Chunk)
}

/// The head of an answer, and what it says about the connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) framing: Framing,
    /// Whether another request may follow on the same connection.
    pub(super) keep: bool,
}

/// Reads a head from `bytes`, with at most `limit` headers; `None` if more bytes are needed.
pub(super) fn read_head(
    bytes: &mut BytesMut,
    limit: usize,
    method: &Method,
) -> Result<Option<Head>, Malformed> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        bytes,
        &mut headers[..limit.min(HEADERS)],
    );
    let length = match status.map_err(Malformed::Head)? {
        httparse::Status::Complete(length) if length <= HEAD => length,
        httparse::Status::Partial if bytes.len() <= HEAD => return Ok(None),
        _ => return Err(Malformed::TooLarge),
    };
    let code = parsed.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::Illegal)?;
    let is_latest = parsed.version == Some(1);
    let start = bytes.as_ptr() as usize;
    let places: Vec<[usize; 4]> = parsed
        .headers
        .iter()
        .map(|header| {
            let (name, value) =
                (header.name.as_ptr() as usize - start, header.value.as_ptr() as usize - start);
            [name, name + header.name.len(), value, value + header.value.len()]
        })
        .collect();
    let head = bytes.split_to(length).freeze();
    let mut map = HeaderMap::with_capacity(places.len());
    for [name, name_end, value, value_end] in places {
        let name = HeaderName::from_bytes(&head[name..name_end]).map_err(|_| Malformed::Illegal)?;
        let value = HeaderValue::from_maybe_shared(head.slice(value..value_end));
        map.append(name, value.map_err(|_| Malformed::Illegal)?);
    }
    let (framing, clear) = framing(status, &map, method)?;
    if let Some(length) = map.get(CONTENT_LENGTH).cloned() {
        // Several that say the same become one.
        map.insert(CONTENT_LENGTH, length);
    }
    let close = map.get_all(CONNECTION).iter().any(|value| {
        let mut tokens = value.as_bytes().split(|byte| *byte == b',');
        tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
    });
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, map);
    Ok(Some(Head { parts, framing, keep: is_latest && clear && !close }))
}

/// RFC 9112, 6.3; and whether the answer's end is beyond doubt.
fn framing(
    status: StatusCode,
    headers: &HeaderMap,
    method: &Method,
) -> Result<(Framing, bool), Malformed> {
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Malformed::Coding),
    };
    let mut length = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let this: u64 = digits.and_then(|text| text.parse().ok()).ok_or(Malformed::Length)?;
        if length.replace(this).is_some_and(|before| before != this) {
            return Err(Malformed::Length);
        }
    }
    Ok(match (coding, length) {
        (true, Some(_)) if bodiless || *method == Method::HEAD => (Framing::EMPTY, false),
        _ if bodiless || *method == Method::HEAD => (Framing::EMPTY, true),
        (true, length) => (Framing::Chunked(Chunks::Size), length.is_none()),
        (false, Some(length)) => (Framing::Length(length), true),
        (false, None) => (Framing::Close, false),
    })
}

/// As large as the head of an answer may be.
const HEAD: usize = 512 << 10;
/// As many headers as an answer may have, whatever is configured.
const HEADERS: usize = 256;
/// As long as the line of a chunk's size may be, and the trailers altogether.
const LINE: usize = 4 << 10;
const TRAILERS: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<Option<Head>, Malformed> {
        read_head(&mut BytesMut::from(text), 100, &Method::GET)
    }

    /// The data of a body that comes in pieces of `step` bytes, and whether it ended.
    fn body(text: &[u8], step: usize) -> Result<(Vec<u8>, bool), Malformed> {
        let (mut framing, mut bytes) = (Framing::Chunked(Chunks::Size), BytesMut::new());
        let mut data = Vec::new();
        for piece in text.chunks(step) {
            bytes.extend_from_slice(piece);
            while let Some(part) = framing.take(&mut bytes)? {
                data.extend_from_slice(&part);
            }
        }
        Ok((data, framing.is_over() && bytes.is_empty()))
    }

    #[test]
    fn chunks_are_put_together_however_they_come() {
        let text = b"5;name=value\r\nhello\r\n00A \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        for step in 1..=text.len() {
            assert_eq!(body(text, step), Ok((b"hello0123456789".to_vec(), true)), "{step}");
        }
        assert_eq!(body(b"5\r\nhel", 3), Ok((b"hel".to_vec(), false)));
        assert_eq!(body(b"0\r\n", 3), Ok((Vec::new(), false)));
    }

    #[test]
    fn what_is_no_chunk_is_an_error() {
        let long = [b"1;".as_slice(), &[b'x'; LINE], b"\r\n"].concat();
        for text in [
            b"x\r\n".as_slice(),
            b"\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b" 1\r\n",
            b"5\nhello",
            b"1\r\nab\r\n",
            b"11111111111111111\r\n",
            &long,
            &[b'1'; LINE + 2],
        ] {
            assert_eq!(body(text, text.len()), Err(Malformed::Chunk), "{text:?}");
        }
    }

    #[test]
    fn the_end_of_an_answer_is_beyond_doubt_or_an_error() {
        let of = |headers: &str, method: &Method| {
            let mut bytes = BytesMut::from(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_str());
            let head = read_head(&mut bytes, 100, method)?.unwrap();
            Ok((head.framing, head.keep))
        };
        let get = |headers: &str| of(headers, &Method::GET);
        assert_eq!(get("Content-Length: 5\r\n"), Ok((Framing::Length(5), true)));
        assert_eq!(
            get("Content-Length: 5\r\nContent-Length: 5\r\n"),
            Ok((Framing::Length(5), true))
        );
        let chunked = Framing::Chunked(Chunks::Size);
        assert_eq!(get("Transfer-Encoding: CHUNKED\r\n"), Ok((chunked, true)));
        let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
        assert_eq!(get(both), Ok((chunked, false)));
        assert_eq!(get(""), Ok((Framing::Close, false)));
        assert_eq!(
            get("Connection: x, Close\r\nContent-Length: 1\r\n"),
            Ok((Framing::Length(1), false))
        );
        assert_eq!(of("Content-Length: 5\r\n", &Method::HEAD), Ok((Framing::EMPTY, true)));
        for bad in ["x", "", "+5", "-5", "5, 5", "5 5", "99999999999999999999"] {
            assert_eq!(get(&format!("Content-Length: {bad}\r\n")), Err(Malformed::Length), "{bad}");
        }
        let two = "Content-Length: 5\r\nContent-Length: 6\r\n";
        assert_eq!(get(two), Err(Malformed::Length));
        for bad in ["gzip", "gzip, chunked", "chunked, chunked", "identity", ""] {
            let bad = format!("Transfer-Encoding: {bad}\r\n");
            assert_eq!(get(&bad), Err(Malformed::Coding), "{bad}");
        }
    }

    #[test]
    fn a_head_comes_whole_or_not_at_all() {
        let whole = "HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\n\r\n";
        for length in 0..whole.len() {
            assert!(answer(&whole[..length]).unwrap().is_none(), "{length}");
        }
        let head = answer(whole).unwrap().unwrap();
        assert_eq!(head.parts.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(answer("SSH-2.0-OpenSSH_9\r\n").is_err());
        assert!(answer("HTTP/1.1 099 X\r\n\r\n").is_err());
        let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
        assert!(answer(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).is_err());
        let old = answer("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n").unwrap().unwrap();
        assert!(!old.keep);
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let written = |method: Method, body| {
            let mut request = http::Request::new(());
            *request.method_mut() = method;
            *request.uri_mut() = "/a%2Fb?c".parse().unwrap();
            request.headers_mut().insert("host", HeaderValue::from_static("h"));
            let mut out = Vec::new();
            write_head(&request.into_parts().0, body, &mut out);
            String::from_utf8(out).unwrap()
        };
        let get = written(Method::GET, None);
        assert_eq!(get, "GET /a%2Fb?c HTTP/1.1\r\nhost: h\r\n\r\n");
        let head = |more: &str| format!("POST /a%2Fb?c HTTP/1.1\r\nhost: h\r\n{more}\r\n\r\n");
        assert_eq!(written(Method::POST, None), head("content-length: 0"));
        let length = written(Method::POST, Some(Sending::Length(7)));
        assert_eq!(length, head("content-length: 7"));
        let chunked = written(Method::POST, Some(Sending::Chunked));
        assert_eq!(chunked, head("transfer-encoding: chunked"));
    }
}
