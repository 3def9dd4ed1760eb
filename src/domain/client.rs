//! Where a request comes from, through however many proxies.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// The address of whoever sent a request: the peer of its connection, or what proxies that are trusted say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The client of a request that came from `peer` with these `X-Forwarded-For` and `Forwarded` fields.
    ///
    /// Only a trusted peer is believed, and of the proxies before it each that is itself trusted: whatever stands before the first that is not
    /// may be made up. A proxy that sets only one of the fields passes on what its client put into the other: if both are there and do not say
    /// the same, neither is believed.
    #[must_use]
    pub fn new(peer: IpAddr, trusted: &[IpNet], x_forwarded_for: &[&str], forwarded: &[&str]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        if !is_trusted(peer) {
            return Self(peer);
        }
        let nearest = |hops: &mut dyn Iterator<Item = Option<IpAddr>>| {
            let mut nearest = peer;
            for hop in hops {
                let Some(hop) = hop else { break };
                nearest = hop;
                if !is_trusted(hop) {
                    break;
                }
            }
            nearest
        };
        let by_x = || nearest(&mut x_forwarded_for.iter().rev().flat_map(|field| field.rsplit(',')).map(node));
        let by_standard = || nearest(&mut forwarded.iter().rev().flat_map(|field| field.rsplit(',')).map(for_node));
        let found = match (x_forwarded_for.is_empty(), forwarded.is_empty()) {
            (true, true) => peer,
            (false, true) => by_x(),
            (true, false) => by_standard(),
            (false, false) if by_x() == by_standard() => by_x(),
            (false, false) => peer,
        };
        Self(found)
    }

    /// The network of one customer: an IPv4 address, or the /64 that an IPv6 customer picks addresses from.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        }
    }
}

/// An address, perhaps with a port; IPv6 in brackets then.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    address.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// The node of `for=` in an element of `Forwarded` (RFC 7239).
fn for_node(element: &str) -> Option<IpAddr> {
    let mut values = element.split(';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    });
    let value = values.next()?;
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, x_forwarded_for: &[&str], forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        ClientAddress::new(peer.parse().unwrap(), &trusted, x_forwarded_for, forwarded).0.to_string()
    }

    #[test]
    fn only_trusted_proxies_say_who_the_client_is() {
        for (peer, fields, expected) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            // What the client itself sent stands before what the proxy added.
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7 ,10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            // What cannot be read ends the chain at the last hop that could.
            ("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["[", "]", ":", "[]:"], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, fields, &[]), expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn the_standard_field_is_read_and_two_that_differ_are_not() {
        for (field, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("proto=https;For=\"[2001:db8::7]:4711\";by=10.0.0.1", "2001:db8::7"),
            ("for=1.1.1.1, for=198.51.100.7;proto=http", "198.51.100.7"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("by=198.51.100.7", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[], &[field]), expected, "{field}");
        }
        assert_eq!(client("10.0.0.1", &["198.51.100.7"], &["for=198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"], &["for=1.1.1.1"]), "10.0.0.1");
    }

    #[test]
    fn an_ipv6_customer_has_one_network() {
        let network = |text: &str| ClientAddress(text.parse().unwrap()).network().to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }
}
