//! `refloat init`: makes a node's directory, once.

use refloat_log_store::identity::{self, NodeIdentity};
use refloat_node::cluster_id;
use refloat_types::{Identity, Incarnation, Member, NodeId};
use refloat_vfs::OsFs;

use super::args::Init;
use super::failure::{Code, Failure};
use super::output;

/// Runs the command.
pub fn run(args: Init) -> Result<(), Failure> {
    let members = checked_members(&args)?;
    let incarnation = random()?;
    let identity = NodeIdentity {
        identity: Identity {
            cluster: cluster_id(&args.cluster, &members, args.groups),
            member: Member::new(NodeId(args.node), Incarnation(incarnation)),
        },
        cluster_name: args.cluster.clone(),
        groups: args.groups,
        members,
        run: 0,
        origin: identity::Origin::Init,
        lineage: identity::Lineage::default(),
        recovering: false,
    };
    identity::create(&OsFs, &args.data_dir, &identity)?;
    output::line(format!(
        "initialised node {} of cluster {} in {} (incarnation {incarnation:032x}, {} members, {} groups)",
        args.node,
        args.cluster,
        args.data_dir.display(),
        identity.members.len(),
        args.groups
    ));
    Ok(())
}

fn checked_members(args: &Init) -> Result<Vec<(NodeId, String)>, Failure> {
    if args.cluster.is_empty() || args.cluster.len() > 255 {
        return Err(Failure::usage("--cluster needs a name of 1 to 255 bytes"));
    }
    let mut members: Vec<(NodeId, String)> =
        args.members.iter().map(|(node, address)| (NodeId(*node), address.clone())).collect();
    members.sort();
    if members.iter().any(|(node, _)| node.0 == 0) {
        return Err(Failure::usage("--member 0=…: node numbers start at 1"));
    }
    if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Failure::usage(format!("--member names node {} twice", pair[0].0)));
    }
    let mut addresses: Vec<&String> = members.iter().map(|(_, address)| address).collect();
    addresses.sort();
    if let Some(pair) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::usage(format!("--member names address {} twice", pair[0])));
    }
    if !members.iter().any(|(node, _)| node.0 == args.node) {
        let node = args.node;
        return Err(Failure::usage(format!("--node {node} is not among the --member entries")));
    }
    Ok(members)
}

/// Sixteen bytes of the operating system's randomness.
fn random() -> Result<u128, Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Code::Other, format!("no randomness: {error}")))?;
    Ok(u128::from_le_bytes(bytes))
}
