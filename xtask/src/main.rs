//! All automation of the project: `cargo xtask <command>`.
//!
//! | command | does |
//! |---|---|
//! | `ci` | everything that must hold before a change lands, with seconds per step |
//! | `scenarios` | writes `docs/scenarios.md` from the tests; `--check` fails if it is stale; `--run` runs them |
//! | `layers` | the layering rules alone |
//! | `planted` | every planted defect against the test that must catch it |
//! | `crash` | the crash images of the log store, counted; `--deep [N]` for more, and the long tests of the WAL |
//! | `model` | the model checks of the consensus core, counted; `--deep` for more steps |
//! | `fuzz` | each decoder against bytes that nobody wrote: `--seconds N`, `--seed N`, a target |
//! | `sim` | the cluster simulator: `--seeds N`, `--seed N` |
//! | `torture` | real nodes under load, one fault after the other: `--rounds N`, `--seed N`; `--kills N` |
//! | `adapters` | the examples that store another library's log |
//! | `bench` | the figures of `docs/performance.md` |
#![forbid(unsafe_code)]

mod adapters;
mod bench;
mod catalogue;
mod ci;
mod crash;
mod fuzz;
mod layers;
mod model;
mod planted;
mod process;
mod scenarios;
mod sim;
mod torture;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <command>

  ci                            all checks; the last lines are the seconds per step and the test counts
  scenarios [--check] [--run]   write docs/scenarios.md from the tests, or fail if it is stale;
                                run the tests that bear an id
  layers                        who may depend on whom
  planted [NAME …]              plant one defect at a time, and see that its test fails
  crash [--deep [N]]            every crash image of the log store: workload, stops, images, seconds;
                                deep: N times as many, and the long tests of the WAL
  model [--deep]                every behaviour of three cores within bounds: steps, states, seconds
  fuzz [--seconds N] [--seed N] [TARGET]
                                feed each decoder with bytes that nobody wrote, for so long
  sim [--seeds N] [--seed N]    simulate whole clusters (arguments go to the simulator)
  torture [--rounds N] [--seed N]
                                real nodes under load: kills, wipes, wounds, old copies, swaps
  torture --kills N             kill nodes under load so often, then read everything back
  adapters                      the examples that store another library's log
  bench [--only P1] [--json F]  the figures, beside the device and the peers
  bench damage                  the same damage on refloat and on other logs";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[][..]),
    };
    let result = match command {
        "ci" => ci::run(rest),
        "scenarios" => scenarios::run(rest),
        "layers" => layers::check(),
        "planted" => planted::run(rest),
        "sim" => sim::run(rest),
        "crash" => crash::run(rest),
        "model" => model::run(rest),
        "fuzz" => fuzz::run(rest),
        "torture" => torture::run(rest),
        "adapters" => adapters::run(rest),
        "bench" => bench::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => {
            eprintln!("unknown command {other:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
