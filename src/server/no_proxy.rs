//! Which hosts the proxy is not for. There is no standard for `NO_PROXY`; this reads it as Go's
//! programs do, kubectl among them, and takes white space for a comma.

use std::net::IpAddr;

/// Whether `list` has the host, a name in lower case or an address, at this port.
pub(super) fn covers(list: &str, host: &str, port: u16) -> bool {
    let address = host
        .parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical());
    list.split([',', ' ', '\t', '\r', '\n'])
        .filter(|entry| !entry.is_empty())
        .any(|entry| entry == "*" || entry_covers(entry, host, address, port))
}

fn entry_covers(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if let Some((network, bits)) = entry.split_once('/') {
        return address.is_some_and(|address| is_within(address, network, bits) == Some(true));
    }
    let (name, entry_port) = split_port(entry);
    if entry_port.is_some_and(|entry_port| entry_port.parse() != Ok(port)) {
        return false;
    }
    match (address, name.parse::<IpAddr>()) {
        (Some(address), Ok(entry)) => entry.to_canonical() == address,
        (None, Err(_)) => name_covers(name, host),
        _ => false,
    }
}

/// `x.y` is that name and all below it, `.x.y` and `*.x.y` only those below.
fn name_covers(name: &str, host: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let (parent, itself) = match name.strip_prefix('*').unwrap_or(&name).strip_prefix('.') {
        Some(parent) => (parent, false),
        None => (name.as_str(), true),
    };
    let below = host
        .strip_suffix(parent)
        .is_some_and(|rest| rest.ends_with('.'));
    !parent.is_empty() && (below || itself && host == parent)
}

/// Splits off the port, of addresses with a colon only where they stand in brackets.
fn split_port(entry: &str) -> (&str, Option<&str>) {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => (address, Some(port.strip_prefix(':').unwrap_or(port))),
            None => (rest, None),
        };
    }
    match entry.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, Some(port)),
        _ => (entry, None),
    }
}

/// Whether an address is in `NETWORK/BITS`; `None` for what is no network.
fn is_within(address: IpAddr, network: &str, bits: &str) -> Option<bool> {
    let bits: u32 = bits.parse().ok()?;
    match (address, network.parse().ok()?) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
            Some((address.to_bits() ^ network.to_bits()) & mask == 0)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits)?);
            Some((address.to_bits() ^ network.to_bits()) & mask.unwrap_or(0) == 0)
        }
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries() {
        for (list, host, expected) in [
            // names
            ("", "api.kube9.io", false),
            (" , ,", "api.kube9.io", false),
            ("api.kube9.io", "api.kube9.io", true),
            ("API.Kube9.IO", "api.kube9.io", true),
            ("api.kube9.io.", "api.kube9.io", true),
            ("api.kube9.io", "api.kube9.io.", true),
            ("kube9.io", "api.kube9.io", true),
            ("kube9.io", "kube9.io", true),
            ("kube9.io", "notkube9.io", false),
            ("kube9.i", "api.kube9.io", false),
            ("api.kube9", "api.kube9.io", false),
            ("io", "api.kube9.io", true),
            (".", "api.kube9.io", false),
            ("..", "api.kube9.io", false),
            // suffixes
            (".kube9.io", "api.kube9.io", true),
            (".kube9.io", "a.b.kube9.io", true),
            (".kube9.io", "kube9.io", false),
            ("*.kube9.io", "api.kube9.io", true),
            ("*.kube9.io", "kube9.io", false),
            (".kube9.io", "notkube9.io", false),
            ("*", "api.kube9.io", true),
            ("*", "10.0.0.1", true),
            // ports
            ("api.kube9.io:443", "api.kube9.io", true),
            ("api.kube9.io:8443", "api.kube9.io", false),
            ("api.kube9.io:", "api.kube9.io", false),
            ("api.kube9.io:https", "api.kube9.io", false),
            (".kube9.io:443", "api.kube9.io", true),
            ("10.0.0.1:443", "10.0.0.1", true),
            ("10.0.0.1:80", "10.0.0.1", false),
            ("[2001:db8::1]:443", "2001:db8::1", true),
            ("[2001:db8::1]:80", "2001:db8::1", false),
            // addresses
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.10", false),
            ("0.0.1", "10.0.0.1", false),
            ("10.0.0", "10.0.0.1", false),
            ("2001:DB8:0::1", "2001:db8::1", true),
            ("[2001:db8::1]", "2001:db8::1", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "api.kube9.io", false),
            // networks
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.1.2.3/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/31", "10.0.0.1", true),
            ("10.0.0.0/32", "10.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("10.0.0.0/33", "10.0.0.0", false),
            ("10.0.0.0/-1", "10.0.0.0", false),
            ("10.0.0.0/", "10.0.0.0", false),
            ("10.0.0.0/8", "api.kube9.io", false),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/129", "2001:db8::1", false),
            ("x/8", "10.0.0.1", false),
            // lists
            ("localhost, 10.0.0.0/8 ,.kube9.io", "api.kube9.io", true),
            ("localhost 10.0.0.0/8\t.kube9.io", "api.kube9.io", true),
            ("localhost;api.kube9.io", "api.kube9.io", false),
            ("a,b:c:d,[,[::1,]:,:443,/", "api.kube9.io", false),
        ] {
            assert_eq!(covers(list, host, 443), expected, "{list:?} {host}");
        }
    }
}
