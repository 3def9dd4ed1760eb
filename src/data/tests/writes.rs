//! Writing records, creating schemas and tables, and reading the catalogue.

use super::*;
use crate::domain::sql::{NewTable, TableWrite};

impl Fixture {
    async fn write(&self, table: &str, records: Value, key: &[&str]) -> Result<u64, SqlError> {
        self.write_typed(table, records, key, json!({})).await
    }

    async fn write_typed(&self, table: &str, records: Value, key: &[&str], types: Value) -> Result<u64, SqlError> {
        let records = match records {
            Value::Array(records) => records.into_iter().map(row).collect(),
            one => vec![row(one)],
        };
        let key = key.iter().map(|column| (*column).to_owned()).collect();
        let write = TableWrite { table: self.name(table), records, types: types.as_object().unwrap().clone(), key };
        self.database().write(write).await
    }

    async fn columns(&self, table: &str) -> Vec<(String, String, i64)> {
        let columns = self.database().describe(&self.name(table)).await.unwrap();
        columns.into_iter().map(|column| (column.name, column.data_type.to_string(), column.key_position)).collect()
    }
}

/// Both databases without the schema that the tests write to.
async fn empty() -> [Fixture; 2] {
    let postgres = Fixture::postgres("").await;
    admin(&format!("DROP SCHEMA {}", postgres.schema)).await;
    [postgres, Fixture::sqlite(&[])]
}

#[tokio::test]
async fn a_write_makes_what_is_missing() {
    for fixture in empty().await {
        fixture.database().fetch(query("SELECT 1")).await.unwrap();
        let event =
            json!({"id": "e1", "n": 1, "ok": true, "data": {"a": [1, {"b": null}]}, "list": [], "nothing": null});
        assert_eq!(fixture.write("events", event.clone(), &["id"]).await.unwrap(), 1);
        assert_eq!(fixture.all("events").await, json!([event]));
        assert_eq!(fixture.columns("events").await[0].2, 1, "`id` is the primary key");
        // A new column, and the row replaced: what the new record does not say is gone.
        fixture.write("events", json!({"id": "e1", "amount": 2.5}), &["id"]).await.unwrap();
        let replaced =
            json!({"id": "e1", "n": null, "ok": null, "data": null, "list": null, "nothing": null, "amount": 2.5});
        assert_eq!(fixture.all("events").await, json!([replaced]));
        // The table's own key is used when none is given; of several records with it the last one counts.
        let records = json!([{"id": "e2", "n": 1}, {"id": "e1", "n": 7}, {"id": "e2", "n": 2}]);
        assert_eq!(fixture.write("events", records, &[]).await.unwrap(), 3);
        let all = fixture.all("events").await;
        assert_eq!((&all[0]["n"], &all[1]["n"], all.as_array().unwrap().len()), (&json!(7), &json!(2), 2));
        // Without a key, rows are added.
        for _ in 0..2 {
            fixture.write("log", json!([{"line": "x"}, {"line": "x", "level": 3}]), &[]).await.unwrap();
        }
        assert_eq!(fixture.all("log").await.as_array().unwrap().len(), 4);
        fixture.end().await;
    }
}

#[tokio::test]
async fn many_records_are_written_together_or_not_at_all() {
    for fixture in empty().await {
        let records =
            |n: i64| Value::Array((0..n).map(|i| json!({"id": i, "a": i * 2, "b": format!("row {i}")})).collect());
        assert_eq!(fixture.write("t", records(20_000), &["id"]).await.unwrap(), 20_000);
        let name = fixture.name("t");
        let count = format!("SELECT count(*) AS n, sum(a) AS s FROM {}.t", name.schema.unwrap());
        assert_eq!(fixture.query(&*count).await.unwrap()[0]["n"], 20_000);
        let mut bad = records(20_000);
        for record in bad.as_array_mut().unwrap() {
            record["a"] = json!(0);
        }
        bad[19_999]["b"] = json!({"an": "object"});
        bad[19_999]["id"] = json!("not a number");
        let error = fixture.write("t", bad, &["id"]).await.unwrap_err();
        assert!(
            matches!(
                error.code,
                SqlErrorCode::InvalidArgument | SqlErrorCode::StatementFailed | SqlErrorCode::ConstraintViolated
            ),
            "{error}"
        );
        assert_ne!(fixture.query(&*count).await.unwrap()[0]["s"].as_f64(), Some(0.0), "the first parts were undone");
        fixture.end().await;
    }
}

#[tokio::test]
async fn writers_at_the_same_time_lose_nothing() {
    for fixture in empty().await {
        let writes = (0..6).map(|n| {
            let record = json!({"id": n, (format!("only_{n}")): n});
            let fixture = &fixture;
            async move { fixture.write("t", record, &["id"]).await }
        });
        for result in futures::future::join_all(writes).await {
            assert_eq!(result.unwrap(), 1);
        }
        assert_eq!(fixture.all("t").await.as_array().unwrap().len(), 6);
        assert_eq!(fixture.columns("t").await.len(), 7);
        fixture.end().await;
    }
}

#[tokio::test]
async fn types_may_be_declared() {
    for fixture in empty().await {
        let schema = json!({"properties": {"id": {"type": "integer"}, "at": {"type": ["null", "string"], "format": "date-time"},
            "price": {"type": "number"}, "any": {"type": ["string", "integer"]}, "later": {"type": "boolean"}}});
        let record = json!({"id": 1, "at": "2024-01-02T03:04:05+00:00", "price": 3, "any": "5"});
        fixture.write_typed("t", record, &["id"], schema).await.unwrap();
        let row = &fixture.all("t").await[0];
        assert_eq!(*row, json!({"id": 1, "at": "2024-01-02T03:04:05+00:00", "price": 3.0, "any": "5", "later": null}));
        let error =
            fixture.write_typed("u", json!({"a": 1}), &[], json!({"a": "text); DROP TABLE t; --"})).await.unwrap_err();
        assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains("unknown type"), "{error}");
        let error = fixture.write_typed("u", json!({"a": 1}), &[], json!({"a": 5})).await.unwrap_err();
        assert!(error.message.contains("the type of `a` cannot be read"), "{error}");
        fixture.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_told() {
    for fixture in both("CREATE TABLE keyed (id INTEGER PRIMARY KEY, v INTEGER); CREATE TABLE loose (v INTEGER)").await
    {
        for (error, text) in [
            (fixture.write("keyed", json!({"v": 1}), &["v"]).await, "its primary key is (id)"),
            (fixture.write("loose", json!({"v": 1}), &["v"]).await, "it has no primary key"),
            (fixture.write("keyed", json!([{"id": 1}, {"v": 2}]), &["id"]).await, "record 2 has no `id`"),
            (fixture.write("new", json!({"v": 1}), &["id"]).await, "record 1 has no `id`"),
            (fixture.write("new", json!({}), &[]).await, "without any field"),
            (fixture.write("keyed", json!({"id": 1, "": 2}), &[]).await, "`column`: name `` is empty"),
            (fixture.write("keyed", json!({"id": 1, ("x".repeat(300)): 2}), &[]).await, "which is the most that"),
        ] {
            let error = error.unwrap_err();
            assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains(text), "{text}: {error}");
        }
        assert_eq!(fixture.write("keyed", json!([]), &[]).await.unwrap(), 0);
        // A key that the database numbers may be left out.
        fixture
            .database()
            .create_table(NewTable { table: fixture.name("numbered"), fields: vec![], key: vec![] })
            .await
            .unwrap();
        fixture.write("numbered", json!([{"v": 1}, {"v": 2}]), &[]).await.unwrap();
        assert_eq!(fixture.all("numbered").await, json!([{"id": 1, "v": 1}, {"id": 2, "v": 2}]));
        fixture.end().await;
    }
}

#[tokio::test]
async fn tables_are_created_and_described() {
    for fixture in empty().await {
        let schema = fixture.name("").schema.unwrap();
        fixture.database().create_schema("", &schema).await.unwrap();
        fixture.database().create_schema("", &schema).await.unwrap();
        let field = |name: &str, r#type: &str| (name.to_owned(), r#type.to_owned());
        let fields = vec![
            field("id", "integer"),
            field("na\"me", "varchar(20)"),
            field("price", "decimal(10,2)"),
            field("extra", "json"),
        ];
        let new = NewTable { table: fixture.name("items"), fields, key: vec!["id".to_owned()] };
        fixture.database().create_table(new.clone()).await.unwrap();
        let row =
            fixture.change("items", insert(json!({"na\"me": "x", "price": "1.50", "extra": {"a": 1}}))).await.unwrap();
        assert_eq!(row, json!([{"id": 1, "na\"me": "x", "price": 1.5, "extra": {"a": 1}}]));
        let columns = fixture.columns("items").await;
        assert_eq!(
            columns.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(),
            ["id", "na\"me", "price", "extra"]
        );
        assert_eq!(columns.iter().map(|(.., key)| *key).collect::<Vec<_>>(), [1, 0, 0, 0]);
        let error = fixture.database().create_table(new.clone()).await.unwrap_err();
        assert_eq!(error.code, SqlErrorCode::AlreadyExists, "{error}");
        for (fields, key, text) in [
            (vec![field("a", "nonsense")], vec![], "unknown type `nonsense`"),
            (vec![field("a", "text")], vec!["b"], "none of the fields"),
            (vec![field("", "text")], vec![], "is empty"),
            (vec![], vec!["a", "b"], "needs `fields`"),
        ] {
            let key = key.into_iter().map(str::to_owned).collect();
            let error = fixture
                .database()
                .create_table(NewTable { table: fixture.name("bad"), fields, key })
                .await
                .unwrap_err();
            assert!(error.code == SqlErrorCode::InvalidArgument && error.message.contains(text), "{error}");
        }
        let schemas = fixture.database().schemas().await.unwrap();
        let found = schemas.iter().find(|found| found.name == schema).unwrap();
        assert_eq!(found.tables, ["items"]);
        assert_eq!(
            fixture.database().describe(&fixture.name("nope")).await.unwrap_err().code,
            SqlErrorCode::UnknownTable
        );
        let nowhere = TableName { schema: Some("nowhere".into()), ..fixture.name("nope") };
        assert_eq!(fixture.database().describe(&nowhere).await.unwrap_err().code, SqlErrorCode::UnknownSchema);
        fixture.end().await;
    }
}

#[tokio::test]
async fn a_sqlite_schema_is_a_file_in_the_folder_and_nowhere_else() {
    let fixture = Fixture::sqlite(&[]);
    let folder = fixture.folder.path().join("inner");
    fs::create_dir(&folder).unwrap();
    let mut fixture = fixture;
    fixture.target.url = ConnectionUrl::parse(&format!("sqlite://{}", folder.display())).unwrap();
    let secret = fixture.folder.path().join("secret.db");
    std::os::unix::fs::symlink(&secret, folder.join("link.db")).unwrap();
    for bad in [
        "../outside",
        "a/b",
        "..",
        ".hidden",
        "",
        "a\0b",
        "temp",
        "TEMP",
        "x.db/",
        &"x".repeat(64),
        "%2e",
        "a\\b",
        "link",
    ] {
        let error = fixture.database().create_schema("", bad).await.unwrap_err();
        assert!(matches!(error.code, SqlErrorCode::InvalidArgument | SqlErrorCode::NotAllowed), "{bad}: {error:?}");
    }
    assert!(!secret.exists(), "a link is not followed");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing but the link");
    // Ten, and no eleventh, which would make all of them unusable; also when many try at once.
    let names: Vec<_> = (0..14).map(|n| format!("schema {n}")).collect();
    let database = fixture.database();
    let all = futures::future::join_all(names.iter().map(|name| database.create_schema("", name))).await;
    let n_created = all.iter().filter(|result| result.is_ok()).count();
    assert_eq!(n_created, 10);
    let refused = all.into_iter().find_map(Result::err).unwrap();
    assert_eq!(refused.code, SqlErrorCode::NotAllowed, "{refused}");
    assert!(refused.message.contains("10 schemas besides `main`"), "{refused}");
    fixture.database().create_schema("", "main").await.unwrap();
    assert_eq!(fixture.query("SELECT 1 AS a").await.unwrap(), [json!({"a": 1})]);
    assert_eq!(fixture.query("CREATE TABLE m (id INTEGER)").await.unwrap().len(), 0);
    // In any case it is the same schema.
    fs::remove_file(folder.join("main.db")).unwrap();
    fixture.database().create_schema("", "MAIN").await.unwrap();
    // Inside of a transaction it would not be seen.
    let inside = fixture.database().inside(fixture.database().begin().await.unwrap());
    assert_eq!(inside.create_schema("", "late").await.unwrap_err().code, SqlErrorCode::NotAllowed);
}
