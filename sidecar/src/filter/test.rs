//! Which question may be asked of which type.

use super::{
    condition::{Comparison, Test},
    kind::{Collation, Kind},
    pattern::{self, Case},
    scan::Fault,
    value::Value,
};

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 512;

/// What stands between a column and a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Compare(Comparison),
    In,
    Is,
    Distinct,
    Like(Case),
    Match(Case),
}

/// Of what something is asked, and where that stands in the filter.
pub(super) struct Request<'a> {
    pub(super) kind: &'a Kind,
    /// The operand is a place in a JSON column.
    pub(super) is_json: bool,
    pub(super) at: usize,
    pub(super) value_at: usize,
}

/// The operator of this name.
pub(super) fn operator(word: &str) -> Result<Operator, String> {
    Ok(match word {
        "eq" => Operator::Compare(Comparison::Equal),
        "neq" => Operator::Compare(Comparison::NotEqual),
        "lt" => Operator::Compare(Comparison::Less),
        "lte" => Operator::Compare(Comparison::LessOrEqual),
        "gt" => Operator::Compare(Comparison::Greater),
        "gte" => Operator::Compare(Comparison::GreaterOrEqual),
        "in" => Operator::In,
        "is" => Operator::Is,
        "isdistinct" => Operator::Distinct,
        "like" => Operator::Like(Case::Exact),
        "ilike" => Operator::Like(Case::AsciiFolded),
        "match" => Operator::Match(Case::Exact),
        "imatch" => Operator::Match(Case::AsciiFolded),
        _ => {
            let known = "eq, neq, lt, lte, gt, gte, in, is, isdistinct, like, ilike, match or imatch";
            return Err(format!("{word:?} is no operator: use {known}"));
        }
    })
}

/// The test, when it can be answered exactly as Postgres would.
pub(super) fn build(request: &Request<'_>, operator: Operator, values: &[String]) -> Result<Test, Fault> {
    let value = values.first().map_or("", String::as_str);
    match operator {
        Operator::Is => request.is(value),
        Operator::Compare(comparison) => {
            request.require_comparable(comparison)?;
            Ok(Test::Compare(comparison, request.literal(value)?))
        }
        Operator::Distinct => {
            request.require_comparable(Comparison::Equal)?;
            request.literal(value).map(Test::Distinct)
        }
        Operator::In => {
            request.require_comparable(Comparison::Equal)?;
            values.iter().map(|value| request.literal(value)).collect::<Result<_, _>>().map(Test::In)
        }
        Operator::Like(case) => request.pattern(value, case, |_| pattern::like(value, case)),
        Operator::Match(case) => {
            request.pattern(value, case, |collation| pattern::matching(value, case, collation == Collation::C))
        }
    }
}

impl Request<'_> {
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { at: self.at, message: message.into() }
    }

    fn value_fault(&self, message: impl Into<String>) -> Fault {
        Fault { at: self.value_at, message: message.into() }
    }

    fn is(&self, word: &str) -> Result<Test, Fault> {
        match (word.to_ascii_lowercase().as_str(), self.kind) {
            ("null", Kind::Json { .. }) => Err(self
                .value_fault("NULL and JSON's own null look alike in events: ask for a place in it, with -> or ->>")),
            ("null", _) | ("unknown", Kind::Bool) => Ok(Test::Null),
            ("true", Kind::Bool) => Ok(Test::Is(true)),
            ("false", Kind::Bool) => Ok(Test::Is(false)),
            ("true" | "false" | "unknown", _) => {
                Err(self.value_fault("only booleans are true, false or unknown: write is.null"))
            }
            _ => Err(self.value_fault("write is.null, is.true, is.false or is.unknown")),
        }
    }

    fn literal(&self, text: &str) -> Result<Value, Fault> {
        self.kind
            .literal(text)
            .map_err(|remedy| self.value_fault(format!("this is no value of the column's type: {remedy}")))
    }

    fn require_comparable(&self, comparison: Comparison) -> Result<(), Fault> {
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        let fits = if is_equality { self.kind.has_equality() } else { self.kind.is_ordered() };
        if fits {
            return Ok(());
        }
        Err(self.fault(match self.kind {
            Kind::Json { .. } => "json has no comparison here: take a text out of it with ->>",
            Kind::Other if self.is_json => "json has no comparison here: take a text out of it with ->> instead of ->",
            Kind::Text { collation: Collation::Loose, .. } => {
                "texts of this column are equal as its collation has it, which only the database can say: use is.null"
            }
            Kind::Text { .. } => {
                "the order of texts is known only under the collation C: use eq or in, or give the column that collation"
            }
            _ => "values of this type can be compared only by the database: use is.null",
        }))
    }

    /// `make` gets the collation.
    fn pattern(
        &self,
        text: &str,
        case: Case,
        make: impl FnOnce(Collation) -> Result<regex::Regex, String>,
    ) -> Result<Test, Fault> {
        let &Kind::Text { collation, .. } = self.kind else {
            return Err(self.fault("patterns are for texts: use eq, or ->> for a text in json"));
        };
        if collation == Collation::Loose {
            return Err(self.fault("patterns do not work with the column's collation: use is.null"));
        }
        let is_folded = case == Case::AsciiFolded && collation != Collation::C;
        if is_folded && (collation == Collation::Dotted || !text.is_ascii()) {
            return Err(self.value_fault(
                "which letters are each other's other case beyond ASCII only the database can say: use like or match",
            ));
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(
                self.value_fault(format!("the pattern has more than {PATTERN_BYTES_MAX} bytes: use a shorter one"))
            );
        }
        make(collation).map(|regex| Test::Pattern { regex, is_folded }).map_err(|message| self.value_fault(message))
    }
}
