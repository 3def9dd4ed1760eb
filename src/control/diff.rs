//! How two versions differ, within limits: files may be large, and comparing takes time that grows with the square of the differences.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use similar::TextDiff;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::{
    control::Control,
    domain::{names::TenantId, script::SourceFile},
    problem::api::ApiError,
};

/// Comparisons at a time: they compute, and so do guests.
const AT_ONCE: usize = 1;

/// Longest time that a comparison waits for others. Some comparisons that take all of [`TIME`] fit.
const WAIT: Duration = Duration::from_secs(10);

/// Longest time of one comparison. Scripts of thousands of lines take milliseconds.
const TIME: Duration = Duration::from_secs(2);

/// Larger files are named only, in bytes: nobody reads how they differ.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Largest text of a comparison, in bytes. Once it is reached, further files are named only.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Unchanged lines shown around a changed one.
const CONTEXT_LINES: usize = 3;

/// A comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Diff {
    /// A unified diff of all files, by name.
    pub(crate) text: String,
    /// Whether no file is only named that could be compared.
    pub(crate) is_complete: bool,
}

/// Who compares. A tenant stands in line once, however much it wants to compare.
#[derive(Debug)]
pub(super) struct Comparing {
    all: Arc<Semaphore>,
    /// Of tenants that compare or wait.
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
}

impl Default for Comparing {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(AT_ONCE)), tenants: Mutex::default() }
    }
}

impl Comparing {
    /// Waits for the tenant's turn, which lasts until the permits are dropped.
    async fn begin(&self, tenant: TenantId, wait: Duration) -> Result<[OwnedSemaphorePermit; 2], ApiError> {
        let of_tenant = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(tenants.entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let turn = async {
            let of_tenant = of_tenant.acquire_owned().await?;
            Ok::<_, AcquireError>([of_tenant, Arc::clone(&self.all).acquire_owned().await?])
        };
        match tokio::time::timeout(wait, turn).await {
            Ok(turn) => turn.map_err(|error| ApiError::Host(error.to_string())),
            Err(_) => Err(ApiError::Unavailable("too much is being compared; try again".to_owned())),
        }
    }
}

impl Control {
    /// Compares beside the threads that serve.
    pub(super) async fn compare(
        &self,
        tenant: TenantId,
        older: Vec<SourceFile>,
        newer: Vec<SourceFile>,
    ) -> Result<Diff, ApiError> {
        let turn = self.comparing.begin(tenant, WAIT).await?;
        let comparing = tokio::task::spawn_blocking(move || {
            let diff = compare(&older, &newer);
            drop(turn); // here, because the caller may have hung up
            diff
        });
        comparing.await.map_err(|error| ApiError::Host(error.to_string()))
    }
}

/// Compares on this thread.
pub(crate) fn compare(older: &[SourceFile], newer: &[SourceFile]) -> Diff {
    diff_of(older, newer, TIME)
}

fn diff_of(older: &[SourceFile], newer: &[SourceFile], time: Duration) -> Diff {
    let deadline = Instant::now() + time;
    let mut names: Vec<&str> = older.iter().chain(newer).map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let find = |files: &'_ [SourceFile], name: &str| files.iter().position(|file| file.name == name);
    let mut diff = Diff { text: String::new(), is_complete: true };
    for name in names {
        let old = find(older, name).map(|at| older[at].content.as_slice());
        let new = find(newer, name).map(|at| newer[at].content.as_slice());
        if old == new {
            continue;
        }
        let label =
            |content: Option<_>, side| content.map_or_else(|| "/dev/null".to_owned(), |_| format!("{side}/{name}"));
        let (from, to) = (label(old, "a"), label(new, "b"));
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        if old == new {
            // An empty file that is there on one side only has no lines to differ.
            diff.text.push_str(&format!("--- {from}\n+++ {to}\n"));
            continue;
        }
        let (Ok(old), Ok(new)) = (str::from_utf8(old), str::from_utf8(new)) else {
            diff.text.push_str(&format!("Binary files {from} and {to} differ\n"));
            continue;
        };
        let reason = if old.len().max(new.len()) > FILE_BYTES_MAX {
            Some("too large to compare")
        } else if diff.text.len() > TEXT_BYTES_MAX {
            Some("more than is shown of a comparison")
        } else {
            let lines = TextDiff::configure().deadline(deadline).diff_lines(old, new);
            // A comparison that ran out of time says that whole blocks differ: correct, but nothing that anybody wants to read.
            match Instant::now() < deadline {
                true => {
                    let mut unified = lines.unified_diff();
                    diff.text.push_str(&unified.context_radius(CONTEXT_LINES).header(&from, &to).to_string());
                    None
                }
                false => Some("too different to compare in time"),
            }
        };
        if let Some(reason) = reason {
            diff.is_complete = false;
            diff.text.push_str(&format!("Files {from} and {to} differ ({reason})\n"));
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_tenant_that_compares_much_does_not_keep_others_waiting() {
        let comparing = Comparing::default();
        let first = comparing.begin(TenantId(1), WAIT).await.unwrap();
        let mut more: Vec<_> = (0..100).map(|_| Box::pin(comparing.begin(TenantId(1), WAIT))).collect();
        assert!(more.iter_mut().all(|begin| begin.now_or_never().is_none()));
        let mut other = Box::pin(comparing.begin(TenantId(2), WAIT));
        assert!((&mut other).now_or_never().is_none());
        drop(first);
        let other = other.now_or_never().expect("it is next").unwrap();

        // Nobody waits for long.
        let error = comparing.begin(TenantId(3), Duration::from_millis(1)).await.unwrap_err();
        assert!(matches!(error, ApiError::Unavailable(_)), "{error}");
        drop((more, other));
        drop(comparing.begin(TenantId(1), WAIT).await.unwrap());
        assert_eq!(comparing.tenants.lock().unwrap().len(), 1, "those that are done are forgotten");
    }

    fn files(files: &[(&str, &[u8])]) -> Vec<SourceFile> {
        files.iter().map(|(name, content)| SourceFile { name: (*name).to_owned(), content: content.to_vec() }).collect()
    }

    #[test]
    fn a_diff_shows_changed_added_removed_and_binary_files() {
        let older = files(&[("handler.py", b"a = 1\nb = 2\n"), ("gone.txt", b"x\n"), ("same", b"s"), ("bin", b"\xff")]);
        let newer = files(&[
            ("handler.py", b"a = 1\nb = 3\n"),
            ("new.txt", b"y\n"),
            ("same", b"s"),
            ("bin", b"\xfe"),
            ("void", b""),
        ]);
        let diff = diff_of(&older, &newer, TIME);
        assert!(diff.is_complete);
        insta::assert_snapshot!(diff.text, @r"
        Binary files a/bin and b/bin differ
        --- a/gone.txt
        +++ /dev/null
        @@ -1 +0,0 @@
        -x
        --- a/handler.py
        +++ b/handler.py
        @@ -1,2 +1,2 @@
         a = 1
        -b = 2
        +b = 3
        --- /dev/null
        +++ b/new.txt
        @@ -0,0 +1 @@
        +y
        --- /dev/null
        +++ b/void
        ");
        assert_eq!(diff_of(&newer, &newer, TIME), Diff { text: String::new(), is_complete: true });
    }

    #[test]
    fn what_takes_too_long_or_is_too_large_is_named() {
        // Lines that are all different, and in another order: the worst there is.
        let lines = |seed: u64| (0..90_000_u64).map(|n| format!("{:x}\n", (n * seed) % 90_001)).collect::<String>();
        let (old, new) = (lines(3), lines(7));
        let (large, larger) = ("x\n".repeat(FILE_BYTES_MAX / 2), "x\n".repeat(FILE_BYTES_MAX / 2 + 1));
        let older = files(&[("big", large.as_bytes()), ("hard", old.as_bytes()), ("z", b"1")]);
        let newer = files(&[("big", larger.as_bytes()), ("hard", new.as_bytes()), ("z", b"2")]);
        let diff = diff_of(&older, &newer, Duration::from_millis(100));
        assert!(!diff.is_complete);
        insta::assert_snapshot!(diff.text, @r"
        Files a/big and b/big differ (too large to compare)
        Files a/hard and b/hard differ (too different to compare in time)
        Files a/z and b/z differ (too different to compare in time)
        ");
    }
}
