use super::*;

fn identity(node: u64) -> Identity {
    let member = Member::new(NodeId(node), Incarnation(u128::from(node) << 64 | 7));
    Identity { cluster: ClusterId(0xc1), member }
}

fn hello() -> Hello {
    Hello {
        from: identity(1),
        run: 9,
        to: NodeId(2),
        incarnation: Some(identity(2).member.incarnation),
        lane: Lane::Bulk,
    }
}

fn reply(refusal: Option<Refusal>) -> Reply {
    Reply { from: identity(2), run: 4, refusal }
}

fn refusals() -> Vec<Refusal> {
    let (a, b) = (Incarnation(1), Incarnation(2));
    vec![
        Refusal::WrongCluster { found: ClusterId(1), expected: ClusterId(2) },
        Refusal::WrongNode { found: NodeId(1), expected: NodeId(2) },
        Refusal::WrongIncarnation { found: a, expected: b },
        Refusal::NodeIdInUse { found: a, expected: b },
        Refusal::NewerVersion { found: 2, expected: 1 },
    ]
}

#[test]
fn what_is_written_is_read() {
    for incarnation in [None, hello().incarnation] {
        let hello = Hello { incarnation, ..hello() };
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
    for refusal in refusals().into_iter().map(Some).chain([None]) {
        assert_eq!(Reply::decode(&reply(refusal).encode()), Ok(reply(refusal)));
    }
}

#[test]
fn o06_the_bytes_of_version_1_never_change() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(&hello().encode()), include_str!("../../tests/golden/hello_v1.hex").trim());
    let refused = reply(Some(refusals()[1])).encode();
    assert_eq!(hex(&refused), include_str!("../../tests/golden/reply_v1.hex").trim());
}

#[test]
fn every_flipped_bit_and_every_shorter_form_is_refused() {
    let bytes = hello().encode();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Hello::decode(&damaged).is_err(), "accepted with bit {bit} flipped");
    }
    for len in 0..bytes.len() {
        assert!(Hello::decode(&bytes[..len]).is_err(), "accepted {len} bytes");
    }
}

#[test]
fn a_newer_version_is_told_from_damage_by_the_checksum() {
    let mut bytes = hello().encode();
    bytes[8] = 2;
    assert!(matches!(Hello::decode(&bytes), Err(HandshakeError::Checksum { .. })));
    let end = bytes.len() - 4;
    let check = crc32c::crc32c(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&check);
    let newer = HandshakeError::NewerVersion { found: 2, expected: 1 };
    assert_eq!(Hello::decode(&bytes), Err(newer));
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
    let mut prefix = [0; HANDSHAKE_PREFIX_LEN];
    prefix.copy_from_slice(&hello().encode()[..HANDSHAKE_PREFIX_LEN]);
    assert_eq!(rest_len(&prefix).unwrap(), hello().encode().len() - HANDSHAKE_PREFIX_LEN);
    prefix[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
    assert!(matches!(rest_len(&prefix), Err(HandshakeError::TooLong { found: 65551, limit: 512 })));
}

#[test]
fn random_bytes_open_nothing_and_never_panic() {
    let mut x = 1u64;
    let mut bytes = Vec::new();
    for round in 0..20_000usize {
        bytes.clear();
        for _ in 0..round % 200 {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            bytes.push((x >> 56) as u8);
        }
        if round % 3 == 0 && bytes.len() > 12 {
            bytes[..12].copy_from_slice(&hello().encode()[..12]);
        }
        assert!(Hello::decode(&bytes).is_err());
        assert!(Reply::decode(&bytes).is_err());
        if let Some(prefix) = bytes.first_chunk() {
            assert!(rest_len(prefix).is_err() || rest_len(prefix).unwrap() <= MAX_HANDSHAKE_LEN);
        }
    }
}

#[test]
fn each_side_checks_whom_it_talks_to_and_says_what_it_found() {
    let me = identity(2);
    assert_eq!(hello().admit(&me), Ok(()));
    assert_eq!(Hello { incarnation: None, ..hello() }.admit(&me), Ok(()));

    let mut other = hello();
    other.from.cluster = ClusterId(0xc2);
    let wrong = Refusal::WrongCluster { found: ClusterId(0xc2), expected: ClusterId(0xc1) };
    assert_eq!(other.admit(&me), Err(wrong));

    let other = Hello { to: NodeId(3), ..hello() };
    let wrong = Refusal::WrongNode { found: NodeId(3), expected: NodeId(2) };
    assert_eq!(other.admit(&me), Err(wrong));

    let (found, expected) = (Incarnation(5), me.member.incarnation);
    let other = Hello { incarnation: Some(found), ..hello() };
    assert_eq!(other.admit(&me), Err(Refusal::WrongIncarnation { found, expected }));

    let other = Hello { from: identity(2), ..hello() };
    let wrong = Refusal::NodeIdInUse { found: expected, expected };
    assert_eq!(other.admit(&me), Err(wrong));
}

#[test]
fn an_answer_from_somebody_else_is_not_accepted() {
    assert_eq!(reply(None).accept(&hello()), Ok(identity(2).member));
    assert_eq!(reply(Some(refusals()[0])).accept(&hello()), Err(refusals()[0]));

    let mut other = reply(None);
    other.from.cluster = ClusterId(0xc2);
    assert!(matches!(other.accept(&hello()), Err(Refusal::WrongCluster { .. })));

    let other = Reply { from: identity(3), ..reply(None) };
    let wrong = Refusal::WrongNode { found: NodeId(3), expected: NodeId(2) };
    assert_eq!(other.accept(&hello()), Err(wrong));

    let mut other = reply(None);
    other.from.member.incarnation = Incarnation(5);
    assert!(matches!(other.accept(&hello()), Err(Refusal::WrongIncarnation { .. })));
    let unknown = Hello { incarnation: None, ..hello() };
    assert_eq!(other.accept(&unknown), Ok(other.from.member), "a life not known yet is learned");
}
