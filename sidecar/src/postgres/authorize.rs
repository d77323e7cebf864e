//! Asking the database whether somebody may listen.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Row, types::Type};

use super::{Database, Error, Session};
use crate::model::{Channel, Columns, Grant, Identity, Refusal, TableGrant, Topic};

const MAY_SUBSCRIBE: &str = "select j.allowed, j.reason, j.relation, j.columns, j.types, j.key, j.shape, j.whole, j.judged, j.rights, \
            case when q.compares then realtime.comparable(j.relation, j.columns) end, j.numbers \
     from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[]) \
          with ordinality q(role, claims, channel, schema_name, table_name, compares, n) \
     cross join lateral realtime.may_subscribe(q.role, q.claims, q.channel, q.schema_name, q.table_name) j \
     order by q.n";

const NO_CLAIMS: &str = "{}";

/// A question: may this identity listen to this channel?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The role to assume.
    pub role: Arc<str>,
    /// The claims that policies read; for a table none.
    pub claims: Arc<str>,
    /// The channel.
    pub channel: Channel,
    /// How the values of a table's columns are compared is asked too.
    pub compares: bool,
}

/// The answer to a question.
pub type Answer = Result<Arc<Grant>, Refusal>;

impl Question {
    /// Whether `identity` may listen to `channel`.
    #[must_use]
    pub fn new(identity: &Identity, channel: Channel) -> Self {
        // Who may listen to a table is a matter of the role: all who have it ask one question.
        let claims = match channel {
            Channel::Table(_) => NO_CLAIMS.into(),
            Channel::Messages(_) => Arc::clone(&identity.claims),
        };
        Self { role: Arc::clone(&identity.role), claims, channel, compares: false }
    }

    /// The same; with `compares` it also asks how the values of a table's columns are compared.
    #[must_use]
    pub fn comparing(mut self, compares: bool) -> Self {
        self.compares = compares;
        self
    }

    /// Whether it is about this identity.
    #[must_use]
    pub fn is_of(&self, identity: &Identity) -> bool {
        *self == Self::new(identity, self.channel.clone()).comparing(self.compares)
    }
}

/// Asks several questions at once; the answers come in the same order.
///
/// # Errors
///
/// When there is no answer, or a policy of one of them failed: then each is to be asked alone.
pub async fn may_subscribe(
    database: &Database,
    questions: &[Question],
    deadline: Duration,
) -> Result<Vec<Answer>, Error> {
    let roles: Vec<&str> = questions.iter().map(|it| &*it.role).collect();
    let claims: Vec<&str> = questions.iter().map(|it| &*it.claims).collect();
    let channels: Vec<&str> = questions.iter().map(|it| it.channel.name().as_str()).collect();
    let tables: Vec<_> = questions.iter().map(|it| table(&it.channel)).collect();
    let schema_names: Vec<Option<&str>> = tables.iter().map(|it| it.map(|(schema, _)| schema)).collect();
    let table_names: Vec<Option<&str>> = tables.iter().map(|it| it.map(|(_, table)| table)).collect();
    let compares: Vec<bool> = questions.iter().map(|it| it.compares).collect();
    let parameters: [super::call::Parameter<'_>; 6] = [
        (&roles, Type::TEXT_ARRAY),
        (&claims, Type::TEXT_ARRAY),
        (&channels, Type::TEXT_ARRAY),
        (&schema_names, Type::TEXT_ARRAY),
        (&table_names, Type::TEXT_ARRAY),
        (&compares, Type::BOOL_ARRAY),
    ];
    let rows = Session::open(database).await?.query_within(deadline, MAY_SUBSCRIBE, &parameters).await?;
    if rows.len() != questions.len() {
        return Err(Error::Malformed);
    }
    rows.iter().zip(questions).map(|(row, question)| answer(row, &question.channel)).collect()
}

fn table(channel: &Channel) -> Option<(&str, &str)> {
    match channel {
        Channel::Table(name) => Some((&name.schema, &name.table)),
        Channel::Messages(_) => None,
    }
}

fn answer(row: &Row, channel: &Channel) -> Result<Answer, Error> {
    if row.try_get::<_, Option<bool>>(0)? != Some(true) {
        return Ok(Err(refusal(row.try_get::<_, Option<&str>>(1)?.unwrap_or_default())));
    }
    let grant = match channel {
        Channel::Messages(name) => Grant { topic: Topic::Channel(name.clone()), table: None },
        Channel::Table(_) => {
            let relation: Option<u32> = row.try_get(2)?;
            Grant { topic: Topic::Table(relation.ok_or(Error::Malformed)?), table: Some(table_grant(row)?) }
        }
    };
    Ok(Ok(Arc::new(grant)))
}

fn refusal(reason: &str) -> Refusal {
    match reason {
        "no_table" => Refusal::NoTable,
        "not_enabled" => Refusal::NotEnabled,
        "no_channel" => Refusal::NoChannel,
        "no_privilege" => Refusal::NoPrivilege,
        "policies" => Refusal::Policies,
        "no_role" => Refusal::NoRole,
        "role_not_granted" => Refusal::RoleNotGranted,
        _ => {
            let failed = reason.strip_prefix("policy_failed ");
            failed.map_or(Refusal::Forbidden, |sqlstate| Refusal::PolicyFailed(sqlstate.into()))
        }
    }
}

fn table_grant(row: &Row) -> Result<TableGrant, Error> {
    let names: Vec<Arc<str>> = list(row, 3)?.unwrap_or_default();
    let types: Vec<Arc<str>> = list(row, 4)?.unwrap_or_default();
    let columns = Columns::new(names.iter().cloned());
    let key = list(row, 5)?.filter(|key| !key.is_empty() && key.iter().all(|name| columns.contains(name)));
    Ok(TableGrant {
        columns,
        numbers: row.try_get::<_, Option<Vec<i16>>>(11)?.unwrap_or_default().into(),
        comparable: comparable(row, &names)?,
        types: names.into_iter().zip(types).collect(),
        key: key.map(Arc::from),
        shape: row.try_get(6)?,
        is_whole: row.try_get::<_, Option<bool>>(7)?.unwrap_or_default(),
        // What was not said counts as yes: no row is sent that a policy might hide.
        is_judged: row.try_get::<_, Option<bool>>(8)?.unwrap_or(true),
        rights: row.try_get::<_, Option<i64>>(9)?.unwrap_or_default(),
    })
}

/// A word about each column.
type Words = Arc<[(Arc<str>, Arc<str>)]>;

fn comparable(row: &Row, names: &[Arc<str>]) -> Result<Words, Error> {
    let said: Option<Vec<Option<&str>>> = row.try_get(10)?;
    // A column that is no more, and one of a kind that is not known, can be compared with nothing.
    let known = said.unwrap_or_default().into_iter().map(|said| said.unwrap_or("other").into());
    Ok(names.iter().cloned().zip(known).collect())
}

fn list(row: &Row, index: usize) -> Result<Option<Vec<Arc<str>>>, Error> {
    Ok(row.try_get::<_, Option<Vec<&str>>>(index)?.map(|list| list.into_iter().map(Arc::from).collect()))
}
