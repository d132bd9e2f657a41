//! Descriptors: a client that only connects must not take the one that the log needs for its next
//! file, because a log that cannot be written stops the node.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For files, peers and the admin port.
const KEPT: u64 = 512;

/// Raises the limit of this process as far as it is allowed to, and answers how many clients may be
/// connected: `wanted`, unless so many descriptors are not to be had.
pub fn room_for_clients(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let enough = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(KEPT);
    let Some(mut limit) = current else { return wanted };
    if limit < enough {
        let raised = maximum.map_or(enough, |most| most.min(enough)).max(limit);
        if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
            limit = raised;
        }
    }
    let room = most_clients(limit, wanted);
    if room < wanted {
        tracing::warn!(
            "{limit} descriptors are allowed: at most {room} clients at a time, not {wanted}"
        );
    }
    room
}

/// What a limit leaves for clients; of a small one they get half.
fn most_clients(limit: u64, wanted: usize) -> usize {
    let room = limit - KEPT.min(limit / 2);
    usize::try_from(room).unwrap_or(usize::MAX).clamp(1, wanted.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_files_and_peers() {
        assert_eq!(most_clients(1 << 20, 10_000), 10_000);
        assert_eq!(most_clients(4096, 10_000), 4096 - 512);
        assert_eq!(most_clients(256, 10_000), 128);
        assert_eq!(most_clients(0, 10_000), 1);
    }
}
