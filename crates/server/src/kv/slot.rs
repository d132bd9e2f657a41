//! Which group a key belongs to: the hash slots of Redis Cluster, spread evenly over the groups.

use refloat_types::GroupId;

/// How many hash slots there are.
pub const SLOTS: u16 = 16_384;

/// The hash slot of a key: CRC-16 (XMODEM) of the part between the first `{` and the next `}`,
/// or of the whole key if there is no such part or it is empty.
pub fn slot_of_key(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// The group that holds a slot, out of groups 1 to `groups`.
pub fn group_of_slot(slot: u16, groups: u32) -> GroupId {
    GroupId(1 + u64::from(slot) * u64::from(groups) / u64::from(SLOTS))
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let inside = key.get(open + 1..).unwrap_or_default();
    match inside.iter().position(|&byte| byte == b'}') {
        None | Some(0) => key,
        Some(len) => inside.get(..len).unwrap_or(key),
    }
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

static TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [("foo", 12_182), ("bar", 5_061), ("{user1000}.following", 3_443)] {
            assert_eq!(slot_of_key(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(slot_of_key(b"{user1000}.a"), slot_of_key(b"user1000"));
        assert_eq!(slot_of_key(b"a{b}{c}"), slot_of_key(b"b"));
        assert_ne!(slot_of_key(b"{}a"), slot_of_key(b"{}b"));
    }

    #[test]
    fn slots_are_spread_evenly_over_groups_from_one() {
        for groups in [1, 3, 4, 7, 64] {
            let mut counts = std::collections::BTreeMap::new();
            for slot in 0..SLOTS {
                *counts.entry(group_of_slot(slot, groups)).or_insert(0u32) += 1;
            }
            assert_eq!(counts.len(), groups as usize);
            assert_eq!(counts.first_key_value().unwrap().0, &GroupId(1));
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert!(most - least <= 1, "{groups} groups: {least} to {most} slots");
        }
    }
}
