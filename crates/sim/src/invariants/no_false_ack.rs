//! No false ack after a sync error: what a node had acknowledged when a write or a sync of its disk
//! failed is there at the next start. The check is that of [`durable_acks`](super::durable_acks), at
//! the starts behind such an error.

pub(crate) const NAME: &str = "no false ack after a failed write";
