//! Sizes and durations as people write them.

use std::time::Duration;

const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
    ("", 1),
];

const TIMES: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
];

/// Reads `256MiB`, `64KiB`, `4096`.
pub fn size(text: &str) -> Result<u64, String> {
    scaled(text, SIZES).ok_or_else(|| format!("'{text}' is no size such as 256MiB, 64KiB or 4096"))
}

/// Reads `150ms`, `2s`, `1m`. A bare number is refused: it does not say of what.
pub fn duration(text: &str) -> Result<Duration, String> {
    scaled(text, TIMES)
        .map(Duration::from_micros)
        .ok_or_else(|| format!("'{text}' is no duration such as 150ms, 2s or 1m"))
}

/// Writes a size so that [`size`] reads it back.
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    let binary = SIZES.iter().filter(|(name, _)| name.ends_with("iB"));
    match binary.clone().find(fits) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// Writes a duration so that [`duration`] reads it back.
pub fn show_duration(duration: Duration) -> String {
    let micros = duration.as_micros() as u64;
    match micros {
        0 => "0s".into(),
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ if micros.is_multiple_of(1_000) => format!("{}ms", micros / 1_000),
        _ => format!("{micros}us"),
    }
}

/// A number with up to three digits behind the point, and a unit.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (text.get(..end)?, text.get(end..)?.trim_start());
    let scale = units.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 3 {
        return None;
    }
    let base = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if fraction.is_empty() {
        return (!number.contains('.')).then_some(base);
    }
    let part = fraction.parse::<u64>().ok()?.checked_mul(scale)? / 10u64.pow(fraction.len() as u32);
    base.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("1.5MiB", 1_572_864),
            ("2M", 2 << 20),
            ("1GB", 1_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "1X", "-1", "1.", ".5MiB", "1.2345K", "99999999999GiB", "1mib"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, micros) in
            [("150ms", 150_000), ("2s", 2_000_000), ("0.5s", 500_000), ("1m", 60_000_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["", "5", "5x", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for bytes in [1, 4096, 32 << 20, 5_000_000_000] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        for micros in [0, 5, 150_000, 2_000_000] {
            let time = Duration::from_micros(micros);
            assert_eq!(duration(&show_duration(time)), Ok(time));
        }
    }
}
