//! The meaning of a request's query and path fields.

use http::{HeaderMap, header};

use crate::{
    data::PageFormat,
    domain::{
        endpoint::TableSource,
        page::{Comparison, Condition, OrderBy, PageQuery, PageSource, Test},
        shown,
        value::{Record, SqlValue},
    },
    ingress::tables::{cursor::read_cursor, invalid},
    invoke::tables::{SourceColumns, TableError},
};

/// Query fields that are not columns, unless they stand in double quotes.
const RESERVED: [&str; 6] = ["select", "order", "limit", "cursor", "count", "format"];

/// A request, read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: PageQuery,
    pub(super) format: PageFormat,
    /// Set if further pages have addresses: the order tells all rows apart.
    pub(super) has_pages: bool,
}

/// The query field that is a condition of this column.
pub(in crate::ingress) fn field_of(column: &str) -> String {
    if RESERVED.contains(&column) || column.starts_with('"') {
        format!("\"{}\"", column.replace('"', "\"\""))
    } else {
        column.to_owned()
    }
}

/// Reads a request's query and path fields.
pub(super) fn read(
    source: &TableSource,
    known: &SourceColumns,
    query_string: &str,
    path_params: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Asked, TableError> {
    let SourceColumns { visible, key, parameters } = known;
    let find = |column: &str| visible.iter().find(|known| known.name == column);
    let check = |column: &str| match find(column) {
        Some(_) => Ok(()),
        None => Err(invalid(format!("there is no column `{}`", shown(column)))),
    };
    let check_order = |column: &str| match find(column) {
        Some(known) if !known.has_order => {
            Err(invalid(format!("the values of column `{}` have no order that tells them apart", shown(column))))
        }
        Some(_) | None => check(column),
    };
    let mut asked = Fields::default();
    let mut values = Record::new();
    let mut conditions = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query_string.as_bytes()) {
        if name.contains('\0') || value.contains('\0') {
            return Err(invalid(format!("`{}` has a NUL character", shown(&name))));
        }
        if parameters.iter().any(|known| *known == name) {
            values.insert(name.into_owned(), SqlValue::Literal(value.into_owned()));
        } else if RESERVED.contains(&&*name) {
            asked.set(&name, value.into_owned())?;
        } else {
            let column = match unquoted(&name) {
                Some(column) => column,
                None => name.into_owned(),
            };
            check(&column)?;
            conditions.push(Condition { test: read_test(&column, &value)?, column });
        }
    }
    for (name, value) in path_params {
        if parameters.contains(name) {
            values.insert(name.clone(), SqlValue::Literal(value.clone()));
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
    let has_pages = !key.is_empty() && key.iter().all(|column| find(column).is_some_and(|known| known.has_order));
    let order = read_order(order.as_deref(), if has_pages { key } else { &[] }, check_order)?;
    let columns = match select {
        Some(select) => {
            let mut columns = read_names("select", &select)?;
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
        Some(cursor) => Some(read_cursor(&cursor, &order, source)?),
        None => None,
    };
    let page_source = match &source.query {
        Some(sql) => PageSource::Query { sql: sql.clone(), values },
        None => PageSource::Table(source.table_name()),
    };
    let limit = read_limit(limit.as_deref(), source)?;
    let counts = read_count(count.as_deref())?;
    let format = read_format(format.as_deref(), headers)?;
    let query = PageQuery { source: page_source, columns, conditions, order, after, limit, counts, is_asked };
    Ok(Asked { query, format, has_pages })
}

/// The text inside of double quotes around it; `""` in it is a quote.
fn unquoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let plain = inner.replace("\"\"", "");
    (!plain.contains('"')).then(|| inner.replace("\"\"", "\""))
}

/// The items between commas. In double quotes a comma belongs to the item, and `""` is a quote; `None` for quotes anywhere else.
fn items(text: &str) -> Option<Vec<String>> {
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let end = match rest.strip_prefix('"') {
            None => rest.find(',').unwrap_or(rest.len()),
            Some(quoted) => {
                let mut at = 0;
                loop {
                    at += quoted[at..].find('"')? + 1;
                    if !quoted[at..].starts_with('"') {
                        break 1 + at;
                    }
                    at += 1;
                }
            }
        };
        let item = &rest[..end];
        items.push(match item.starts_with('"') {
            true => unquoted(item)?,
            false if item.contains('"') => return None,
            false => item.to_owned(),
        });
        rest = &rest[end..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None if rest.is_empty() => return Some(items),
            None => return None,
        }
    }
}

/// Names of columns between commas.
fn read_names(field: &str, text: &str) -> Result<Vec<String>, TableError> {
    let trimmed: Vec<&str> = split_outside_quotes(text).into_iter().map(str::trim).collect();
    items(&trimmed.join(",")).ok_or_else(|| {
        invalid(format!(
            "`{field}`: write names with commas between them, those with a comma of their own in double quotes"
        ))
    })
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

/// `(a,"b,c",d)`.
fn read_list(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?;
    if inner.is_empty() { Some(Vec::new()) } else { items(inner) }
}

fn read_order(
    order: Option<&str>,
    key: &[String],
    check: impl Fn(&str) -> Result<(), TableError>,
) -> Result<Vec<OrderBy>, TableError> {
    let mut columns: Vec<OrderBy> = Vec::new();
    for text in order.map(ordered_names).transpose()?.unwrap_or_default() {
        let OrderBy { column, .. } = &text;
        check(column)?;
        if column.is_empty() || columns.iter().any(|known| known.column == *column) {
            return Err(invalid(format!("`order` has `{}` twice, or an empty column", shown(column))));
        }
        columns.push(text);
    }
    let missing: Vec<_> = key.iter().filter(|key| !columns.iter().any(|known| known.column == **key)).collect();
    columns.extend(missing.into_iter().map(|key| OrderBy { column: key.clone(), descending: false }));
    Ok(columns)
}

/// Names of columns between commas, each perhaps with a `-` before it.
fn ordered_names(text: &str) -> Result<Vec<OrderBy>, TableError> {
    let parts: Vec<(&str, bool)> = split_outside_quotes(text)
        .into_iter()
        .map(|part| part.trim().strip_prefix('-').map_or((part.trim(), false), |column| (column, true)))
        .collect();
    let names = read_names("order", &parts.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(","))?;
    let ordered = names.into_iter().zip(parts);
    Ok(ordered.map(|(column, (_, descending))| OrderBy { column, descending }).collect())
}

/// The parts between commas that are not in double quotes.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut is_quoted) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => is_quoted = !is_quoted,
            b',' if !is_quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
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

fn read_count(count: Option<&str>) -> Result<bool, TableError> {
    match count {
        None | Some("none") => Ok(false),
        Some("exact") => Ok(true),
        Some(other) => Err(invalid(format!("`count` is `exact` or `none`, not `{}`", shown(other)))),
    }
}

fn read_format(format: Option<&str>, headers: &HeaderMap) -> Result<PageFormat, TableError> {
    match format {
        Some("json") => Ok(PageFormat::Json),
        Some("csv") => Ok(PageFormat::Csv),
        Some(other) => Err(invalid(format!("`format` is `json` or `csv`, not `{}`", shown(other)))),
        None => {
            let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
            let accepted: Vec<&str> = accepted.flat_map(|value| value.split(',')).map(str::trim).collect();
            let wants_csv = weight_of("text", "csv", &accepted) > weight_of("application", "json", &accepted);
            Ok(if wants_csv { PageFormat::Csv } else { PageFormat::Json })
        }
    }
}

/// The weight of a media type (RFC 9110, 12.5.1): in thousandths, as the most specific range says that it is in; and how specific
/// that is. Of two that are wanted alike, the one that was named is meant.
fn weight_of(kind: &str, subtype: &str, ranges: &[&str]) -> (u32, u32) {
    let mut best = (0, 0);
    for range in ranges {
        let mut parameters = range.split(';').map(str::trim);
        let (of_kind, of_subtype) = parameters.next().unwrap_or_default().split_once('/').unwrap_or_default();
        let specificity = match (of_kind, of_subtype) {
            ("*", "*") => 1,
            (of_kind, "*") if of_kind.eq_ignore_ascii_case(kind) => 2,
            _ if of_kind.eq_ignore_ascii_case(kind) && of_subtype.eq_ignore_ascii_case(subtype) => 3,
            _ => continue,
        };
        let weight =
            parameters.find_map(|parameter| parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
        let weight =
            weight.map_or(1000, |weight| (weight.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0) * 1000.0) as u32);
        best = best.max((specificity, weight));
    }
    (best.1, best.0)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{data::SourceColumn, ingress::tables::cursor::order_text};

    pub(in crate::ingress::tables) fn source(source: Value) -> TableSource {
        serde_json::from_value(source).unwrap()
    }

    fn columns_of(names: &[&str]) -> SourceColumns {
        let column = |name: &&str| SourceColumn {
            name: (*name).to_owned(),
            schema: json!({}),
            has_order: *name != "shape",
            key_position: 0,
        };
        let visible = names.iter().map(column).collect();
        SourceColumns { visible, key: vec!["id".to_owned()], parameters: Vec::new() }
    }

    /// What a caller asks of a table of three columns.
    pub(in crate::ingress::tables) fn asked(query: &str) -> Result<Asked, TableError> {
        let source = source(json!({"connection": "dw", "table": "orders"}));
        let known = columns_of(&["id", "status", "total", "order", "a,b", "shape"]);
        read(&source, &known, query, &[], &HeaderMap::new())
    }

    #[test]
    fn a_request_is_read_as_it_is_meant() {
        let query = "status=eq.open&total=gte.1.5&id=in.(1,%22a,%22%22b%22,)&status=is.not_null&order=-total&limit=7\
                     &select=id,%20total&count=exact";
        let Asked { query, format, has_pages } = asked(query).unwrap();
        assert!(query.counts && query.is_asked && has_pages && format == PageFormat::Json && query.limit == 7);
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
            ("id=in.(%22a%22b)", "in."),
            ("id=in.(%22a%5C%22b%22)", "in."),
            ("id=in.(a%22b%22)", "in."),
            ("id=in.(%22a)", "in."),
            ("order=shape", "no order"),
            ("%22nope%22=eq.1", "no column `nope`"),
            ("select=%22id", "`select`"),
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
        let query = asked("select=total&order=status").unwrap().query;
        let columns = ["total", "status", "id"].map(str::to_owned);
        assert_eq!(query.columns.as_deref(), Some(&columns[..]));
        let source = source(json!({"connection": "dw", "table": "orders", "columns": ["status"]}));
        let read = |query: &str| read(&source, &columns_of(&["status"]), query, &[], &HeaderMap::new());
        let Asked { query, has_pages, .. } = read("order=status").unwrap();
        assert!(!has_pages && order_text(&query.order) == "status");
        assert!(read("cursor=AAAA").unwrap_err().to_string().contains("no further pages"));
        assert!(!read("").unwrap().query.is_asked, "what the endpoint says is not the caller's");
    }

    #[test]
    fn a_querys_placeholders_come_from_the_address() {
        let source = source(json!({"connection": "dw", "query": "SELECT 1 WHERE :since < 1"}));
        let known = SourceColumns { key: Vec::new(), parameters: vec!["since".to_owned()], ..columns_of(&["x"]) };
        let Asked { query, has_pages, .. } = read(&source, &known, "since=5&x=eq.1", &[], &HeaderMap::new()).unwrap();
        assert!(!has_pages, "nothing tells its rows apart");
        let PageSource::Query { values, .. } = query.source else { panic!("a query") };
        assert_eq!(values["since"], SqlValue::Literal("5".to_owned()));
        let error = read(&source, &known, "", &[], &HeaderMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "the query field `since` is missing");
    }

    #[test]
    fn any_column_has_a_name_in_quotes() {
        let query = asked("%22order%22=gt.10&order=-%22order%22,%22a,b%22&select=%22a,b%22,id").unwrap().query;
        assert_eq!(query.conditions[0].column, "order");
        assert_eq!(order_text(&query.order), "-order,a,b,id");
        assert_eq!(query.columns.unwrap()[..2], ["a,b", "id"].map(str::to_owned));
        for (column, field) in [("id", "id"), ("limit", "\"limit\""), ("\"a", "\"\"\"a\"")] {
            assert_eq!(field_of(column), field);
            assert_eq!(unquoted(field).unwrap_or_else(|| field.to_owned()), column);
        }
    }

    #[test]
    fn the_format_is_the_one_that_is_wanted_most() {
        for (accept, format) in [
            ("text/csv", PageFormat::Csv),
            ("TEXT/CSV; q=0.5, application/json;q=0.4", PageFormat::Csv),
            ("text/csv;q=0.1, application/json", PageFormat::Json),
            ("text/csv, */*;q=0.1", PageFormat::Csv),
            ("text/csv, */*", PageFormat::Csv),
            ("application/json, */*", PageFormat::Json),
            ("text/*", PageFormat::Csv),
            ("text/csv;q=0, */*", PageFormat::Json),
            ("*/*", PageFormat::Json),
            ("application/json, text/csv", PageFormat::Json),
            ("", PageFormat::Json),
            ("text/html", PageFormat::Json),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            assert_eq!(read_format(None, &headers).unwrap(), format, "{accept}");
        }
    }
}
