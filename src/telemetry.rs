//! What operators see of a running process.
//!
//! Owns: how log lines are formatted and filtered; the field names used everywhere: `tenant.id`, `tenant.name`, `script.name`,
//! `version.id`, `endpoint.id`, `connection.name`, `invocation.id`, `error`. Never: tokens, secrets, bodies.

use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt as _};

use crate::domain::visible::{visible, visible_json};

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,pqhost=info";

/// Sends log lines to stderr, as JSON if asked. The first call counts.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder =
        fmt().with_env_filter(filter).with_ansi(false).with_writer(move || Visible { lines: io::stderr(), json });
    let initialized = if json { builder.json().finish().try_init() } else { builder.finish().try_init() };
    _ = initialized; // somebody else, for example a test, has installed a subscriber: theirs stays
}

/// Writes lines so that a terminal does not obey what is in them; so they have no colours either.
struct Visible<W> {
    lines: W,
    json: bool,
}

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let shown = match self.json {
            true => visible_json(&text),
            false => visible(&text),
        };
        self.lines.write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn log_lines_do_not_turn_or_colour_a_terminal() {
        let text = "a\u{202e}b\u{1b}[2Jc\u{9b}d";
        for json in [false, true] {
            let kept = Kept::default();
            let lines = kept.clone();
            let builder = fmt().with_ansi(false).with_writer(move || Visible { lines: lines.clone(), json });
            let log = || tracing::warn!(error = text, %text, script.name = ?text, "said {text}");
            match json {
                true => tracing::subscriber::with_default(builder.json().finish(), log),
                false => tracing::subscriber::with_default(builder.finish(), log),
            }
            let line = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert!(line.ends_with('\n') && line.matches("202e").count() == 4, "{line:?}");
            assert!(line.trim_end().chars().all(|c| c.is_ascii() && !c.is_control()), "{line:?}");
        }
    }
}
