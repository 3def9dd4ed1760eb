//! What a request's query and path fields mean.

use http::{HeaderMap, header};
use serde_json::{Map, Value};

use crate::{
    domain::{
        endpoint::TableSource,
        page::{Comparison, Condition, OrderBy, PageQuery, PageSource, Test},
        shown,
    },
    ingress::tables::{Form, Format, cursor::read_cursor, invalid},
    invoke::tables::{SourceColumns, TableError},
};

/// Query fields that are no columns.
const RESERVED: [&str; 6] = ["select", "order", "limit", "cursor", "count", "format"];

/// Reads a request's query and path fields.
pub(super) fn read(
    source: &TableSource,
    known: SourceColumns,
    query_string: &str,
    path_params: &[(String, String)],
    headers: &HeaderMap,
) -> Result<(PageQuery, Form), TableError> {
    let SourceColumns { visible, key, parameters } = known;
    let check = |column: &str| match &visible {
        Some(visible) if !visible.iter().any(|known| known == column) => {
            Err(invalid(format!("there is no column `{}`", shown(column))))
        }
        Some(_) | None => Ok(()),
    };
    let mut asked = Fields::default();
    let mut values = Map::new();
    let mut conditions = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query_string.as_bytes()) {
        if name.contains('\0') || value.contains('\0') {
            return Err(invalid(format!("`{}` has a NUL character", shown(&name))));
        }
        if parameters.iter().any(|known| *known == name) {
            values.insert(name.into_owned(), Value::from(&*value));
        } else if RESERVED.contains(&&*name) {
            asked.set(&name, value.into_owned())?;
        } else {
            check(&name)?;
            conditions.push(Condition { test: read_test(&name, &value)?, column: name.into_owned() });
        }
    }
    for (name, value) in path_params {
        if parameters.contains(name) {
            values.insert(name.clone(), Value::from(value.as_str()));
        } else {
            check(name)?;
            let test = Test::Compare(Comparison::Equal, value.clone());
            conditions.push(Condition { column: name.clone(), test });
        }
    }
    if let Some(missing) = parameters.iter().find(|name| !values.contains_key(*name)) {
        return Err(invalid(format!("the query field `{}` is missing", shown(missing))));
    }
    let Fields { select, order, limit, cursor, count, format } = asked;
    let is_asked =
        select.is_some() || order.is_some() || !conditions.is_empty() || !values.is_empty() || cursor.is_some();
    let has_pages = !key.is_empty() && key.iter().all(|column| check(column).is_ok());
    let order = read_order(order.as_deref(), if has_pages { &key } else { &[] }, check)?;
    let columns = match select {
        Some(select) => {
            let mut columns: Vec<_> = select.split(',').map(|column| column.trim().to_owned()).collect();
            columns.iter().try_for_each(|column| check(column))?;
            // The next page begins behind their values.
            let missing = order.iter().map(|by| &by.column).filter(|column| !columns.contains(column));
            let missing: Vec<_> = missing.cloned().collect();
            columns.extend(missing);
            Some(columns)
        }
        None => source.columns.clone(),
    };
    let after = match cursor {
        Some(_) if !has_pages => {
            return Err(invalid(
                "there are no further pages: no column that callers see tells all rows apart".to_owned(),
            ));
        }
        Some(cursor) => Some(read_cursor(&cursor, &order)?),
        None => None,
    };
    let page_source = match &source.query {
        Some(sql) => PageSource::Query { sql: sql.clone(), values },
        None => PageSource::Table(source.table_name()),
    };
    let limit = read_limit(limit.as_deref(), source)?;
    let counts = match count.as_deref() {
        None | Some("none") => false,
        Some("exact") => true,
        Some(other) => return Err(invalid(format!("`count` is `exact` or `none`, not `{}`", shown(other)))),
    };
    let format = read_format(format.as_deref(), headers)?;
    let query = PageQuery { source: page_source, columns, conditions, order, after, limit, counts, is_asked };
    Ok((query, Form { format, has_pages }))
}

/// The fields of [`RESERVED`], each once.
#[derive(Debug, Default)]
struct Fields {
    select: Option<String>,
    order: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    count: Option<String>,
    format: Option<String>,
}

impl Fields {
    fn set(&mut self, name: &str, value: String) -> Result<(), TableError> {
        let field = match name {
            "select" => &mut self.select,
            "order" => &mut self.order,
            "limit" => &mut self.limit,
            "cursor" => &mut self.cursor,
            "count" => &mut self.count,
            _ => &mut self.format,
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(invalid(format!("`{name}` stands there twice"))),
        }
    }
}

fn read_test(name: &str, text: &str) -> Result<Test, TableError> {
    let wrong = || {
        let operators = "eq, ne, gt, gte, lt, lte, like, in or is";
        invalid(format!("`{}={}`: write OPERATOR.VALUE with {operators}, for example `eq.5`", shown(name), shown(text)))
    };
    let (operator, value) = text.split_once('.').ok_or_else(wrong)?;
    let compare = |comparison| Ok(Test::Compare(comparison, value.to_owned()));
    match operator {
        "eq" => compare(Comparison::Equal),
        "ne" | "neq" => compare(Comparison::NotEqual),
        "gt" => compare(Comparison::Greater),
        "gte" => compare(Comparison::AtLeast),
        "lt" => compare(Comparison::Less),
        "lte" => compare(Comparison::AtMost),
        "like" => Ok(Test::Like(value.to_owned())),
        "in" => Ok(Test::In(read_list(value).ok_or_else(wrong)?)),
        "is" => match value {
            "null" => Ok(Test::IsNull(true)),
            "not_null" => Ok(Test::IsNull(false)),
            "true" => Ok(Test::Is(true)),
            "false" => Ok(Test::Is(false)),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

/// `(a,"b,c",d)`: in double quotes a comma is one of the value's, and `""` a quote.
fn read_list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(inner.as_bytes());
    let mut records = reader.records();
    let record = match records.next() {
        Some(record) => record.ok()?,
        None => return Some(Vec::new()),
    };
    records.next().is_none().then(|| record.iter().map(str::to_owned).collect())
}

fn read_order(
    order: Option<&str>,
    key: &[String],
    check: impl Fn(&str) -> Result<(), TableError>,
) -> Result<Vec<OrderBy>, TableError> {
    let mut columns: Vec<OrderBy> = Vec::new();
    for text in order.into_iter().flat_map(|order| order.split(',')) {
        let (column, descending) = text.trim().strip_prefix('-').map_or((text.trim(), false), |column| (column, true));
        check(column)?;
        if column.is_empty() || columns.iter().any(|known| known.column == column) {
            return Err(invalid(format!("`order` has `{}` twice, or an empty column", shown(column))));
        }
        columns.push(OrderBy { column: column.to_owned(), descending });
    }
    let missing: Vec<_> = key.iter().filter(|key| !columns.iter().any(|known| known.column == **key)).collect();
    columns.extend(missing.into_iter().map(|key| OrderBy { column: key.clone(), descending: false }));
    Ok(columns)
}

fn read_limit(limit: Option<&str>, source: &TableSource) -> Result<u32, TableError> {
    let Some(text) = limit else { return Ok(source.page_rows) };
    match text.parse::<u32>() {
        Ok(rows) if (1..=source.page_rows_max).contains(&rows) => Ok(rows),
        Ok(_) | Err(_) => {
            Err(invalid(format!("`limit` is a number from 1 to {}, not `{}`", source.page_rows_max, shown(text))))
        }
    }
}

fn read_format(format: Option<&str>, headers: &HeaderMap) -> Result<Format, TableError> {
    match format {
        Some("json") => Ok(Format::Json),
        Some("csv") => Ok(Format::Csv),
        Some(other) => Err(invalid(format!("`format` is `json` or `csv`, not `{}`", shown(other)))),
        None => {
            let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let first = accepted.split([',', ';']).next().unwrap_or_default().trim();
            Ok(if first.eq_ignore_ascii_case("text/csv") { Format::Csv } else { Format::Json })
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::ingress::tables::cursor::order_text;

    fn source(source: Value) -> TableSource {
        serde_json::from_value(source).unwrap()
    }

    fn columns_of(names: &[&str]) -> SourceColumns {
        let visible = Some(names.iter().map(|name| (*name).to_owned()).collect());
        SourceColumns { visible, key: vec!["id".to_owned()], parameters: Vec::new() }
    }

    /// What a caller asks of a table of three columns.
    pub(in crate::ingress::tables) fn asked(query: &str) -> Result<(PageQuery, Form), TableError> {
        let source = source(json!({"connection": "dw", "table": "orders"}));
        read(&source, columns_of(&["id", "status", "total"]), query, &[], &HeaderMap::new())
    }

    #[test]
    fn a_request_is_read_as_it_is_meant() {
        let query = "status=eq.open&total=gte.1.5&id=in.(1,%22a,%22%22b%22,)&status=is.not_null&order=-total&limit=7\
                     &select=id,%20total&count=exact";
        let (query, form) = asked(query).unwrap();
        assert!(query.counts && query.is_asked && form.has_pages && form.format == Format::Json && query.limit == 7);
        let tests: Vec<_> = query.conditions.iter().map(|condition| (&*condition.column, &condition.test)).collect();
        assert_eq!(
            tests,
            [
                ("status", &Test::Compare(Comparison::Equal, "open".to_owned())),
                ("total", &Test::Compare(Comparison::AtLeast, "1.5".to_owned())),
                ("id", &Test::In(vec!["1".to_owned(), "a,\"b".to_owned(), String::new()])),
                ("status", &Test::IsNull(false)),
            ]
        );
        assert_eq!(order_text(&query.order), "-total,id", "the key tells equal rows apart");
        assert_eq!(query.columns, Some(vec!["id".to_owned(), "total".to_owned()]));
    }

    #[test]
    fn garbage_is_told_by_name() {
        for (query, part) in [
            ("status=open", "`status=open`"),
            ("status=foo.1", "eq, ne"),
            ("status=is.maybe", "`status=is.maybe`"),
            ("id=in.1,2", "`id=in.1,2`"),
            ("id=in.(1\n2)", "in."),
            ("secret=eq.1", "no column `secret`"),
            ("select=id,secret", "no column `secret`"),
            ("select=", "no column ``"),
            ("order=secret", "no column `secret`"),
            ("order=id,-id", "twice"),
            ("limit=0", "1 to 1000"),
            ("limit=1001", "1 to 1000"),
            ("limit=-1", "1 to 1000"),
            ("limit=1&limit=2", "twice"),
            ("count=maybe", "`exact` or `none`"),
            ("format=xml", "`json` or `csv`"),
            ("cursor=%F0%9F", "`cursor`"),
            ("cursor=AAAA", "`cursor`"),
            ("status=eq.%00", "NUL"),
        ] {
            let error = asked(query).unwrap_err();
            assert!(matches!(error, TableError::Invalid(_)) && error.to_string().contains(part), "{query}: {error}");
        }
    }

    #[test]
    fn a_page_has_the_columns_of_its_order_and_no_further_pages_without_a_visible_key() {
        let (query, _) = asked("select=total&order=status").unwrap();
        let columns = ["total", "status", "id"].map(str::to_owned);
        assert_eq!(query.columns.as_deref(), Some(&columns[..]));
        let source = source(json!({"connection": "dw", "table": "orders", "columns": ["status"]}));
        let read = |query: &str| read(&source, columns_of(&["status"]), query, &[], &HeaderMap::new());
        let (query, form) = read("order=status").unwrap();
        assert!(!form.has_pages && order_text(&query.order) == "status");
        assert!(read("cursor=AAAA").unwrap_err().to_string().contains("no further pages"));
        assert!(!read("").unwrap().0.is_asked, "what the endpoint says is not the caller's");
    }

    #[test]
    fn a_querys_placeholders_come_from_the_address() {
        let source = source(json!({"connection": "dw", "query": "SELECT 1 WHERE :since < 1"}));
        let known = || SourceColumns { visible: None, key: Vec::new(), parameters: vec!["since".to_owned()] };
        let (query, form) = read(&source, known(), "since=5&x=eq.1", &[], &HeaderMap::new()).unwrap();
        assert!(!form.has_pages, "nothing tells its rows apart");
        let PageSource::Query { values, .. } = query.source else { panic!("a query") };
        assert_eq!(values["since"], json!("5"));
        let error = read(&source, known(), "", &[], &HeaderMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "the query field `since` is missing");
    }
}
