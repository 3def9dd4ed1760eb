//! A SQLite connection that cannot leave its folder.
//!
//! Owns: opening and attaching the files of a folder, and what statements may do. Never: runs an author's statement
//! before the authorizer is in place.
//!
//! Each `<schema>.db` in the folder is a schema. `main` is `main.db` if there is one, else an empty database in memory
//! in which nothing may be created, because it would be gone with the connection.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rusqlite::{
    Connection, InterruptHandle, OpenFlags, Statement,
    config::DbConfig,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
};

use crate::{
    data::{
        dialect::shown,
        read::table::QUERY_BYTES_MAX,
        sqlite::{
            error::{READ_ONLY, broken},
            folder::{list_files, real_folder},
        },
    },
    domain::{
        quota::UsedUp,
        sql::{SqlError, SqlErrorCode},
    },
};

/// How long a statement waits for another one's lock on a file.
const BUSY_TIME: Duration = Duration::from_secs(2);

/// Longest SQL text, in bytes: a `query` and what its placeholders grow by.
const SQL_BYTES_MAX: i32 = 2 << 20;
const _: () = assert!(SQL_BYTES_MAX as usize >= 2 * QUERY_BYTES_MAX, "a query of the largest size must fit");

/// Run-time limits. SQLite's own defaults guard its correctness; these guard the host's memory and time.
const LIMITS: [(Limit, i32); 9] = [
    // A text, blob or row; bounds what `zeroblob`, `replace` and `group_concat` can allocate.
    (Limit::SQLITE_LIMIT_LENGTH, 16 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
    // Instructions of one statement: thousands of columns' worth.
    (Limit::SQLITE_LIMIT_VDBE_OP, 250_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
    // LIKE takes time in the square of the pattern.
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 20),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// Pragmas that tell about a database and change nothing. Not `database_list`, which shows where the files lie.
const READ_PRAGMAS: [&str; 9] = [
    "collation_list",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
];

/// Most files that can be attached besides `main`: SQLite lowers this to what it was compiled for.
const ATTACHED_MAX: i32 = 125;

/// A connection to the files of one folder.
#[derive(Debug)]
pub(super) struct Jail {
    connection: Connection,
    folder: PathBuf,
    /// The size that a file may grow to.
    file_bytes: u64,
    /// Attached files by schema, with their device and inode.
    files: BTreeMap<String, (u64, u64)>,
    rules: Arc<Rules>,
}

/// Shared with the authorizer.
#[derive(Debug, Default)]
struct Rules {
    /// Set if the connection is for reading only.
    read_only: bool,
    /// Off while the host itself attaches files.
    enforced: AtomicBool,
    /// Set if `main` is a file.
    main_is_kept: AtomicBool,
    /// Tables that SQLite finds before those of the schema that a statement is to look in.
    hidden: Mutex<Hidden>,
    /// Why nothing may grow, if nothing may.
    is_full: Mutex<Option<UsedUp>>,
    /// Why the last statement was refused.
    refusal: Mutex<Option<String>>,
}

/// Tables of other schemas, in lower case, that hide a table of the same name in one schema.
#[derive(Debug, Default)]
struct Hidden {
    schema: String,
    tables: HashSet<(String, String)>,
}

impl Hidden {
    /// `found_in` is the schema in which SQLite has found the table. Where only rows are counted it says the one that was
    /// written, if any.
    fn refusal_of(&self, found_in: Option<&str>, table: &str) -> Option<String> {
        let is_found = |schema: &str| found_in.is_none_or(|found_in| found_in.eq_ignore_ascii_case(schema));
        let hiding = self.tables.iter().find(|(schema, name)| name.eq_ignore_ascii_case(table) && is_found(schema));
        hiding.map(|(schema, _)| {
            let (schema, table, wanted) = (shown(schema), shown(table), shown(&self.schema));
            format!("table `{table}` is in the schemas `{schema}` and `{wanted}`: write `{wanted}.{table}` in `query`, or name no schema beside it")
        })
    }
}

impl Jail {
    /// Opens a folder with all its files, none of which may grow beyond `file_bytes`.
    pub(super) fn open(folder: &Path, read_only: bool, file_bytes: u64) -> Result<Self, SqlError> {
        let folder = real_folder(folder)?;
        let files = list_files(&folder)?;
        let rules = Arc::new(Rules { read_only, ..Rules::default() });
        let main = files.get("main");
        // NOFOLLOW holds for attached files too: a link put in place of a file after it was listed is not followed.
        // NO_MUTEX is safe because one thread at a time has the connection.
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = match main {
            Some(_) => Connection::open_with_flags(folder.join("main.db"), flags),
            None => Connection::open_in_memory_with_flags(flags),
        }
        .map_err(|_| unusable("main"))?;
        rules.main_is_kept.store(main.is_some(), Ordering::Relaxed);
        let main = main.map(|id| ("main".to_owned(), *id));
        let mut jail = Self { connection, folder, file_bytes, files: main.into_iter().collect(), rules };
        jail.lock_down().map_err(|_| broken())?;
        if jail.files.contains_key("main") {
            jail.set_up("main").map_err(|_| unusable("main"))?;
        }
        jail.attach(files)?;
        Ok(jail)
    }

    fn lock_down(&self) -> rusqlite::Result<()> {
        let Self { connection, .. } = self;
        for (limit, value) in LIMITS {
            connection.set_limit(limit, value)?;
        }
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, ATTACHED_MAX)?;
        for (option, on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true),
            // A "name" that is no column is an error, not a text.
            (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
            (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        ] {
            connection.set_db_config(option, on)?;
        }
        connection.busy_timeout(BUSY_TIME)?;
        let rules = Arc::clone(&self.rules);
        connection.authorizer(Some(move |context: AuthContext<'_>| rules.judge(&context)))
    }

    /// Attaches files that appeared since the last statement. `false` if a file is gone or was replaced: then this
    /// connection still has the old one and is of no use.
    pub(super) fn attach_new_files(&mut self) -> Result<bool, SqlError> {
        let files = list_files(&self.folder)?;
        let is_current = self.files.iter().all(|(schema, id)| files.get(schema) == Some(id));
        if !is_current || (files.contains_key("main") && !self.files.contains_key("main")) {
            return Ok(false);
        }
        self.attach(files)?;
        self.see_changes();
        Ok(true)
    }

    /// Sees what other connections have changed of tables: SQLite compares what it knows with the file when a statement runs, which
    /// is after its columns and their types were asked for.
    fn see_changes(&self) {
        for schema in self.files.keys() {
            let sql = format!("SELECT 1 FROM \"{}\".sqlite_schema LIMIT 0", schema.replace('"', "\"\""));
            let looking = |connection: &Connection| connection.prepare(&sql)?.query([])?.next().map(|_| ());
            drop(self.unrestricted(looking)); // a file that cannot be read says so to the statement itself
        }
    }

    fn attach(&mut self, files: BTreeMap<String, (u64, u64)>) -> Result<(), SqlError> {
        let n_files = files.keys().filter(|schema| *schema != "main").count();
        let n_max = self.attached_max()?;
        if n_files > n_max {
            let message =
                format!("the SQLite folder has {n_files} schemas besides `main`, at most {n_max} can be used");
            return Err(SqlError::new(SqlErrorCode::Unavailable, message));
        }
        for (schema, id) in files {
            if self.files.contains_key(&schema) {
                continue;
            }
            let path = self.folder.join(format!("{schema}.db"));
            let path = path.to_str().ok_or_else(|| unusable(&schema))?;
            let attached = self.unrestricted(|connection| connection.execute("ATTACH ?1 AS ?2", [path, &schema]));
            attached.map_err(|_| unusable(&schema))?;
            self.set_up(&schema).map_err(|_| unusable(&schema))?;
            self.files.insert(schema, id);
        }
        self.rules.enforced.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Schemas besides `main` that can be used at once.
    pub(super) fn attached_max(&self) -> Result<usize, SqlError> {
        let n_max = self.connection.limit(Limit::SQLITE_LIMIT_ATTACHED).map_err(|_| broken())?;
        Ok(usize::try_from(n_max).unwrap_or(0))
    }

    /// Write-ahead logging, so that readers and writers do not wait for each other, and a limit on the size. A file that
    /// we may only read stays as it is.
    fn set_up(&self, schema: &str) -> rusqlite::Result<()> {
        if self.rules.read_only {
            return Ok(());
        }
        let schema = schema.replace('"', "\"\"");
        let pragma = |sql: &str| {
            let sql = format!("PRAGMA \"{schema}\".{sql}");
            self.unrestricted(|connection| connection.query_row(&sql, [], |row| row.get::<_, i64>(0)))
        };
        drop(pragma("journal_mode = WAL")); // the file works without, and a real problem shows when it is read
        let Ok(page_bytes) = pragma("page_size") else { return Ok(()) }; // so does this one
        let n_pages = i64::try_from(self.file_bytes).unwrap_or(i64::MAX) / page_bytes;
        pragma(&format!("max_page_count = {}", n_pages.max(1)))?;
        Ok(())
    }

    /// Bytes of all files, without their free pages.
    pub(super) fn used_bytes(&self) -> rusqlite::Result<u64> {
        let mut bytes: u64 = 0;
        for schema in self.files.keys() {
            let schema = schema.replace('"', "\"\"");
            let pragma = |name: &str| {
                let sql = format!("PRAGMA \"{schema}\".{name}");
                self.unrestricted(|connection| connection.query_row(&sql, [], |row| row.get::<_, u32>(0)))
            };
            let (n_pages, n_free) = (pragma("page_count")?, pragma("freelist_count")?);
            bytes += u64::from(n_pages.saturating_sub(n_free)) * u64::from(pragma("page_size")?);
        }
        Ok(bytes)
    }

    /// Fails for a schema that is not there, with the reason if its file was passed over.
    pub(super) fn check_schema(&self, schema: &str) -> Result<(), SqlError> {
        if schema.eq_ignore_ascii_case("main") || self.files.keys().any(|known| known.eq_ignore_ascii_case(schema)) {
            return Ok(());
        }
        let file = self.folder.join(format!("{schema}.db"));
        let is_link = !schema.contains('/') && fs::symlink_metadata(file).is_ok_and(|file| file.is_symlink());
        if is_link {
            let message = format!("schema `{}` is a symbolic link, which is not followed", shown(schema));
            return Err(SqlError::new(SqlErrorCode::NotAllowed, message));
        }
        Err(SqlError::new(SqlErrorCode::UnknownSchema, format!("unknown schema `{}`", shown(schema))))
    }

    /// Has statements that are prepared from now on look in this schema, which must be there: SQLite always looks in all
    /// of them, in the order in which they were attached, so a table that it would find in another one is refused.
    pub(super) fn look_in(&self, schema: Option<&str>) -> Result<(), SqlError> {
        let hidden = match schema {
            None => Hidden::default(),
            Some(schema) => {
                self.check_schema(schema)?;
                let tables = self.unrestricted(|connection| tables_before(connection, schema)).map_err(|_| broken())?;
                Hidden { schema: schema.to_owned(), tables }
            }
        };
        *self.rules.hidden.lock().unwrap_or_else(PoisonError::into_inner) = hidden;
        Ok(())
    }

    /// Says whether statements that are prepared from now on may make files grow.
    pub(super) fn keep_from_growing(&self, is_full: Option<UsedUp>) {
        *self.rules.is_full.lock().unwrap_or_else(PoisonError::into_inner) = is_full;
    }

    /// Has SQLite check and compile one statement.
    pub(super) fn prepare(&self, sql: &str) -> rusqlite::Result<Statement<'_>> {
        self.take_refusal();
        self.connection.prepare(sql)
    }

    /// Stops the statement that runs, from another thread.
    pub(super) fn interrupt_handle(&self) -> InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// Begins a transaction. One that may write takes the locks of all files at once: SQLite could not wait for them
    /// later, because another writer might have changed what this transaction has read.
    pub(super) fn begin(&self) -> rusqlite::Result<()> {
        let sql = if self.rules.read_only { "BEGIN" } else { "BEGIN IMMEDIATE" };
        self.unrestricted(|connection| connection.execute_batch(sql))
    }

    /// Ends the transaction and keeps what it changed.
    pub(super) fn commit(&self) -> rusqlite::Result<()> {
        self.unrestricted(|connection| connection.execute_batch("COMMIT"))
    }

    /// Does something of the host's own.
    fn unrestricted<R>(&self, act: impl FnOnce(&Connection) -> R) -> R {
        self.rules.enforced.store(false, Ordering::Relaxed);
        let result = act(&self.connection);
        self.rules.enforced.store(true, Ordering::Relaxed);
        result
    }

    /// Tells whether others may use the connection: it must not be in a transaction.
    pub(super) fn is_fit(&self) -> bool {
        self.connection.is_autocommit()
    }

    /// Why the authorizer refused the last statement, if it did.
    pub(super) fn take_refusal(&self) -> Option<String> {
        self.rules.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The tables, with their schemas, that stand before one of the same name in `schema`.
fn tables_before(connection: &Connection, schema: &str) -> rusqlite::Result<HashSet<(String, String)>> {
    let mut listed = connection.prepare("SELECT name FROM pragma_database_list WHERE name <> 'temp' ORDER BY seq")?;
    let schemas: Vec<String> = listed.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut tables = HashSet::new();
    for before in schemas.iter().take_while(|name| !name.eq_ignore_ascii_case(schema)) {
        let quoted = |name: &str| name.replace('"', "\"\"");
        let sql = format!(
            "SELECT lower(a.name) FROM \"{}\".sqlite_schema a JOIN \"{}\".sqlite_schema b ON a.name = b.name COLLATE NOCASE \
             WHERE a.type IN ('table', 'view') AND b.type IN ('table', 'view')",
            quoted(before),
            quoted(schema)
        );
        for table in connection.prepare(&sql)?.query_map([], |row| row.get(0))? {
            tables.insert((before.to_ascii_lowercase(), table?));
        }
    }
    Ok(tables)
}

impl Rules {
    fn judge(&self, context: &AuthContext<'_>) -> Authorization {
        if !self.enforced.load(Ordering::Relaxed) {
            return Authorization::Allow;
        }
        match self.refusal_of(context) {
            None => Authorization::Allow,
            Some(reason) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
                Authorization::Deny
            }
        }
    }

    /// Why this is not allowed. What is not listed is not allowed.
    fn refusal_of(&self, context: &AuthContext<'_>) -> Option<String> {
        let temporary =
            || Some("temporary tables, views and triggers are not allowed: each statement is on its own".to_owned());
        if self.read_only && changes(&context.action) {
            return Some(READ_ONLY.to_owned());
        }
        if let Some(used_up) = *self.is_full.lock().unwrap_or_else(PoisonError::into_inner)
            && grows(&context.action)
        {
            return Some(format!("{used_up}: delete rows or drop tables to make room"));
        }
        let hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) =
            table_of(&context.action).and_then(|table| hidden.refusal_of(context.database_name, table))
        {
            return Some(reason);
        }
        drop(hidden);
        // However it is spelled, what is created there is a row of its schema. Renaming a table elsewhere looks through that, too.
        let is_temporary = context.database_name.is_some_and(|name| name.eq_ignore_ascii_case("temp"));
        if is_temporary && grows(&context.action) && !matches!(context.action, AuthAction::Update { .. }) {
            return temporary();
        }
        match context.action {
            AuthAction::Select
            | AuthAction::Read { .. }
            | AuthAction::Insert { .. }
            | AuthAction::Update { .. }
            | AuthAction::Delete { .. }
            | AuthAction::Recursive
            | AuthAction::AlterTable { .. }
            | AuthAction::Reindex { .. }
            | AuthAction::Analyze { .. }
            | AuthAction::DropIndex { .. }
            | AuthAction::DropTable { .. }
            | AuthAction::DropTrigger { .. }
            | AuthAction::DropView { .. } => None,
            AuthAction::CreateIndex { .. }
            | AuthAction::CreateTable { .. }
            | AuthAction::CreateTrigger { .. }
            | AuthAction::CreateView { .. } => self.refusal_of_creating(context.database_name),
            AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. }
            | AuthAction::DropTempIndex { .. }
            | AuthAction::DropTempTable { .. }
            | AuthAction::DropTempTrigger { .. }
            | AuthAction::DropTempView { .. } => temporary(),
            AuthAction::Pragma { pragma_name, .. } => {
                let is_read = READ_PRAGMAS.iter().any(|known| known.eq_ignore_ascii_case(pragma_name));
                (!is_read).then(|| format!("PRAGMA {} is not allowed", shown(pragma_name)))
            }
            AuthAction::Function { function_name } => refusal_of_function(function_name),
            AuthAction::Attach { .. } => Some("ATTACH and VACUUM are not allowed".to_owned()),
            AuthAction::Detach { .. } => Some("DETACH is not allowed".to_owned()),
            AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => {
                Some("transactions are not allowed in a `query`: use `with dbconn.transaction():`".to_owned())
            }
            AuthAction::CreateVtable { module_name, .. } => {
                // Full-text search and R-trees keep their data in ordinary tables.
                let is_harmless =
                    ["fts5", "rtree", "rtree_i32"].iter().any(|name| name.eq_ignore_ascii_case(module_name));
                if is_harmless {
                    return self.refusal_of_creating(context.database_name);
                }
                Some(format!("virtual tables of module {} are not allowed", shown(module_name)))
            }
            AuthAction::DropVtable { .. } => None,
            _ => Some("this kind of statement is not allowed".to_owned()),
        }
    }

    fn refusal_of_creating(&self, schema: Option<&str>) -> Option<String> {
        if schema != Some("main") {
            return None;
        }
        if !self.main_is_kept.load(Ordering::Relaxed) {
            return Some("name the schema of what you create: `main` is not kept".to_owned());
        }
        let wanted = &self.hidden.lock().unwrap_or_else(PoisonError::into_inner).schema;
        let is_elsewhere = !wanted.is_empty() && !wanted.eq_ignore_ascii_case("main");
        is_elsewhere.then(|| {
            format!("name the schema of what you create: SQLite creates it in `main`, not in `{}`", shown(wanted))
        })
    }
}

/// The table or view that an action is about, if SQLite may have looked for it in several schemas.
fn table_of<'a>(action: &AuthAction<'a>) -> Option<&'a str> {
    match action {
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropView { view_name: table_name }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. } => Some(*table_name),
        _ => None,
    }
}

/// Tells whether an action that is allowed elsewhere changes anything.
fn changes(action: &AuthAction<'_>) -> bool {
    !matches!(
        action,
        AuthAction::Select
            | AuthAction::Read { .. }
            | AuthAction::Recursive
            | AuthAction::Function { .. }
            | AuthAction::Pragma { .. }
            | AuthAction::Attach { .. }
            | AuthAction::Detach { .. }
            | AuthAction::Transaction { .. }
            | AuthAction::Savepoint { .. }
    )
}

/// Tells whether an action may need room. SQLite's own table, which nobody else can write, is changed by dropping something too.
fn grows(action: &AuthAction<'_>) -> bool {
    match action {
        AuthAction::Insert { table_name } | AuthAction::Update { table_name, .. } => *table_name != "sqlite_master",
        AuthAction::AlterTable { .. }
        | AuthAction::Reindex { .. }
        | AuthAction::Analyze { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateVtable { .. } => true,
        _ => false,
    }
}

fn refusal_of_function(name: &str) -> Option<String> {
    const REFUSED: [&str; 5] = ["load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"];
    let is_refused = REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(name));
    is_refused.then(|| format!("function {}() is not allowed", name.to_ascii_lowercase()))
}

fn unusable(schema: &str) -> SqlError {
    SqlError::new(SqlErrorCode::Unavailable, format!("schema `{}` is no usable SQLite file", shown(schema)))
}
