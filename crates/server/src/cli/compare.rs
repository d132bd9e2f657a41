//! `refloat compare`: two directories of one cluster. Changes nothing.

use refloat_log_store::tools::{Relation, compare};
use refloat_vfs::OsFs;

use super::args::Compare;
use super::check::store_options;
use super::failure::{Code, Failure};
use super::output;
use super::progress::Progress;

/// Runs the command: 0 if all groups are clean and agree wherever both hold an index, 10 if
/// something differs that replication or healing puts right, 1 if what both vouch for differs.
pub fn run(args: &Compare) -> Result<(), Failure> {
    let [first, second] =
        [&args.first, &args.second].map(|dir| store_options(dir.clone(), &args.files));
    let progress = Progress::start();
    let comparison = compare(&OsFs, &first, &second, &mut |what| progress.tell(what))?;
    drop(progress);
    if args.json {
        output::json(&comparison)?;
    } else {
        output::line(comparison.to_string().trim_end());
    }
    if let Some(line) = comparison.contradictions.first() {
        let why = format!("two readers differ, which is a defect of refloat: {line}");
        return Err(Failure::new(Code::Other, why));
    }
    let relation = comparison.relation();
    let code = match relation {
        Relation::Agree => return Ok(()),
        Relation::Healable => Code::Damage,
        _ => Code::Other,
    };
    let groups = comparison.groups.iter().filter(|group| group.relation == relation);
    let names: Vec<String> = groups.map(|group| group.group.to_string()).collect();
    let plural = if names.len() == 1 { "group" } else { "groups" };
    Err(Failure::new(code, format!("{plural} {} {relation}", names.join(", "))))
}
