//! The `refloat` program: a replicated key-value server, its tools and its demonstration.
#![forbid(unsafe_code)]

mod admin;
mod cli;
mod commands;
mod demo;
#[cfg(test)]
mod fuzz;
mod kv;
mod resp;
mod serve;

fn main() -> std::process::ExitCode {
    cli::main(std::env::args_os())
}
