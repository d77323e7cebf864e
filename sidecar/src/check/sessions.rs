//! What a transaction pooler between us and the server breaks, silently or not.
//!
//! It accepts LISTEN and then gives the server session to somebody else: the notification is lost without an error. So
//! one is sent over another connection and must arrive. And it may lose prepared statements between two calls.

use std::{future::poll_fn, time::Duration};

use tokio::sync::Notify;
use tokio_postgres::AsyncMessage;

use super::{Finding, LOST_STATEMENTS, Report, connecting, facts::Facts};
use crate::{
    config::Config,
    postgres::{Client, Connection, Database, Error},
};

/// How long a notification may take, and a pooler that has no session to spare.
const PATIENCE: Duration = Duration::from_secs(3);

const PLACE: &str = "select pg_catalog.pg_postmaster_start_time()::text || '/' || pg_catalog.current_database()";

pub(super) async fn examine(config: &Config, database: &Database, facts: &Facts, report: &mut Report) {
    statements(config, database, report).await;
    notifications(config, database, facts, report).await;
}

async fn statements(config: &Config, database: &Database, report: &mut Report) {
    match keeps_statements(database).await {
        Ok(true) => (),
        Ok(false) => {
            let what = format!("{} is a pooler that loses prepared statements", config.database.pool);
            report.findings.push(Finding::fault(what, LOST_STATEMENTS));
        }
        Err(error) => report.findings.push(connecting(&error, &config.database.pool.to_string())),
    }
}

/// Prepares a statement, lets somebody else take the server session if it can be had, and uses it.
async fn keeps_statements(database: &Database) -> Result<bool, Error> {
    let (user, using) = database.probe().await?;
    let (occupant, occupying) = database.probe().await?;
    let nobody = Notify::new();
    let trial = async {
        let statement = user.prepare("select 1").await?;
        occupant.batch_execute("begin").await?;
        let used = user.query(&statement, &[]).await;
        occupant.batch_execute("rollback").await?;
        Ok(used.is_ok_and(|rows| rows.len() == 1))
    };
    tokio::select! {
        // A pooler with one session makes the second wait for the first: that tells nothing, and is not a fault.
        kept = tokio::time::timeout(PATIENCE, trial) => kept.unwrap_or(Ok(true)),
        error = drive(using, &nobody) => Err(error),
        error = drive(occupying, &nobody) => Err(error),
    }
}

async fn notifications(config: &Config, database: &Database, facts: &Facts, report: &mut Report) {
    match round_trip(database).await {
        Err(error) => report.findings.push(connecting(&error, &format!("{} (direct)", config.database.direct))),
        Ok(Trip { place, .. }) if place != facts.place => {
            let what = "database.direct_url leads to another server or database than database.url";
            report.findings.push(Finding::fault(what, "point both at the same database"));
        }
        Ok(Trip { arrived: false, .. }) => {
            let what = format!("notifications do not arrive over {}: a transaction pooler", config.database.direct);
            let remedy = "set database.direct_url (REALTIME_DIRECT_URL) to the server itself";
            report.findings.push(Finding::fault(what, remedy));
        }
        Ok(_) => report.good("notifications arrive"),
    }
}

/// What came of one notification.
struct Trip {
    place: String,
    arrived: bool,
}

async fn round_trip(database: &Database) -> Result<Trip, Error> {
    let (listener, listening) = database.listen().await?;
    let (sender, sending) = database.listen().await?;
    let (arrival, nobody) = (Notify::new(), Notify::new());
    tokio::select! {
        trip = talk(&listener, &sender, &arrival) => trip,
        error = drive(listening, &arrival) => Err(error),
        error = drive(sending, &nobody) => Err(error),
    }
}

async fn talk(listener: &Client, sender: &Client, arrival: &Notify) -> Result<Trip, Error> {
    // A name of its own, so that nobody else is woken. It is ours, not a user's, hence safe to write into SQL.
    let channel = format!("realtime_check_{}", uuid::Uuid::new_v4().simple());
    listener.batch_execute(&format!("listen {channel}")).await?;
    let place = listener.query_one(PLACE, &[]).await?.get(0);
    sender.batch_execute(&format!("notify {channel}")).await?;
    let arrived = tokio::time::timeout(PATIENCE, arrival.notified()).await.is_ok();
    Ok(Trip { place, arrived })
}

/// Reads from the server until the connection ends, which it should not.
async fn drive(mut connection: Connection, arrival: &Notify) -> Error {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(_))) => arrival.notify_one(),
            Some(Ok(_)) => (),
            Some(Err(error)) => return Error::Postgres(error),
            None => return Error::Closed,
        }
    }
}
