//! Random filters, each with the WHERE that says the same.

use realtime_tests::random::Random;

use super::columns::{Column, Kind, STEPS};

const PATTERNS: &[&str] = &[
    "a%", "%b", "*a*", "_", "a_b", "", "%", "A%", "50\\%", "a\\_b", "\\a", "%é%", "_é", "ab%", "%i%", "%K%", "k",
    "a\\", "%\n%", "\\*", "[a-c]", "ab", "AB ", "% ",
];
const REGULARS: &[&str] = &[
    "a",
    "^a",
    "b$",
    "^ab?$",
    "a.c",
    "b.c",
    "[a-c]+",
    "^[^a]",
    "^(a|b)*$",
    "^.$",
    "a{2}",
    "a{1,2}b",
    "x|^$",
    "[]a]",
    "[a-]",
    "[^-a]",
    "\\.",
    "\\[",
    "(?:ab)+",
    "",
    "a|",
    "()",
    "^$",
    "(^a|b$)",
    "É",
    "é",
    "[é]",
    "i",
    "K",
    "[A-Z]",
    "\\d",
    "\\w",
    "\\s$",
    "\\D",
    "[[:alpha:]]",
    "a*?",
    "a**",
    "*a",
    "^*",
    "(",
    ")",
    "[",
    "a{",
    "a{2,1}",
    "(?i)a",
    "(?=a)",
    "\\m",
    "(a)\\1",
    "***=a",
    "[a-é]",
    "[b-a]",
    "[\\]a]",
    "\"",
    ",",
    "]",
    "}",
    "(a){0}b",
    "(a*)*$",
    "^\\(",
    "🦀",
    ".{3}",
    "\\S",
    "[--a]",
    "[a\\d]",
    "x{,2}",
    "a{1}{2}",
    "\n",
];

/// A filter and a WHERE.
pub(super) struct Pair {
    pub(super) filter: String,
    pub(super) sql: String,
}

/// Makes filters on columns that are called c0, c1 and so on.
pub(super) struct Grammar<'a> {
    pub(super) columns: &'a [Column],
    pub(super) random: Random,
}

/// What separates a column from what is asked of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Group,
}

impl Grammar<'_> {
    /// A filter of one to three conditions or groups.
    pub(super) fn filter(&mut self) -> Pair {
        let count = if self.random.chance(80) { 1 } else { 1 + self.random.place(3) };
        let items: Vec<Pair> = (0..count).map(|_| self.item(Level::Top, 2)).collect();
        joined(&items, ",", " and ")
    }

    fn item(&mut self, level: Level, depth: usize) -> Pair {
        if depth == 0 || self.random.chance(80) {
            return self.condition(level);
        }
        let (word, join) = self.random.pick(&[("or", " or "), ("and", " and ")]);
        let not = self.random.chance(30);
        let count = 1 + self.random.place(3);
        let items: Vec<Pair> = (0..count).map(|_| self.item(Level::Group, depth - 1)).collect();
        let inside = joined(&items, ",", join);
        let separator = if level == Level::Top { "=" } else { "" };
        let (before, sql_before) = if not { ("not.", "not ") } else { ("", "") };
        Pair {
            filter: format!("{before}{word}{separator}({})", inside.filter),
            sql: format!("{sql_before}({})", inside.sql),
        }
    }

    fn condition(&mut self, level: Level) -> Pair {
        let place = self.random.place(self.columns.len());
        let column = self.columns[place].clone();
        let (operand, sql, is_text) = match column.kind {
            Kind::Json => self.path(place),
            kind => (format!("c{place}"), format!("c{place}"), kind == Kind::Text),
        };
        let (asked, sql) = self.asked(&column, &sql, is_text, level);
        let separator = if level == Level::Top { "=" } else { "." };
        let (not, sql_not) = if self.random.chance(20) { ("not.", "not ") } else { ("", "") };
        Pair { filter: format!("{operand}{separator}{not}{asked}"), sql: format!("({sql_not}({sql}))") }
    }

    /// A path into a JSON column, in a filter and in SQL; and whether it ends in a text.
    fn path(&mut self, place: usize) -> (String, String, bool) {
        let (mut filter, mut sql) = (format!("c{place}"), format!("c{place}"));
        let steps = self.random.place(4);
        let is_text = steps > 0 && self.random.chance(80);
        for step in 0..steps {
            let arrow = if is_text && step + 1 == steps { "->>" } else { "->" };
            let name = self.random.pick(STEPS);
            let key = if name.parse::<i32>().is_ok() { name.to_owned() } else { quoted(name.trim_matches('"')) };
            filter.push_str(&format!("{arrow}{name}"));
            sql = format!("({sql} {arrow} {key})");
        }
        (filter, sql, is_text)
    }

    fn asked(&mut self, column: &Column, operand: &str, is_text: bool, level: Level) -> (String, String) {
        let patterns = if is_text { 6 } else { 0 };
        match self.random.place(10 + patterns) {
            0 => self.is(column, operand),
            1 => {
                let value = self.value(column);
                (
                    format!("isdistinct.{}", self.written(value, level)),
                    format!("{operand} is distinct from {}", quoted(value)),
                )
            }
            2 | 3 => self.among(column, operand),
            4..10 => self.comparison(column, operand, level),
            place => self.pattern(operand, place % 2 == 0, level),
        }
    }

    fn is(&mut self, column: &Column, operand: &str) -> (String, String) {
        let word =
            if column.kind == Kind::Bool { self.random.pick(&["null", "true", "false", "unknown"]) } else { "null" };
        (format!("is.{word}"), format!("{operand} is {word}"))
    }

    fn comparison(&mut self, column: &Column, operand: &str, level: Level) -> (String, String) {
        let (word, sign) = self.random.pick(&[
            ("eq", "="),
            ("eq", "="),
            ("neq", "<>"),
            ("lt", "<"),
            ("lte", "<="),
            ("gt", ">"),
            ("gte", ">="),
        ]);
        let value = self.value(column);
        (format!("{word}.{}", self.written(value, level)), format!("{operand} {sign} {}", quoted(value)))
    }

    fn among(&mut self, column: &Column, operand: &str) -> (String, String) {
        let count = 1 + self.random.place(3);
        let values: Vec<&str> = (0..count).map(|_| self.value(column)).collect();
        let written: Vec<String> = values.iter().map(|value| self.written(value, Level::Group)).collect();
        let sql: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        (format!("in.({})", written.join(",")), format!("{operand} in ({})", sql.join(", ")))
    }

    fn pattern(&mut self, operand: &str, is_like: bool, level: Level) -> (String, String) {
        if is_like {
            let pattern = self.random.pick(PATTERNS);
            let (word, sign) = self.random.pick(&[("like", "like"), ("ilike", "ilike")]);
            return (
                format!("{word}.{}", self.written(pattern, level)),
                format!("{operand} {sign} {}", quoted(&with_percent(pattern))),
            );
        }
        let pattern = self.random.pick(REGULARS);
        let (word, sign) = self.random.pick(&[("match", "~"), ("imatch", "~*")]);
        (format!("{word}.{}", self.written(pattern, level)), format!("{operand} {sign} {}", quoted(pattern)))
    }

    fn value(&mut self, column: &Column) -> &'static str {
        let values = if self.random.chance(70) { column.values } else { column.others };
        self.random.pick(values)
    }

    /// A value as a filter writes it: in double quotes where it must, and now and then where it need not.
    fn written(&mut self, value: &str, level: Level) -> String {
        let ends: &[char] = if level == Level::Top { &[','] } else { &[',', '(', ')'] };
        if value.contains(ends) || value.starts_with('"') || self.random.chance(20) {
            format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            value.to_owned()
        }
    }
}

fn joined(items: &[Pair], comma: &str, join: &str) -> Pair {
    let filters: Vec<&str> = items.iter().map(|item| item.filter.as_str()).collect();
    let sql: Vec<&str> = items.iter().map(|item| item.sql.as_str()).collect();
    Pair { filter: filters.join(comma), sql: sql.join(join) }
}

/// A text as an SQL literal.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A pattern with `%` for every `*` that no backslash takes as it is.
fn with_percent(pattern: &str) -> String {
    let mut is_escaped = false;
    let letter = |letter: char| {
        let shown = if letter == '*' && !is_escaped { '%' } else { letter };
        is_escaped = letter == '\\' && !is_escaped;
        shown
    };
    pattern.chars().map(letter).collect()
}
