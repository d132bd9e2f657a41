//! Making a node's data directory.

use std::path::Path;

use refloat_log_store::identity::{self, IdentityError, NodeIdentity};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};
use refloat_vfs::OsFs;

/// Makes the data directory of a node of a new cluster: once per node and disk, with the same
/// cluster name, members and number of groups on each. The node gets a random life; the nodes
/// learn each other's when they first meet.
///
/// # Errors
/// The directory has an identity already, or the disk failed.
///
/// # Panics
/// The operating system has no randomness to give.
pub fn init(
    data_dir: impl AsRef<Path>,
    cluster: &str,
    node: u64,
    members: &[(u64, &str)],
    groups: u32,
) -> Result<(), IdentityError> {
    let mut life = [0; 16];
    getrandom::fill(&mut life).expect("the operating system's randomness");
    let member = Member::new(NodeId(node), Incarnation(u128::from_le_bytes(life)));
    let mut members: Vec<(NodeId, String)> =
        members.iter().map(|(node, address)| (NodeId(*node), (*address).to_owned())).collect();
    members.sort_unstable();
    let identity = NodeIdentity {
        identity: Identity { cluster: cluster_id(cluster, &members), member },
        cluster_name: cluster.to_owned(),
        groups,
        members,
        run: 0,
    };
    identity::create(&OsFs, data_dir.as_ref(), &identity)
}

/// The same on every node that is told the same name and members (FNV-1a).
fn cluster_id(name: &str, members: &[(NodeId, String)]) -> ClusterId {
    let nodes = members.iter().flat_map(|(node, _)| node.0.to_le_bytes());
    let mix = |hash: u128, byte: u8| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    let start = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    ClusterId(name.bytes().chain(nodes).fold(start, mix))
}
