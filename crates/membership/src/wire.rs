//! The one encoding of all that is signed or sent: fields in a fixed order, integers big-endian, what
//! varies in length behind its length. There is exactly one way to write a value, and the reader
//! refuses every other: no padding, no optional order, nothing left over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They end too early.
    #[error("ends within {0}: cut off on the way, or not ours")]
    Truncated(&'static str),
    /// There is something after the end.
    #[error("{0} bytes too many: not written by this version")]
    Trailing(usize),
    /// A field has a value that the writer never writes.
    #[error("{0} is not valid")]
    Invalid(&'static str),
}

/// Writes fields.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }

    pub(crate) fn u16(&mut self, v: u16) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, v: u64) -> &mut Self {
        self.raw(&v.to_be_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Up to 255 bytes behind their length; more is cut, which the types that come here exclude.
    pub(crate) fn short(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(bytes.len() <= 255, "{} bytes", bytes.len());
        let len = bytes.len().min(255);
        self.u8(len as u8).raw(&bytes[..len])
    }

    /// Up to 65535 bytes behind their length; as [`Writer::short`].
    pub(crate) fn long(&mut self, bytes: &[u8]) -> &mut Self {
        debug_assert!(bytes.len() <= usize::from(u16::MAX), "{} bytes", bytes.len());
        let len = bytes.len().min(usize::from(u16::MAX));
        self.u16(len as u16).raw(&bytes[..len])
    }

    pub(crate) fn ip(&mut self, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(ip) => self.u8(4).raw(&ip.octets()),
            IpAddr::V6(ip) => self.u8(6).raw(&ip.octets()),
        }
    }

    pub(crate) fn socket(&mut self, addr: SocketAddr) -> &mut Self {
        self.ip(addr.ip()).u16(addr.port())
    }
}

/// Reads fields, in the order in which they were written.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(WireError::Truncated(what))?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], WireError> {
        self.take(N, what)?.try_into().map_err(|_| WireError::Truncated(what))
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn short(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.u8(what)?;
        self.take(usize::from(len), what)
    }

    pub(crate) fn long(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.u16(what)?;
        self.take(usize::from(len), what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.short(what)?).map_err(|_| WireError::Invalid(what))
    }

    pub(crate) fn ip(&mut self, what: &'static str) -> Result<IpAddr, WireError> {
        match self.u8(what)? {
            4 => Ok(Ipv4Addr::from(self.array::<4>(what)?).into()),
            6 => {
                let ip = Ipv6Addr::from(self.array::<16>(what)?);
                // Or else one address could be written in two ways.
                if ip.to_ipv4_mapped().is_some() {
                    return Err(WireError::Invalid(what));
                }
                Ok(ip.into())
            }
            _ => Err(WireError::Invalid(what)),
        }
    }

    pub(crate) fn socket(&mut self, what: &'static str) -> Result<SocketAddr, WireError> {
        let ip = self.ip(what)?;
        Ok(SocketAddr::new(ip, self.u16(what)?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_does() {
        let mut w = Writer::default();
        let v6: SocketAddr = "[fd00::1]:7946".parse().unwrap();
        w.u8(7).u16(300).u64(1 << 40).short(b"ab").long(b"cde").socket(v6);
        let bytes = w.0;
        let read = |bytes: &[u8]| {
            let mut r = Reader(bytes);
            let v = (r.u8("a")?, r.u16("b")?, r.u64("c")?, r.text("d")?.to_owned());
            let w = (r.long("e")?.to_vec(), r.socket("f")?);
            r.end()?;
            Ok((v, w))
        };
        assert_eq!(read(&bytes), Ok(((7, 300, 1 << 40, "ab".into()), (b"cde".to_vec(), v6))));
        for len in 0..bytes.len() {
            assert!(matches!(read(&bytes[..len]), Err(WireError::Truncated(_))), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read(&longer), Err(WireError::Trailing(1)));
    }

    #[test]
    fn an_address_has_one_form() {
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let mut w = Writer::default();
        w.ip(mapped);
        assert_eq!(Reader(&w.0).ip("it"), Err(WireError::Invalid("it")));
        assert_eq!(Reader(&[5, 1, 2, 3, 4]).ip("it"), Err(WireError::Invalid("it")));
    }
}
