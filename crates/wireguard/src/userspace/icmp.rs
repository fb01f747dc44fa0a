//! What a program is told whose packet cannot go anywhere: "host unreachable", as the kernel's
//! WireGuard does (device.c: wg_xmit).

use std::net::{Ipv4Addr, Ipv6Addr};

const HEADER_V4: usize = 20;
const HEADER_V6: usize = 40;
const ICMP: usize = 8;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMP6: u8 = 58;

/// An answer is no longer than what every path carries.
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1280;

/// The answer to a packet, if it is to have one. It comes from where the packet was to go: no other
/// address would be taken from this interface.
pub(super) fn unreachable(packet: &[u8]) -> Option<Vec<u8>> {
    match packet.first()? >> 4 {
        4 => unreachable_v4(packet),
        6 => unreachable_v6(packet),
        _ => None,
    }
}

fn unreachable_v4(packet: &[u8]) -> Option<Vec<u8>> {
    let header = packet.get(..HEADER_V4)?;
    let address = |at: usize| Ipv4Addr::from(std::array::from_fn(|byte| header[at + byte]));
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (address(12), address(16));
    let alone = |address: Ipv4Addr| {
        !(address.is_unspecified() || address.is_broadcast() || address.is_multicast())
    };
    // RFC 1122, 3.2.2: not about errors, not about fragments but the first, not to or about many.
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let start = usize::from(header[0] & 15) * 4;
    let error = header[9] == PROTOCOL_ICMP
        && !packet.get(start).is_some_and(|kind| matches!(kind, 0 | 8 | 13..=18));
    if fragment || error || !alone(source) || !alone(destination) {
        return None;
    }
    let part = &packet[..packet.len().min(LONGEST_V4 - HEADER_V4 - ICMP)];
    let length = HEADER_V4 + ICMP + part.len();
    let mut answer = Vec::with_capacity(length);
    answer.extend([0x45, 0xc0]);
    answer.extend(u16::try_from(length).ok()?.to_be_bytes());
    answer.extend([0, 0, 0, 0, 64, PROTOCOL_ICMP, 0, 0]);
    answer.extend(destination.octets());
    answer.extend(source.octets());
    let sum = checksum(0, &answer);
    answer[10..12].copy_from_slice(&sum);
    // Destination unreachable: host unreachable.
    answer.extend([3, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend(part);
    let sum = checksum(0, &answer[HEADER_V4..]);
    answer[HEADER_V4 + 2..HEADER_V4 + 4].copy_from_slice(&sum);
    Some(answer)
}

fn unreachable_v6(packet: &[u8]) -> Option<Vec<u8>> {
    let header = packet.get(..HEADER_V6)?;
    let address = |at: usize| Ipv6Addr::from(std::array::from_fn(|byte| header[at + byte]));
    let (source, destination): (Ipv6Addr, Ipv6Addr) = (address(8), address(24));
    // RFC 4443, 2.4 (e): not about errors, nor to or about many.
    let error = header[6] == PROTOCOL_ICMP6 && packet.get(HEADER_V6).is_none_or(|kind| *kind < 128);
    if error || source.is_unspecified() || source.is_multicast() || destination.is_multicast() {
        return None;
    }
    let part = &packet[..packet.len().min(LONGEST_V6 - HEADER_V6 - ICMP)];
    let length = u16::try_from(ICMP + part.len()).ok()?;
    let mut answer = Vec::with_capacity(HEADER_V6 + usize::from(length));
    answer.extend([0x60, 0, 0, 0]);
    answer.extend(length.to_be_bytes());
    answer.extend([PROTOCOL_ICMP6, 64]);
    answer.extend(destination.octets());
    answer.extend(source.octets());
    // Destination unreachable: address unreachable.
    answer.extend([1, 3, 0, 0, 0, 0, 0, 0]);
    answer.extend(part);
    let pseudo = u32::from(length) + u32::from(PROTOCOL_ICMP6);
    let sum = checksum(pseudo, &answer[8..]);
    answer[HEADER_V6 + 2..HEADER_V6 + 4].copy_from_slice(&sum);
    Some(answer)
}

/// The internet checksum (RFC 1071).
fn checksum(start: u32, bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    // At most 1280 bytes: no overflow.
    let mut sum = start + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn udp_v4(length: usize) -> Vec<u8> {
        let mut packet = vec![0; length.max(28)];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet
    }

    fn udp_v6(length: usize) -> Vec<u8> {
        let mut packet = vec![0; length.max(48)];
        packet[0] = 0x60;
        packet[6] = 17;
        packet[8] = 0xfd;
        packet[24] = 0xfd;
        packet[39] = 1;
        packet
    }

    /// A checksum over what has its own checksum in it is zero.
    #[test]
    fn sums_are_right() {
        for length in [28, 29, 100, 1420, 9000] {
            let answer = unreachable(&udp_v4(length)).unwrap();
            assert_eq!(checksum(0, &answer[..20]), [0, 0]);
            assert_eq!(checksum(0, &answer[20..]), [0, 0]);
            assert_eq!(answer[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
            assert_eq!(answer[20..22], [3, 1]);
            assert!(answer.len() <= LONGEST_V4);
            let answer = unreachable(&udp_v6(length)).unwrap();
            let pseudo = (answer.len() - 40) as u32 + 58;
            assert_eq!(checksum(pseudo, &answer[8..]), [0, 0]);
            assert_eq!(answer[40..42], [1, 3]);
            assert!(answer.len() <= LONGEST_V6);
        }
    }

    #[test]
    fn what_is_not_answered() {
        let mut many = udp_v4(100);
        many[16] = 224;
        let mut fragment = udp_v4(100);
        fragment[7] = 1;
        let mut error = udp_v4(100);
        error[9] = PROTOCOL_ICMP;
        error[20] = 3;
        let mut many6 = udp_v6(100);
        many6[24] = 0xff;
        let mut error6 = udp_v6(100);
        error6[6] = PROTOCOL_ICMP6;
        error6[40] = 1;
        for packet in [many, fragment, error.clone(), many6, error6, vec![0x45; 19], vec![0; 60]] {
            assert_eq!(unreachable(&packet), None);
        }
        error[20] = 8;
        assert!(unreachable(&error).is_some(), "an echo request is no error");
    }

    proptest! {
        #[test]
        fn no_panic(packet in prop::collection::vec(any::<u8>(), 0..1600)) {
            let _ = unreachable(&packet);
        }
    }
}
