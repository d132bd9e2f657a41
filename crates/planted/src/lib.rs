//! Defects planted on purpose, one at a time, to show that a test catches each.
//!
//! A test that passes proves little until it was seen to fail.
//! Each [`Defect`] is one line of production code gone wrong at its place; the feature `planted`
//! compiles these lines in, and the environment variable `REFLOAT_PLANTED` names the one that is
//! active. Without the feature [`is`] is a constant `false`, and nothing of this is left.
//!
//! # Should I use this crate?
//!
//! No, unless you work on refloat: `cargo xtask planted` runs the tests against every defect and
//! fails for one that nothing catches. Turn the feature on in your own tests if you want to see
//! whether they would notice a storage engine that forgets.
//!
//! ```
//! use refloat_planted::{Defect, is};
//! if !is(Defect::SyncSkipped) {
//!     // sync
//! }
//! ```
#![cfg_attr(not(any(test, feature = "planted")), no_std)]
#![forbid(unsafe_code)]

mod table;

pub use table::{Catcher, DEFECTS, Defect, Planted};

/// The name of the variable that chooses a defect.
pub const VARIABLE: &str = "REFLOAT_PLANTED";

/// Whether this defect is planted in this process.
#[cfg(not(feature = "planted"))]
#[must_use]
#[inline]
pub const fn is(_: Defect) -> bool {
    false
}

/// Whether this defect is planted in this process.
///
/// # Panics
/// The variable names no defect: a misspelt one must not look like one that nothing catches.
#[cfg(feature = "planted")]
#[must_use]
#[inline]
pub fn is(defect: Defect) -> bool {
    chosen() == Some(defect)
}

#[cfg(feature = "planted")]
fn chosen() -> Option<Defect> {
    static CHOSEN: std::sync::OnceLock<Option<Defect>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty())?;
        let row = DEFECTS.iter().find(|row| row.name == name);
        Some(row.unwrap_or_else(|| panic!("{VARIABLE}={name} is no defect")).defect)
    })
}
