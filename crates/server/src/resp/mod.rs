//! The Redis serialization protocol: requests in, replies out.
//!
//! Requests are parsed incrementally from what the socket delivered, within fixed bounds that are
//! checked before anything is allocated. A request that cannot be understood as a frame ends the
//! connection, since nothing tells where the next one starts; a whole frame with bad content is
//! answered and the connection goes on.

mod inline;
mod reply;
mod request;

pub use reply::{Protocol, Reply};
pub use request::{Limits, Parser, ProtocolError};

/// Reads a decimal integer as Redis does: an optional minus, no plus, no spaces, no leading zeros.
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    match digits {
        [] => return None,
        [b'0'] if !negative => return Some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    // Gathered below zero, where one more value fits than above.
    let below = digits.iter().try_fold(0i64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_sub(digit)
    })?;
    if negative { Some(below) } else { below.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::parse_int;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, value) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("-12", Some(-12)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("+1", None),
            ("01", None),
            ("-0", None),
            (" 1", None),
            ("1 ", None),
            ("", None),
            ("-", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_int(text.as_bytes()), value, "{text:?}");
        }
    }
}
