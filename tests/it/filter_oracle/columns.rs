//! Columns of every type that filters know, with values of rows and values to compare with.

/// A column of the table that filters are tried on.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// Its type and collation, as in `create table`.
    pub(super) sql: &'static str,
    /// What it can be asked.
    pub(super) kind: Kind,
    /// Values of rows. NULL comes beside them.
    pub(super) values: &'static [&'static str],
    /// More values for filters to compare with, some of them none of the type.
    pub(super) others: &'static [&'static str],
}

/// What a column can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Comparisons.
    Plain,
    /// And whether it is true.
    Bool,
    /// And patterns.
    Text,
    /// Paths into it, and patterns of what they give.
    Json,
}

const INTEGERS: &[&str] = &["0", "1", "-1", "7", "32767", "-32768", "10", "9"];
const NO_INTEGERS: &[&str] = &["+7", "007", "-0", "99999", "9223372036854775808", "1.0", "0x10", "1_0", "", "x", " 7"];
const FLOATS: &[&str] =
    &["0", "-0", "0.1", "1.5", "-1.5", "NaN", "Infinity", "-Infinity", "1e20", "16777217", "3.4e38"];
const NO_FLOATS: &[&str] = &[
    "inf",
    "nan",
    "1e-46",
    "1e39",
    "1e400",
    "0.10000000149011612",
    ".5",
    "5.",
    "+1.50",
    "1e",
    "0x1p3",
    "0e0",
    "1e-400",
];
const TEXTS: &[&str] = &[
    "", "a", "A", "ab", "aB", "b", "a b", "a,b", "(a)", "a\"b", "a\\b", "50%", "500", "a_b", "axb", "é", "É", "é a",
    "I", "i", "ı", "İ", "\u{212A}", "k", "ß", "ab\nc", "🦀x", "null", "true", "7", "10", "9", "ab ", " ab", "a.b",
    "a*b", "[a-c]", "日本",
];
const NO_TEXTS: &[&str] = &["zz", "a\\", "*", "aa"];
const MOMENTS: &[&str] = &[
    "2026-02-28 12:34:56.789",
    "2026-02-28",
    "1999-12-31 23:59:59.999999",
    "infinity",
    "-infinity",
    "0044-03-15 12:00:00 BC",
    "12026-01-01",
    "2024-02-29 00:00:00.000001",
];

pub(super) const COLUMNS: &[Column] = &[
    plain("smallint", INTEGERS, NO_INTEGERS),
    plain("integer", INTEGERS, NO_INTEGERS),
    plain(
        "bigint",
        &["9007199254740993", "9007199254740992", "-9223372036854775808", "9223372036854775807", "0", "7"],
        NO_INTEGERS,
    ),
    plain("positive", &["1", "7", "10"], INTEGERS),
    plain(
        "numeric",
        &[
            "0",
            "1.10",
            "1.1",
            "-1.1",
            "NaN",
            "Infinity",
            "-Infinity",
            "123456789012345678901234567890.123456789",
            "0.0000000000000000001",
            "1e20",
            "10",
            "9",
        ],
        &[
            "1.100", "+1.1", ".5", "1e-5", "inf", "nan", "1e1000", "1e1001", "1e200000", "0x1F", "1_000", "100e-1",
            "-0", "", "1e-20",
        ],
    ),
    plain("numeric(6,2)", &["1.10", "1.11", "-5", "9999.99", "NaN"], &["1.105", "1.1", "10000", "Infinity"]),
    plain("real", FLOATS, NO_FLOATS),
    plain("double precision", FLOATS, NO_FLOATS),
    Column {
        sql: "boolean",
        kind: Kind::Bool,
        values: &["true", "false"],
        others: &["t", "TRUE", "yes", "of", "on", "o", "1", "0", "2", "no", ""],
    },
    plain(
        "uuid",
        &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
        &[
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0ee-bc99-9c0b4ef8-bb6d-6bb9bd380a11",
            "x",
        ],
    ),
    plain(
        "date",
        &[
            "2026-02-28",
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "5874897-12-31",
            "1999-12-31",
            "0001-01-01",
            "2024-02-29",
        ],
        &[
            "2026-03-01",
            "2026-02-30",
            "today",
            "0000-01-01",
            "20260228",
            "2026-2-28",
            "28.02.2026",
            "Infinity",
            "2023-02-29",
            "9999-12-31",
            "2026-02-28 12:00",
            "Feb 28 2026",
        ],
    ),
    plain(
        "timestamp",
        MOMENTS,
        &[
            "2026-02-28T12:34:56.789",
            "2026-02-28T12:34",
            "2026-02-28T12:34Z",
            "now",
            "2026-02-28 24:00",
            "2026-02-28 12:34:60",
            "2026-02-28 12:34:56.7890001",
            "2026-02-28T12",
        ],
    ),
    plain("timestamp(0)", MOMENTS, &["2026-02-28T12:34:57", "2026-02-28T12:34:56.789"]),
    plain(
        "timestamptz",
        &[
            "2026-02-28 12:34:56.789+00",
            "2026-02-28 00:00+05:45",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "1999-12-31 23:59:59.999999-08",
            "294276-12-31 23:59:59+00",
        ],
        &[
            "2026-02-28T12:34:56.789Z",
            "2026-02-27T18:15:00Z",
            "2026-02-28 00:00+05:45",
            "2026-02-27T18:15+00:00",
            "2026-02-28",
            "2026-02-28T12:34:56.789",
            "2026-02-28T12:34+16",
            "2026-02-28T12:34:56.789 UTC",
            "2000-01-01T07:59:59.999999+00",
            "2026-02-28T18:19:56.789+05:45",
            "2026-02-28T04:34:56.789-08",
        ],
    ),
    plain(
        "time",
        &["00:00:00", "12:34:56.789", "23:59:59.999999", "24:00:00"],
        &["12:34", "24:00", "24:01", "12:34:60", "12:34:56.789Z", "now", "1:00", "12"],
    ),
    plain(
        "interval",
        &[
            "1 year 2 mons 3 days 04:05:06.7",
            "-1 day +00:00:01",
            "30 days",
            "1 mon",
            "00:00:00",
            "-00:00:01",
            "100:00:00",
            "720 hours",
            "-1 year",
            "1 mon -1 day",
        ],
        &[
            "1 week",
            "24 hours",
            "1 day",
            "1 month",
            "-1 days 00:00:01",
            "-23:59:59",
            "P1D",
            "1 hour 00:01:00",
            "1.5 days",
            "1 day ago",
            "04:05",
            "2 mons 1 mon",
            "0 seconds",
            "+1 day -01:00:00",
            "1 hour 5 minutes",
            "100 secs",
            "infinity",
            "",
        ],
    ),
    plain("colour", &["red", "dark blue", "green"], &["blue", "", "Red"]),
    text("text", TEXTS, NO_TEXTS),
    text("text collate \"C\"", TEXTS, NO_TEXTS),
    text("address", TEXTS, NO_TEXTS),
    text("varchar(5)", &["", "a", "A", "ab", "50%", "é", "i", "I"], NO_TEXTS),
    text("char(4)", &["", "a", "ab", "ab c", "é", "A", "50%"], &["a ", "ab  ", "a%", "abcde", "a   "]),
    text("char(4) collate \"C\"", &["", "a", "ab", "ab c", "é", "A\n", "50%"], &["a ", "ab  ", "a%", "abcde", "a   "]),
    json("jsonb"),
    json("json"),
    plain("text[]", &["{}", "{a,b}", "{NULL}"], &["{a,b}"]),
    plain("name", &["a", "b"], &["a"]),
    plain("bytea", &["\\x00", "\\xff"], &["\\x00"]),
    plain("inet", &["10.0.0.1/8"], &["10.0.0.1/8"]),
    plain("money", &["1.50"], &["1.50"]),
    plain("timetz", &["12:00+01"], &["12:00+01", "11:00+00"]),
    plain("int4range", &["[1,5)"], &["[1,4]"]),
];

/// Columns that need a server that was built with ICU.
pub(super) const ICU_COLUMNS: &[Column] = &[
    text("text collate \"en-x-icu\"", TEXTS, NO_TEXTS),
    text("text collate \"tr-x-icu\"", TEXTS, NO_TEXTS),
    text("text collate loose", TEXTS, NO_TEXTS),
];

/// Steps of paths, as filters write them.
pub(super) const STEPS: &[&str] = &["a", "b", "0", "1", "-1", "\"0\"", "n", "l", "zz", "\"a b\""];

const fn plain(sql: &'static str, values: &'static [&'static str], others: &'static [&'static str]) -> Column {
    Column { sql, kind: Kind::Plain, values, others }
}

const fn text(sql: &'static str, values: &'static [&'static str], others: &'static [&'static str]) -> Column {
    Column { sql, kind: Kind::Text, values, others }
}

const fn json(sql: &'static str) -> Column {
    Column {
        sql,
        kind: Kind::Json,
        values: DOCUMENTS,
        others: &["1", "1.10", "x", "true", "null", "{\"c\": 1}", "é", "", "2", "{\"c\":  1}", "[1, 2]", "1e1"],
    }
}

const DOCUMENTS: &[&str] = &[
    r#"{"a": "x", "b": {"a": 1.10, "l": [1, 2]}, "n": null}"#,
    r#"{"a": 1, "a": 2, "0": "zero", "a b": true}"#,
    r#"{"a":{"b":"é","c":  1},"l":[{"a":"x"},null,[1, 2]]}"#,
    r#"{"b": {"c":  1}, "a": ["x", ""], "l": []}"#,
    r#"[1, "x", {"a": "1"}, null]"#,
    r#"[]"#,
    r#"{}"#,
    r#""x""#,
    r#"5"#,
    r#"null"#,
    r#"true"#,
    r#"{"a": "\u00e9 \ud83e\udd80 \"q\" \\ \n", "b": 1e1}"#,
];
