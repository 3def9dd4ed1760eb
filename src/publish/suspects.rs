//! Texts in a script's source that look like secrets: versions are immutable, so what was once in one stays until it is purged.
//!
//! Owns: what such texts look like. Never: shows one, or keeps a script from being published.

use crate::domain::{
    script::{SourceFile, VENDORED_FOLDER},
    shown,
};

/// Most texts that one publication tells of.
const TOLD_MAX: usize = 10;

/// The beginning of a secret of a well-known kind, the least number of characters of a token that follow it, and the kind.
const KINDS: [(&str, usize, &str); 22] = [
    ("PRIVATE KEY-----", 0, "a private key"),
    ("sk_live_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("whsec_", 16, "the secret of a webhook"),
    ("sk-ant-", 20, "an Anthropic key"),
    ("sk-proj-", 20, "an OpenAI key"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("xoxb-", 16, "a Slack token"),
    ("xoxp-", 16, "a Slack token"),
    ("xapp-", 16, "a Slack token"),
    ("AKIA", 16, "an AWS access key"),
    ("AIza", 30, "a Google API key"),
    ("SG.", 40, "a SendGrid key"),
    ("shpat_", 20, "a Shopify token"),
    ("npm_", 30, "an npm token"),
    ("pqh_", 20, "an API token of a pqhost"),
    ("pqk_", 20, "a consumer key of a pqhost"),
    ("eyJhbGciOi", 40, "a JSON web token"),
];

/// Words in a name whose value is a secret.
const NAMES: [&str; 7] = ["password", "passwd", "secret", "token", "api_key", "apikey", "private_key"];

/// Least characters of a value that is a secret by its name.
const VALUE_CHARS_MIN: usize = 8;

/// Says where texts of an author's own files look like secrets, one sentence each; not what they are.
pub(super) fn suspects(files: &[SourceFile]) -> Vec<String> {
    let own = files.iter().filter(|file| !file.name.starts_with(VENDORED_FOLDER));
    let found = own.flat_map(|file| {
        let text = std::str::from_utf8(&file.content).unwrap_or_default(); // others are data
        text.lines().enumerate().filter_map(|(nth, line)| Some((&file.name, nth + 1, kind_of(line)?)))
    });
    let told = found.map(|(file, line, kind)| format!("{}, line {line}, looks like it holds {kind}", shown(file)));
    told.take(TOLD_MAX).collect()
}

fn kind_of(line: &str) -> Option<&'static str> {
    let of_kind = |(beginning, n_min, kind): (&str, usize, &'static str)| {
        let mut at = line.match_indices(beginning);
        let follows = |at: usize| {
            let is_begun = line[..at].chars().next_back().is_none_or(|c| !is_of_token(c)) || n_min == 0;
            is_begun && line[at + beginning.len()..].chars().take_while(|c| is_of_token(*c)).count() >= n_min
        };
        at.any(|(at, _)| follows(at)).then_some(kind)
    };
    let known = KINDS.into_iter().find_map(of_kind);
    known.or_else(|| has_password(line).then_some("a URL with a password")).or_else(|| named_kind(line))
}

fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// `scheme://user:password@host`, where the password is no placeholder.
fn has_password(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let rest = &line[at + 3..];
        let authority =
            rest.split(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?')).next().unwrap_or_default();
        let password =
            authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
        password.is_some_and(|password| {
            !password.is_empty()
                && !password.contains(['{', '<', '$', '%'])
                && password.to_ascii_uppercase() != password
        })
    })
}

/// `api_key = "..."`, `"password": "..."`: a literal with a digit in it.
fn named_kind(line: &str) -> Option<&'static str> {
    let (name, value) = line.split_once(['=', ':'])?;
    let name = name.to_ascii_lowercase();
    if !NAMES.iter().any(|word| name.contains(word)) {
        return None;
    }
    let value = value.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let value = value[1..].split(quote).next()?;
    let is_secret = value.chars().count() >= VALUE_CHARS_MIN
        && value.chars().any(|c| c.is_ascii_digit())
        && !value.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '<' | '/'));
    is_secret.then_some("a secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_told_by_its_line_and_nothing_else_is() {
        let token = "0123456789abcdefABCDEF0123456789abcdefABCDEF";
        for (line, kind) in [
            (format!("stripe.api_key = 'sk_live_{token}'"), Some("a Stripe key")),
            (format!("KEY = \"AKIA{}\"", "A7".repeat(8)), Some("an AWS access key")),
            (format!("headers = {{'Authorization': 'Bearer ghp_{token}'}}"), Some("a GitHub token")),
            ("-----BEGIN EC PRIVATE KEY-----".to_owned(), Some("a private key")),
            (format!("jwt = 'eyJhbGciOiJIUzI1NiJ9.{token}'"), Some("a JSON web token")),
            ("db = 'postgres://app:hunter2@db.example/shop'".to_owned(), Some("a URL with a password")),
            ("PASSWORD = 'correct-horse-7'".to_owned(), Some("a secret")),
            ("    \"client_secret\": \"abcdefg1\",".to_owned(), Some("a secret")),
            ("secret = pq.get_secret('stripe_key_2')".to_owned(), None),
            ("password = os.environ['DB_PASSWORD_1']".to_owned(), None),
            ("token = f'{prefix}-{number:08}'".to_owned(), None),
            ("url = 'postgres://USER:PASSWORD@HOST/DATABASE'".to_owned(), None),
            ("url = f'https://{user}:{password}@host/'".to_owned(), None),
            ("skip_sk_live_short = 1".to_owned(), None),
            ("tokens = ['a1', 'b2']".to_owned(), None),
            ("token_url = 'https://login.example/oauth2/v1/token'".to_owned(), None),
            ("# the secret: never write '1234' here".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(kind_of(&line), kind, "{line}");
        }
    }

    #[test]
    fn an_authors_own_files_are_looked_at_and_the_secret_is_not_shown() {
        let file = |name: &str, content: &[u8]| SourceFile { name: name.to_owned(), content: content.to_vec() };
        let line = b"\n\nkey = 'sk_live_0123456789abcdef01'\n";
        let package = format!("{VENDORED_FOLDER}/stripe/tests.py");
        let files =
            [file("handler.py", line), file(&package, line), file("data.bin", b"\xff sk_live_0123456789abcdef01")];
        assert_eq!(suspects(&files), ["handler.py, line 3, looks like it holds a Stripe key"]);
        let many = file("many.py", &line.repeat(100));
        assert_eq!(suspects(&[many]).len(), TOLD_MAX);
    }
}
