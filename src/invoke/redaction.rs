//! Keeping secrets out of the invocation log.
//!
//! What is kept out: the caller's credentials, and the secrets that the script was given, as they are and line by line.
//! What a script makes of them, for example their base64, is not recognised.

use std::sync::{Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::domain::{
    exchange::HandlerRequest,
    secret::{REDACTED_BYTES_MIN, Secret},
};

/// Header fields whose values must not reach a log or a recording.
pub(super) const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

const REDACTED: &str = "[redacted]";

/// The secrets that one invocation was given.
#[derive(Debug, Default)]
pub(super) struct Revealed(Mutex<Vec<Secret>>);

impl Revealed {
    pub(super) fn add(&self, secret: &Secret) {
        let copy = Secret::from(secret.expose().to_vec());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
    }
}

/// Texts to be kept out of one invocation's record.
pub(super) struct Redaction(Vec<Zeroizing<String>>);

impl Redaction {
    /// The caller's credentials and what was revealed.
    pub(super) fn new(request: &[Zeroizing<String>], revealed: &Revealed) -> Self {
        let mut texts = request.to_vec();
        for secret in revealed.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let Ok(text) = secret.expose_str() else { continue };
            let lines = text.lines().map(str::trim).filter(|_| text.contains('\n'));
            let parts = std::iter::once(text).chain(lines).filter(|part| part.len() >= REDACTED_BYTES_MIN);
            texts.extend(parts.map(|part| Zeroizing::new(part.to_owned())));
        }
        // The longest first, so that no rest of one remains where a shorter one is part of it.
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        texts.dedup();
        Self(texts)
    }

    /// The text without any of them.
    pub(super) fn apply(&self, mut text: String) -> String {
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), REDACTED);
            }
        }
        text
    }

    /// The same for a text that was cut off: its end may be the beginning of a secret.
    pub(super) fn apply_to_cut(&self, text: String) -> String {
        let mut text = self.apply(text);
        let begins_a_secret = |tail: &str| self.0.iter().any(|secret| secret.starts_with(tail));
        let longest = self.0.first().map_or(0, |secret| secret.len());
        let from = text.len().saturating_sub(longest);
        let cut = (from..text.len()).find(|&at| text.is_char_boundary(at) && begins_a_secret(&text[at..]));
        if let Some(at) = cut {
            text.truncate(at);
            text.push_str(REDACTED);
        }
        text
    }
}

/// The caller's credentials: values of the header fields that hold such, whole and in their parts.
pub(super) fn credentials(request: &HandlerRequest) -> Vec<Zeroizing<String>> {
    let fields = request.headers.iter().filter(|(name, _)| SECRET_HEADERS.contains(&name.as_str()));
    let parts = fields.flat_map(|(_, value)| value.split([' ', ';', '=']).chain([value.as_str()]));
    parts.filter(|part| part.len() >= REDACTED_BYTES_MIN).map(|part| Zeroizing::new(part.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(secrets: &[&str]) -> Redaction {
        let revealed = Revealed::default();
        for secret in secrets {
            revealed.add(&Secret::from((*secret).to_owned()));
        }
        Redaction::new(&[], &revealed)
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        for (secrets, text, expected) in [
            (&["hunter22"][..], "a hunter22 b hunter22", "a [redacted] b [redacted]"),
            (&["hunter22", "hunter22-long"], "hunter22-long", "[redacted]"),
            (&["short"], "short", "short"),
            (
                &["first line\nsecond line\n"],
                "{'k': 'first line\\nsecond line\\n'}",
                "{'k': '[redacted]\\n[redacted]\\n'}",
            ),
            (&["first line\nsecond line\n"], "first line\nsecond line\n!", "[redacted]!"),
            (&["geheimnisß"], "ß geheimnisß", "ß [redacted]"),
        ] {
            assert_eq!(redaction(secrets).apply(text.to_owned()), expected, "{secrets:?}");
        }
    }

    #[test]
    fn a_log_that_was_cut_within_a_secret_does_not_keep_its_beginning() {
        let redaction = redaction(&["hunter22", "ßecret-ß"]);
        for (text, expected) in [
            ("a hunt", "a [redacted]"),
            ("a h", "a [redacted]"),
            ("a b", "a b"),
            ("a ßec", "a [redacted]"),
            ("hunter22 hunter2", "[redacted] [redacted]"),
            ("", ""),
        ] {
            assert_eq!(redaction.apply_to_cut(text.to_owned()), expected, "{text}");
        }
    }
}
