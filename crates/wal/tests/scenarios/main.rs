//! The scenarios that concern the log alone, by mechanism. `docs/scenarios.md` lists the ids.

mod crashes;
mod damage;
mod disk;
mod files;
mod space;
mod tail;
