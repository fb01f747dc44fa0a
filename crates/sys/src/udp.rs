//! Options of UDP sockets that the libraries have no words for.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets the kernel fragment datagrams that are larger than the path takes, rather than refuse them.
///
/// # Errors
/// If it is no UDP socket.
pub fn allow_fragments(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

/// The largest packet, in bytes, that the kernel knows the path to an address to take: that of the
/// interface its route leads to, or less, if it has learned so. Nothing is sent.
///
/// # Errors
/// If there is no route.
pub fn path_mtu(to: SocketAddr) -> io::Result<u32> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    let (level, name) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to locals that live as long as the call, and the length is that of the
    // one it is said of.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut mtu).cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(mtu).unwrap_or(0))
}

fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; the value is a local that lives as long
    // as the call, and the length is its.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_loopback_takes_much() {
        // 65,536 is its own, but no packet of IPv4 is larger than 65,535, and kernels say the one or the other.
        assert!(path_mtu("127.0.0.1:9".parse().unwrap()).unwrap() >= 65_535);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        allow_fragments(socket.as_fd(), false).unwrap();
    }
}
