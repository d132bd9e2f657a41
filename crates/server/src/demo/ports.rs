//! Ports that stay free while their node is down.

use std::net::{Ipv4Addr, TcpListener};

/// Finds `count` ports on loopback that nobody listens on, outside the range from which the
/// system takes ports for outgoing connections: one of those could get the port of a node while
/// it is down.
pub fn free(count: usize, seed: u64) -> Option<Vec<u16>> {
    let (low, high) = ephemeral();
    let mut found = Vec::new();
    let start = 10_000 + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50) as u16 % 10_000;
    for port in (start..60_000).chain(2_000..start) {
        if found.len() == count {
            break;
        }
        let is_fixed = port < low || port > high;
        if is_fixed && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            found.push(port);
        }
    }
    (found.len() == count).then_some(found)
}

fn ephemeral() -> (u16, u16) {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut ends = text.split_whitespace().map(str::parse::<u16>);
        Some((ends.next()?.ok()?, ends.next()?.ok()?))
    };
    read().unwrap_or((32_768, 60_999))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_are_free_distinct_and_not_given_to_outgoing_connections() {
        let (low, high) = super::ephemeral();
        let ports = super::free(9, 7).unwrap();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(ports.iter().all(|port| *port < low || *port > high));
    }
}
