//! Requests: strict, since what is misunderstood here is a hole in a firewall.

use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::config::{PeerUpdate, Update};
use crate::key::{KeyError, PresharedKey, PrivateKey, PublicKey};

/// What somebody wants.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// To be told everything.
    Get,
    /// A change.
    Set(Update),
}

/// Why a request is refused as a whole. Values are not repeated: they may be keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct RequestError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// The first line of all.
    #[error("a request begins with get=1 or set=1")]
    Operation,
    /// Something after `get=1`.
    #[error("nothing follows get=1")]
    AfterGet,
    /// No `=`.
    #[error("a line is key=value")]
    NoValue,
    /// A key that there is not.
    #[error("there is no key {0:?} here (keys of peers come after their public_key)")]
    UnknownKey(String),
    /// A value that does not fit its key.
    #[error("{key}: {expected}")]
    Value {
        /// Whose value.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// No key of WireGuard.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Reads a request, the empty line at its end left out.
///
/// # Errors
/// If any line of it is not exactly what the interface's description has.
pub fn parse(text: &str) -> Result<Request, RequestError> {
    let mut lines = (1..).zip(text.lines());
    let operation = lines.next().map(|(_, line)| line);
    match operation {
        Some("get=1") => match lines.next() {
            None => Ok(Request::Get),
            Some((line, _)) => Err(RequestError { line, reason: Reason::AfterGet }),
        },
        Some("set=1") => {
            let mut update = Update::default();
            for (line, text) in lines {
                take(&mut update, text).map_err(|reason| RequestError { line, reason })?;
            }
            Ok(Request::Set(update))
        }
        _ => Err(RequestError { line: 1, reason: Reason::Operation }),
    }
}

fn take(update: &mut Update, line: &str) -> Result<(), Reason> {
    let (key, value) = line.split_once('=').ok_or(Reason::NoValue)?;
    if key == "public_key" {
        update.peers.push(PeerUpdate::new(PublicKey::from_hex(value)?));
        return Ok(());
    }
    match update.peers.last_mut() {
        Some(peer) => take_of_peer(peer, key, value),
        None => take_of_device(update, key, value),
    }
}

fn take_of_device(update: &mut Update, key: &str, value: &str) -> Result<(), Reason> {
    match key {
        // All zeros takes the key away.
        "private_key" => update.private_key = Some(PrivateKey::from_hex(value)?),
        "listen_port" => update.listen_port = Some(number("listen_port", value)?),
        "fwmark" => update.fwmark = Some(number("fwmark", value)?),
        "replace_peers" => update.replace_peers = yes("replace_peers", value)?,
        _ => return Err(Reason::UnknownKey(key.to_owned())),
    }
    Ok(())
}

fn take_of_peer(peer: &mut PeerUpdate, key: &str, value: &str) -> Result<(), Reason> {
    match key {
        "remove" => peer.remove = yes("remove", value)?,
        "update_only" => peer.update_only = yes("update_only", value)?,
        "preshared_key" => {
            let key = PresharedKey::from_hex(value)?;
            peer.preshared_key = Some((!key.is_zero()).then_some(key));
        }
        "endpoint" => {
            let expected = "an address and a port, as 192.0.2.1:51820 or [2001:db8::1]:51820";
            peer.endpoint = Some(parsed("endpoint", value, expected)?);
        }
        "persistent_keepalive_interval" => {
            peer.persistent_keepalive = Some(number("persistent_keepalive_interval", value)?);
        }
        "replace_allowed_ips" => {
            peer.replace_allowed_ips = yes("replace_allowed_ips", value)?;
            // What was named before is replaced, too.
            peer.allowed_ips.clear();
            peer.disallowed_ips.clear();
        }
        "allowed_ip" => {
            let (list, net) = match value.strip_prefix('-') {
                Some(net) => (&mut peer.disallowed_ips, net),
                None => (&mut peer.allowed_ips, value),
            };
            let net: IpNet = parsed("allowed_ip", net, "a prefix, as 10.0.0.0/8 or fd00::/8")?;
            list.push(net.trunc());
        }
        "protocol_version" if value == "1" => {}
        "protocol_version" => {
            return Err(Reason::Value { key: "protocol_version", expected: "there is only 1" });
        }
        _ => return Err(Reason::UnknownKey(key.to_owned())),
    }
    Ok(())
}

fn yes(key: &'static str, value: &str) -> Result<bool, Reason> {
    if value == "true" {
        Ok(true)
    } else {
        Err(Reason::Value { key, expected: "can only be true" })
    }
}

fn number<T: FromStr>(key: &'static str, value: &str) -> Result<T, Reason> {
    // `parse` would take a sign.
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| value.parse().ok()).flatten();
    number.ok_or(Reason::Value { key, expected: "a number in decimal digits, and not too large" })
}

fn parsed<T: FromStr>(key: &'static str, value: &str, expected: &'static str) -> Result<T, Reason> {
    value.parse().map_err(|_| Reason::Value { key, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33";

    /// The example of the interface's description.
    #[test]
    fn the_example() {
        let text = "set=1\n\
            private_key=e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a\n\
            fwmark=0\nlisten_port=12912\nreplace_peers=true\n\
            public_key=b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33\n\
            preshared_key=188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52\n\
            replace_allowed_ips=true\nallowed_ip=192.168.4.4/32\n\
            endpoint=[abcd:23::33%2]:51820\n\
            public_key=58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376\n\
            replace_allowed_ips=true\nallowed_ip=192.168.4.6/32\n\
            persistent_keepalive_interval=111\nendpoint=182.122.22.19:3233\n\
            public_key=662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58\n\
            endpoint=5.152.198.39:51820\nreplace_allowed_ips=true\n\
            allowed_ip=192.168.4.10/32\nallowed_ip=192.168.4.11/32\n\
            public_key=e818b58db5274087fcc1be5dc728cf53d3b5726b4cef6b9bab8f8f8c2452c25c\n\
            remove=true\n";
        let Ok(Request::Set(update)) = parse(text) else { panic!("it is refused") };
        assert_eq!((update.fwmark, update.listen_port), (Some(0), Some(12912)));
        assert!(update.replace_peers && update.private_key.is_some());
        let [one, two, three, four] = &update.peers[..] else { panic!("not four peers") };
        assert_eq!(one.public_key.to_hex(), KEY);
        assert!(matches!(one.preshared_key, Some(Some(_))));
        assert_eq!(one.endpoint.unwrap().to_string(), "[abcd:23::33%2]:51820");
        assert_eq!(two.persistent_keepalive, Some(111));
        assert_eq!(three.allowed_ips.len(), 2);
        assert!(four.remove && !three.remove);
    }

    #[test]
    fn addresses_are_taken_away() {
        let text = format!("set=1\npublic_key={KEY}\nallowed_ip=-10.1.2.3/8\nallowed_ip=::1/128");
        let Ok(Request::Set(update)) = parse(&text) else { panic!("it is refused") };
        assert_eq!(update.peers[0].disallowed_ips, ["10.0.0.0/8".parse::<IpNet>().unwrap()]);
        assert_eq!(update.peers[0].allowed_ips, ["::1/128".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn what_is_refused() {
        for (line, text) in [
            (1, ""),
            (1, "get=2"),
            (1, "set"),
            (2, "get=1\nlisten_port=1"),
            (2, "set=1\nlisten_port"),
            (2, "set=1\nlisten_port=65536"),
            (2, "set=1\nlisten_port=+1"),
            (2, "set=1\nlisten_port="),
            (2, "set=1\nallowed_ip=10.0.0.0/8"),
            (2, "set=1\nreplace_peers=false"),
            (2, "set=1\nfwmark=0x10"),
            (2, "set=1\nprivate_key=abc"),
            (3, &format!("set=1\npublic_key={KEY}\nlisten_port=1")),
            (3, &format!("set=1\npublic_key={KEY}\nallowed_ip=10.0.0.0/33")),
            (3, &format!("set=1\npublic_key={KEY}\nallowed_ip=10.0.0.1")),
            (3, &format!("set=1\npublic_key={KEY}\nendpoint=example.com:1")),
            (3, &format!("set=1\npublic_key={KEY}\nprotocol_version=2")),
            (3, &format!("set=1\npublic_key={KEY}\nremove=1")),
        ] {
            assert_eq!(parse(text).expect_err(text).line, line, "{text}");
        }
    }

    #[test]
    fn a_refused_key_is_not_repeated() {
        let error = parse(&format!("set=1\nprivate_key={KEY}00")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&KEY[..8]), "{error:?}");
    }

    fn lines() -> impl Strategy<Value = String> {
        let keys = prop::sample::select(vec![
            "set",
            "get",
            "private_key",
            "listen_port",
            "fwmark",
            "replace_peers",
            "public_key",
            "remove",
            "update_only",
            "preshared_key",
            "endpoint",
            "allowed_ip",
            "persistent_keepalive_interval",
            "replace_allowed_ips",
            "protocol_version",
            "x",
        ]);
        let values = prop_oneof![
            "[0-9]{0,6}",
            Just(KEY.to_owned()),
            Just("true".to_owned()),
            ".{0,20}",
            "[0-9a-f:.%/\\[\\]-]{0,30}",
            "-?[0-9]{1,3}\\.0\\.0\\.[0-9]{1,3}/[0-9]{1,2}",
        ];
        (keys, values).prop_map(|(key, value)| format!("{key}={value}"))
    }

    proptest! {
        /// Anything gets an answer.
        #[test]
        fn no_panic(text in ".*", lines in prop::collection::vec(lines(), 0..12)) {
            let _ = parse(&text);
            let _ = parse(&lines.join("\n"));
            let _ = parse(&format!("set=1\n{}", lines.join("\n")));
            let _ = parse(&format!("set=1\npublic_key={KEY}\n{}", lines.join("\n")));
        }
    }
}
