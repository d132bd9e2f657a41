use super::*;

const LIMITS: Limits = Limits { value_len: 32, request_len: 128, args: 8 };

fn all(bytes: &[u8]) -> Result<Vec<Vec<String>>, ProtocolError> {
    let mut parser = Parser::new(LIMITS);
    let mut buffer = BytesMut::from(bytes);
    let mut requests = Vec::new();
    while let Some(request) = parser.next(&mut buffer)? {
        requests.push(texts(&request));
    }
    Ok(requests)
}

fn texts(request: &Request) -> Vec<String> {
    request.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

const PIPELINE: &[u8] =
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*0\r\nset b \"c d\"\r\n\r\n*1\r\n$4\r\nPING\r\n";

#[test]
fn a_pipeline_is_read_whole_or_byte_by_byte_with_the_same_result() {
    let expected = vec![vec!["GET", "a"], vec!["set", "b", "c d"], vec!["PING"]];
    assert_eq!(all(PIPELINE).unwrap(), expected);

    let mut parser = Parser::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut requests = Vec::new();
    for &byte in PIPELINE {
        buffer.extend_from_slice(&[byte]);
        while let Some(request) = parser.next(&mut buffer).unwrap() {
            requests.push(texts(&request));
        }
    }
    assert_eq!(requests, expected);
}

#[test]
fn every_shorter_form_of_a_request_waits_for_the_rest() {
    let whole = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    for len in 0..whole.len() {
        assert_eq!(all(&whole[..len]).unwrap(), Vec::<Vec<String>>::new(), "{len} bytes");
    }
}

#[test]
fn t09_broken_frames_and_oversized_values_are_named() {
    use ProtocolError as E;
    for (bytes, expected) in [
        (&b"*x\r\n"[..], E::ArgCount),
        (b"*9\r\n", E::ArgCount),
        (b"*99999999999999999999\r\n", E::ArgCount),
        (b"*1\r\n+PING\r\n", E::ExpectedValue(b'+')),
        (b"*1\r\n$-1\r\n", E::ValueLen),
        (b"*1\r\n$4x\r\n", E::ValueLen),
        (b"*1\r\n$33\r\n", E::ValueTooLong { len: 33, max: 32 }),
        (
            b"*1\r\n$9223372036854775807\r\n",
            E::ValueTooLong { len: 9_223_372_036_854_775_807, max: 32 },
        ),
        (b"*1\r\n$4\r\nPINGxx", E::ValueEnd),
        (b"set \"a\r\n", E::UnbalancedQuotes),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", E::Http),
        (b"POST /x HTTP/1.1\r\n", E::Http),
        (b"\x16\x03\x01\x02\x00\x01", E::Tls),
    ] {
        assert_eq!(all(bytes), Err(expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn t09_a_request_of_many_allowed_values_is_still_bounded() {
    let mut bytes = b"*8\r\n".to_vec();
    for _ in 0..8 {
        bytes.extend_from_slice(b"$32\r\n");
        bytes.extend_from_slice(&[b'x'; 32]);
        bytes.extend_from_slice(b"\r\n");
    }
    assert_eq!(all(&bytes), Err(ProtocolError::RequestTooLong { max: 128 }));
}

#[test]
fn t09_a_line_without_end_is_refused() {
    assert_eq!(all(&[b'a'; LINE_LEN_MAX]), Ok(vec![]));
    assert_eq!(all(&[b'a'; LINE_LEN_MAX + 1]), Err(ProtocolError::LineTooLong));
    let digits = [&b"*"[..], &[b'1'; LINE_LEN_MAX]].concat();
    assert_eq!(all(&digits), Err(ProtocolError::LineTooLong));
}

#[test]
fn t09_random_bytes_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let alphabet = b"*$+-:0123456789\r\n\"'\\x GETPOST/HTTP\0\xff";
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..24 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        let _ = all(&bytes);
    }
}
