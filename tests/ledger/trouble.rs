//! What an error of a user's statement means.

use std::error::Error;

use tokio_postgres::error::DbError;

use crate::book::Book;

/// Why a statement did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The session is gone; nobody knows whether the statement was carried out.
    Lost,
    /// The server refused, the session lives.
    Refused,
}

/// Deadlock, serialization failure, lock timeout, unique and foreign key violation.
const ORDINARY: [&str; 5] = ["40P01", "40001", "55P03", "23505", "23503"];
/// The server stops, crashed, or starts.
const SERVER_GOES: [&str; 3] = ["57P01", "57P02", "57P03"];

/// Sorts an error, and notes it in the book.
pub(crate) fn sort(book: &Book, doing: &str, error: &tokio_postgres::Error) -> Trouble {
    let Some(answer) = error.as_db_error() else {
        if !error.is_closed() && !is_of_the_network(error) {
            book.fail(format!("{doing}: {error:?}"));
        }
        return Trouble::Lost;
    };
    let code = answer.code().code();
    if SERVER_GOES.contains(&code) {
        return Trouble::Lost;
    }
    if ORDINARY.contains(&code) && !is_about_the_log(answer) {
        book.expect(code);
    } else {
        book.fail(format!("{doing}: {code} {} {:?} {:?}", answer.message(), answer.detail(), answer.where_()));
    }
    Trouble::Refused
}

fn is_of_the_network(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

/// An ordinary error is ours when it is about a table of ours: a writer waits for none of them.
fn is_about_the_log(answer: &DbError) -> bool {
    let texts = [Some(answer.message()), answer.detail(), answer.where_(), answer.table()];
    let ours = ["log_", "tick_", "ticker", "layouts", "realtime.state"];
    texts.into_iter().flatten().any(|text| ours.iter().any(|name| text.contains(name)))
}
