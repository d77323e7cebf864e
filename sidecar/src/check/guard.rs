//! The check that runs beside `serve`: it waits for a database that is not there yet and refuses one that is wrong.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Finding, Severity, examine};
use crate::{
    config::Config,
    postgres::{Backoff, Database},
};

/// Something is wrong that waiting does not mend. All of it was logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} to be mended first in the database", faults(.0.len()))]
pub struct Refusal(pub Vec<Finding>);

fn faults(count: usize) -> String {
    if count == 1 { "one fault has".to_owned() } else { format!("{count} faults have") }
}

/// Examines the database as soon as it can be reached, and returns when it is good or `stop` fires.
///
/// # Errors
///
/// When somebody has to change rights, versions or settings.
pub async fn guard(config: &Config, database: &Database, stop: CancellationToken) -> Result<(), Refusal> {
    let settings = &config.database;
    let (min, max) = (settings.reconnect_ms, settings.reconnect_max_ms);
    let mut backoff = Backoff::new(Duration::from_millis(min), Duration::from_millis(max));
    let mut is_first = true;
    while let Some(report) = stop.run_until_cancelled(examine(config, database)).await {
        let found = |wanted| report.findings.iter().filter(move |finding| finding.severity == wanted);
        if report.worst() != Some(Severity::Unreachable) {
            found(Severity::Warning).for_each(|finding| warn!(remedy = finding.remedy, "{}", finding.what));
            found(Severity::Fault).for_each(|finding| error!(remedy = finding.remedy, "{}", finding.what));
            let faults: Vec<Finding> = found(Severity::Fault).cloned().collect();
            if !faults.is_empty() {
                return Err(Refusal(faults));
            }
            info!("the database's rights, versions and settings are as they must be");
            return Ok(());
        }
        if is_first {
            found(Severity::Unreachable).for_each(|finding| warn!(remedy = finding.remedy, "{}", finding.what));
            info!("waiting for the database");
        }
        is_first = false;
        if stop.run_until_cancelled(tokio::time::sleep(backoff.next_wait())).await.is_none() {
            break;
        }
    }
    Ok(())
}
