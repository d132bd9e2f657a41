//! `refloat init`: makes a node's directory, once.

use refloat_log_store::identity::{self, NodeIdentity};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};
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

/// Nodes are initialised apart and must arrive at the same id, so it is derived from what all of
/// them are given. A node initialised with another name, other members or another number of
/// groups (which would look for keys in other groups than the rest) is of another cluster, and
/// the others refuse it.
fn cluster_id(name: &str, members: &[(NodeId, String)], groups: u32) -> ClusterId {
    let mut text = format!("{}:{name};{groups};", name.len());
    members.iter().for_each(|(node, _)| text.push_str(&format!("{node};")));
    let half = |salt: u8| {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(salt);
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^ (hash >> 33)
    };
    ClusterId(u128::from(half(1)) << 64 | u128::from(half(2)))
}

/// Sixteen bytes of the operating system's randomness.
fn random() -> Result<u128, Failure> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Code::Other, format!("no randomness: {error}")))?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_id_depends_on_all_that_members_must_agree_on() {
        let members = vec![(NodeId(1), "a:1".to_owned()), (NodeId(2), "b:1".to_owned())];
        let id = cluster_id("demo", &members, 4);
        assert_eq!(id, cluster_id("demo", &members, 4));
        assert_ne!(id, cluster_id("demo2", &members, 4));
        assert_ne!(id, cluster_id("demo", &members, 5));
        assert_ne!(id, cluster_id("demo", &members[..1], 4));
    }
}
