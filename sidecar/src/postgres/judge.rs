//! Asking the database who sees which event of a table whose policies decide.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::{Database, Error, Session, call::Parameter};
use crate::model::{Offset, Party, Verdict};

const KNOW: &str = "select count(realtime.know_identity(i.id, i.role, i.claims)) \
     from unnest($1::int4[], $2::text[], $3::text[]) i(id, role, claims)";
const FORGET: &str = "select count(realtime.forget_identity(i.id)) from unnest($1::int4[]) i(id)";
const SEAT: &str = "select realtime.seat($1, $2)";
const JUDGE_SEATED: &str = "select offsets, seen_by, verdicts, failures from realtime.judge($1, $2, $3)";
const JUDGE: &str = "select offsets, seen_by, verdicts, failures from realtime.judge($1, $2, $3, $4)";

/// Row events of a table, by their places in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// The table subscribed to.
    pub relation: u32,
    /// The place before them.
    pub after: Offset,
    /// The last of them.
    pub until: Offset,
}

/// Who sees what of some events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The events, places growing.
    offsets: Vec<i64>,
    /// For each event who sees something of it.
    seen: Vec<Vec<(i32, Verdict)>>,
    /// On whom there is no verdict, and the code of the error that a policy raised for them.
    failures: Vec<(i32, Box<str>)>,
}

impl Judgement {
    /// Reads what the database answers: for each identity that sees anything two letters an event. `None` when it is not
    /// that.
    pub(crate) fn new(offsets: Vec<i64>, seen_by: &[i32], verdicts: &[&str]) -> Option<Self> {
        let mut seen = vec![Vec::new(); offsets.len()];
        if seen_by.len() != verdicts.len() || !offsets.is_sorted_by(|a, b| a < b) {
            return None;
        }
        for (&identity, letters) in seen_by.iter().zip(verdicts) {
            let (pairs, rest) = letters.as_bytes().as_chunks::<2>();
            if pairs.len() != offsets.len() || !rest.is_empty() {
                return None;
            }
            for (event, &[old, new]) in seen.iter_mut().zip(pairs) {
                let verdict = Verdict::parse(old, new)?;
                if !verdict.is_blind() {
                    event.push((identity, verdict));
                }
            }
        }
        Some(Self { offsets, seen, failures: Vec::new() })
    }

    fn with_failures(mut self, seen_by: &[i32], codes: &[&str]) -> Self {
        let failed = seen_by.iter().zip(codes).filter(|(_, code)| !code.is_empty());
        self.failures = failed.map(|(&number, &code)| (number, code.into())).collect();
        self
    }

    /// For whom a policy raised an error, and its SQLSTATE.
    pub fn failures(&self) -> impl Iterator<Item = (i32, &str)> {
        self.failures.iter().map(|(number, code)| (*number, &**code))
    }

    /// What both say of the same events, about different people; `None` when the events are not the same.
    #[must_use]
    pub(crate) fn join(mut self, other: Self) -> Option<Self> {
        if self.offsets != other.offsets {
            return None;
        }
        self.seen.iter_mut().zip(other.seen).for_each(|(seen, more)| seen.extend(more));
        self.failures.extend(other.failures);
        Some(self)
    }

    /// Who sees something of the event at this place; everybody else sees nothing. `None` when it was not judged.
    #[must_use]
    pub fn seen_at(&self, place: Offset) -> Option<&[(i32, Verdict)]> {
        let index = self.offsets.binary_search(&place.get()).ok()?;
        self.seen.get(index).map(Vec::as_slice)
    }
}

/// Takes away what a session was told of these numbers.
///
/// # Errors
///
/// When there is no answer.
pub async fn forget(session: &Session<'_>, numbers: &[i32]) -> Result<(), Error> {
    if numbers.is_empty() {
        return Ok(());
    }
    let numbers = numbers.to_vec();
    session.query(FORGET, &[(&numbers, Type::INT4_ARRAY)]).await.map(drop)
}

/// Tells a session who is behind these numbers, and that they are to be judged whenever this table is.
///
/// # Errors
///
/// When there is no answer.
pub async fn seat(session: &Session<'_>, relation: u32, parties: &[(i32, Party)]) -> Result<(), Error> {
    if parties.is_empty() {
        return Ok(());
    }
    let numbers = know(session, parties).await?;
    session.query(SEAT, &[(&relation, Type::OID), (&numbers, Type::INT4_ARRAY)]).await.map(drop)
}

async fn know(session: &Session<'_>, parties: &[(i32, Party)]) -> Result<Vec<i32>, Error> {
    let numbers: Vec<i32> = parties.iter().map(|(number, _)| *number).collect();
    let roles: Vec<&str> = parties.iter().map(|(_, party)| &*party.role).collect();
    let claims: Vec<&str> = parties.iter().map(|(_, party)| &*party.claims).collect();
    let parameters: [Parameter<'_>; 3] =
        [(&numbers, Type::INT4_ARRAY), (&roles, Type::TEXT_ARRAY), (&claims, Type::TEXT_ARRAY)];
    session.query(KNOW, &parameters).await?;
    Ok(numbers)
}

/// Judges events for everybody who is seated in this session.
///
/// # Errors
///
/// When there is no answer. [`Error::Hanging`] when there is none in time because of one of them.
pub async fn judge_seated(session: &Session<'_>, range: Range, deadline: Duration) -> Result<Judgement, Error> {
    let (after, until) = (range.after.get(), range.until.get());
    let parameters: [Parameter<'_>; 3] = [(&range.relation, Type::OID), (&after, Type::INT8), (&until, Type::INT8)];
    judgement(session, deadline, JUDGE_SEATED, &parameters).await
}

/// Judges events once, for these parties.
///
/// # Errors
///
/// As [`judge_seated`].
pub async fn judge_once(
    database: &Database,
    range: Range,
    parties: &[(i32, Party)],
    deadline: Duration,
) -> Result<Judgement, Error> {
    let session = Session::open(database).await?;
    // One transaction: behind a pooler the next statement might reach another session otherwise.
    session.begin().await?;
    let numbers = know(&session, parties).await?;
    let (after, until) = (range.after.get(), range.until.get());
    let parameters: [Parameter<'_>; 4] =
        [(&range.relation, Type::OID), (&after, Type::INT8), (&until, Type::INT8), (&numbers, Type::INT4_ARRAY)];
    let judgement = judgement(&session, deadline, JUDGE, &parameters).await?;
    forget(&session, &numbers).await?;
    session.commit().await?;
    Ok(judgement)
}

async fn judgement(
    session: &Session<'_>,
    deadline: Duration,
    statement: &str,
    parameters: &[Parameter<'_>],
) -> Result<Judgement, Error> {
    let rows = session.judge_within(deadline, statement, parameters).await?;
    let row = rows.first().ok_or(Error::Malformed)?;
    let (seen_by, verdicts): (Vec<i32>, Vec<&str>) = (row.try_get(1)?, row.try_get(2)?);
    let failures: Option<Vec<&str>> = row.try_get(3)?;
    let judgement = Judgement::new(row.try_get(0)?, &seen_by, &verdicts).ok_or(Error::Malformed)?;
    Ok(judgement.with_failures(&seen_by, &failures.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: i64) -> Offset {
        Offset::new(number).expect("small")
    }

    fn numbers(judgement: &Judgement, number: i64) -> Option<Vec<i32>> {
        judgement.seen_at(place(number)).map(|seen| seen.iter().map(|(identity, _)| *identity).collect())
    }

    #[test]
    fn who_sees_nothing_of_an_event_is_not_named_and_an_event_that_was_not_judged_is_not_known() {
        let judgement = Judgement::new(vec![5, 9], &[3, 7], &["-101", "-0e-"]).expect("an answer");
        assert_eq!(numbers(&judgement, 5), Some(vec![3]));
        assert_eq!(numbers(&judgement, 9), Some(vec![3, 7]));
        assert_eq!(numbers(&judgement, 6), None);
        let empty = Judgement::new(vec![5], &[], &[]).expect("an answer");
        assert_eq!(numbers(&empty, 5), Some(vec![]), "it was judged, and nobody sees it");
        let failed = judgement.with_failures(&[3, 7], &["", "22012"]);
        assert_eq!(failed.failures().collect::<Vec<_>>(), [(7, "22012")]);
    }

    #[test]
    fn what_does_not_fit_together_is_no_judgement() {
        for (offsets, seen_by, letters) in [
            (vec![5, 9], vec![1], vec!["11"]),
            (vec![5], vec![1], vec!["111"]),
            (vec![5], vec![1], vec!["1x"]),
            (vec![5], vec![1, 2], vec!["11"]),
            (vec![9, 5], vec![1], vec!["1111"]),
        ] {
            assert_eq!(Judgement::new(offsets, &seen_by, &letters), None);
        }
    }
}
