//! Go's spelling of addresses and system errors, which the kubelet's messages are made of.

use std::io;

/// `host:port`, with an IPv6 address in brackets (`net.JoinHostPort`).
pub(crate) fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A system error as Go prints it: C's words in lower case, without the number.
pub(crate) fn system_error(e: &io::Error) -> String {
    let words = e.to_string();
    let words = words.split(" (os error ").next().unwrap_or_default();
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_as_go_prints_them() {
        let e = io::Error::from_raw_os_error(111);
        assert_eq!(system_error(&e), "connection refused");
        assert_eq!(host_port("::1", 80), "[::1]:80");
    }
}
