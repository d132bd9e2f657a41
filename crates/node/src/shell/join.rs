//! Making the data directory of a node that comes to a cluster that exists.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use refloat_log_store::identity::{self, IdentityError, NodeIdentity, Origin};
use refloat_net::{AskError, ask};
use refloat_types::{Identity, Member, NodeId};
use refloat_vfs::{OsFs, Vfs};

use super::init::random_life;
use crate::card::{Card, CardMember};

/// How long each step of asking may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a node that was connected a moment ago may still look so.
const LINGER: Duration = Duration::from_secs(2);

/// Why a node cannot join. No directory was made.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// The address does not answer, or not as a node does.
    NoAnswer(AskError),
    /// The node that answers tells something that this version does not read.
    Answer {
        /// What is wrong.
        reason: String,
    },
    /// The node that answers belongs to another cluster.
    WrongCluster {
        /// The cluster's name there.
        found: String,
        /// The name that was given.
        expected: String,
    },
    /// The cluster has not formed: nothing was acknowledged in it, and nobody can join it.
    NotFormed,
    /// The node is connected to the one that answers: it is alive, with another directory.
    NodeIdInUse {
        /// Its life and address there.
        member: Box<CardMember>,
    },
    /// No node of this id belongs to the cluster or is expected.
    Unknown {
        /// The id.
        node: NodeId,
    },
    /// The cluster knows no address of the node, and none was given.
    NoAddress {
        /// The id.
        node: NodeId,
    },
    /// The address is another node's.
    AddressInUse {
        /// The address.
        address: String,
        /// Whose it is.
        by: NodeId,
    },
    /// The directory holds something.
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the names in it.
        name: String,
    },
    /// The directory belongs to somebody, or the disk failed.
    Directory(IdentityError),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::NoAnswer(error) => error.fmt(f),
            JoinError::Answer { reason } => write!(f, "the answer cannot be read: {reason}"),
            JoinError::WrongCluster { found, expected } => {
                write!(f, "wrong cluster: {found:?} answers, {expected:?} was named")
            }
            JoinError::NotFormed => f.write_str(
                "the cluster has not formed yet, so there is nothing to join: use init for its members",
            ),
            JoinError::NodeIdInUse { member } => write!(
                f,
                "node id in use: node {} lives at {} (incarnation {})",
                member.node,
                member.address,
                member.life.unwrap_or_default()
            ),
            JoinError::Unknown { node } => write!(
                f,
                "node {node} does not belong to the cluster and is not expected: run member add first"
            ),
            JoinError::NoAddress { node } => {
                write!(f, "the cluster knows no address of node {node}: name one with --peer-addr")
            }
            JoinError::AddressInUse { address, by } => {
                write!(f, "the address {address} is that of node {by}")
            }
            JoinError::NotEmpty { dir, name } => {
                write!(f, "{} is not empty: it holds {name}", dir.display())
            }
            JoinError::Directory(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for JoinError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinError::NoAnswer(error) => error.source(),
            JoinError::Directory(error) => error.source(),
            _ => None,
        }
    }
}

/// Makes the data directory of a node that joins a cluster, or that returns to it after it lost
/// its disk, by what a member tells that listens at `peer`. The node gets a new, random life; it
/// is taken in once it runs. `address` is where the others connect to it, if not where they did.
///
/// # Errors
/// See [`JoinError`].
///
/// # Panics
/// The operating system has no randomness to give.
pub fn join(
    data_dir: impl AsRef<Path>,
    cluster: &str,
    node: u64,
    peer: &str,
    address: Option<&str>,
) -> Result<NodeIdentity, JoinError> {
    let (dir, node) = (data_dir.as_ref(), NodeId(node));
    must_be_empty(dir)?;
    let card = card_of_a_free_id(cluster, node, peer)?;
    let identity = identity_by(&card, node, address)?;
    identity::create(&OsFs, dir, &identity).map_err(JoinError::Directory)?;
    Ok(identity)
}

/// Leftovers of a `join` that was cut off are no content.
fn must_be_empty(dir: &Path) -> Result<(), JoinError> {
    let Ok(names) = OsFs.list(dir) else { return Ok(()) };
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let leftover = |name: &String| name.starts_with("identity.") && name.ends_with(".tmp");
    match names.iter().map(name).find(|name| !leftover(name)) {
        None => Ok(()),
        Some(name) => match identity::load(&OsFs, dir) {
            Ok(found) => {
                let (dir, found) = (dir.to_owned(), Box::new(found));
                Err(JoinError::Directory(IdentityError::AlreadyInitialised { dir, found }))
            }
            Err(_) => Err(JoinError::NotEmpty { dir: dir.to_owned(), name }),
        },
    }
}

fn card_of_a_free_id(cluster: &str, node: NodeId, peer: &str) -> Result<Card, JoinError> {
    let begin = Instant::now();
    loop {
        let bytes = ask(peer, PATIENCE).map_err(JoinError::NoAnswer)?;
        let card = Card::decode(&bytes)
            .map_err(|error| JoinError::Answer { reason: error.to_string() })?;
        if card.cluster_name != cluster {
            let (found, expected) = (card.cluster_name, cluster.to_owned());
            return Err(JoinError::WrongCluster { found, expected });
        }
        if card.founders.is_empty() {
            return Err(JoinError::NotFormed);
        }
        let Some(member) = card.members.iter().find(|m| m.node == node && m.alive) else {
            return Ok(card);
        };
        if begin.elapsed() > LINGER {
            return Err(JoinError::NodeIdInUse { member: Box::new(member.clone()) });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn identity_by(
    card: &Card,
    node: NodeId,
    address: Option<&str>,
) -> Result<NodeIdentity, JoinError> {
    let known = card.members.iter().find(|member| member.node == node);
    if known.is_none() && !card.expected.contains(&node) {
        return Err(JoinError::Unknown { node });
    }
    let kept = known.map(|member| member.address.clone());
    let address = address.map(str::to_owned).or(kept).ok_or(JoinError::NoAddress { node })?;
    let others = card.members.iter().filter(|member| member.node != node);
    let mut members: Vec<(NodeId, String)> =
        others.map(|member| (member.node, member.address.clone())).collect();
    if let Some((by, _)) = members.iter().find(|(_, other)| *other == address) {
        return Err(JoinError::AddressInUse { address, by: *by });
    }
    members.push((node, address));
    members.sort_unstable();
    Ok(NodeIdentity {
        identity: Identity { cluster: card.cluster, member: Member::new(node, random_life()) },
        cluster_name: card.cluster_name.clone(),
        groups: card.groups,
        members,
        run: 0,
        origin: Origin::Join { founders: card.founders.clone() },
        lineage: card.lineage.clone(),
        recovering: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use refloat_log_store::identity::Lineage;
    use refloat_types::{ClusterId, Incarnation};

    fn card() -> Card {
        let member = |node: u64| CardMember {
            node: NodeId(node),
            life: Some(Incarnation(node.into())),
            address: format!("n{node}:1"),
            alive: node != 3,
        };
        Card {
            cluster: ClusterId(7),
            lineage: Lineage::default(),
            cluster_name: "demo".into(),
            groups: 2,
            founders: vec![Member::new(NodeId(1), Incarnation(1))],
            members: vec![member(1), member(2), member(3)],
            expected: vec![NodeId(4)],
        }
    }

    #[test]
    fn a_returning_node_keeps_its_address_and_a_new_one_must_name_its_own() {
        let back = identity_by(&card(), NodeId(3), None).unwrap();
        assert_eq!(back.members[2], (NodeId(3), "n3:1".into()));
        assert!(matches!(back.origin, Origin::Join { founders } if founders.len() == 1));
        let moved = identity_by(&card(), NodeId(3), Some("far:1")).unwrap();
        assert_eq!(moved.members[2].1, "far:1");
        let new = identity_by(&card(), NodeId(4), None);
        assert!(matches!(new, Err(JoinError::NoAddress { .. })));
        assert_eq!(identity_by(&card(), NodeId(4), Some("n4:1")).unwrap().members.len(), 4);
        let stranger = identity_by(&card(), NodeId(5), Some("n5:1"));
        assert!(matches!(stranger, Err(JoinError::Unknown { .. })));
        let taken = identity_by(&card(), NodeId(4), Some("n2:1"));
        assert!(matches!(taken, Err(JoinError::AddressInUse { by: NodeId(2), .. })));
    }
}
