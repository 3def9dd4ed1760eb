//! The path of a request, taken apart once.

use std::borrow::Cow;

use crate::domain::{
    percent::{self, InvalidEncoding},
    preview::{PREVIEW_SEGMENT, PreviewToken},
};

/// Why a request's path cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// `*` of `OPTIONS *`, or nothing at all.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A malformed escape or bytes that are no text.
    #[error("the path is not valid: {0}")]
    Encoding(#[from] InvalidEncoding),
    /// `.` or `..`, plain or encoded. Clients resolve these before they send; who sends them means a file system.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
}

/// A request's path below the host: the tenant's segment and what follows.
///
/// Segments are split before they are decoded, so an encoded `/` stays within its segment. One trailing slash does not
/// count. An empty segment anywhere else is kept, and matches no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath<'p> {
    tenant: Cow<'p, str>,
    /// What follows the tenant's segment as it was sent: empty, or with its leading slash.
    rest: &'p str,
    segments: Vec<Cow<'p, str>>,
}

impl<'p> RequestPath<'p> {
    /// Takes `raw` (still encoded, without query) apart.
    ///
    /// # Errors
    /// See [`InvalidPath`].
    pub fn parse(raw: &'p str) -> Result<Self, InvalidPath> {
        let below = raw.strip_prefix('/').ok_or(InvalidPath::NotAbsolute)?;
        let (tenant, rest) = below.split_at(below.find('/').unwrap_or(below.len()));
        let segments = match rest.strip_prefix('/') {
            None | Some("") => Vec::new(),
            Some(rest) => {
                let rest = rest.strip_suffix('/').unwrap_or(rest);
                rest.split('/').map(decode_segment).collect::<Result<_, _>>()?
            }
        };
        Ok(Self { tenant: decode_segment(tenant)?, rest, segments })
    }

    /// The first segment, decoded; empty for the path `/`.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The segments below the tenant, decoded.
    #[must_use]
    pub fn segments(&self) -> &[Cow<'p, str>] {
        &self.segments
    }

    /// Takes the address of a preview off the front; the path itself if it is none.
    ///
    /// # Errors
    /// The path, unchanged, if it does not begin with a preview.
    pub fn without_preview(mut self) -> Result<(PreviewToken, Self), Self> {
        let [first, second, ..] = self.segments.as_slice() else { return Err(self) };
        let Some(token) = PreviewToken::parse(second).filter(|_| first == PREVIEW_SEGMENT) else { return Err(self) };
        self.segments.drain(..2);
        // Behind the third slash, or nothing: both segments are there.
        let behind = self.rest.match_indices('/').nth(2).map_or(self.rest.len(), |(at, _)| at);
        self.rest = &self.rest[behind..];
        Ok((token, self))
    }

    /// The path below the tenant, decoded, with its leading slash, and a trailing one where the caller sent it.
    #[must_use]
    pub fn below_tenant(&self) -> String {
        let mut path = String::with_capacity(self.rest.len().max(1));
        for segment in &self.segments {
            path.push('/');
            path.push_str(segment);
        }
        if path.is_empty() || self.rest.ends_with('/') {
            path.push('/');
        }
        path
    }
}

fn decode_segment(raw: &str) -> Result<Cow<'_, str>, InvalidPath> {
    let segment = percent::decode(raw)?;
    if segment == "." || segment == ".." {
        return Err(InvalidPath::DotSegment);
    }
    Ok(segment)
}
