//! Deterministic simulation of whole refloat clusters: production code on simulated disks, network and clock, from one seed.
