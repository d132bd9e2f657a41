//! Frames on a connection, as pure functions over bytes.
//!
//! Byte tables: `docs/formats/wire.md`.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use refloat_types::codec::{Put, Reader};

use crate::Lane;

/// Length, sequence number, kind, lane and two checks stand before each body.
pub const FRAME_HEADER_LEN: usize = 16;

/// Bodies up to this length are copied out of the read buffer; longer ones are cut out of it.
/// So a small frame that is kept for long never keeps its neighbours' memory.
const COPY_LEN: usize = 16 << 10;

/// How much is read from a socket at once.
const READ_LEN: usize = 64 << 10;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Carries a frame of the user.
    Data = 0,
    /// Says that the connection lives. No body.
    KeepAlive = 1,
}

/// Makes the header of a frame: what goes onto the wire before `body`.
#[must_use]
pub fn frame_header(seq: u32, kind: FrameKind, lane: Lane, body: &[u8]) -> [u8; FRAME_HEADER_LEN] {
    let mut out = Vec::with_capacity(FRAME_HEADER_LEN);
    out.put_u32(u32::try_from(body.len()).expect("frames are shorter than 4 GiB"));
    out.put_u32(seq);
    out.put_u8(kind as u8);
    out.put_u8(lane as u8);
    let head = crc32c::crc32c(&out);
    out.put_u16(low_half(head));
    out.put_u32(crc32c::crc32c_append(crc32c::crc32c(&out), body));
    let mut header = [0; FRAME_HEADER_LEN];
    header.copy_from_slice(&out);
    header
}

#[allow(clippy::cast_possible_truncation)]
const fn low_half(crc: u32) -> u16 {
    crc as u16
}

/// Cuts a stream of bytes into frames. Believes a length only after the header's own check, and
/// never holds more than about twice the longest frame.
#[derive(Debug)]
pub struct FrameDecoder {
    lane: Lane,
    max_frame: usize,
    seq: u32,
    buffer: BytesMut,
}

impl FrameDecoder {
    /// A decoder at the start of a connection's frames.
    #[must_use]
    pub fn new(lane: Lane, max_frame: usize) -> FrameDecoder {
        FrameDecoder { lane, max_frame, seq: 0, buffer: BytesMut::new() }
    }

    /// Where the next bytes from the socket go; it has room for some.
    pub fn space(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ_LEN);
        &mut self.buffer
    }

    /// Whether the bytes so far end inside a frame.
    #[must_use]
    pub fn is_inside_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame, or `None` until more bytes came.
    ///
    /// # Errors
    /// The bytes are no frame of this connection: it must be closed, nothing after them counts.
    pub fn next_frame(&mut self) -> Result<Option<(FrameKind, Bytes)>, FrameError> {
        let Some(header) = self.buffer.first_chunk::<FRAME_HEADER_LEN>() else { return Ok(None) };
        let Header { len, kind, crc } = self.read_header(header)?;
        let Some(body) = self.buffer.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN + len) else {
            return Ok(None);
        };
        let expected = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), body);
        if expected != crc {
            return Err(FrameError::Checksum { found: crc, expected });
        }
        self.seq = self.seq.wrapping_add(1);
        self.buffer.advance(FRAME_HEADER_LEN);
        if len > COPY_LEN {
            return Ok(Some((kind, self.buffer.split_to(len).freeze())));
        }
        let body = Bytes::copy_from_slice(self.buffer.get(..len).unwrap_or_default());
        self.buffer.advance(len);
        Ok(Some((kind, body)))
    }

    /// The head check comes first: a flipped length must not make the reader wait for bytes that
    /// never come.
    fn read_header(&self, header: &[u8; FRAME_HEADER_LEN]) -> Result<Header, FrameError> {
        let malformed = |_| FrameError::Header { field: "length", found: 0 };
        let mut r = Reader::new(header);
        let len = r.u32("length").map_err(malformed)?;
        let seq = r.u32("sequence number").map_err(malformed)?;
        let (kind, lane) = (r.u8("kind").map_err(malformed)?, r.u8("lane").map_err(malformed)?);
        let check = r.u16("head check").map_err(malformed)?;
        let crc = r.u32("checksum").map_err(malformed)?;
        let computed = low_half(crc32c::crc32c(&header[..10]));
        if computed != check {
            return Err(FrameError::HeadCheck { found: check, expected: computed });
        }
        let kind = match kind {
            0 => FrameKind::Data,
            1 if len == 0 => FrameKind::KeepAlive,
            _ => return Err(FrameError::Header { field: "kind", found: kind.into() }),
        };
        if lane != self.lane as u8 {
            return Err(FrameError::Header { field: "lane", found: lane.into() });
        }
        if seq != self.seq {
            return Err(FrameError::Header { field: "sequence number", found: seq });
        }
        if len as usize > self.max_frame {
            return Err(FrameError::TooLong { found: len, limit: self.max_frame });
        }
        Ok(Header { len: len as usize, kind, crc })
    }
}

struct Header {
    len: usize,
    kind: FrameKind,
    crc: u32,
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The header does not pass its own check.
    HeadCheck {
        /// What it carries.
        found: u16,
        /// What its bytes give.
        expected: u16,
    },
    /// A field of an intact header holds what it cannot.
    Header {
        /// Which.
        field: &'static str,
        /// Its value.
        found: u32,
    },
    /// The frame is longer than this node takes.
    TooLong {
        /// Its length.
        found: u32,
        /// The longest.
        limit: usize,
    },
    /// Header and body do not match the checksum.
    Checksum {
        /// What the header carries.
        found: u32,
        /// What the bytes give.
        expected: u32,
    },
}

impl FrameError {
    /// Whether the bytes changed on the way, as against a sender that breaks the rules.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, FrameError::HeadCheck { .. } | FrameError::Checksum { .. })
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::HeadCheck { found, expected } => {
                write!(
                    f,
                    "frame: header check mismatch (expected {expected:04x}, found {found:04x})"
                )
            }
            FrameError::Header { field, found } => write!(f, "frame: invalid {field} {found}"),
            FrameError::TooLong { found, limit } => {
                write!(f, "frame: {found} bytes announced (limit {limit})")
            }
            FrameError::Checksum { found, expected } => {
                write!(f, "frame: checksum mismatch (expected {expected:08x}, found {found:08x})")
            }
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (seq, body) in bodies.iter().enumerate() {
            let seq = u32::try_from(seq).unwrap();
            out.put_slice(&frame_header(seq, FrameKind::Data, Lane::Urgent, body));
            out.put_slice(body);
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Bytes>, FrameError> {
        let mut decoder = FrameDecoder::new(Lane::Urgent, 1 << 20);
        decoder.space().extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some((_, body)) = decoder.next_frame()? {
            out.push(body);
        }
        Ok(out)
    }

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_pieces() {
        let big = vec![7; COPY_LEN + 1];
        let bodies: [&[u8]; 4] = [b"one", b"", &big, b"two"];
        let bytes = stream(&bodies);
        for step in [1, 3, 16, 17, 1000, bytes.len()] {
            let mut decoder = FrameDecoder::new(Lane::Urgent, 1 << 20);
            let mut out = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.space().extend_from_slice(piece);
                while let Some((kind, body)) = decoder.next_frame().unwrap() {
                    assert_eq!(kind, FrameKind::Data);
                    out.push(body);
                }
            }
            assert_eq!(out, bodies);
            assert!(!decoder.is_inside_frame());
        }
    }

    #[test]
    fn o06_the_bytes_of_version_1_never_change() {
        let header = frame_header(3, FrameKind::Data, Lane::Bulk, b"refloat");
        let hex: String = header.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, include_str!("../tests/golden/frame_v1.hex").trim());
    }

    #[test]
    fn t04_bit_error_on_the_wire_is_caught_before_the_frame_is_delivered() {
        let bytes = stream(&[b"first", b"second"]);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit} flipped and nobody saw it");
        }
    }

    #[test]
    fn a_flipped_length_is_seen_at_once_and_not_when_the_bytes_have_come() {
        let mut bytes = stream(&[b"x"]);
        bytes[1] ^= 1;
        assert!(matches!(decode(&bytes[..FRAME_HEADER_LEN]), Err(FrameError::HeadCheck { .. })));
    }

    #[test]
    fn a_frame_that_is_repeated_lost_or_of_the_other_lane_ends_the_connection() {
        let (one, two) = (stream(&[b"a"]), stream(&[b"a", b"b"]));
        let repeated = [one.clone(), one.clone()].concat();
        let sequence = |found| Err(FrameError::Header { field: "sequence number", found });
        assert_eq!(decode(&repeated), sequence(0));
        assert_eq!(decode(&two[one.len()..]), sequence(1));
        let other = frame_header(0, FrameKind::KeepAlive, Lane::Bulk, b"");
        assert_eq!(decode(&other), Err(FrameError::Header { field: "lane", found: 1 }));
    }

    #[test]
    fn t01_a_length_beyond_the_limit_is_refused_and_nothing_is_allocated_for_it() {
        let mut head = stream(&[b""]);
        head[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let check = low_half(crc32c::crc32c(&head[..10]));
        head[10..12].copy_from_slice(&check.to_le_bytes());
        let mut decoder = FrameDecoder::new(Lane::Urgent, 1 << 20);
        decoder.space().extend_from_slice(&head);
        let too_long = FrameError::TooLong { found: u32::MAX, limit: 1 << 20 };
        assert_eq!(decoder.next_frame(), Err(too_long));
        assert!(decoder.space().capacity() <= 2 * READ_LEN);
    }

    #[test]
    fn t01_random_bytes_are_no_frames_and_never_panic() {
        let mut x = 5u64;
        for round in 0..5_000usize {
            let mut decoder = FrameDecoder::new(Lane::Urgent, 4096);
            let mut bytes = Vec::new();
            for _ in 0..16 + round % 300 {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                bytes.push((x >> 56) as u8);
            }
            decoder.space().extend_from_slice(&bytes);
            assert!(decoder.next_frame().is_err(), "round {round}");
            assert!(decoder.space().capacity() <= 4 * READ_LEN);
        }
    }
}
