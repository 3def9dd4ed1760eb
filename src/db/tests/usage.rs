//! What tenants used, and what is kept for them.

use super::*;
use crate::{
    db::usage::{KeptBytes, TenantUsage, UsageRecord},
    domain::{
        quota::{Day, Quota, Quotas, Usage, UsedUp},
        script::SourceFile,
    },
};

fn used(tenant: TenantId, day: i64, fuel: u64) -> UsageRecord {
    UsageRecord { tenant, day: Day(day), usage: Usage { fuel, ..Usage::of_request(200) } }
}

#[tokio::test]
async fn what_several_hosts_use_in_a_day_is_added_up_and_each_is_told() {
    on_each(async |fresh| {
        let (one, other) = (fresh.open().await, fresh.open().await);
        let tenant = create_tenant(&one, "acme").await;
        let globex = create_tenant(&one, "globex").await;
        let told = one.invocations().insert_batch(&[], &[used(tenant, 9, 5), used(globex, 9, 100)]).await.unwrap();
        assert_eq!(told, [5, 100]);
        let failed = UsageRecord { usage: Usage { fuel: 3, rows: 2, ..Usage::of_request(500) }, ..used(tenant, 9, 0) };
        assert_eq!(other.invocations().insert_batch(&[], &[failed, used(tenant, 10, 1)]).await.unwrap(), [8, 1]);
        assert_eq!(one.usage().find_fuel(tenant, Day(9)).await.unwrap(), 8);
        assert_eq!(one.usage().find_fuel(tenant, Day(8)).await.unwrap(), 0);
        let day = Usage { requests: 2, failed: 1, fuel: 8, rows: 2, ..Usage::default() };
        let days = one.usage().list_days(tenant, Day(0), Day(10)).await.unwrap();
        assert_eq!(days, [(Day(9), day)]);
        let mut both = day;
        both += used(tenant, 10, 1).usage;
        let all = one.usage().list_tenants((Day(9), Day(11)), TenantId(0), 10).await.unwrap();
        let name = |name: &str| Some(name.parse().unwrap());
        let acme = TenantUsage { tenant, name: name("acme"), usage: both };
        assert_eq!(
            all,
            [acme, TenantUsage { tenant: globex, name: name("globex"), usage: used(globex, 9, 100).usage }]
        );
        assert_eq!(one.usage().list_tenants((Day(9), Day(11)), tenant, 1).await.unwrap(), &all[1..]);

        // Both at once, over and over: nothing is lost, and who is last is told of all.
        let add = async |db: &Db| {
            let mut last = 0;
            for _ in 0..20 {
                last = db.invocations().insert_batch(&[record(tenant)], &[used(tenant, 11, 1)]).await.unwrap()[0];
            }
            last
        };
        let (a, b) = tokio::join!(add(&one), add(&other));
        assert_eq!(a.max(b), 40);
    })
    .await;
}

#[tokio::test]
async fn usage_of_many_tenants_is_added_at_once_and_that_of_two_meters_of_one() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let mut records: Vec<_> = (1..=40).map(|id| used(TenantId(id), 9, id.unsigned_abs())).collect();
        records.extend([used(TenantId(7), 9, 100), used(TenantId(7), 10, 1)]);
        let mut expected: Vec<u64> = (1..=40).chain([107, 1]).collect();
        expected[6] = 107;
        assert_eq!(db.invocations().insert_batch(&[], &records).await.unwrap(), expected);
        assert_eq!(db.usage().find_fuel(TenantId(40), Day(9)).await.unwrap(), 40);
        let day = db.usage().list_days(TenantId(7), Day(9), Day(10)).await.unwrap();
        assert_eq!(day, [(Day(9), Usage { requests: 2, fuel: 107, ..Usage::default() })]);
    })
    .await;
}

#[tokio::test]
async fn usage_of_long_ago_is_deleted_and_no_other() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let (acme, globex) = (create_tenant(&db, "acme").await, create_tenant(&db, "globex").await);
        let all: Vec<_> = (0..5).flat_map(|day| [used(acme, day, 1), used(globex, day, 1)]).collect();
        db.invocations().insert_batch(&[], &all).await.unwrap();
        assert_eq!(db.usage().prune(Day(3), 4).await.unwrap(), 4);
        assert_eq!(db.usage().prune(Day(3), 4).await.unwrap(), 2);
        assert_eq!(db.usage().prune(Day(3), 4).await.unwrap(), 0);
        for tenant in [acme, globex] {
            let left = db.usage().list_days(tenant, Day(0), Day(10)).await.unwrap();
            assert_eq!(left.iter().map(|(day, _)| day.0).collect::<Vec<_>>(), [3, 4]);
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_kept_is_counted_in_bytes_also_of_versions_that_nobody_has_counted() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        assert_eq!(db.usage().find_kept_bytes(tenant).await.unwrap(), KeptBytes::default());
        let name = "hello".parse().unwrap();
        let script = db.scripts().create_script(tenant, &name, "['é']").await.unwrap().id;
        let file = |name: &str, content: &[u8]| SourceFile { name: name.to_owned(), content: content.to_vec() };
        let files = vec![file("handler.py", b"\xff\x00three"), file("data", &[0; 1000])];
        for _ in 0..2 {
            let new = NewVersion { files: files.clone(), ..new_version(script) };
            db.versions().insert_version(tenant, new).await.unwrap();
        }
        db.state().set_state(tenant, script, Some("\"é\"")).await.unwrap();
        let recorded = InvocationRecord { recording: Some(vec![7; 9]), ..record(tenant) };
        db.invocations().insert_batch(&[recorded, record(tenant)], &[]).await.unwrap();
        let kept = KeptBytes { source: 2 * 1007 + 6, state: 4, recordings: 9 };
        assert_eq!(db.usage().find_kept_bytes(tenant).await.unwrap(), kept);
        sqlx::query("UPDATE version SET source_bytes = NULL WHERE number = 1").execute(&db.writer).await.unwrap();
        assert_eq!(db.usage().find_kept_bytes(tenant).await.unwrap(), kept);
        db.state().set_state(tenant, script, None).await.unwrap();
        assert_eq!(db.usage().find_kept_bytes(tenant).await.unwrap(), KeptBytes { state: 0, ..kept });
        let other = create_tenant(&db, "globex").await;
        assert_eq!(db.usage().find_kept_bytes(other).await.unwrap(), KeptBytes::default());
    })
    .await;
}

#[tokio::test]
async fn quotas_are_granted_and_taken_back() {
    on_each(async |fresh| {
        let db = fresh.open().await;
        let tenant = create_tenant(&db, "acme").await;
        let quotas = async || db.tenants().find_tenant(&"acme".parse().unwrap()).await.unwrap().unwrap().quotas;
        assert_eq!(quotas().await, Quotas::default());
        let counter = db.count_changes().await;
        let granted = Quotas { scripts: Some(1), storage_bytes: Some(u64::MAX), ..Quotas::default() };
        db.tenants().set_quotas(tenant, &granted).await.unwrap();
        assert_eq!(quotas().await, granted);
        assert_eq!(db.count_changes().await, counter + 1, "hosts read it anew");
        ensure_script(&db, tenant, "first").await;
        ensure_script(&db, tenant, "first").await;
        let second = "second".parse().unwrap();
        let refused = DbError::QuotaUsedUp(UsedUp { quota: Quota::Scripts, limit: 1 }).to_string();
        assert_eq!(db.scripts().ensure_script(tenant, &second).await.unwrap_err().to_string(), refused);
        assert_eq!(db.scripts().create_script(tenant, &second, "[]").await.unwrap_err().to_string(), refused);
        assert_eq!(db.scripts().count_scripts(tenant).await.unwrap(), 1);
        db.tenants().set_quotas(tenant, &Quotas::default()).await.unwrap();
        db.scripts().create_script(tenant, &second, "[]").await.unwrap();
        let gone = db.tenants().set_quotas(TenantId(999), &granted).await.unwrap_err();
        assert!(matches!(gone, DbError::Unknown { .. }), "{gone}");
    })
    .await;
}
