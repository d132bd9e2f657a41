//! The names in a log's directory.

use std::path::{Path, PathBuf};

use refloat_types::Generation;

/// What a name in the directory stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `00000000000000000007.wal`
    Log(Generation),
    /// `pool-7.tmp`: zero-filled or recycled, in use by nobody.
    Pool(u64),
    /// `pool-7.part.tmp`: still being filled with zeros.
    Part(u64),
    /// `00000000000000000007.damaged`: released, and kept for who wants to look at it.
    Damaged(Generation),
    /// None of ours.
    Stray,
}

impl Name {
    pub(crate) fn of(path: &Path) -> Name {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Name::Stray;
        };
        let known = if let Some(number) = name.strip_suffix(".wal") {
            number.parse().ok().map(|n| Name::Log(Generation(n)))
        } else if let Some(number) = name.strip_suffix(".damaged") {
            number.parse().ok().map(|n| Name::Damaged(Generation(n)))
        } else {
            let number = name.strip_prefix("pool-").and_then(|rest| rest.strip_suffix(".tmp"));
            match number.map(|rest| (rest, rest.strip_suffix(".part"))) {
                Some((_, Some(number))) => number.parse().ok().map(Name::Part),
                Some((number, None)) => number.parse().ok().map(Name::Pool),
                None => None,
            }
        };
        // Only the one spelling that is written: `7.wal` is somebody's copy. And no number that
        // has no next one.
        let known = known.filter(|known| *known != Name::Log(Generation::ZERO));
        let known = known.filter(|known| known.number() != Some(u64::MAX));
        known.filter(|known| known.path(Path::new("")) == Path::new(name)).unwrap_or(Name::Stray)
    }

    fn number(&self) -> Option<u64> {
        match self {
            Name::Log(Generation(number)) | Name::Damaged(Generation(number)) => Some(*number),
            Name::Pool(number) | Name::Part(number) => Some(*number),
            Name::Stray => None,
        }
    }

    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(match self {
            Name::Log(generation) => format!("{:020}.wal", generation.0),
            Name::Pool(number) => format!("pool-{number}.tmp"),
            Name::Part(number) => format!("pool-{number}.part.tmp"),
            Name::Damaged(generation) => format!("{:020}.damaged", generation.0),
            Name::Stray => String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_in_no_other_spelling() {
        let dir = Path::new("/d");
        for name in [
            Name::Log(Generation(7)),
            Name::Pool(0),
            Name::Part(12),
            Name::Damaged(Generation(u64::MAX - 1)),
        ] {
            assert_eq!(Name::of(&name.path(dir)), name);
        }
        for stray in ["7.wal", "pool-07.tmp", "pool-+7.tmp", "x.wal", "pool-.tmp", "LOCK", ".wal"] {
            assert_eq!(Name::of(&dir.join(stray)), Name::Stray, "{stray}");
        }
        for last in [Name::Log(Generation(u64::MAX)), Name::Pool(u64::MAX), Name::Part(u64::MAX)] {
            assert_eq!(Name::of(&last.path(dir)), Name::Stray, "no number follows");
        }
        assert_eq!(Name::of(&dir.join("00000000000000000007.wal.bak")), Name::Stray);
    }
}
