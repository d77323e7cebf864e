//! The types of columns, with values that policies compare them with.

/// What expressions over claims a column can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Numbers: organisations.
    Int,
    /// Texts: subjects, addresses.
    Text,
    /// Subjects.
    Uuid,
    /// Flags.
    Bool,
    /// Only literals.
    Other,
}

/// A type of a column.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Type {
    /// As in `create table`, with modifiers and collation.
    pub(crate) sql: &'static str,
    /// What it can be compared with.
    pub(crate) kind: Kind,
    /// Values in their text form. Few, so that rows and policies meet.
    pub(crate) values: &'static [&'static str],
}

const fn of(kind: Kind, sql: &'static str, values: &'static [&'static str]) -> Type {
    Type { sql, kind, values }
}

const fn other(sql: &'static str, values: &'static [&'static str]) -> Type {
    of(Kind::Other, sql, values)
}

const UUIDS: &[&str] = &[
    "a0a0a0a0-0000-4000-8000-0000000000ad",
    "b0b0b0b0-0000-4000-8000-0000000000be",
    "c0c0c0c0-0000-4000-8000-0000000000ce",
];
const TEXTS: &[&str] =
    &["ada", "Ada", "ADA@x", "ada@x", "bob@x", "", "1", "a0a0a0a0-0000-4000-8000-0000000000ad", "🦀"];
const INTS: &[&str] = &["1", "2", "3", "0"];

/// Types that claims name values of. Every table has some of them.
pub(crate) static COMMON: [Type; 17] = [
    of(Kind::Int, "int", INTS),
    of(Kind::Int, "int2", INTS),
    of(Kind::Int, "int8", INTS),
    of(Kind::Int, "numeric", &["1", "1.0", "2", "NaN", "0.000"]),
    of(Kind::Int, "numeric(6,2)", &["1", "2.50", "3", "0"]),
    of(Kind::Int, "float8", &["1", "-0", "0", "NaN", "Infinity"]),
    of(Kind::Int, "float4", &["1", "-0", "2.5", "0"]),
    of(Kind::Int, "fx.small", INTS),
    of(Kind::Int, "oid", INTS),
    of(Kind::Text, "text", TEXTS),
    of(Kind::Text, "varchar(40)", TEXTS),
    of(Kind::Text, "name", TEXTS),
    of(Kind::Text, "text collate \"C\"", TEXTS),
    of(Kind::Text, "fx.citext", TEXTS),
    of(Kind::Text, "text collate fx.ci", TEXTS),
    of(Kind::Uuid, "uuid", UUIDS),
    of(Kind::Bool, "boolean", &["true", "false"]),
];

/// All the others.
pub(crate) static RARE: [Type; 60] = [
    other("money", &["1", "2.5", "-1"]),
    other("char(4)", &["a", "ab", "ab  "]),
    other("varchar(5)", &["a", "ab", "A"]),
    other("\"char\"", &["a", "A", "1"]),
    other("bpchar", &["a", "a  ", "1"]),
    other("bytea", &["\\x00ff", "\\x", "\\x0061"]),
    other("date", &["2024-01-02", "2024-02-01", "infinity"]),
    other("time", &["01:02:03", "23:59:60", "00:00"]),
    other("timetz", &["01:02:03+02", "01:02:03+00"]),
    other("timestamp", &["2024-01-02 03:04:05.678901", "-infinity"]),
    other("timestamp(2)", &["2024-01-02 03:04:05.678901", "infinity"]),
    other("timestamptz", &["2024-01-02 03:04:05+02", "2024-01-02 01:04:05+00", "2999-01-01"]),
    other("interval", &["1 day", "24:00:00", "1 mon -1 day"]),
    other("json", &["{\"a\": 1}", "null", "{\"a\":1, \"a\":2}", "[1]"]),
    other("jsonb", &["{\"a\": 1}", "null", "[1, \"x\"]", "1.0"]),
    other("xml", &["<a/>", "<b>1</b>"]),
    other("inet", &["10.0.0.1", "10.0.0.0/8", "::1"]),
    other("cidr", &["10.0.0.0/8", "::/0"]),
    other("macaddr", &["08:00:2b:01:02:03", "00:00:00:00:00:00"]),
    other("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    other("bit(4)", &["1010", "0000"]),
    other("bit varying", &["1", "101", ""]),
    other("point", &["(1,2)", "(0,-0)"]),
    other("line", &["{1,2,3}"]),
    other("lseg", &["[(0,0),(1,1)]"]),
    other("box", &["(1,1),(0,0)"]),
    other("path", &["[(0,0),(1,1)]", "((0,0),(1,1))"]),
    other("polygon", &["((0,0),(1,1),(1,0))"]),
    other("circle", &["<(0,0),1>", "<(0,0),2>"]),
    other("tsvector", &["a:1 b:2", "", "c"]),
    other("tsquery", &["a & b", "!c"]),
    other("int4range", &["[1,5)", "empty", "(,3]"]),
    other("numrange", &["[1.0,5)", "[1,5.00)", "empty"]),
    other("tstzrange", &["[2024-01-01,2025-01-01)", "(,)"]),
    other("daterange", &["[2024-01-01,2024-02-01)", "empty"]),
    other("int4multirange", &["{[1,2),[5,6)}", "{}"]),
    other("regclass", &["pg_class", "fx.member", "0"]),
    other("regtype", &["integer", "text"]),
    other("regproc", &["now", "0"]),
    other("pg_lsn", &["0/1", "16/B374D848"]),
    other("xid8", &["1", "99999999999"]),
    other("xid", &["1", "2"]),
    other("tid", &["(0,1)", "(1,2)"]),
    other("pg_snapshot", &["10:20:10,14,15"]),
    other("jsonpath", &["$.a", "$[*] ? (@ > 1)"]),
    other("aclitem", &["postgres=r/postgres"]),
    other("int2vector", &["1 2", "3"]),
    other("oidvector", &["1 2", "3"]),
    other("refcursor", &["a", "b"]),
    other("int4[]", &["{1,2}", "{}", "{NULL,1}", "[5:6]={1,2}"]),
    other("text[]", &["{ada,bob}", "{}", "{\"null\",NULL}", "{{a,b},{c,d}}"]),
    other("numeric[]", &["{1.0,2}", "{1,2.00}"]),
    other("jsonb[]", &["{\"null\",1}", "{NULL}"]),
    other("uuid[]", &["{a0a0a0a0-0000-4000-8000-0000000000ad}", "{}"]),
    other("fx.mood", &["sad", "ok", "happy"]),
    other("fx.pair", &["(1,a)", "(,)", "(2,\"x y\")"]),
    other("fx.pair[]", &["{\"(1,a)\",\"(2,b)\"}", "{}"]),
    other("fx.mail", &["ada@x", "bob@x"]),
    other("fx.hstore", &["a=>1", "a=>NULL, b=>2", ""]),
    other("fx.mood[]", &["{sad,ok}", "{}"]),
];

/// The types that this server has: some versions come without some extensions, or without ICU.
#[derive(Clone, Debug)]
pub(crate) struct Types {
    /// Those of [`COMMON`].
    pub(crate) common: Vec<&'static Type>,
    /// Those of [`RARE`].
    pub(crate) rare: Vec<&'static Type>,
}

/// A value as SQL text.
pub(crate) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

impl Type {
    /// One of its values with its type.
    pub(crate) fn literal(&self, place: usize) -> String {
        format!("{}::{}", quoted(self.values[place % self.values.len()]), self.sql)
    }
}
