//! Reading and writing one connection, with a bound on every wait.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, timeout, timeout_at};

use super::queue::{Queue, Turn};
use crate::frame::{FRAME_HEADER_LEN, FrameDecoder, FrameError, FrameKind, frame_header};
use crate::handshake::{HANDSHAKE_PREFIX_LEN, HandshakeError, rest_len};
use crate::stats::{Counters, add};
use crate::{Config, Lane};

/// About how many bytes of frames go into one write.
const WRITE_LEN: usize = 256 << 10;
/// Bodies up to this length are copied together; longer ones are written from where they are.
const COALESCE_LEN: usize = 16 << 10;

/// Why a connection ended, or did not begin.
#[derive(Debug)]
pub(crate) enum Closed {
    Io(io::Error),
    /// The other side closed it between two frames.
    Ended,
    Handshake(HandshakeError),
    Frame(FrameError),
    /// Something took too long.
    Slow(&'static str),
    /// Frames came from a side that only listens.
    Unexpected,
    /// It was only a question, and it is answered.
    Asked,
    /// A newer connection of the same peer and lane took its place.
    Replaced,
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Closed {
        Closed::Io(error)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Io(error) => write!(f, "{error}"),
            Closed::Ended => f.write_str("closed by the peer"),
            Closed::Handshake(error) => write!(f, "{error}"),
            Closed::Frame(error) => write!(f, "{error}"),
            Closed::Slow(what) => write!(f, "{what} took too long"),
            Closed::Unexpected => f.write_str("frames from a side that only listens"),
            Closed::Asked => f.write_str("a question"),
            Closed::Replaced => f.write_str("replaced by a newer connection"),
        }
    }
}

impl Closed {
    /// Counts the end of an established connection under its cause.
    pub(crate) fn count(&self, counters: &Counters) {
        match self {
            Closed::Frame(error) => {
                add(&counters.bad_frames, 1);
                add(&counters.bad_checksums, u64::from(error.is_corruption()));
            }
            Closed::Slow("frame") | Closed::Unexpected => add(&counters.bad_frames, 1),
            Closed::Slow("silence") => add(&counters.idle_closed, 1),
            _ => {}
        }
    }

    /// Whether the peer broke a rule, as against a network that did what networks do.
    pub(crate) fn is_fault_of_peer(&self) -> bool {
        matches!(self, Closed::Frame(_) | Closed::Handshake(_) | Closed::Unexpected)
            || matches!(self, Closed::Slow("frame" | "handshake"))
    }
}

/// Reads one handshake message: never more than the limit, never longer than the time given.
pub(crate) async fn read_handshake<S: AsyncRead + Unpin>(
    stream: &mut S,
    limit: Duration,
) -> Result<Vec<u8>, Closed> {
    let read = async {
        let mut prefix = [0; HANDSHAKE_PREFIX_LEN];
        stream.read_exact(&mut prefix).await?;
        let rest = rest_len(&prefix).map_err(Closed::Handshake)?;
        let mut bytes = prefix.to_vec();
        bytes.resize(HANDSHAKE_PREFIX_LEN + rest, 0);
        stream.read_exact(&mut bytes[HANDSHAKE_PREFIX_LEN..]).await?;
        Ok(bytes)
    };
    timeout(limit, read).await.unwrap_or(Err(Closed::Slow("handshake")))
}

pub(crate) async fn write_handshake<S: AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
    limit: Duration,
) -> Result<(), Closed> {
    match timeout(limit, stream.write_all(bytes)).await {
        Ok(written) => Ok(written?),
        Err(_) => Err(Closed::Slow("handshake")),
    }
}

/// Reads frames until the connection ends; `each` takes the bodies of data frames, and says
/// whether they are expected at all.
pub(crate) async fn read_frames<S: AsyncRead + Unpin>(
    mut stream: S,
    lane: Lane,
    config: &Config,
    counters: &Counters,
    mut each: impl FnMut(Bytes) -> Result<(), Closed>,
) -> Closed {
    let mut decoder = FrameDecoder::new(lane, config.max_frame);
    // A frame must be whole within a bound that no trickle of bytes moves.
    let mut frame_deadline = None;
    loop {
        loop {
            match decoder.next_frame() {
                Ok(Some((kind, body))) => {
                    frame_deadline = None;
                    add(&counters.bytes_received, (FRAME_HEADER_LEN + body.len()) as u64);
                    if kind == FrameKind::Data {
                        add(&counters.frames_received, 1);
                        if let Err(closed) = each(body) {
                            return closed;
                        }
                    }
                }
                Ok(None) => break,
                Err(error) => return Closed::Frame(error),
            }
        }
        let now = Instant::now();
        let idle = now + config.idle_timeout;
        let deadline = decoder
            .is_inside_frame()
            .then(|| *frame_deadline.get_or_insert(now + config.frame_timeout));
        let until = deadline.map_or(idle, |deadline| deadline.min(idle));
        match timeout_at(until, stream.read_buf(decoder.space())).await {
            Ok(Ok(0)) if decoder.is_inside_frame() => {
                return Closed::Io(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Ok(0)) => return Closed::Ended,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Closed::Io(error),
            Err(_) if decoder.is_inside_frame() => return Closed::Slow("frame"),
            Err(_) => return Closed::Slow("silence"),
        }
    }
}

/// Writes what comes into a queue, many frames per write, and keep-alives when nothing comes.
/// Without a queue, keep-alives only.
pub(crate) async fn write_frames(
    socket: &OwnedWriteHalf,
    lane: Lane,
    config: &Config,
    counters: &Counters,
    queue: Option<&Queue>,
) -> Closed {
    let mut batch = Batch::new(lane);
    let mut frames = Vec::new();
    loop {
        match queue.and_then(|queue| queue.take(WRITE_LEN, &mut frames)) {
            Some(Turn { rest, seq }) => batch.begin(rest, seq),
            None => {
                match (queue, config.keepalive) {
                    (Some(queue), wait) if timeout(wait, queue.filled()).await.is_ok() => continue,
                    (Some(queue), _) => {
                        let Some(seq) = queue.interject() else { continue };
                        batch.begin(None, seq);
                    }
                    (None, wait) => tokio::time::sleep(wait).await,
                }
                batch.push(FrameKind::KeepAlive, Bytes::new());
            }
        }
        for frame in frames.drain(..) {
            batch.push(FrameKind::Data, frame);
        }
        let mut parts = batch.finish();
        let bytes = parts.remaining() as u64;
        match timeout(config.frame_timeout, write_all(socket, &mut parts)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Closed::Io(error),
            Err(_) => return Closed::Slow("write"),
        }
        add(&counters.frames_sent, queue.map_or(0, Queue::written));
        add(&counters.bytes_sent, bytes);
        add(&counters.writes, 1);
    }
}

async fn write_all(socket: &OwnedWriteHalf, parts: &mut Parts) -> io::Result<()> {
    while parts.has_remaining() {
        socket.writable().await?;
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = parts.chunks_vectored(&mut slices);
        match socket.try_write_vectored(slices.get(..filled).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => parts.advance(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gathers frames into few pieces of memory.
struct Batch {
    lane: Lane,
    seq: u32,
    small: Vec<u8>,
    parts: VecDeque<Bytes>,
}

impl Batch {
    fn new(lane: Lane) -> Batch {
        Batch { lane, seq: 0, small: Vec::new(), parts: VecDeque::new() }
    }

    /// Goes on behind the rest of a frame, if there is one, with the frame of this number.
    fn begin(&mut self, rest: Option<Bytes>, seq: u32) {
        self.parts.extend(rest);
        self.seq = seq;
    }

    fn push(&mut self, kind: FrameKind, body: Bytes) {
        self.small.extend_from_slice(&frame_header(self.seq, kind, self.lane, &body));
        self.seq = self.seq.wrapping_add(1);
        if body.len() <= COALESCE_LEN {
            self.small.extend_from_slice(&body);
        } else {
            self.parts.push_back(std::mem::take(&mut self.small).into());
            self.parts.push_back(body);
        }
    }

    fn finish(&mut self) -> Parts {
        if !self.small.is_empty() {
            self.parts.push_back(std::mem::take(&mut self.small).into());
        }
        Parts(std::mem::take(&mut self.parts))
    }
}

/// Pieces of memory that are written as one.
struct Parts(VecDeque<Bytes>);

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, part) in dst.iter_mut().zip(&self.0) {
            *slot = IoSlice::new(part);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let Some(part) = self.0.front_mut() else { return };
            let step = n.min(part.len());
            part.advance(step);
            n -= step;
            if part.is_empty() {
                self.0.pop_front();
            }
        }
    }
}
