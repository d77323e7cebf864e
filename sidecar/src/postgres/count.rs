//! Adding to the counters of messages.

use tokio_postgres::types::Type;

use super::{Database, Error, Session};
use crate::hub::{Counts, MessageId};

const COUNT: &str = "select id::text from realtime.count_messages($1::text[]::uuid[], $2, $3) id(id)";

/// Adds these counts in one statement, and gives the messages that somebody else has locked: they were not counted.
///
/// # Errors
///
/// When there is no answer.
pub async fn count_messages(database: &Database, counts: &[(MessageId, Counts)]) -> Result<Vec<MessageId>, Error> {
    let ids: Vec<String> = counts.iter().map(|(id, _)| id.to_string()).collect();
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let subscribers: Vec<i32> = counts.iter().map(|(_, it)| number(it.subscribers)).collect();
    let webhooks: Vec<i32> = counts.iter().map(|(_, it)| number(it.webhooks)).collect();
    let session = Session::open(database).await?;
    let parameters: [super::call::Parameter<'_>; 3] =
        [(&ids, Type::TEXT_ARRAY), (&subscribers, Type::INT4_ARRAY), (&webhooks, Type::INT4_ARRAY)];
    let rows = session.query(COUNT, &parameters).await?;
    Ok(rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()?.parse().ok()).collect())
}
