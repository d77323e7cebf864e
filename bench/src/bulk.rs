//! One statement that changes 10,000 rows.

use std::time::Instant;

use tokio::runtime::Runtime;

use crate::kind::{Kind, Measured, pairs};
use crate::server::{Server, number};
use crate::statistics::Sample;

const ROWS: f64 = 10_000.0;

/// What each row of it takes longer with capture, and with a trigger that notifies.
pub(crate) fn of_one_statement(runtime: &Runtime) {
    let server = Server::start();
    let session = runtime.block_on(server.session());
    let measured = Measured::of(number("BENCH_ROUNDS", 5) * 3, |kind: Kind| {
        kind.apply(&server, "bulk");
        runtime.block_on(async {
            // Read into memory, with every catalog look-up done.
            session.batch_execute("update bulk set n = n + 1 where id = 1; select sum(n) from bulk").await.unwrap();
            let began = Instant::now();
            session.batch_execute("update bulk set n = n + 1").await.unwrap();
            began.elapsed().as_secs_f64() * 1e3
        })
    });
    let added = |with: &[f64]| pairs(with, &measured.plain, |with, without| (with - without) * 1e3 / ROWS);
    Sample::new(measured.plain.clone()).print("update_of_10000_rows_ms", 1);
    Sample::new(measured.captured.clone()).print("update_of_10000_rows_captured_ms", 1);
    Sample::new(added(&measured.captured)).print("added_us_per_row", 2);
    Sample::new(added(&measured.naive)).print("added_us_per_row_of_notify_trigger", 2);
}
