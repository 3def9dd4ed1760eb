//! Which hosts a tenant's scripts may call.

use std::{fmt, str::FromStr};

use url::{Host, Url};

use crate::domain::{client::Scheme, shown};

/// Longest rule, in bytes: a DNS name has at most 253.
pub const RULE_BYTES_MAX: usize = 300;

/// One entry of a tenant's allow-list: a scheme, a host or `*.` and a domain, and a port.
///
/// Written `HOST[:PORT]` for https, `http://HOST[:PORT]` for http. `*.example.com` means every name below `example.com`,
/// not `example.com` itself. The port is the scheme's own unless it is given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowRule {
    scheme: Scheme,
    host: HostPattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum HostPattern {
    Exactly(Host),
    /// Names that end in this, which begins with a dot.
    Below(String),
}

/// Why a text is no [`AllowRule`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no host that can be allowed: write HOST, HOST:PORT, *.DOMAIN, or http:// in front of one of them")]
pub struct InvalidAllowRule {
    text: String,
}

impl AllowRule {
    /// The rule that permits this URL's own scheme, host and port.
    ///
    /// # Errors
    /// If the URL is neither http nor https.
    pub fn of_url(url: &Url) -> Result<Self, InvalidAllowRule> {
        let invalid = || InvalidAllowRule { text: format!("{}://...", url.scheme()) };
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(invalid()),
        };
        let host = HostPattern::Exactly(url.host().ok_or_else(invalid)?.to_owned());
        Ok(Self { scheme, host, port: url.port_or_known_default().ok_or_else(invalid)? })
    }

    /// Whether a parsed URL may be called.
    #[must_use]
    pub fn permits(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        url.scheme() == self.scheme.as_str()
            && url.port_or_known_default() == Some(self.port)
            && match (&self.host, host) {
                (HostPattern::Exactly(allowed), host) => *allowed == host.to_owned(),
                (HostPattern::Below(suffix), Host::Domain(name)) => {
                    name.len() > suffix.len() && name.ends_with(suffix.as_str())
                }
                (HostPattern::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
            }
    }
}

impl FromStr for AllowRule {
    type Err = InvalidAllowRule;

    fn from_str(text: &str) -> Result<Self, InvalidAllowRule> {
        let invalid = || InvalidAllowRule { text: shown(text) };
        if text.len() > RULE_BYTES_MAX {
            return Err(invalid());
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(_) => return Err(invalid()),
            None => (Scheme::Https, text),
        };
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        // What a URL parser makes of it is what requests are compared with: lower case, punycode, canonical addresses.
        if rest.is_empty() || rest.contains(['/', '?', '#', '@', '\\', '*', '%']) || rest.contains(char::is_whitespace)
        {
            return Err(invalid());
        }
        let url = Url::parse(&format!("{}://{rest}/", scheme.as_str())).map_err(|_| invalid())?;
        let host = url.host().ok_or_else(invalid)?.to_owned();
        let port = url.port_or_known_default().filter(|port| *port > 0).ok_or_else(invalid)?;
        let host = match (below, host) {
            (false, host) => HostPattern::Exactly(host),
            // `*.com` would be half of the internet; whoever means a whole registry can list its names.
            (true, Host::Domain(name)) if name.contains('.') => HostPattern::Below(format!(".{name}")),
            (true, _) => return Err(invalid()),
        };
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default_port = match self.scheme {
            Scheme::Http => {
                f.write_str("http://")?;
                80
            }
            Scheme::Https => 443,
        };
        match &self.host {
            HostPattern::Exactly(host) => write!(f, "{host}")?,
            HostPattern::Below(suffix) => write!(f, "*{suffix}")?,
        }
        if self.port == default_port { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_permits_its_scheme_host_and_port_only() {
        for (rule, url, permitted) in [
            ("api.example.com", "https://api.example.com/x?y", true),
            ("API.Example.com", "https://api.EXAMPLE.com/", true),
            ("api.example.com", "http://api.example.com/", false),
            ("api.example.com", "https://api.example.com:8443/", false),
            ("api.example.com:8443", "https://api.example.com:8443/", true),
            ("api.example.com", "https://www.example.com/", false),
            ("api.example.com", "https://api.example.com.evil.org/", false),
            ("api.example.com", "https://evil-api.example.com/", false),
            ("api.example.com", "https://api.example.com./", false),
            ("http://api.example.com", "http://api.example.com/", true),
            ("http://api.example.com", "https://api.example.com/", false),
            ("*.example.com", "https://a.example.com/", true),
            ("*.example.com", "https://a.b.example.com/", true),
            ("*.example.com", "https://example.com/", false),
            ("*.example.com", "https://badexample.com/", false),
            ("*.example.com", "https://.example.com/", false),
            ("bücher.example", "https://xn--bcher-kva.example/", true),
            ("http://127.0.0.1:8080", "http://2130706433:8080/", true),
            ("http://127.0.0.1:8080", "http://0x7f.1:8080/", true),
            ("http://127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080/", false),
            ("[2001:db8::1]:444", "https://[2001:DB8:0::1]:444/", true),
        ] {
            let rule: AllowRule = rule.parse().unwrap();
            let permits = Url::parse(url).is_ok_and(|url| rule.permits(&url));
            assert_eq!(permits, permitted, "{rule} {url}");
            assert_eq!(rule.to_string().parse::<AllowRule>().unwrap(), rule);
        }
    }

    #[test]
    fn what_is_no_host_is_no_rule() {
        for bad in [
            "",
            "*",
            "*.",
            "*.com",
            "*.1.2.3.4",
            "a.*.com",
            "ftp://a.com",
            "a.com/x",
            "a.com?x",
            "u@a.com",
            "a.com:0",
            "a.com:99999",
            "a b",
            "a\\b",
            "http://",
            "a.com#x",
            "a%2e.com",
            &"a".repeat(400),
        ] {
            assert!(bad.parse::<AllowRule>().is_err(), "{bad}");
        }
    }
}
