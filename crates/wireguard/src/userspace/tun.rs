//! The interface: packets go in and out in the kernel's large ones, split and joined here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tun_rs::VIRTIO_NET_HDR_LEN as HEADER;
use tun_rs::{DeviceBuilder, ExpandBuffer, GROTable, IDEAL_BATCH_SIZE, SyncDevice};

/// So many packets wait in the interface; what is more is lost. The kernel's WireGuard keeps as many
/// (MAX_QUEUED_PACKETS); the default of a TUN, 500, is full after 3 ms of small packets.
const QUEUE: u32 = 1024;

/// The largest packet, with some room for what encryption adds.
const LONGEST: usize = 65_536 + 64;

/// Buffers begin at other lines of the cache each; as they would not, were their length a power of two.
const STRIDE: usize = LONGEST + 1984;

/// A buffer that is as large as any packet, and of which the first `length` bytes are in use.
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; STRIDE].into_boxed_slice(), length: 0 }
    }

    /// Where a packet of up to `length` bytes is put.
    pub(super) fn packet(&mut self, length: usize) -> &mut [u8] {
        &mut self.bytes[HEADER..][..length.min(LONGEST)]
    }

    /// Says how long the packet is.
    pub(super) fn set_packet(&mut self, length: usize) {
        self.length = HEADER + length.min(LONGEST);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl ExpandBuffer for Buffer {
    fn buf_capacity(&self) -> usize {
        self.bytes.len()
    }

    fn buf_resize(&mut self, length: usize, value: u8) {
        let (before, length) = (self.length, length.min(self.bytes.len()));
        if length > before {
            self.bytes[before..length].fill(value);
        }
        self.length = length;
    }

    fn buf_extend_from_slice(&mut self, more: &[u8]) {
        // What is joined is within the capacity, as it was asked for before.
        let end = (self.length + more.len()).min(self.bytes.len());
        self.bytes[self.length..end].copy_from_slice(&more[..end - self.length]);
        self.length = end;
    }
}

/// The interface of this device, which is gone when this is dropped, or the process ends.
pub(super) struct Tun {
    device: SyncDevice,
    joined: GROTable,
    pending: Vec<Buffer>,
    spare: Vec<Buffer>,
}

impl Tun {
    /// Makes the interface; it is down.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let builder = DeviceBuilder::new().name(name).inherit_enable_state();
        let offload = |options: &mut tun_rs::DeviceBuilderGuard<'_>| {
            options.offload(true).tx_queue_len(QUEUE);
        };
        let device = builder.with(offload).build_sync()?;
        device.set_nonblocking(true)?;
        Ok(Self { device, joined: GROTable::new(), pending: Vec::new(), spare: Vec::new() })
    }

    /// The longest packet that the interface takes now.
    pub(super) fn mtu(&self) -> io::Result<usize> {
        self.device.mtu().map(usize::from)
    }

    /// Reads packets: one, or the parts of a large one.
    pub(super) fn read(&self, into: &mut Packets) -> io::Result<()> {
        into.count = 0;
        let Packets { whole, parts, sizes, count } = into;
        *count = self.device.recv_multiple(whole, parts, sizes, 0)?;
        Ok(())
    }

    /// A buffer for a packet to the interface.
    pub(super) fn buffer(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_else(Buffer::new)
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        self.spare.push(buffer);
    }

    /// Enters a packet for the interface; they are joined and written when there are many, and by `flush`.
    pub(super) fn write(&mut self, buffer: Buffer) {
        self.pending.push(buffer);
        if self.pending.len() >= IDEAL_BATCH_SIZE {
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        // An interface that is down, or full, loses what is sent to it: as any does.
        if let Err(error) = self.device.send_multiple(&mut self.joined, &mut self.pending, HEADER) {
            tracing::trace!("packets to the interface are lost: {error}");
        }
        self.spare.append(&mut self.pending);
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// What was read at once.
pub(super) struct Packets {
    whole: Vec<u8>,
    parts: Vec<Part>,
    sizes: Vec<usize>,
    count: usize,
}

/// Room for any packet, of which only those pages are used that one ever filled.
struct Part(Box<[u8]>);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsMut<[u8]> for Part {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Packets {
    pub(super) fn new() -> Self {
        Self {
            whole: vec![0; HEADER + LONGEST],
            parts: (0..IDEAL_BATCH_SIZE).map(|_| Part(vec![0; STRIDE].into())).collect(),
            sizes: vec![0; IDEAL_BATCH_SIZE],
            count: 0,
        }
    }

    /// The packets, each padded with zeros to a multiple of 16 bytes, but not beyond `mtu`: so that its
    /// length tells less (the paper, 5.4.6). With each, whether its padding is to be counted.
    pub(super) fn padded(&mut self, mtu: usize) -> impl Iterator<Item = &[u8]> {
        self.parts.iter_mut().zip(&self.sizes).take(self.count).map(move |(part, size)| {
            let end = size.next_multiple_of(16).min(mtu).max(*size);
            part.0[*size..end].fill(0);
            &part.0[..end]
        })
    }

    /// The first packet: all of them are from and to the same.
    pub(super) fn first(&self) -> Option<&[u8]> {
        let part = self.parts.first().filter(|_| self.count > 0)?;
        part.0.get(..*self.sizes.first()?)
    }
}
