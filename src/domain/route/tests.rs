//! Routes: grammar, precedence, methods.

use super::*;

/// A table whose targets are its own lines, `METHODS ROUTE`.
fn table(lines: &[&str]) -> RouteTable<String> {
    let mut table = RouteTable::default();
    for line in lines {
        add(&mut table, line).unwrap();
    }
    table
}

fn add(table: &mut RouteTable<String>, line: &str) -> Result<(), RouteConflict> {
    let (methods, route) = line.split_once(' ').unwrap();
    table.insert(methods.parse().unwrap(), route.parse().unwrap(), line.to_owned())
}

/// What answers `METHOD PATH`, in one line.
fn look(table: &RouteTable<String>, request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    match table.find(method, &RequestPath::parse(path).unwrap()) {
        Lookup::Found(found) => {
            let params: String = found.params.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            let head = if found.head_as_get { " (head)" } else { "" };
            format!("{}{params}{head}", found.target)
        }
        Lookup::MethodNotAllowed(methods) => format!("405 {methods}"),
        Lookup::Unknown => "404".to_owned(),
    }
}

#[test]
fn the_most_specific_route_that_accepts_the_method_wins() {
    let table = table(&[
        "GET /",
        "GET /a",
        "ANY /a/b",
        "GET /a/{x}",
        "POST /a/*",
        "GET /a/**",
        "GET /{x}/b",
        "GET,POST /{x}/{y}/c",
        "DELETE /a/b/c",
        "PUT /files/**",
        "GET /é/a b",
    ]);
    for (request, expected) in [
        ("GET /t", "GET /"),
        ("GET /t/", "GET /"),
        ("GET /t/a", "GET /a"),
        ("GET /t/a/", "GET /a"),
        ("GET /t/a/b", "ANY /a/b"),
        ("PROPFIND /t/a/b", "ANY /a/b"),
        ("GET /t/a/z", "GET /a/{x} x=z"),
        ("POST /t/a/z", "POST /a/*"),
        ("GET /t/a/b/c", "GET /a/**"), // starts with two literals elsewhere, but those only accept DELETE
        ("DELETE /t/a/b/c", "DELETE /a/b/c"),
        ("POST /t/a/b/c", "GET,POST /{x}/{y}/c x=a y=b"),
        ("GET /t/z/b", "GET /{x}/b x=z"),
        ("GET /t/z/y/c", "GET,POST /{x}/{y}/c x=z y=y"),
        ("PUT /t/files", "PUT /files/**"),
        ("PUT /t/files/1/2/3", "PUT /files/**"),
        ("GET /t/%C3%A9/a%20b", "GET /é/a b"),
        ("GET /t/a/%2F", "GET /a/{x} x=/"),
        ("GET /t/%61", "GET /a"),
        ("HEAD /t/a", "GET /a (head)"),
        ("HEAD /t/a/b", "ANY /a/b"),
        ("PUT /t/a", "405 GET, HEAD, OPTIONS"),
        ("OPTIONS /t/a/z", "405 GET, HEAD, POST, OPTIONS"),
        ("GET /t/files/1", "405 PUT, OPTIONS"),
        ("GET /t/A", "404"),
        ("GET /t//a", "404"),
        ("PUT /t/files//a", "404"),
        ("GET /t/a//", "404"),
        ("GET /t/x/y/z", "404"),
    ] {
        assert_eq!(look(&table, request), expected, "{request}");
    }
}

#[test]
fn named_methods_leave_the_rest_to_any() {
    let table = table(&["ANY /a", "GET /a", "HEAD /b", "GET /b"]);
    assert_eq!(look(&table, "GET /t/a"), "GET /a");
    assert_eq!(look(&table, "HEAD /t/a"), "GET /a (head)");
    assert_eq!(look(&table, "POST /t/a"), "ANY /a");
    assert_eq!(look(&table, "HEAD /t/b"), "HEAD /b");
}

#[test]
fn conflicts_name_both_endpoints() {
    let mut table = table(&["GET,POST /a/{x}", "GET /b/**"]);
    for (line, expected) in [
        (
            "POST,PUT /a/*",
            Err(
                "endpoint `POST, PUT /a/*` conflicts with `GET, POST /a/{x}`: both would answer POST for the same paths",
            ),
        ),
        ("GET /b/**", Err("endpoint `GET /b/**` conflicts with `GET /b/**`: both would answer GET for the same paths")),
        ("PUT /a/{y}", Ok(())),
        ("ANY /a/{y}", Ok(())),
        ("ANY /a/*/", Err("endpoint `ANY /a/*` conflicts with `ANY /a/{y}`: both would answer ANY for the same paths")),
        ("GET /b", Ok(())),
        ("GET /a/{x}/c", Ok(())),
    ] {
        assert_eq!(add(&mut table, line).map_err(|e| e.to_string()), expected.map_err(str::to_owned), "{line}");
    }
}

#[test]
fn request_paths_are_split_before_they_are_decoded() {
    for (raw, tenant, below, segments) in [
        ("/", "", "/", &[] as &[&str]),
        ("/t", "t", "/", &[]),
        ("/t/", "t", "/", &[]),
        ("/%74/a", "t", "/a", &["a"]),
        ("/t/a/", "t", "/a/", &["a"]),
        ("/t//a", "t", "//a", &["", "a"]),
        ("/t//", "t", "//", &[""]),
        ("/t/a%2Fb/c", "t", "/a/b/c", &["a/b", "c"]),
        ("/t/...", "t", "/...", &["..."]),
        ("/t/%00", "t", "/\0", &["\0"]),
    ] {
        let path = RequestPath::parse(raw).unwrap();
        assert_eq!((path.tenant(), path.below_tenant().as_str()), (tenant, below), "{raw}");
        assert_eq!(path.segments(), segments, "{raw}");
    }
}

#[test]
fn unusable_request_paths_say_why() {
    for (raw, expected) in [
        ("", "the path does not start with `/`"),
        ("*", "the path does not start with `/`"),
        ("/t/%", "the path is not valid: the `%` at byte 0 is not followed by two hexadecimal digits"),
        ("/%zz/a", "the path is not valid: the `%` at byte 0 is not followed by two hexadecimal digits"),
        ("/t/%ff", "the path is not valid: its percent-decoded bytes are not UTF-8"),
        ("/t/../a", "the path has a `.` or `..` segment"),
        ("/t/%2e%2E", "the path has a `.` or `..` segment"),
        ("/t/.", "the path has a `.` or `..` segment"),
        ("/..", "the path has a `.` or `..` segment"),
    ] {
        assert_eq!(RequestPath::parse(raw).unwrap_err().to_string(), expected, "{raw}");
    }
}

#[test]
fn routes_are_kept_without_trailing_slash() {
    for (text, kept) in [("/", "/"), ("/a/", "/a"), ("/a/{b_1}/*/**", "/a/{b_1}/*/**"), ("/é/a b", "/é/a b")] {
        assert_eq!(text.parse::<RoutePattern>().unwrap().to_string(), kept, "{text}");
    }
}

#[test]
fn invalid_routes_say_why() {
    for (text, expected) in [
        ("", "route `` does not start with `/`"),
        ("a", "route `a` does not start with `/`"),
        ("//", "route `//`: segment `` is empty"),
        ("/a//b", "route `/a//b`: segment `` is empty"),
        ("/../a", "route `/../a`: segment `..` is never sent by callers"),
        ("/**/a", "route `/**/a`: segment `**` matches the rest of the path, so it must be the last"),
        ("/{a}/{a}", "route `/{a}/{a}`: segment `{a}` has the name of an earlier segment"),
        ("/{}", "route `/{}`: segment `{}` needs a name of letters, digits and `_` that does not start with a digit"),
        ("/a*", "route `/a*`: segment `a*` mixes text with `{`, `}` or `*`; a segment is either text or a placeholder"),
        ("/a?b", "route `/a?b`: segment `a?b` holds `?` or `#`, which are not part of a path"),
        ("/a%20b", "route `/a%20b`: segment `a%20b` holds `%`; write the character itself, callers may encode it"),
        ("/a\n", "route `/a\\n`: segment `a\\n` holds a control character"),
    ] {
        assert_eq!(text.parse::<RoutePattern>().unwrap_err().to_string(), expected, "{text}");
    }
    let long = format!("/{}", "x".repeat(ROUTE_BYTES_MAX));
    assert_eq!(long.parse::<RoutePattern>().unwrap_err(), InvalidRoute::TooLong { bytes: ROUTE_BYTES_MAX + 1 });
    let deep = "/x".repeat(ROUTE_SEGMENTS_MAX + 1);
    assert!(matches!(deep.parse::<RoutePattern>(), Err(InvalidRoute::TooManySegments { segments: 33, .. })));
}

#[test]
fn method_sets_are_read_leniently_and_written_strictly() {
    for (text, written) in [("get", "GET"), ("POST, get,get", "GET, POST"), ("any", "ANY"), ("DELETE", "DELETE")] {
        assert_eq!(text.parse::<MethodSet>().unwrap().to_string(), written, "{text}");
    }
    for text in ["", "GET,", "ANY,GET", "TRACE", "G\nT"] {
        assert!(text.parse::<MethodSet>().unwrap_err().to_string().starts_with("unknown method"), "{text}");
    }
}

#[test]
fn each_of_ten_thousand_routes_is_found() {
    let mut table = RouteTable::default();
    for n in 0..10_000 {
        add(&mut table, &format!("GET /r{n}/{{id}}/x{n}")).unwrap();
    }
    for n in 0..10_000 {
        let expected = format!("GET /r{n}/{{id}}/x{n} id=7");
        assert_eq!(look(&table, &format!("GET /t/r{n}/7/x{n}")), expected);
    }
}
