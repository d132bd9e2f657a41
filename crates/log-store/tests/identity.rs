//! The identity: its files of all versions, and how an epoch of the cluster is counted in them.

use std::path::Path;

use refloat_log_store::identity::{self, IdentityError, Lineage, NodeIdentity, Origin};
use refloat_types::{ClusterId, Identity, Incarnation, Member, NodeId};
use refloat_vfs::{SimFs, Vfs};

const DIR: &str = "/data";

fn golden(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A disk whose two copies are these bytes.
fn disk(bytes: &[u8]) -> SimFs {
    let fs = SimFs::new();
    fs.create_dir(Path::new(DIR)).expect("an empty disk");
    for name in ["identity.a", "identity.b"] {
        fs.put(Path::new(DIR).join(name), bytes).expect("an empty disk");
    }
    fs.sync_all();
    fs
}

fn load(fs: &SimFs) -> Result<NodeIdentity, IdentityError> {
    identity::load(fs, Path::new(DIR))
}

fn newest() -> NodeIdentity {
    let by = |lineage: Lineage, life| lineage.next(Incarnation(life));
    NodeIdentity {
        identity: Identity {
            cluster: ClusterId(0xC1),
            member: Member::new(NodeId(1), Incarnation(0xA1)),
        },
        cluster_name: "gold".into(),
        groups: 4,
        members: vec![(NodeId(1), "one:1".into()), (NodeId(2), "two:1".into())],
        run: 5,
        origin: Origin::Join { founders: vec![Member::new(NodeId(2), Incarnation(0xB2))] },
        lineage: by(by(Lineage::default(), 0xA1), 0xB2),
        recovering: true,
    }
}

#[test]
fn o06_identities_of_all_versions_are_read_and_a_newer_one_is_refused() {
    let three = golden(include_str!("golden/identity_v3.hex"));
    assert_eq!(load(&disk(&three)).unwrap(), newest());
    let two = load(&disk(&golden(include_str!("golden/identity_v2.hex")))).unwrap();
    let before = NodeIdentity { lineage: Lineage::default(), recovering: false, ..newest() };
    assert_eq!(two, before, "without an epoch");
    let one = load(&disk(&golden(include_str!("golden/identity_v1.hex")))).unwrap();
    assert_eq!(one, NodeIdentity { origin: Origin::Init, ..before });
    let mut newer = three;
    newer[8] += 1;
    let end = newer.len() - 4;
    let crc = crc32c::crc32c(&newer[..end]);
    newer[end..].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(load(&disk(&newer)), Err(IdentityError::NewerFormat { found: 4, .. })));
}

#[test]
fn an_identity_of_an_older_version_is_written_anew_with_the_next_start() {
    let fs = disk(&golden(include_str!("golden/identity_v2.hex")));
    let mut id = load(&fs).unwrap();
    identity::begin_run(&fs, Path::new(DIR), &mut id).unwrap();
    let copy = fs.contents(Path::new(DIR).join("identity.a")).unwrap();
    assert_eq!(u16::from_le_bytes([copy[8], copy[9]]), identity::VERSION);
    assert_eq!(load(&fs).unwrap(), NodeIdentity { run: 6, ..id });
}

#[test]
fn what_is_written_is_the_golden_file_byte_by_byte() {
    let fs = SimFs::new();
    identity::create(&fs, Path::new(DIR), &newest()).unwrap();
    let written = fs.contents(Path::new(DIR).join("identity.b")).unwrap();
    assert_eq!(written, golden(include_str!("golden/identity_v3.hex")));
}

#[test]
fn m18_a_crash_while_an_epoch_is_counted_leaves_the_old_one_or_the_new_one() {
    let fs = disk(&golden(include_str!("golden/identity_v2.hex")));
    let old = load(&fs).unwrap();
    let begun = old.lineage.clone().next(Incarnation(0xA1));
    let mut ends = std::collections::BTreeSet::new();
    for stop in 0.. {
        let fs = fs.fork();
        let mut id = load(&fs).unwrap();
        fs.crash_at(fs.op_count() + stop);
        let done = identity::begin_recovery(&fs, Path::new(DIR), &mut id)
            .and_then(|()| identity::end_recovery(&fs, Path::new(DIR), &mut id));
        for image in fs.crash_images(200) {
            let found = load(&image).expect("a crash leaves a whole copy");
            assert!(
                found.lineage == begun || found.lineage == old.lineage && !found.recovering,
                "{found:?}"
            );
            assert!(found.recovering || done.is_err() || found.lineage == begun, "{found:?}");
            ends.insert((found.lineage.epoch(), found.recovering));
        }
        if done.is_ok() && !fs.is_crashed() {
            break;
        }
    }
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), [(0, false), (1, false), (1, true)]);
}
