//! Where a request comes from, through however many proxies.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;

/// The header field in which proxies say whom they act for. A proxy sets one and passes on what its client put into the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedField {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardedField {
    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }
}

impl FromStr for ForwardedField {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = [Self::XForwardedFor, Self::Forwarded].into_iter().find(|it| text.eq_ignore_ascii_case(it.name()));
        named.ok_or("it must be `x-forwarded-for` or `forwarded`")
    }
}

/// The address of whoever sent a request: the peer of its connection, or what proxies that are trusted say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The client of a request that came from `peer` with these values of the field that its proxies set.
    ///
    /// Only a trusted peer is believed, and of the proxies before it each that is itself trusted: whatever stands before the first that is not
    /// may be made up.
    #[must_use]
    pub fn new(peer: IpAddr, trusted: &[IpNet], field: ForwardedField, values: &[&str]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        if !is_trusted(peer) {
            return Self(peer);
        }
        let node = match field {
            ForwardedField::XForwardedFor => node,
            ForwardedField::Forwarded => for_node,
        };
        let mut nearest = peer;
        for hop in values.iter().rev().flat_map(|value| value.rsplit(',')).map(node) {
            let Some(hop) = hop else { break };
            nearest = hop;
            if !is_trusted(hop) {
                break;
            }
        }
        Self(nearest)
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

    fn client(peer: &str, field: ForwardedField, values: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        ClientAddress::new(peer.parse().unwrap(), &trusted, field, values).0.to_string()
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
            assert_eq!(client(peer, ForwardedField::XForwardedFor, fields), expected, "{peer} {fields:?}");
        }
    }

    #[test]
    fn the_standard_field_is_read_where_proxies_set_it() {
        for (field, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("proto=https;For=\"[2001:db8::7]:4711\";by=10.0.0.1", "2001:db8::7"),
            ("for=1.1.1.1, for=198.51.100.7;proto=http", "198.51.100.7"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("by=198.51.100.7", "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.1", ForwardedField::Forwarded, &[field]), expected, "{field}");
        }
        for field in [ForwardedField::XForwardedFor, ForwardedField::Forwarded] {
            assert_eq!(field.name().to_uppercase().parse(), Ok(field));
        }
        assert!("x-real-ip".parse::<ForwardedField>().is_err());
    }

    #[test]
    fn an_ipv6_customer_has_one_network() {
        let network = |text: &str| ClientAddress(text.parse().unwrap()).network().to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
    }
}
