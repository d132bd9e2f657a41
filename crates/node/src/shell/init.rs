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
    let member = Member::new(NodeId(node), random_life());
    let mut members: Vec<(NodeId, String)> =
        members.iter().map(|(node, address)| (NodeId(*node), (*address).to_owned())).collect();
    members.sort_unstable();
    let identity = NodeIdentity {
        identity: Identity { cluster: cluster_id(cluster, &members, groups), member },
        cluster_name: cluster.to_owned(),
        groups,
        members,
        run: 0,
        origin: identity::Origin::Init,
        lineage: identity::Lineage::default(),
        recovering: false,
    };
    identity::create(&OsFs, data_dir.as_ref(), &identity)
}

pub(super) fn random_life() -> Incarnation {
    let mut life = [0; 16];
    getrandom::fill(&mut life).expect("the operating system's randomness");
    Incarnation(u128::from_le_bytes(life))
}

/// The id of a cluster. Its nodes are initialised apart and must arrive at the same one, so it is
/// derived from what each of them is told. A node that was told another name, other members or
/// another number of groups (which would look for its data elsewhere than the rest) is of another
/// cluster, and the others refuse it.
#[must_use]
pub fn cluster_id(name: &str, members: &[(NodeId, String)], groups: u32) -> ClusterId {
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
