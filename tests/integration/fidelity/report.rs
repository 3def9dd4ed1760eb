//! What became of CPython's tests: compared with what is expected, and as a page.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use serde::Deserialize;

use crate::fidelity::package::TestPackage;

/// Tests that do not pass, below the reasons.
const EXCLUDED: &str = include_str!("../../fidelity/excluded.txt");

const BEGIN: &str = "<!-- from here on written by `make fidelity` -->\n";

/// What became of a test, and why; of one that is not run, the pattern that says so.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Outcome(Kind, String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Kind {
    #[serde(rename = "ok")]
    Passed,
    #[serde(rename = "skipped")]
    Skipped,
    #[serde(rename = "failed")]
    Failed,
    #[serde(rename = "not run")]
    NotRun,
}

/// Tests that are expected not to pass.
pub(super) struct Exclusions {
    reasons: Vec<Reason>,
}

struct Reason {
    text: String,
    /// Whether the tests run all the same; then they must fail.
    runs: bool,
    /// Names of tests; of those that never run, patterns with `*`.
    tests: Vec<String>,
}

impl Exclusions {
    /// Reads `tests/fidelity/excluded.txt`, which says how it is written.
    pub(super) fn read() -> Self {
        let mut reasons: Vec<Reason> = Vec::new();
        for line in EXCLUDED.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            if let Some(test) = line.strip_prefix("    ") {
                reasons.last_mut().expect("the file begins with a reason").tests.push(test.to_owned());
                continue;
            }
            let (kind, text) = line.split_once(": ").unwrap_or_else(|| panic!("no reason: {line}"));
            assert!(matches!(kind, "fails" | "not run"), "{line}");
            reasons.push(Reason { text: text.to_owned(), runs: kind == "fails", tests: Vec::new() });
        }
        Self { reasons }
    }

    /// Patterns of tests that never run.
    pub(super) fn never_run(&self) -> Vec<&str> {
        let never = self.reasons.iter().filter(|reason| !reason.runs);
        never.flat_map(|reason| &reason.tests).map(String::as_str).collect()
    }

    /// Tests that run and fail.
    fn failing(&self) -> BTreeSet<&str> {
        let failing = self.reasons.iter().filter(|reason| reason.runs);
        failing.flat_map(|reason| &reason.tests).map(String::as_str).collect()
    }
}

/// One run.
pub(super) struct Report<'a> {
    exclusions: &'a Exclusions,
    outcomes: BTreeMap<String, BTreeMap<String, Outcome>>,
    digest: String,
}

impl<'a> Report<'a> {
    /// Of outcomes by module and name of the test.
    pub(super) fn new(
        package: &TestPackage,
        exclusions: &'a Exclusions,
        outcomes: BTreeMap<String, BTreeMap<String, Outcome>>,
    ) -> Self {
        Self { exclusions, outcomes, digest: package.digest() }
    }

    /// Each test that did otherwise than expected.
    pub(super) fn surprises(&self) -> Vec<String> {
        let failing = self.exclusions.failing();
        let mut surprises = Vec::new();
        let mut seen = BTreeSet::new();
        let mut never_run: BTreeSet<_> = self.exclusions.never_run().into_iter().collect();
        for (name, Outcome(kind, why)) in self.outcomes.values().flatten() {
            seen.insert(name.as_str());
            if *kind == Kind::NotRun {
                never_run.remove(why.as_str());
            }
            match (kind, failing.contains(name.as_str())) {
                (Kind::Failed, false) => surprises.push(format!("{name} fails: {why}")),
                (Kind::Passed, true) => surprises.push(format!("{name} is excluded, but passes")),
                (Kind::Skipped | Kind::NotRun, true) => surprises.push(format!("{name} is excluded, but does not run")),
                (Kind::Failed, true) | (Kind::Passed | Kind::Skipped | Kind::NotRun, false) => {}
            }
        }
        surprises
            .extend(failing.difference(&seen).map(|name| format!("{name} is excluded, but there is no such test")));
        surprises.extend(never_run.into_iter().map(|pattern| format!("{pattern} excludes no test")));
        surprises
    }

    /// Writes the page.
    pub(super) fn write(&self) {
        fs::write(page_path(), format!("{}{BEGIN}{}", introduction(), self.page())).unwrap();
    }

    /// Asserts that the page tells of this run, unless it was written with other tests.
    pub(super) fn assert_written(&self) {
        let page = fs::read_to_string(page_path()).unwrap();
        if page.contains(&self.digest) {
            assert!(page.ends_with(&self.page()), "docs/FIDELITY.md tells of another run: `make fidelity` writes it");
        }
    }

    fn page(&self) -> String {
        let mut page = format!("\nThe tests' files have the digest `{}`.\n\n", self.digest);
        page += "| tests of | tests | pass | pass of those that apply | excluded | skip themselves |\n| --- | --- | --- | --- | --- | --- |\n";
        let mut all = Counts::default();
        let mut rows = String::new();
        for (row, outcomes) in &self.outcomes {
            let counts = Counts::of(outcomes.values());
            all.add(counts);
            writeln!(rows, "| `{row}` | {} |", counts.cells()).unwrap();
        }
        writeln!(page, "| **all** | {} |\n{rows}\n## Excluded, and why\n", all.cells()).unwrap();
        for Reason { text, runs, tests } in &self.exclusions.reasons {
            let count = if *runs { tests.len() } else { self.not_run_for(tests) };
            let how = if *runs { "run, and must fail" } else { "not run" };
            writeln!(page, "- {count} ({how}): **{text}**. {}", code_list(tests.iter())).unwrap();
        }
        page += "\n## What skipped tests say\n\n";
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for Outcome(kind, why) in self.outcomes.values().flat_map(BTreeMap::values) {
            if *kind == Kind::Skipped {
                *reasons.entry(why.lines().next().unwrap_or_default()).or_default() += 1;
            }
        }
        for (why, count) in reasons {
            writeln!(page, "- {count}: {why}").unwrap();
        }
        page
    }

    /// How many tests these patterns exclude.
    fn not_run_for(&self, patterns: &[String]) -> usize {
        let all = self.outcomes.values().flat_map(BTreeMap::values);
        all.filter(|Outcome(kind, pattern)| *kind == Kind::NotRun && patterns.contains(pattern)).count()
    }
}

fn code_list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{}`", name.trim_start_matches("test."))).collect::<Vec<_>>().join(", ")
}

#[derive(Default, Clone, Copy)]
struct Counts {
    passed: usize,
    excluded: usize,
    skipped: usize,
}

impl Counts {
    fn of<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Self {
        let mut counts = Self::default();
        for Outcome(kind, _) in outcomes {
            match kind {
                Kind::Passed => counts.passed += 1,
                Kind::Skipped => counts.skipped += 1,
                Kind::Failed | Kind::NotRun => counts.excluded += 1,
            }
        }
        counts
    }

    fn add(&mut self, Self { passed, excluded, skipped }: Self) {
        self.passed += passed;
        self.excluded += excluded;
        self.skipped += skipped;
    }

    fn cells(self) -> String {
        let Self { passed, excluded, skipped } = self;
        let applying = passed + excluded;
        let permille = (passed * 1000).checked_div(applying).unwrap_or(0);
        format!("{} | {passed} | {}.{} % | {excluded} | {skipped}", applying + skipped, permille / 10, permille % 10)
    }
}

fn page_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/FIDELITY.md")
}

/// What people wrote at the top of the page.
fn introduction() -> String {
    let page = fs::read_to_string(page_path()).unwrap();
    page.split(BEGIN).next().unwrap().to_owned()
}
