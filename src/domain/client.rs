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

    /// The name of the field in which the same proxies say which protocol their client speaks.
    #[must_use]
    pub fn of_protocol(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-proto",
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

/// The protocol of a URL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As it stands before `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn named(text: &str) -> Option<Self> {
        [Self::Http, Self::Https].into_iter().find(|scheme| text.trim().eq_ignore_ascii_case(scheme.as_str()))
    }
}

/// The address of whoever sent a request: the peer of its connection, or what proxies that are trusted say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The network of one customer: an IPv4 address, or the /64 that an IPv6 customer picks addresses from.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0 {
            IpAddr::V4(_) => self.0,
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        }
    }
}

/// The proxies that a host believes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Their networks.
    pub networks: Vec<IpNet>,
    /// The field in which they say whom they act for; the other is ignored.
    pub field: ForwardedField,
}

impl TrustedProxies {
    /// The client of a request that came from `peer` with these values of the field that proxies set.
    ///
    /// Only a trusted peer is believed, and of the proxies before it each that is itself trusted: whatever stands before the first that is not
    /// may be made up.
    #[must_use]
    pub fn client(&self, peer: IpAddr, values: &[&str]) -> ClientAddress {
        let peer = peer.to_canonical();
        let node = match self.field {
            ForwardedField::XForwardedFor => node,
            ForwardedField::Forwarded => |element: &str| pair_of(element, "for").and_then(node),
        };
        let mut nearest = peer;
        for hop in elements(values).map(node) {
            let Some(hop) = hop.filter(|_| self.is_trusted(nearest)) else { break };
            nearest = hop;
        }
        ClientAddress(nearest)
    }

    /// The scheme that the client used, where the peer is trusted and says it; `connection` is that of its own connection.
    ///
    /// `protocols` are the values of `X-Forwarded-Proto`, or of `Forwarded` if that is the proxies' field. The nearest proxy's word
    /// counts: the client itself may have written what stands before.
    #[must_use]
    pub fn scheme(&self, connection: Scheme, peer: IpAddr, protocols: &[&str]) -> Scheme {
        if !self.is_trusted(peer.to_canonical()) {
            return connection;
        }
        let said = elements(protocols).next().and_then(|element| match self.field {
            ForwardedField::XForwardedFor => Scheme::named(element),
            ForwardedField::Forwarded => pair_of(element, "proto").and_then(Scheme::named),
        });
        said.unwrap_or(connection)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// The elements of a list in several fields, the last one first.
fn elements<'v>(values: &'v [&'v str]) -> impl Iterator<Item = &'v str> {
    values.iter().rev().flat_map(|value| value.rsplit(','))
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

/// The value of `name=` in an element of `Forwarded` (RFC 7239).
fn pair_of<'e>(element: &'e str, name: &str) -> Option<&'e str> {
    let value = element.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })?;
    Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(field: ForwardedField) -> TrustedProxies {
        TrustedProxies { networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()], field }
    }

    fn client(peer: &str, field: ForwardedField, values: &[&str]) -> String {
        trusted(field).client(peer.parse().unwrap(), values).0.to_string()
    }

    #[test]
    fn the_nearest_trusted_proxy_says_which_protocol_the_client_speaks() {
        use ForwardedField::{Forwarded, XForwardedFor};
        use Scheme::{Http, Https};
        for (connection, peer, field, values, expected) in [
            (Http, "192.0.2.1", XForwardedFor, &["https"][..], Http),
            (Https, "192.0.2.1", XForwardedFor, &["http"], Https),
            (Http, "10.0.0.1", XForwardedFor, &[], Http),
            (Https, "10.0.0.1", XForwardedFor, &[], Https),
            (Http, "10.0.0.1", XForwardedFor, &["HTTPS"], Https),
            (Https, "10.0.0.1", XForwardedFor, &["http"], Http),
            (Http, "10.0.0.1", XForwardedFor, &["https, http"], Http),
            (Http, "10.0.0.1", XForwardedFor, &["http", "https"], Https),
            (Http, "::ffff:10.0.0.1", XForwardedFor, &["https"], Https),
            (Http, "10.0.0.1", XForwardedFor, &["wss"], Http),
            (Http, "10.0.0.1", XForwardedFor, &[""], Http),
            (Http, "10.0.0.1", Forwarded, &["for=1.1.1.1;proto=https"], Https),
            (Http, "10.0.0.1", Forwarded, &["for=1.1.1.1;Proto=\"https\""], Https),
            (Http, "10.0.0.1", Forwarded, &["proto=https, for=1.1.1.1"], Http),
            (Http, "10.0.0.1", Forwarded, &["https"], Http),
        ] {
            let said = trusted(field).scheme(connection, peer.parse().unwrap(), values);
            assert_eq!(said, expected, "{connection:?} {peer} {values:?}");
        }
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
