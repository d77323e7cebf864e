//! One statement that changes 10,000 rows.

use std::time::Instant;

use tokio::runtime::Runtime;

use crate::cpu;
use crate::kind::{Kind, Measured, pairs};
use crate::server::{Server, number};
use crate::statistics::Sample;

const ROWS: f64 = 10_000.0;

/// What each row of it takes longer with capture, and with a trigger that notifies.
pub(crate) fn of_one_statement(runtime: &Runtime) {
    let server = Server::start();
    let session = runtime.block_on(server.session());
    let backend = runtime.block_on(session.query_one("select pg_backend_pid()", &[])).unwrap();
    let backend = u32::try_from(backend.get::<_, i32>(0)).unwrap();
    let mut cpu = Measured::default();
    let measured = Measured::of(number("BENCH_ROUNDS", 5) * 3, |kind: Kind| {
        kind.apply(&server, "bulk");
        runtime.block_on(async {
            // Read into memory, with every catalog look-up done.
            session.batch_execute("update bulk set n = n + 1 where id = 1; select sum(n) from bulk").await.unwrap();
            let (began, began_cpu_s) = (Instant::now(), cpu::of_process(backend));
            session.batch_execute("update bulk set n = n + 1").await.unwrap();
            cpu.of_kind(kind).push((cpu::of_process(backend) - began_cpu_s) * 1e3);
            began.elapsed().as_secs_f64() * 1e3
        })
    });
    let added = |with: &[f64], without: &[f64]| pairs(with, without, |with, without| (with - without) * 1e3 / ROWS);
    Sample::new(measured.plain.clone()).print("update_of_10000_rows_ms", 1);
    Sample::new(measured.captured.clone()).print("update_of_10000_rows_captured_ms", 1);
    Sample::new(added(&measured.captured, &measured.plain)).print("added_us_per_row", 2);
    Sample::new(added(&measured.naive, &measured.plain)).print("added_us_per_row_of_notify_trigger", 2);
    Sample::new(added(&cpu.captured, &cpu.plain)).print("added_cpu_us_per_row", 2);
    Sample::new(added(&cpu.naive, &cpu.plain)).print("added_cpu_us_per_row_of_notify_trigger", 2);
}
