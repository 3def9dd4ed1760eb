//! The invocation log.

use super::*;

#[tokio::test]
async fn the_log_is_read_forwards_from_any_place() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let script = ensure_script(&db, tenant, "hello").await;
        let version = db.versions().insert_version(tenant, new_version(script)).await.unwrap();
        let records: Vec<_> = (0..37u64) // two whole chunks and a rest
            .map(|n| InvocationRecord {
                script,
                version: (n % 2 == 0).then_some(version.id),
                duration_us: n,
                code: (n == 1).then(|| "script_error".to_owned()),
                log: format!("line {n}\n"),
                traceback: (n == 1).then(|| "Traceback…".to_owned()),
                ..record(tenant)
            })
            .collect();
        db.invocations().insert_batch(&records, &[]).await.unwrap();
        db.invocations().insert_batch(&[], &[]).await.unwrap();

        let newest = db.invocations().list(tenant, None, 3).await.unwrap();
        assert_eq!(newest.iter().map(|entry| entry.record.duration_us).collect::<Vec<_>>(), [34, 35, 36]);
        let all = db.invocations().list(tenant, Some(0), 1000).await.unwrap();
        assert_eq!(all.iter().map(|entry| entry.record.clone()).collect::<Vec<_>>(), records);
        assert_eq!((all[0].version_number, all[1].version_number), (Some(1), None));
        assert_eq!(all[0].script_name.as_ref().map(|name| name.as_str()), Some("hello"));
        let following = db.invocations().list(tenant, Some(all[35].seq), 10).await.unwrap();
        assert_eq!(following, all[36..]);
        assert_eq!(db.invocations().find_invocation(tenant, records[7].id).await.unwrap().as_ref(), Some(&all[7]));
    })
    .await;
}

#[tokio::test]
async fn text_that_not_every_database_can_hold_is_replaced() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let odd = InvocationRecord { log: "a\0b".to_owned(), fuel: u64::MAX, ..record(tenant) };
        db.invocations().insert_batch(&[odd], &[]).await.unwrap();
        let entry = db.invocations().list(tenant, None, 1).await.unwrap().remove(0);
        assert_eq!((entry.record.log.as_str(), entry.record.fuel), ("a\u{fffd}b", u64::MAX >> 1));
    })
    .await;
}

#[tokio::test]
async fn pruning_keeps_the_newest_of_each_tenant() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (acme, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        let mixed: Vec<_> = (0..40).map(|n| record(if n % 2 == 0 { acme } else { other })).collect();
        db.invocations().insert_batch(&mixed, &[]).await.unwrap();
        let newest = db.invocations().list(acme, None, 5).await.unwrap();
        assert_eq!(db.invocations().prune(acme, 5, 10).await.unwrap(), 10, "no more than asked for");
        assert_eq!(db.invocations().prune(acme, 5, 10).await.unwrap(), 5);
        assert_eq!(db.invocations().prune(acme, 5, 10).await.unwrap(), 0);
        assert_eq!(db.invocations().list(acme, None, 100).await.unwrap(), newest);
        assert_eq!(db.invocations().list(other, None, 100).await.unwrap().len(), 20);
    })
    .await;
}

#[tokio::test]
async fn a_recording_and_what_a_rerun_repeats_are_part_of_the_entry_and_go_with_it() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (acme, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        let recorded = InvocationRecord { recording: Some(vec![0, 1, 2]), ..record(acme) };
        let rerun = Some(RerunOf { invocation: recorded.id, by: "user ann@acme.example".to_owned() });
        let rerun = InvocationRecord { rerun, ..record(acme) };
        db.invocations()
            .insert_batch(&[record(acme), recorded.clone(), rerun.clone(), record(acme)], &[])
            .await
            .unwrap();
        let read = db.invocations().find_invocation(acme, recorded.id).await.unwrap().unwrap();
        assert!(read.is_recorded);
        assert_eq!(read.record, InvocationRecord { recording: None, ..recorded.clone() }, "read by itself only");
        let read = db.invocations().find_invocation(acme, rerun.id).await.unwrap().unwrap();
        assert_eq!((read.is_recorded, &read.record), (false, &rerun));
        assert_eq!(db.invocations().find_recording(acme, recorded.id).await.unwrap(), Some(vec![0, 1, 2]));
        assert_eq!(db.invocations().find_recording(other, recorded.id).await.unwrap(), None);
        assert_eq!(db.invocations().find_recording(acme, rerun.id).await.unwrap(), None);
        db.invocations().prune(acme, 0, 10).await.unwrap();
        assert_eq!(db.invocations().find_recording(acme, recorded.id).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn recordings_of_a_tenant_have_a_budget_and_the_oldest_go_first() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (acme, other) = (create_tenant(&db, "acme").await, create_tenant(&db, "other").await);
        let recorded = |tenant| InvocationRecord { recording: Some(vec![7; 10]), ..record(tenant) };
        let records = [recorded(acme), recorded(acme), recorded(other), record(acme), recorded(acme), recorded(acme)];
        db.invocations().insert_batch(&records, &[]).await.unwrap();
        let kept = async |tenant| {
            let entries = db.invocations().list(tenant, None, 10).await.unwrap();
            entries.iter().map(|entry| entry.is_recorded).collect::<Vec<_>>()
        };
        assert_eq!(db.invocations().prune_recordings(acme, 40, 10).await.unwrap(), 0);
        assert_eq!(kept(acme).await, [true, true, false, true, true]);
        assert_eq!(db.invocations().prune_recordings(acme, 19, 2).await.unwrap(), 2, "no more than asked for");
        assert_eq!(kept(acme).await, [false, false, false, true, true]);
        assert_eq!(db.invocations().prune_recordings(acme, 19, 2).await.unwrap(), 1);
        assert_eq!(kept(acme).await, [false, false, false, false, true], "the entries stay");
        assert_eq!(db.invocations().prune_recordings(acme, 19, 2).await.unwrap(), 0);
        assert_eq!(db.invocations().find_recording(acme, records[0].id).await.unwrap(), None);
        assert_eq!(db.invocations().find_recording(acme, records[5].id).await.unwrap(), Some(vec![7; 10]));
        assert_eq!(kept(other).await, [true]);
    })
    .await;
}

#[tokio::test]
async fn old_entries_of_the_log_are_deleted_whosever_they_are() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (acme, globex) = (create_tenant(&db, "acme").await, create_tenant(&db, "globex").await);
        let started = |tenant, started_at_ms| InvocationRecord { started_at_ms, ..record(tenant) };
        let records = [started(acme, 10), started(globex, 20), started(acme, 30), started(globex, 15)];
        db.invocations().insert_batch(&records, &[]).await.unwrap();
        assert_eq!(db.invocations().prune_older(10, 100).await.unwrap(), 0);
        assert_eq!(db.invocations().prune_older(20, 1).await.unwrap(), 1);
        assert_eq!(db.invocations().prune_older(20, 1).await.unwrap(), 1, "also what stands behind newer ones");
        let left = async |tenant| {
            let entries = db.invocations().list(tenant, None, 10).await.unwrap();
            entries.iter().map(|entry| entry.record.started_at_ms).collect::<Vec<_>>()
        };
        assert_eq!((left(acme).await, left(globex).await), (vec![30], vec![20]));
    })
    .await;
}
