//! CPython's own tests, run in the sandbox. See `docs/FIDELITY.md`, which the same run writes.

mod package;
mod report;

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use pqhost::domain::exchange::AuthMode;
use reqwest::Method;
use serde_json::json;

use crate::{
    fidelity::{
        package::TestPackage,
        report::{Exclusions, Outcome, Report},
    },
    support::{Answer, TestApp},
};

/// Modules of tests that run longest: they start first.
const SLOWEST: [&str; 3] = ["pickle", "statistics", "set"];

/// Longest time of the tests of one module; also the longest deadline there is.
const DEADLINE: Duration = Duration::from_secs(300);

/// The environment variable that has `docs/FIDELITY.md` written instead of compared: `make fidelity` sets it.
const WRITE: &str = "PQHOST_WRITE_FIDELITY";

#[tokio::test]
async fn tests_of_cpython_pass_unless_a_reason_is_known() {
    let package = TestPackage::find();
    let exclusions = Exclusions::read();
    let app = TestApp::with(|config| {
        config.limits.deadline = DEADLINE;
        config.limits.fuel = u64::MAX >> 1;
        config.limits.memory_bytes = 1 << 30;
    })
    .await;
    let acme = app.acme().await;
    app.try_publish_files(&acme, "tests", package.script()).await.unwrap();
    app.endpoint(&acme, "POST", "/tests", "tests", AuthMode::Public).await;

    let mut rows = package.rows();
    rows.sort_by_key(|row| !SLOWEST.contains(&row.as_str()));
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get);
    let outcomes: BTreeMap<String, BTreeMap<String, Outcome>> = futures::stream::iter(rows)
        .map(|row| {
            let job = json!({"modules": package.modules_of(&row), "without": exclusions.never_run()});
            let request = app.request(Method::POST, "/acme/tests").timeout(DEADLINE).json(&job);
            async {
                let answer = Answer::of(request).await;
                if answer.status != 200 {
                    return Err(format!("the tests of {row} did not end: {}", answer.body));
                }
                Ok((row, serde_json::from_str(&answer.body).unwrap()))
            }
        })
        .buffer_unordered(cores)
        .try_collect()
        .await
        .unwrap();
    app.assert_rewound();

    let report = Report::new(&package, &exclusions, outcomes);
    let surprises = report.surprises();
    assert!(surprises.is_empty(), "{}\n\nIf this is right, change tests/fidelity/excluded.txt", surprises.join("\n"));
    if std::env::var_os(WRITE).is_some() {
        report.write();
    } else {
        report.assert_written();
    }
}
