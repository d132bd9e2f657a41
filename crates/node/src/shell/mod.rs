//! The shell: threads, clocks and client handles around a [`crate::NodeCore`].

pub(crate) mod handle;
pub(crate) mod inbox;
