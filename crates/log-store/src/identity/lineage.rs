//! The epochs of a cluster: who went on alone, each time that a majority was lost for good.

use refloat_types::codec::{DecodeError, Put, Reader};
use refloat_types::{ClusterId, Incarnation};

/// The lives that went on alone, oldest first; none in the first epoch of a cluster.
///
/// Two nodes that both went on without the other are in epochs of one number and of different
/// lineages: they do not take each other for members of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    by: Vec<Incarnation>,
}

impl Lineage {
    /// How often the cluster went on after a majority was lost for good.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        u32::try_from(self.by.len()).expect("decoded from less than 2^32 bytes")
    }

    /// How members of this epoch name their cluster to each other: differently in each epoch.
    #[must_use]
    pub fn name(&self, cluster: ClusterId) -> ClusterId {
        self.by.iter().copied().fold(cluster, name_after)
    }

    /// The names of the cluster in the epochs before.
    #[must_use]
    pub fn former_names(&self, cluster: ClusterId) -> Vec<ClusterId> {
        let names = self
            .by
            .iter()
            .scan(cluster, |name, by| Some(std::mem::replace(name, name_after(*name, *by))));
        names.collect()
    }

    /// Whether this is a later epoch of what was `other`.
    #[must_use]
    pub fn supersedes(&self, other: &Lineage) -> bool {
        self.by.len() > other.by.len() && self.by.starts_with(&other.by)
    }

    /// The epoch in which `by` goes on alone.
    #[must_use]
    pub fn next(mut self, by: Incarnation) -> Lineage {
        self.by.push(by);
        self
    }

    /// The epoch before; the first one has none and stays.
    #[must_use]
    pub fn before(mut self) -> Lineage {
        self.by.pop();
        self
    }

    /// Its byte form: a count, and that many lives of 16 bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.epoch());
        self.by.iter().for_each(|life| out.put_u128(life.0));
    }

    /// Reads what [`Lineage::encode`] wrote.
    ///
    /// # Errors
    /// The bytes end too early.
    pub fn decode(r: &mut Reader<'_>) -> Result<Lineage, DecodeError> {
        let count = r.count(16, "epochs")?;
        let by = (0..count).map(|_| r.u128("who went on").map(Incarnation));
        Ok(Lineage { by: by.collect::<Result<_, _>>()? })
    }
}

fn name_after(name: ClusterId, by: Incarnation) -> ClusterId {
    // Odd: two lives never make one name of the same one.
    const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    ClusterId((name.0 ^ by.0).wrapping_mul(SPREAD).rotate_left(64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    #[test]
    fn m18_two_nodes_that_each_went_on_alone_bear_different_names() {
        let first = Lineage::default();
        let (a, b) = (first.clone().next(Incarnation(1)), first.clone().next(Incarnation(2)));
        assert_eq!(first.name(CLUSTER), CLUSTER);
        assert_ne!(a.name(CLUSTER), b.name(CLUSTER));
        assert!(!a.supersedes(&b) && !b.supersedes(&a) && !a.supersedes(&a));
        assert!(a.supersedes(&first) && !first.supersedes(&a));
        let again = a.clone().next(Incarnation(1));
        assert_eq!(again.former_names(CLUSTER), [CLUSTER, a.name(CLUSTER)]);
        assert!(!again.former_names(CLUSTER).contains(&again.name(CLUSTER)));
    }

    #[test]
    fn a_lineage_is_read_back() {
        let lineage = Lineage::default().next(Incarnation(5)).next(Incarnation(6));
        let mut bytes = Vec::new();
        lineage.encode(&mut bytes);
        assert_eq!(Lineage::decode(&mut Reader::new(&bytes)), Ok(lineage));
        for end in 0..bytes.len() {
            assert!(Lineage::decode(&mut Reader::new(&bytes[..end])).is_err());
        }
    }
}
