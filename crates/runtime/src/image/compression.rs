//! Compressed archives: gzip and zstd, found by their first bytes whatever the media type says.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Reads what `source` holds, uncompressed.
///
/// # Errors
/// The source's, and one that names the compression if it is none of those known.
pub(super) fn decompress<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(64 * 1024, source);
    let start = source.fill_buf()?;
    let unsupported = |what: &str| {
        let message = format!("{what} compression is not supported; use gzip, zstd or none");
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    };
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
        // A zstd frame, or one that is to be skipped before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(Zstd { decoder: FrameDecoder::new(), source, in_frame: false })
        }
        [b'B', b'Z', b'h', ..] => return unsupported("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => return unsupported("xz"),
        _ => Box::new(source),
    })
}

/// All frames of a zstd stream.
struct Zstd<R> {
    decoder: FrameDecoder,
    source: R,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Opens the next frame; `false` at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                }
                Err(err) => return Err(io::Error::new(io::ErrorKind::InvalidData, err)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))?;
            }
            let got = self.decoder.read(buffer)?;
            if got > 0 {
                return Ok(got);
            }
            if self.decoder.is_finished() {
                self.in_frame = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn all(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decompress(data)?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_member_and_frame_is_read() {
        let text = b"holdfast ".repeat(20_000);
        assert_eq!(all(&text).unwrap(), text);
        assert_eq!(all(b"").unwrap(), b"");
        let twice = [gzip(&text), gzip(b"end")].concat();
        assert_eq!(all(&twice).unwrap(), [&text[..], b"end"].concat());
        let frame = |data: &[u8]| compress_to_vec(data, CompressionLevel::Fastest);
        let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"???"].concat();
        let stream = [skipped.clone(), frame(&text), skipped, frame(b"end")].concat();
        assert_eq!(all(&stream).unwrap(), [&text[..], b"end"].concat());
    }

    #[test]
    fn damage_is_an_error() {
        let mut data = gzip(&b"x".repeat(1000));
        data.truncate(20);
        assert!(all(&data).is_err());
        let mut data = compress_to_vec(&b"xyz".repeat(1000)[..], CompressionLevel::Fastest);
        data.truncate(data.len() - 3);
        assert!(all(&data).is_err());
        assert!(all(b"BZh91AY").unwrap_err().to_string().contains("bzip2"));
    }
}
