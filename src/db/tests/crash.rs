//! What a process that is killed has acknowledged.

use super::*;

/// Names the database in which [`commit_until_killed`] writes; absent in an ordinary test run.
const CHILD_DATABASE: &str = "PQHOST_TEST_CHILD_DATABASE";

/// Not a test of its own: the process that [`what_was_acknowledged_survives_kill_9`] starts and kills.
#[tokio::test(flavor = "multi_thread")]
async fn commit_until_killed() {
    let Some(locator) = std::env::var_os(CHILD_DATABASE) else { return };
    let db = Db::open(&located(locator.to_str().unwrap())).await.unwrap();
    let tenant = create_tenant(&db, "acme").await;
    let script = ensure_script(&db, tenant, "hello").await;
    let logging = db.clone();
    tokio::spawn(async move {
        loop {
            let batch: Vec<_> = (0..100).map(|_| record(tenant)).collect();
            logging.invocations().insert_batch(&batch, &[]).await.unwrap();
            writeln!(std::io::stdout().lock(), "\nlogged {}", batch[99].id).unwrap();
        }
    });
    loop {
        let version = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        writeln!(std::io::stdout().lock(), "\npublished {}", version.number).unwrap();
        db.state().set_state(tenant, script, Some(&version.number.to_string())).await.unwrap();
        writeln!(std::io::stdout().lock(), "\nremembered {}", version.number).unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    on_each(survives_kill_9).await;
}

async fn survives_kill_9(fresh: &Fresh) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "db::tests::crash::commit_until_killed", "--nocapture"])
        .env(CHILD_DATABASE, fresh.locator())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    // Killed once both kinds of write were acknowledged: SQLite's lock is not fair, either may wait for the other a while.
    // What was acknowledged before the kill still comes out of the pipe.
    let (mut published, mut remembered, mut logged) = (0, 0, Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("published ").and_then(|number| number.parse::<i64>().ok()) {
            published = number;
        } else if let Some(number) = line.strip_prefix("remembered ").and_then(|number| number.parse::<i64>().ok()) {
            remembered = number;
        } else if let Some(id) = line.strip_prefix("logged ").and_then(|id| id.parse::<InvocationId>().ok()) {
            logged.push(id);
        }
        if published >= 50 && !logged.is_empty() {
            child.kill().unwrap(); // SIGKILL
        }
    }
    assert!(!child.wait().unwrap().success());
    assert!(published >= 50 && !logged.is_empty(), "published {published}, logged {}", logged.len());

    let db = fresh.open().await;
    let tenant = db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap().id;
    let script = db.scripts().find_script(tenant, &"hello".parse().unwrap()).await.unwrap().unwrap().id;
    let versions = db.versions().list_versions(tenant, script, None, 1000).await.unwrap();
    let numbers: Vec<_> = versions.iter().rev().map(|version| version.number).collect();
    assert_eq!(numbers[..50], (1..=50).collect::<Vec<_>>());
    assert!(numbers.len() >= usize::try_from(published).unwrap(), "{published} of {}", numbers.len());
    for version in versions {
        assert_eq!(db.versions().list_files(tenant, version.id).await.unwrap().len(), 2, "whole or not at all");
    }
    let state = db.state().find_state(tenant, script).await.unwrap().unwrap().value.unwrap();
    assert!(state.parse::<i64>().unwrap() >= remembered, "{state} of {remembered}");
    for id in logged {
        assert!(db.invocations().find_invocation(tenant, id).await.unwrap().is_some(), "{id}");
    }
    if let ControlDatabase::File(_) = fresh.database {
        let verdict: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&db.readers).await.unwrap();
        assert_eq!(verdict, "ok");
    }
}
