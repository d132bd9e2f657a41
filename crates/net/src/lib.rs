//! Transport between refloat nodes: framing, identity handshake, lanes, flow control, and an in-memory twin.
