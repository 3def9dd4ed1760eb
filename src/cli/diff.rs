//! `pqhost script diff`: a folder or a version beside another version, with the exit codes of `diff`.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, bail};
use serde_json::json;

use crate::{
    cli::{
        args::DiffArgs,
        client::{Client, Target},
        output::Output,
        scripts::{download, in_version, live_version},
        sources::ScriptSource,
    },
    control::diff::{self, Diff},
};

/// Exit codes.
const SAME: u8 = 0;
const DIFFERENT: u8 = 1;
const TROUBLE: u8 = 2;

pub(super) async fn diff(target: &Target, args: DiffArgs, output: Output) -> ExitCode {
    let code = match compare(target, args, output).await {
        Ok(Diff { text, is_complete }) => {
            output.done(text.trim_end(), &json!({ "diff": text, "is_complete": is_complete }));
            if !is_complete {
                output.progress("note: not all that differs is shown; compare the files that `pull` writes");
            }
            if text.is_empty() { SAME } else { DIFFERENT }
        }
        Err(error) => {
            output.fail(&error);
            TROUBLE
        }
    };
    ExitCode::from(code)
}

async fn compare(target: &Target, args: DiffArgs, output: Output) -> Result<Diff> {
    let DiffArgs { tenant, script, newer, from } = args;
    let client = Client::new(target, output).await?;
    if let Ok(version) = newer.parse::<i64>() {
        let path = in_version(&tenant, &script, version, "diff");
        let query = from.map(|from| format!("?from={from}")).unwrap_or_default();
        let compared = client.get(&format!("{path}{query}")).await?;
        let text = compared["diff"].as_str().unwrap_or_default().to_owned();
        return Ok(Diff { text, is_complete: compared["is_complete"] == true });
    }
    let folder = Path::new(&newer);
    if !folder.exists() {
        bail!("`{newer}` is neither a version nor a folder");
    }
    let version = match from {
        Some(version) => version,
        None => live_version(&client, &tenant, &script).await?,
    };
    // Without packages on either side: what is compared is what the author wrote, `requirements.txt` included.
    let newer = ScriptSource::new(folder.to_owned()).read_own()?;
    let older = download(&client, &tenant, &script, version).await?;
    Ok(diff::compare(&older, &newer))
}
