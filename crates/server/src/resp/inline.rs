//! Commands typed as a plain line, and what arrives by mistake on this port.

use bytes::Bytes;

use super::ProtocolError;

/// Splits a line into words. Words may stand in double quotes (with escapes) or single quotes.
pub fn split(line: &[u8]) -> Result<Vec<Bytes>, ProtocolError> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        rest = match rest {
            [b'"', tail @ ..] => double_quoted(tail, &mut word)?,
            [b'\'', tail @ ..] => single_quoted(tail, &mut word)?,
            plain => bare(plain, &mut word),
        };
        // A closing quote must end the word.
        if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err(ProtocolError::UnbalancedQuotes);
        }
        words.push(Bytes::from(word));
    }
}

/// Whether a line is the first or a later line of an HTTP request.
pub fn looks_like_http(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    let verb = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    version.starts_with(b"HTTP/")
        || verb.eq_ignore_ascii_case(b"host:")
        || [&b"POST"[..], b"PUT", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"DELETE"]
            .iter()
            .any(|other| verb.eq_ignore_ascii_case(other))
}

fn bare<'a>(text: &'a [u8], word: &mut Vec<u8>) -> &'a [u8] {
    let len = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (head, tail) = text.split_at(len);
    word.extend_from_slice(head);
    tail
}

fn single_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        text = match text {
            [b'\\', b'\'', tail @ ..] => {
                word.push(b'\'');
                tail
            }
            [b'\'', tail @ ..] => return Ok(tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

fn double_quoted<'a>(mut text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        text = match text {
            [b'\\', b'x', high, low, tail @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                word.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                tail
            }
            [b'\\', byte, tail @ ..] => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [b'"', tail @ ..] => return Ok(tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return Err(ProtocolError::UnbalancedQuotes),
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<String>, ProtocolError> {
        let words = split(line.as_bytes())?;
        Ok(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn words_are_split_at_spaces_and_kept_together_in_quotes() {
        assert_eq!(words("  set a  b ").unwrap(), ["set", "a", "b"]);
        assert_eq!(words(r#"set "a b" 'c d'"#).unwrap(), ["set", "a b", "c d"]);
        assert_eq!(words(r#"set "\x41\n\"" ''"#).unwrap(), ["set", "A\n\"", ""]);
        assert_eq!(words("").unwrap(), Vec::<String>::new());
        for broken in [r#"set "a"#, "set 'a", r#"set "a"b"#] {
            assert_eq!(words(broken), Err(ProtocolError::UnbalancedQuotes), "{broken}");
        }
    }

    #[test]
    fn http_is_told_from_a_command() {
        for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "Host: a", "HEAD / HTTP/1.1"] {
            assert!(looks_like_http(line.as_bytes()), "{line}");
        }
        for line in ["GET /", "GET HTTP", "SET a b"] {
            assert!(!looks_like_http(line.as_bytes()), "{line}");
        }
    }
}
