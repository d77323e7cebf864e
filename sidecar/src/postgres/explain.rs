//! Asking the database why somebody may listen, or may not.

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::types::Type;

use super::{Database, Error, Session};

const EXPLAIN: &str = "select e.subject, e.allowed, e.says, e.detail \
     from realtime.explain_access($1::text::jsonb, $2, $3::text::jsonb) with ordinality \
          e(subject, allowed, says, detail, n) order by e.n";

/// One thing that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about: a grant, a policy, the row, the verdict.
    pub subject: String,
    /// Whether it stands in nobody's way; `None` where it does not matter.
    pub allowed: Option<bool>,
    /// The word of a policy: yes, no, null, none, several, or an SQLSTATE.
    pub says: Option<String>,
    /// In words.
    pub detail: Option<String>,
}

/// Everything that counts for whoever has these claims on a channel; with a key, of a table's row too. Claims and key are
/// JSON.
///
/// # Errors
///
/// When there is no answer. [`Error::Deadline`] when the policies take too long.
pub async fn explain_access(
    database: &Database,
    claims: &str,
    channel: &str,
    key: Option<&str>,
    deadline: Duration,
) -> Result<Vec<Fact>, Error> {
    let parameters: [super::call::Parameter<'_>; 3] =
        [(&claims, Type::TEXT), (&channel, Type::TEXT), (&key, Type::TEXT)];
    let session = Session::open(database).await?;
    let rows = session.query_within(deadline, EXPLAIN, &parameters).await?;
    let fact = |row: &tokio_postgres::Row| {
        Ok(Fact { subject: row.try_get(0)?, allowed: row.try_get(1)?, says: row.try_get(2)?, detail: row.try_get(3)? })
    };
    rows.iter().map(fact).collect()
}
