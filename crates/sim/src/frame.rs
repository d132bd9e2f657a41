//! Looking into the frames that nodes exchange.

use bytes::Bytes;
use refloat_raft_core::Message;
use refloat_types::codec::Reader;

/// The kind of an item that holds a message between two replicas.
const RAFT: u8 = 1;

/// What a frame holds.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Its messages between replicas.
    pub(crate) messages: Vec<Message>,
    /// Whether it holds nothing else. Such a frame may come twice or out of order; forwarded
    /// requests and snapshot chunks rely on the order that a connection gives.
    pub(crate) only_raft: bool,
}

/// The number of the sender's run.
pub(crate) fn run(frame: &Bytes) -> Option<u64> {
    let mut reader = Reader::new(frame);
    reader.u8("version").ok()?;
    reader.u64("run").ok()
}

/// Takes a frame apart as `docs/formats/messages.md` describes it. `None`: it is not one.
pub(crate) fn decode(frame: &Bytes) -> Option<Frame> {
    let mut reader = Reader::new(frame);
    reader.u8("version").ok()?;
    reader.u64("run").ok()?;
    reader.u64("process").ok()?;
    reader.member("receiver").ok()?;
    let mut decoded = Frame { messages: Vec::new(), only_raft: true };
    while reader.remaining() > 0 {
        let kind = reader.u8("item kind").ok()?;
        let len = reader.count(1, "item length").ok()?;
        let start = reader.offset();
        reader.bytes(len, "item").ok()?;
        if kind == RAFT {
            let body = frame.slice(start..start + len);
            decoded.messages.push(Message::decode_shared(&body).ok()?);
        } else {
            decoded.only_raft = false;
        }
    }
    Some(decoded)
}
