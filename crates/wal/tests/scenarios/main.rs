//! The scenarios that concern the log alone, by mechanism. `docs/scenarios.md` lists the ids.

mod beside;
mod chains;
mod crashes;
mod damage;
mod disk;
mod failing;
mod files;
mod golden;
mod noise;
mod replaced;
mod space;
mod starts;
mod table;
mod tail;
