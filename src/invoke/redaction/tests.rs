//! Redaction against a simple implementation of the same, and against callers who choose what is redacted.

use super::*;

fn texts(secrets: &[impl AsRef<str>]) -> Vec<Zeroizing<String>> {
    secrets.iter().map(|secret| Zeroizing::new(secret.as_ref().to_owned())).collect()
}

fn redacted(secrets: &[impl AsRef<str>], text: &str, is_cut: bool) -> String {
    Redaction::of(&texts(secrets)).apply(text, is_cut, usize::MAX).text
}

/// The same, one byte and one secret after the other.
fn simple(secrets: &[String], text: &str, is_cut: bool) -> String {
    let mut is_hidden = vec![false; text.len()];
    for secret in secrets.iter().filter(|secret| secret.len() >= REDACTED_BYTES_MIN) {
        for (at, _) in text.char_indices() {
            let whole = text[at..].starts_with(secret.as_str());
            let begun = is_cut && secret.starts_with(&text[at..]);
            if whole || begun {
                let end = text.len().min(at + secret.len());
                is_hidden[at..end].fill(true);
            }
        }
    }
    let mut shown = String::new();
    for (at, c) in text.char_indices() {
        match (is_hidden[at], at > 0 && is_hidden[at - 1]) {
            (false, _) => shown.push(c),
            (true, false) => shown.push_str(REDACTED),
            (true, true) => {}
        }
    }
    shown
}

/// The same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, max: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % max as u64).unwrap()
    }

    /// Of few characters, so that texts contain, overlap and repeat each other.
    fn text(&mut self, chars: Range<usize>) -> String {
        let length = chars.start + self.below(chars.len());
        (0..length).map(|_| ['a', 'b', 'ß', '日', '['][self.below(3) + self.below(3)]).collect()
    }
}

#[test]
fn secrets_do_not_reach_the_log() {
    for (secrets, text, expected) in [
        (&["hunter22"][..], "a hunter22 b hunter22", "a [redacted] b [redacted]"),
        (&["hunter22", "hunter22-long"], "hunter22-long", "[redacted]"),
        (&["hunter22-long", "hunter22"], "hunter22-lon", "[redacted]-lon"),
        (&["nter22-l", "hunter22-long"], "hunter22-long nter22-l", "[redacted] [redacted]"),
        (&["abcdefgh", "efghijkl"], "abcdefghijkl", "[redacted]"),
        (&["abcdefgh", "ghijklmn", "mnopqrst"], "_abcdefghijklmnopqrst_", "_[redacted]_"),
        (&["abcabc"], "abcabcabc", "[redacted]"),
        (&["abcabc"], "abcabcabcabc", "[redacted]"),
        (&["short"], "short", "short"),
        (&["geheimnisß"], "ß geheimnisß", "ß [redacted]"),
        (&["日本語"], "日日本語語", "日[redacted]語"),
        (&["redact", "ed]ed]", "[redacted]", "dacted"], "a redact b", "a [redacted] b"),
        (&["redact", "ed]ed]", "redacted", "secret"], "secret secret", "[redacted] [redacted]"),
        (&["redact"], "[redacted]", "[[redacted]ed]"),
        (&[""; 0], "secret", "secret"),
        (&["", "a"], "a secret", "a secret"),
    ] {
        assert_eq!(redacted(secrets, text, false), expected, "{secrets:?}");
    }
}

#[test]
fn lines_and_values_are_redacted_as_their_wholes_are() {
    let revealed = Revealed::default();
    assert!(revealed.add(&Secret::from("first line\n  second line\nx\n".to_owned())));
    for (text, expected) in [
        ("{'k': 'first line\\nsecond line\\n'}", "{'k': '[redacted]\\n[redacted]\\n'}"),
        ("first line\n  second line\nx\n!", "[redacted]!"),
        ("second line\nx", "[redacted]\nx"),
    ] {
        assert_eq!(redacted(&revealed.texts(), text, false), expected);
    }
    let values = texts(&["Bearer very-secret", "a=b; session=0123456789; =other-value"]);
    for (text, expected) in [
        ("Bearer very-secret, very-secret", "[redacted], [redacted]"),
        ("session: 0123456789", "[redacted]: [redacted]"),
        ("other-value of a=b;", "[redacted] of a=b;"),
    ] {
        assert_eq!(redacted(&with_parts(&values), text, false), expected);
    }
}

#[test]
fn a_cut_log_does_not_keep_the_beginning_of_a_secret() {
    let secrets = ["hunter22", "ßecret-ß", "a key of more than two pieces, which has seventy bytes, and some more."];
    for (text, expected) in [
        ("a hunt", "a [redacted]"),
        ("b h", "b [redacted]"),
        ("b c", "b c"),
        ("b ßec", "b [redacted]"),
        ("hunter22 hunter2", "[redacted] [redacted]"),
        ("hunter22hunter2", "[redacted]"),
        ("hunter2 ", "hunter2 "),
        ("", ""),
    ] {
        assert_eq!(redacted(&secrets, text, true), expected, "{text}");
    }
    let long = secrets[2];
    for end in 1..=long.len() {
        assert_eq!(redacted(&secrets, &format!("_{}", &long[..end]), true), "_[redacted]", "{end} bytes");
    }
}

#[test]
fn long_secrets_are_redacted_whole_and_in_pieces() {
    let mut numbers = Numbers(1);
    for length in (1..300).chain([1000, 5000]) {
        let secret: String = (0..length).map(|_| ['x', 'ö', '日'][numbers.below(3)]).collect();
        if secret.len() < REDACTED_BYTES_MIN {
            continue;
        }
        assert_eq!(redacted(&[&secret], &format!("a{secret}b{secret}"), false), "a[redacted]b[redacted]", "{secret}");
        assert!(pieces(&secret).all(|piece| (REDACTED_BYTES_MIN..=PIECE_BYTES_MAX).contains(&piece.len())));
        let without_its_end = &secret[..secret.len() - secret.chars().last().unwrap().len_utf8()];
        assert!(!redacted(&[&secret], without_its_end, true).contains(['x', 'ö', '日']), "{secret}");
    }
}

#[test]
fn redaction_does_what_a_simple_one_does() {
    let mut numbers = Numbers(7);
    let mut n_redacted = 0;
    for round in 0..3000 {
        let secrets: Vec<String> = (0..numbers.below(8)).map(|_| numbers.text(1..9)).collect();
        let mut text = numbers.text(0..40);
        for _ in 0..numbers.below(6) {
            if let Some(secret) = secrets.get(numbers.below(8)) {
                text.push_str(secret);
            }
            text.push_str(&numbers.text(0..4));
        }
        for is_cut in [false, true] {
            let expected = simple(&secrets, &text, is_cut);
            assert_eq!(redacted(&secrets, &text, is_cut), expected, "round {round}: {secrets:?} in {text}");
            n_redacted += usize::from(expected.contains(REDACTED));
        }
    }
    assert!(n_redacted > 1000, "{n_redacted}");
}

#[test]
fn a_caller_cannot_make_a_record_grow() {
    let traceback =
        "Traceback (most recent call last):\n  File \"handler.py\", line 3, in handler\n    redacted\n".repeat(3);
    for cycles in 0..=40 {
        let cycle = |n: usize| format!(";redact;x{n:05};redact;ed]ed]");
        let cookie = format!("Traceback{}", (0..cycles).map(cycle).collect::<String>());
        let secrets = with_parts(&texts(&[cookie]));
        let shown = redacted(&secrets, &traceback, false);
        assert!(shown.len() <= traceback.len() + 3 * 2 * REDACTED.len(), "{cycles} cycles: {} bytes", shown.len());
        assert_eq!(shown.matches(REDACTED).count(), if cycles == 0 { 3 } else { 6 }, "{cycles} cycles");
    }
}

#[test]
fn what_is_redacted_is_never_longer_than_its_bound() {
    let redaction = Redaction::of(&texts(&["secret", "日本語日本"]));
    for (text, bytes_max, expected, dropped_bytes) in [
        ("secret", 10, "[redacted]", 0),
        ("secret", 9, "", 6),
        ("a secret b", 14, "a [redacted] b", 0),
        ("a secret b", 13, "a [redacted] ", 1),
        ("a secret b", 11, "a ", 8),
        ("a secret b", 1, "a", 9),
        ("a secret b", 0, "", 10),
        ("日secret", 2, "", 9),
        ("日本secret", 4, "日", 9),
        ("secret,secret,secret", 25, "[redacted],[redacted],", 6),
    ] {
        let expected = Redacted { text: expected.to_owned(), dropped_bytes };
        assert_eq!(redaction.apply(text, false, bytes_max), expected, "{text} in {bytes_max}");
    }
    let mut log = Log::default();
    log.text.push_str(&"secret ".repeat(9000));
    let traceback = Some(format!("{}secr", "secret,".repeat(30_000)));
    let recordable = recordable(&redaction, Printed { log, log_bytes: 64 << 10, traceback });
    assert!(recordable.log.ends_with("\n[21301 more bytes were printed; 65536 are kept]\n"), "{}", recordable.log);
    let traceback = recordable.traceback.unwrap();
    assert!(traceback.len() <= TRACEBACK_BYTES_MAX && !traceback.contains("secr"), "{}", traceback.len());
}

#[test]
fn of_too_many_credentials_the_whole_and_the_longest_are_redacted() {
    let key = format!("Bearer {}", "k".repeat(40));
    let many: String = (0..9000).map(|n| format!("{n:05}x;")).collect();
    let longer = format!("{many}; session=the-longest-part");
    let parts = with_parts(&texts(&[&key, &longer]));
    assert!(parts.iter().map(|part| part.len()).sum::<usize>() <= CREDENTIAL_BYTES_MAX);
    assert!(parts.len() < 9000, "some are left out");
    for kept in [&key, &longer, "the-longest-part", &key[7..]] {
        assert_eq!(redacted(&parts, &format!("_{kept}_"), false), "_[redacted]_");
    }
}

#[test]
fn a_script_is_given_no_more_secrets_than_are_redacted() {
    let revealed = Revealed::default();
    let secret = |n: usize| Secret::from(format!("{n}").repeat(REVEALED_BYTES_MAX / 4));
    for n in [1, 2, 3, 4, 1, 4] {
        assert!(revealed.add(&secret(n)), "{n}");
    }
    assert!(!revealed.add(&Secret::from("5".to_owned())));
    assert!(revealed.add(&secret(2)), "it is known");
    assert_eq!(revealed.texts().len(), 4);
}
