//! `refloat join`: makes the directory of a node that comes to a cluster that exists.

use refloat_node::{JoinError, join};

use super::args::Join;
use super::failure::{Code, Failure, with_causes};
use super::output;

/// Runs the command.
pub fn run(args: &Join) -> Result<(), Failure> {
    if args.node == 0 {
        return Err(Failure::usage("--node 0: node numbers start at 1"));
    }
    let address = args.peer_addr.as_deref();
    let identity = join(&args.data_dir, &args.cluster, args.node, &args.peer, address)
        .map_err(|error| failure(&error))?;
    output::line(format!(
        "node {} may join cluster {}: {} is made (incarnation {}, {} members); start it with serve",
        args.node,
        args.cluster,
        args.data_dir.display(),
        identity.identity.member.incarnation,
        identity.members.len()
    ));
    Ok(())
}

fn failure(error: &JoinError) -> Failure {
    let code = match error {
        JoinError::NoAnswer(_) | JoinError::Answer { .. } => Code::Network,
        JoinError::NoAddress { .. } => Code::Usage,
        JoinError::Directory(error) => Failure::code_of_identity(error),
        _ => Code::Refused,
    };
    Failure::new(code, with_causes(error))
}
