//! The shell: threads, clocks and client handles around a [`crate::NodeCore`].

pub(crate) mod builder;
pub(crate) mod handle;
pub(crate) mod inbox;
pub(crate) mod init;
pub(crate) mod join;
mod lanes;
pub(crate) mod plan;
pub(crate) mod recover;
mod worker;
