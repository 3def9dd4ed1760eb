//! Keeping secrets out of what is recorded of an invocation.
//!
//! Owns: which texts are secret, and how they are found. They are the caller's credentials and the secrets that the script
//! was given: as they are, in their parts, line by line, and long ones in pieces. What a script makes of them, for example
//! their base64, is not recognised.
//! Invariant: all are looked for in the text as it was printed, never in what redacting has made of it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use aho_corasick::{Anchored, automaton::Automaton as _, nfa::noncontiguous::NFA};
use zeroize::Zeroizing;

use crate::{
    domain::{
        exchange::HandlerRequest,
        secret::{REDACTED_BYTES_MIN, REVEALED_BYTES_MAX, Secret},
    },
    invoke::Inner,
    sandbox::Log,
};

/// Header fields whose values must not reach a log or a recording.
pub(super) const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

const REDACTED: &str = "[redacted]";

/// Longest text that is looked for in one piece, in bytes; of a longer one, each of its pieces is.
///
/// It bounds what a caller can make of credentials that contain each other: a place of a text is the end of at most this
/// many matches. No innocent text of this length is equal to a piece of a key.
const PIECE_BYTES_MAX: usize = 32;

/// Bytes of a caller's credentials that are looked for: twice what a listener takes of header fields, since values are
/// looked for whole and in their parts. Of more, the whole values go first, and then the longest parts.
const CREDENTIAL_BYTES_MAX: usize = 64 << 10;

/// Longest traceback that is recorded, in bytes. The runtime's own have 16,000 characters.
const TRACEBACK_BYTES_MAX: usize = 64 << 10;

/// Threads that look for many secrets.
pub(super) const THREADS: usize = 2;

/// More bytes of secrets are looked for on these threads: preparing so many takes half a millisecond.
const MANY_BYTES: usize = 2 << 10;

/// The secrets that one invocation was given.
#[derive(Debug, Default)]
pub(super) struct Revealed(Mutex<Vec<Secret>>);

impl Revealed {
    /// Remembers a secret, once. Returns whether it may be given to the script: all together have
    /// [`REVEALED_BYTES_MAX`], so that none ever has to be left out of redacting.
    pub(super) fn add(&self, secret: &Secret) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|known| known.expose() == secret.expose()) {
            return true;
        }
        let bytes: usize = known.iter().map(|known| known.expose().len()).sum();
        let has_room = bytes + secret.expose().len() <= REVEALED_BYTES_MAX;
        if has_room {
            known.push(Secret::from(secret.expose().to_vec()));
        }
        has_room
    }

    /// The secrets, whole and line by line.
    fn texts(&self) -> Vec<Zeroizing<String>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = known.iter().filter_map(|secret| secret.expose_str().ok());
        let parts = texts.flat_map(|text| {
            let lines = text.lines().map(str::trim).filter(|_| text.contains('\n'));
            std::iter::once(text).chain(lines)
        });
        parts.map(|part| Zeroizing::new(part.to_owned())).collect()
    }
}

/// The caller's credentials: values of the header fields that hold such.
pub(super) fn credentials(request: &HandlerRequest) -> Vec<Zeroizing<String>> {
    let fields = request.headers.iter().filter(|(name, _)| SECRET_HEADERS.contains(&name.as_str()));
    fields.map(|(_, value)| Zeroizing::new(value.clone())).collect()
}

/// These, and their parts: the schemes and tokens, the names and values of cookies.
fn with_parts(values: &[Zeroizing<String>]) -> Vec<Zeroizing<String>> {
    let parts = values.iter().flat_map(|value| value.split([' ', ';', '=']));
    let mut parts: Vec<_> = parts.filter(|part| part.len() >= REDACTED_BYTES_MIN).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    let mut room = CREDENTIAL_BYTES_MAX;
    let mut fits = |text: &&str| {
        let left = room.checked_sub(text.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    let texts = values.iter().map(|value| value.as_str()).chain(parts).filter(|text| fits(text));
    texts.map(|text| Zeroizing::new(text.to_owned())).collect()
}

/// What an invocation left to be recorded.
#[derive(Debug, Default)]
pub(super) struct Printed {
    /// What the handler printed.
    pub(super) log: Log,
    /// Bytes that are kept of it.
    pub(super) log_bytes: u64,
    /// The traceback of its failure.
    pub(super) traceback: Option<String>,
}

/// The same without secrets.
#[derive(Debug, Default)]
pub(super) struct Recordable {
    pub(super) log: String,
    pub(super) traceback: Option<String>,
}

impl Inner {
    /// The log and the traceback as they may be recorded. Many secrets are looked for on other threads than the guests'. The
    /// slot is held meanwhile, so no more invocations wait for these than there are slots, of each tenant too.
    pub(super) async fn redacted(
        &self,
        request: &HandlerRequest,
        revealed: &Arc<Revealed>,
        printed: Printed,
    ) -> Recordable {
        if printed.log.text.is_empty() && printed.traceback.is_none() {
            return recordable(&Redaction::default(), printed);
        }
        let texts = [with_parts(&credentials(request)), revealed.texts()].concat();
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if bytes <= MANY_BYTES {
            return recordable(&Redaction::of(&texts), printed);
        }
        let Ok(_turn) = self.redacting.acquire().await else { return Recordable::default() }; // it is never closed
        let work = tokio::task::spawn_blocking(move || recordable(&Redaction::of(&texts), printed));
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "what a handler printed is not recorded");
            Recordable::default()
        })
    }
}

fn recordable(redaction: &Redaction, printed: Printed) -> Recordable {
    let Printed { log, log_bytes, traceback } = printed;
    let bytes_max = usize::try_from(log_bytes).unwrap_or(usize::MAX);
    let Redacted { text: mut kept, dropped_bytes } = redaction.apply(&log.text, log.dropped_bytes > 0, bytes_max);
    let dropped_bytes = log.dropped_bytes + dropped_bytes as u64;
    if dropped_bytes > 0 {
        kept.push_str(&format!("\n[{dropped_bytes} more bytes were printed; {log_bytes} are kept]\n"));
    }
    let traceback = traceback.map(|text| {
        let begin = &text[..text.floor_char_boundary(TRACEBACK_BYTES_MAX)];
        redaction.apply(begin, begin.len() < text.len(), TRACEBACK_BYTES_MAX).text
    });
    Recordable { log: kept, traceback }
}

/// Looks for secrets in texts.
///
/// The time is linear in the secrets and in each text, whatever they are. What is made of the secrets to find them is not
/// overwritten when it is dropped.
#[derive(Default)]
struct Redaction {
    /// All pieces, sorted.
    pieces: Vec<Zeroizing<String>>,
    /// Finds them; `None` if there are none.
    matcher: Option<NFA>,
}

/// A text without secrets.
#[derive(Debug, PartialEq, Eq)]
struct Redacted {
    text: String,
    /// Bytes of the original that are left out at the end.
    dropped_bytes: usize,
}

impl Redaction {
    fn of(texts: &[Zeroizing<String>]) -> Self {
        let texts = texts.iter().filter(|text| text.len() >= REDACTED_BYTES_MIN);
        let pieces = texts.flat_map(|text| pieces(text));
        let mut pieces: Vec<_> = pieces.map(|piece| Zeroizing::new(piece.to_owned())).collect();
        pieces.sort_unstable_by(|one, other| one.as_str().cmp(other));
        pieces.dedup();
        // This kind is the smallest and the fastest to make; it is used for one or two texts.
        let matcher = || NFA::builder().prefilter(false).build(pieces.iter().map(|piece| piece.as_bytes()));
        let matcher = (!pieces.is_empty()).then(|| matcher().expect("a matcher may have 2^31 states"));
        Self { matcher, pieces }
    }

    /// The text without secrets, at most `bytes_max` bytes of it. Of one that was cut off, the end may be the beginning of a
    /// secret.
    fn apply(&self, text: &str, is_cut: bool, bytes_max: usize) -> Redacted {
        let mut hidden = self.matches(text);
        if let Some(end) = self.begun_at_the_end(text).filter(|_| is_cut) {
            hide(&mut hidden, end);
        }
        shown_without(text, &hidden, bytes_max)
    }

    /// Where secrets are. Of those that end at the same place the longest counts, which covers the others.
    fn matches(&self, text: &str) -> Vec<Range<usize>> {
        let mut hidden = Vec::new();
        let Some(matcher) = &self.matcher else { return hidden };
        let mut state = matcher.start_state(Anchored::No).expect("it looks everywhere");
        for (at, byte) in text.bytes().enumerate() {
            state = matcher.next_state(Anchored::No, state, byte);
            if matcher.is_match(state) {
                let (end, longest) = (at + 1, matcher.match_pattern(state, 0));
                hide(&mut hidden, end - matcher.pattern_len(longest)..end);
            }
        }
        hidden
    }

    /// The longest end of a text that a secret, or a piece of it, begins with.
    fn begun_at_the_end(&self, text: &str) -> Option<Range<usize>> {
        let is_begin = |tail: &str| {
            let at = self.pieces.partition_point(|piece| piece.as_str() < tail);
            self.pieces.get(at).is_some_and(|piece| piece.starts_with(tail))
        };
        let from = text.len().saturating_sub(PIECE_BYTES_MAX);
        let start = (from..text.len()).find(|&at| text.is_char_boundary(at) && is_begin(&text[at..]))?;
        Some(start..text.len())
    }
}

/// Pieces that together cover a text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let whole = std::iter::from_fn(move || {
        let (piece, behind) = rest.split_at(rest.floor_char_boundary(PIECE_BYTES_MAX));
        (piece.len() < rest.len()).then(|| {
            rest = behind;
            piece
        })
    });
    // The last one overlaps the one before it, so that it is not too short to be looked for.
    let last = &text[text.ceil_char_boundary(text.len().saturating_sub(PIECE_BYTES_MAX))..];
    whole.chain([last])
}

/// Adds a range that ends behind the others, as one with those that it touches or overlaps.
fn hide(hidden: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(last) = hidden.pop_if(|last| last.end >= range.start) {
        range.start = range.start.min(last.start);
    }
    hidden.push(range);
}

/// The beginning of a text with ranges left out.
fn shown_without(text: &str, hidden: &[Range<usize>], bytes_max: usize) -> Redacted {
    let mut shown = String::with_capacity(text.len().min(bytes_max));
    let mut at = 0;
    for range in hidden {
        at += push_what_fits(&mut shown, &text[at..range.start], bytes_max);
        if at < range.start || shown.len() + REDACTED.len() > bytes_max {
            return Redacted { text: shown, dropped_bytes: text.len() - at };
        }
        shown.push_str(REDACTED);
        at = range.end;
    }
    at += push_what_fits(&mut shown, &text[at..], bytes_max);
    Redacted { text: shown, dropped_bytes: text.len() - at }
}

/// Returns how many bytes did.
fn push_what_fits(shown: &mut String, text: &str, bytes_max: usize) -> usize {
    let fits = text.floor_char_boundary(bytes_max - shown.len());
    shown.push_str(&text[..fits]);
    fits
}

#[cfg(test)]
mod tests;
