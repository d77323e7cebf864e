use super::*;

const COLUMNS: &[(&str, &str)] = &[
    ("id", "integer"),
    ("big", "bigint"),
    ("price", "numeric(10,2)"),
    ("ratio", "double precision"),
    ("small", "real"),
    ("ok", "boolean"),
    ("key", "uuid"),
    ("day", "date"),
    ("at", "timestamp(3) with time zone"),
    ("local", "timestamp without time zone"),
    ("hour", "time without time zone"),
    ("length", "interval"),
    ("name", "text"),
    ("code", "character varying(10) collate C"),
    ("pad", "character(5) collate C"),
    ("ad", "text collate dotted"),
    ("soft", "text collate loose"),
    ("mood", "enum [\"sad\",\"ok\",\"so, so\"]"),
    ("doc", "jsonb"),
    ("raw", "json"),
    ("tags", "text[]"),
    ("or", "integer"),
    ("a b\"c", "integer"),
];

const ROW: &str = r#"{"id": 7, "big": 9007199254740993, "price": 1.50, "ratio": 0.1, "small": 0.1, "ok": true,
    "key": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "day": "2026-02-28", "at": "2026-02-28T12:00:00.5+00:00",
    "local": "2026-02-28T12:00:00", "hour": "12:30:00", "length": "1 mon 01:00:00", "name": "Tea, (green) \"é\"", "code": "ab",
    "pad": "x    ", "ad": "I", "soft": "s", "mood": "ok", "doc": {"a": {"b": "x", "n": null, "l": [1, 2.0]}, "0": "zero"},
    "raw": {"a":"1",  "a":"2"}, "tags": ["a"], "or": 1, "a b\"c": 3, "none": null}"#;

fn filter(text: &str) -> Filter {
    Filter::parse(text, COLUMNS).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn check_all(expected: bool, filters: &[&str]) {
    for text in filters {
        assert_eq!(filter(text).matches(ROW), Some(expected), "{text}");
    }
}

#[test]
fn rows_that_match() {
    check_all(
        true,
        &[
            "id=eq.7",
            "id=neq.8",
            "id=lt.8",
            "id=lte.7",
            "id=gt.-6",
            "id=gte.7",
            "id=in.(1,7)",
            "id=isdistinct.8",
            "id=not.is.null",
            "id=not.eq.8",
            "big=eq.9007199254740993",
            "big=gt.9007199254740992",
            "price=eq.1.5",
            "price=lt.NaN",
            "price=gt.1.4999999999999999999",
            "ratio=eq.0.1",
            "ratio=lt.Infinity",
            "ratio=gt.0",
            "small=eq.0.1",
            "small=gt.-0.0",
            "ok=is.true",
            "ok=eq.yes",
            "ok=not.is.false",
            "ok=not.is.unknown",
            "key=eq.A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "day=gt.2026-02-27",
            "day=lt.infinity",
            "at=eq.2026-02-28T13:00:00.5+01:00",
            "local=gte.2026-02-28 12:00",
            "hour=eq.12:30",
            "length=eq.30 days 01:00:00",
            "name=eq.\"Tea, (green) \\\"é\\\"\"",
            "name=like.Tea*",
            "name=ilike.tEA%",
            "name=match.^T(e|x)a",
            "name=imatch.TEA",
            "code=gt.aa",
            "code=lt.b",
            "pad=eq.x",
            "pad=like.x    ",
            "ad=like.I",
            "mood=eq.ok",
            "mood=gt.sad",
            "mood=in.(sad,\"so, so\",ok)",
            "doc->a->>b=eq.x",
            "doc->a->l->>1=eq.2.0",
            "doc->a->l->>-1=eq.2.0",
            "doc->a->>n=is.null",
            "doc->a->n=not.is.null",
            "doc->>\"0\"=eq.zero",
            "doc->>0=is.null",
            "raw->>a=eq.2",
            "doc->b->>c=is.null",
            "tags=not.is.null",
            "\"or\"=eq.1",
            "\"a b\\\"c\"=eq.3",
            "id=eq.7,ok=is.true",
            "id=eq.7, name=like.T*",
        ],
    );
}

#[test]
fn rows_that_do_not_match() {
    check_all(
        false,
        &[
            "id=eq.8",
            "id=not.eq.7",
            "id=in.(1,2)",
            "id=is.null",
            "big=eq.9007199254740992",
            "price=eq.1.51",
            "small=eq.0.2",
            "ok=is.false",
            "pad=like.x",
            "name=like.tea*",
            "name=match.^ea",
            "doc->a->>b=neq.x",
            "doc->a->>n=eq.null",
            "doc->a->>n=not.eq.x",
            "doc->a->n=is.null",
            "mood=lt.ok",
            "id=eq.7,ok=is.false",
            "at=lt.2026-02-28T12:00:00.5Z",
        ],
    );
}

#[test]
fn groups_join_conditions() {
    check_all(
        true,
        &[
            "or=(id.eq.1,id.eq.7)",
            "and=(id.gt.1,id.lt.9)",
            "not.or=(id.eq.1,id.eq.2)",
            "not.and=(id.eq.7,id.eq.1)",
            "or=(id.eq.1,and(id.gt.1,not.or(id.lt.7,ok.is.false)))",
            "or=(name.like.\"*(*\", name.is.null)",
            "or=(id.in.(1,7),ok.is.false),id=eq.7",
            "or=(doc->a->>b.eq.x,id.eq.1)",
            "or=(price.eq.1.5,id.eq.1)",
            "or=( id.eq.7, id.eq.1)",
        ],
    );
    check_all(
        false,
        &["or=(id.eq.1,id.eq.2)", "and=(id.eq.7,id.eq.1)", "not.or=(id.eq.7)", "or=(and(id.eq.7,ok.is.false),id.eq.1)"],
    );
}

#[test]
fn null_matches_nothing_but_is_null() {
    let columns = [("none", "integer"), ("no", "boolean")];
    let check = |text: &str, expected| {
        let filter = Filter::parse(text, &columns).expect("well formed");
        assert_eq!(filter.matches(r#"{"none":null,"no":null}"#), Some(expected), "{text}");
    };
    for text in ["none=is.null", "none=isdistinct.1", "no=is.unknown", "no=not.is.true", "or=(none.eq.1,none.is.null)"]
    {
        check(text, true);
    }
    for text in [
        "none=eq.1",
        "none=not.eq.1",
        "none=neq.1",
        "none=in.(1)",
        "none=not.in.(1)",
        "no=is.true",
        "not.or=(none.eq.1)",
    ] {
        check(text, false);
    }
}

#[test]
fn what_an_image_lacks_is_not_guessed() {
    let check =
        |text: &str, image: &str, expected| assert_eq!(filter(text).matches(image), expected, "{text} on {image}");
    check("id=eq.7", r#"{"big":1}"#, None);
    check("id=is.null", "{}", None);
    check("id=eq.7,big=eq.1", r#"{"big":2}"#, Some(false));
    check("or=(id.eq.7,big.eq.1)", r#"{"big":1}"#, Some(true));
    check("or=(id.eq.7,big.eq.1)", r#"{"big":null}"#, None);
    check("id=eq.7", "[]", None);
    check("id=eq.7", r#"{"id":"7"}"#, None);
    check("name=eq.7", r#"{"name":7}"#, None);
    check("mood=eq.ok", r#"{"mood":"gone"}"#, None);
    check("raw->>a=eq.1", r#"{"raw":{"a":"1","b":"\u0000"}}"#, None);
    check("doc->0=is.null", r#"{"doc":null}"#, None);
    check("doc->>0=is.null", r#"{"doc":null}"#, Some(true));
    check("name=ilike.*k*", "{\"name\":\"\u{212a}\"}", None);
    check("code=ilike.*k*", "{\"code\":\"\u{212a}\"}", Some(false));
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, position, start) in [
        ("", 1, "a column is expected"),
        ("id", 3, "a condition is column=operator.value: write = here"),
        ("id=eq", 6, "a condition is column=operator.value: write . and"),
        ("id=is.7", 7, "write is.null"),
        ("id=equals.7", 4, "\"equals\" is no operator"),
        ("id=not.not.eq.7", 8, "\"not\" is no operator"),
        ("id=eq.seven", 7, "this is no value of the column's type: write an integer"),
        ("id=eq.7 ", 7, "this is no value"),
        ("id=eq.1.5", 7, "this is no value"),
        ("id=eq.99999999999", 7, "this is no value"),
        ("id=in.7", 7, "in takes a list"),
        ("id=in.()", 8, "in needs a value"),
        ("id=in.(1", 9, "the list of in is not closed"),
        ("id=in.(1,x)", 7, "this is no value"),
        ("id=eq.7,", 9, "a column is expected"),
        ("id=eq.7)x", 7, "this is no value"),
        ("name=eq.a,b", 12, "a condition is column=operator.value: write ="),
        ("name=eq.\"a\"b", 12, "a condition ends here"),
        ("name=eq.\"a", 9, "a double quote is not closed"),
        ("é=eq.1", 1, "there is no column \"é\" that you may read"),
        ("id=eq.7,é=eq.1", 9, "there is no column \"é\" that you may read"),
        ("name=eq.é,secret=eq.1", 11, "there is no column \"secret\" that you may read"),
        ("or=(id.eq.7", 12, "a group is not closed"),
        ("or=(id=eq.7)", 7, "in a group a condition is column.operator.value"),
        ("or=()", 5, "a column is expected"),
        ("or=(name.eq.a(b)", 14, "a group is not closed"),
        ("id->a=eq.1", 1, "only columns of type json"),
        ("doc->=eq.1", 6, "a name or a number is expected"),
        ("doc->>a->b=eq.1", 8, "a condition is column=operator.value"),
        ("doc->>a::int=eq.1", 8, "a condition is column=operator.value"),
        ("doc->>99999999999=eq.1", 7, "an array has no such element"),
        ("doc=is.null", 8, "NULL and JSON's own null look alike"),
        ("doc=eq.{}", 5, "json has no comparison here"),
        ("doc=gt.1", 5, "json has no comparison here"),
        ("doc->a=eq.1", 8, "json has no comparison here"),
        ("tags=gt.{a}", 6, "values of this type can be compared only by the database"),
        ("local=eq.x", 10, "this is no value of the column's type: write it as 2026-02-28T12:34:56.789 without a zone"),
        ("hour=eq.x", 9, "this is no value of the column's type: write it as 12:34:56.789"),
        ("small=eq.1e-60", 10, "this is no value"),
        ("tags=eq.{a}", 6, "values of this type can be compared only by the database"),
        ("name=gt.a", 6, "the order of texts is known only under the collation C"),
        ("soft=eq.a", 6, "texts of this column are equal as its collation"),
        ("soft=like.a", 6, "patterns do not work"),
        ("id=like.7%", 4, "patterns are for texts"),
        ("name=ilike.É*", 12, "which letters are each other's other case"),
        ("ad=ilike.i", 10, "which letters are each other's other case"),
        ("name=like.a\\", 11, "a backslash ends the pattern"),
        ("name=match.\\d", 12, "\\d depends on the column's collation"),
        ("mood=eq.gone", 9, "this is no value of the column's type: write one of the type's labels"),
        ("name=is.true", 9, "only booleans are true"),
        ("day=eq.today", 8, "this is no value of the column's type: write it as 2026-02-28"),
        ("at=eq.2026-02-28T12:00:00", 7, "this is no value of the column's type: write it as 2026-02-28T12:34:56.789Z"),
        ("small=eq.1e39", 10, "this is no value"),
        ("ratio=eq.1e-400", 10, "this is no value"),
        ("name=eq.\0", 9, "no text has the character zero"),
    ] {
        let error = Filter::parse(text, COLUMNS).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.message.starts_with(start), "{text}: {error}");
    }
}

#[test]
fn whatever_could_grow_has_a_bound() {
    let many = vec!["id=eq.1"; 101].join(",");
    let deep = format!("or=({}id.eq.1{})", "or(".repeat(10), ")".repeat(10));
    let long = format!("name=eq.{}", "a".repeat(Filter::BYTES_MAX));
    let values = format!("id=in.({})", vec!["1"; 1_100].join(","));
    let pattern = format!("name=like.{}", "a".repeat(600));
    for text in [many, deep, long, values, pattern] {
        assert!(Filter::parse(&text, COLUMNS).is_err(), "{text:.40}");
    }
}

#[test]
fn what_is_just_within_its_bound_is_taken() {
    let deep = format!("or=({}id.eq.7{})", "or(".repeat(9), ")".repeat(9));
    let side_by_side = vec!["or=(id.eq.7)"; 30].join(",");
    let long = format!("name=neq.{}", "a".repeat(Filter::BYTES_MAX - "name=neq.".len()));
    let many = vec!["id=eq.7"; 100].join(",");
    let values = format!("id=in.({}7)", "1,".repeat(999));
    check_all(true, &[&deep, &side_by_side, &long, &many, &values]);
    assert!(Filter::parse(&format!("id=in.({}7)", "1,".repeat(1_000)), COLUMNS).is_err(), "one value more");
}

#[test]
fn integers_have_the_bounds_of_their_type() {
    for (kind, min, max) in [
        ("smallint", i128::from(i16::MIN), i128::from(i16::MAX)),
        ("integer", i32::MIN.into(), i32::MAX.into()),
        ("bigint", i64::MIN.into(), i64::MAX.into()),
    ] {
        let is_taken = |number: i128| Filter::parse(&format!("n=eq.{number}"), &[("n", kind)]).is_ok();
        assert_eq!([min - 1, min, max, max + 1].map(is_taken), [false, true, true, false], "{kind}");
    }
}

#[test]
fn names_that_the_filter_names_are_known() {
    let filter = filter("id=eq.1,or=(doc->>a.eq.1,id.eq.2)");
    assert_eq!(filter.columns().collect::<Vec<_>>(), ["id", "doc"]);
    assert_eq!(filter.text(), "id=eq.1,or=(doc->>a.eq.1,id.eq.2)");
}
