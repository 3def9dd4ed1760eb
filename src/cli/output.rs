//! The words that commands print. Text of tenants and callers is made safe for terminals here, whatever command prints it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where commands talk to people and machines")]

use std::{
    io::{BufRead as _, IsTerminal as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    cli::args::Cli,
    domain::visible::{visible, visible_in_line, visible_json},
};

/// How to print: for people, or JSON for machines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) json: bool,
}

impl Output {
    /// A result: the sentence for people, or the value for machines.
    pub(super) fn done(self, sentence: &str, value: &Value) {
        if self.json { print_json(value) } else { println!("{}", visible(sentence)) }
    }

    /// Objects of the control API: as they are for machines, the fields of `headings` for people.
    pub(super) fn items(self, headings: &[&str], items: &[Value]) {
        if self.json {
            return print_json(&Value::Array(items.to_vec()));
        }
        let text = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(values) => {
                let texts = values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                texts.collect::<Vec<_>>().join(",")
            }
            other => other.to_string(),
        };
        let row = |item: &Value| headings.iter().map(|heading| visible_in_line(&text(&item[*heading]))).collect();
        let cells: Vec<Vec<String>> =
            std::iter::once(headings.iter().map(|h| (*h).to_owned()).collect()).chain(items.iter().map(row)).collect();
        let widths: Vec<usize> = (0..headings.len())
            .map(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in cells {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            println!("{}", padded.join("  ").trim_end());
        }
    }

    /// A result that is a text of its own.
    pub(super) fn text(self, text: &str) {
        if self.json { print_json(&Value::from(text)) } else { print!("{}", visible(text)) }
    }

    /// A script that completes commands in a shell.
    pub(super) fn completions(self, shell: clap_complete::Shell) {
        let mut command = <Cli as clap::CommandFactory>::command();
        clap_complete::generate(shell, &mut command, "pqhost", &mut std::io::stdout());
    }

    /// Something on the way, not part of the result.
    pub(super) fn progress(self, text: &str) {
        eprintln!("{}", visible(text));
    }

    /// The command failed.
    pub(super) fn fail(self, error: &anyhow::Error) -> ExitCode {
        if self.json {
            print_json(&serde_json::json!({ "error": format!("{error:#}") }));
        } else {
            eprintln!("error: {}", visible(&format!("{error:#}")));
        }
        ExitCode::FAILURE
    }
}

fn print_json(value: &Value) {
    println!("{}", visible_json(&value.to_string()));
}

/// Asks whether to go on. Where nobody can be asked, or says no, it ends with an error: `otherwise`, or that nothing was done.
pub(super) fn confirm(otherwise: &str, output: Output) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("{otherwise}");
    }
    output.progress("go on? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    if !answer.trim().eq_ignore_ascii_case("y") {
        bail!("nothing was done");
    }
    Ok(())
}
