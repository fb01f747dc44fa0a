//! From the interface to the peers.

use std::io::{self, ErrorKind};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};

use super::engine::{Engine, SMALL};
use super::tun::Packets;
use super::udp::{SEGMENTS, SEND};
use super::{DATA, icmp};

/// After so many reads the other direction has its turn.
const READS: usize = 64;

/// "Unreachable" is said so often at most: the kernel's default (icmp_msgs_per_sec, icmp_msgs_burst).
const SAY_EVERY: Duration = Duration::from_millis(1);
const SAY_BURST: u32 = 50;

/// What encryption adds, and what a handshake takes in its place.
const ROOM: usize = SMALL;

/// Packets on their way out.
pub(super) struct Outbound {
    packets: Packets,
    out: Vec<u8>,
    run: Run,
}

/// Packets for one peer, of one size, that are sent at once; the last may be shorter.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    slot: usize,
    start: usize,
    end: usize,
    size: usize,
    count: usize,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self { packets: Packets::new(), out: vec![0; 4 * SEND], run: Run::default() }
    }
}

impl Engine {
    /// Encrypts and sends what programs have sent. The error is that the interface is gone.
    pub(super) fn outbound(&mut self, outbound: &mut Outbound) -> io::Result<()> {
        for _ in 0..READS {
            match self.tun.read(&mut outbound.packets) {
                Ok(()) => self.packets(outbound),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // EBADFD: the interface has been removed.
                Err(error) if matches!(error.raw_os_error(), Some(EBADFD | EIO)) => {
                    return Err(error);
                }
                Err(error) => tracing::debug!("a packet of the interface is lost: {error}"),
            }
        }
        self.flush(outbound);
        Ok(())
    }

    fn packets(&mut self, outbound: &mut Outbound) {
        let Some(first) = outbound.packets.first() else { return };
        let slot = Tunn::dst_address(first).and_then(|to| self.peers.by_address(to));
        let Some(slot) = slot else {
            self.drops.without_peer += 1;
            return self.say_unreachable(first);
        };
        let now = self.now;
        let Some(peer) = self.peers.get(slot) else { return };
        if peer.endpoint.is_none() {
            self.drops.without_endpoint += 1;
            return self.say_unreachable(first);
        }
        let mut small = [0; SMALL];
        if let Some(length) = peer.freshen(now, &mut small) {
            self.send(slot, &small[..length], length);
        }
        if outbound.run.slot != slot {
            self.flush(outbound);
            outbound.run.slot = slot;
        }
        self.encrypt(slot, outbound);
        self.enter(slot);
    }

    fn encrypt(&mut self, slot: usize, outbound: &mut Outbound) {
        let Outbound { packets, out, run } = outbound;
        for packet in packets.padded(self.mtu) {
            if out.len() - run.end < packet.len() + ROOM {
                self.flush_run(out, run);
                (run.start, run.end) = (0, 0);
            }
            let now = self.now;
            let Some(peer) = self.peers.get(slot) else { return };
            let Some(tunnel) = &mut peer.tunnel else { return };
            let TunnResult::WriteToNetwork(made) = tunnel.encapsulate(packet, &mut out[run.end..])
            else {
                // It waits for the handshake.
                continue;
            };
            let length = made.len();
            if made[0] != DATA {
                peer.note_asking(&out[run.end..], length, now);
                let begun = run.end..run.end + length;
                self.send(slot, &out[begun], length);
                continue;
            }
            let full = run.count == SEGMENTS || run.end - run.start + length > SEND;
            if run.count > 0 && (length > run.size || full) {
                self.flush_run(out, run);
            }
            if run.count == 0 {
                run.size = length;
            }
            run.end += length;
            run.count += 1;
            if length < run.size {
                self.flush_run(out, run);
            }
        }
    }

    fn flush_run(&mut self, out: &[u8], run: &mut Run) {
        if run.count > 0 {
            self.send(run.slot, &out[run.start..run.end], run.size);
            run.start = run.end;
            run.count = 0;
        }
    }

    fn flush(&mut self, outbound: &mut Outbound) {
        self.flush_run(&outbound.out, &mut outbound.run);
        (outbound.run.start, outbound.run.end) = (0, 0);
    }

    fn say_unreachable(&mut self, packet: &[u8]) {
        if let Some(answer) = icmp::unreachable(packet)
            && self.unreachable.take(self.now, SAY_EVERY, SAY_BURST)
        {
            let mut buffer = self.tun.buffer();
            buffer.packet(answer.len()).copy_from_slice(&answer);
            buffer.set_packet(answer.len());
            self.tun.write(buffer);
            self.tun.flush();
        }
    }
}

const EBADFD: i32 = rustix::io::Errno::BADFD.raw_os_error();
const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
