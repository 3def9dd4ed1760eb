//! The text of a route, understood.

use std::{fmt, str::FromStr};

use crate::domain::preview::PREVIEW_SEGMENT;

/// Longest route, in bytes. Routes are typed by people; this is several times the longest seen.
pub const ROUTE_BYTES_MAX: usize = 512;

/// Most segments of a route. Bounds the depth of the route tree, which lookups descend recursively.
pub const ROUTE_SEGMENTS_MAX: usize = 32;

/// One segment of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Matches itself, after decoding.
    Literal(String),
    /// `{name}`: any one segment, kept under its name.
    Named(String),
    /// `*`: any one segment.
    One,
    /// `**`: the rest of the path, which may be empty. Only at the end.
    Rest,
}

/// Which paths an endpoint answers, for example `/orders/{id}/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePattern {
    segments: Vec<Segment>,
}

/// Why a text is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoute {
    /// Routes are absolute.
    #[error("route `{route}` does not start with `/`")]
    NotAbsolute {
        /// The text.
        route: String,
    },
    /// More than [`ROUTE_BYTES_MAX`].
    #[error("a route has at most {ROUTE_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`ROUTE_SEGMENTS_MAX`].
    #[error("a route has at most {ROUTE_SEGMENTS_MAX} segments, `{route}` has {segments}")]
    TooManySegments {
        /// The text.
        route: String,
        /// Its segments.
        segments: usize,
    },
    /// A segment that no request could match, or that looks like a mistake.
    #[error("route `{route}`: segment `{segment}` {why}")]
    Segment {
        /// The text.
        route: String,
        /// The segment.
        segment: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl RoutePattern {
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Names of the route's `{name}` segments, from left to right.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Named(name) => Some(name.as_str()),
            Segment::Literal(_) | Segment::One | Segment::Rest => None,
        })
    }
}

impl FromStr for RoutePattern {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        if text.len() > ROUTE_BYTES_MAX {
            return Err(InvalidRoute::TooLong { bytes: text.len() });
        }
        let route = || text.escape_debug().to_string();
        let below = text.strip_prefix('/').ok_or_else(|| InvalidRoute::NotAbsolute { route: route() })?;
        if below.is_empty() {
            return Ok(Self { segments: Vec::new() });
        }
        let below = below.strip_suffix('/').unwrap_or(below);

        let refuse = |segment: &str, why| {
            let segment = segment.escape_debug().to_string();
            InvalidRoute::Segment { route: route(), segment, why }
        };
        let words: Vec<_> = below.split('/').collect();
        if words.len() > ROUTE_SEGMENTS_MAX {
            return Err(InvalidRoute::TooManySegments { route: route(), segments: words.len() });
        }
        let mut pattern = Self { segments: Vec::with_capacity(words.len()) };
        for (index, word) in words.iter().enumerate() {
            let segment = parse_segment(word).map_err(|why| refuse(word, why))?;
            if index == 0 && *word == PREVIEW_SEGMENT {
                return Err(refuse(word, "is the host's: previews of versions answer there"));
            }
            if segment == Segment::Rest && index + 1 < words.len() {
                return Err(refuse(word, "matches the rest of the path, so it must be the last"));
            }
            if let Segment::Named(name) = &segment
                && pattern.names().any(|earlier| earlier == name)
            {
                return Err(refuse(word, "has the name of an earlier segment"));
            }
            pattern.segments.push(segment);
        }
        Ok(pattern)
    }
}

fn parse_segment(word: &str) -> Result<Segment, &'static str> {
    match word {
        "" => return Err("is empty"),
        "." | ".." => return Err("is never sent by callers"),
        "*" => return Ok(Segment::One),
        "**" => return Ok(Segment::Rest),
        _ => {}
    }
    if let Some(name) = word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
        return if is_identifier(name) {
            Ok(Segment::Named(name.to_owned()))
        } else {
            Err("needs a name of letters, digits and `_` that does not start with a digit")
        };
    }
    if word.contains(['{', '}', '*']) {
        return Err("mixes text with `{`, `}` or `*`; a segment is either text or a placeholder");
    }
    if word.contains(['?', '#']) {
        return Err("holds `?` or `#`, which are not part of a path");
    }
    if word.contains('%') {
        return Err("holds `%`; write the character itself, callers may encode it");
    }
    if word.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    Ok(Segment::Literal(word.to_owned()))
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for RoutePattern {
    /// Writes the route in the form in which it is kept: without a trailing slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Literal(text) => write!(f, "/{text}"),
            Segment::Named(name) => write!(f, "/{{{name}}}"),
            Segment::One => f.write_str("/*"),
            Segment::Rest => f.write_str("/**"),
        })
    }
}
