//! What an event takes in WAL.

use tokio::runtime::Runtime;

use crate::kind::{Kind, pairs};
use crate::server::{Server, UPDATES, number};
use crate::statistics::Sample;

const TRANSACTIONS: f64 = 10_000.0;
const ROWS: f64 = 10_000.0;

/// Bytes that an event adds to a transaction's own: the writer's share alone, the share with ticks, and in one large
/// transaction. Images of pages after a checkpoint are left out on both sides: they come once per page, not per event.
pub(crate) fn per_event(_: &Runtime) {
    let server = Server::start();
    server.sql("alter system set full_page_writes = off");
    server.sql("select pg_reload_conf()");
    let rounds = number("BENCH_ROUNDS", 5);
    compare("wal_bytes_per_event_with_ticks", rounds, |kind| of_small_transactions(&server, kind));
    compare("wal_bytes_per_event_of_a_large_transaction", rounds, |kind| of_a_large_transaction(&server, kind));
    server.sql("alter database bench set realtime.worker = off");
    server.sql("select realtime.stop_worker()");
    let (began, log) = (events(&server), log_bytes(&server));
    compare("wal_bytes_per_event", rounds, |kind| of_small_transactions(&server, kind));
    println!("log_bytes_per_event {:.0}", (log_bytes(&server) - log) / (events(&server) - began));
}

fn compare(name: &str, rounds: u64, measure: impl Fn(Kind) -> f64) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        without.push(measure(Kind::Plain));
        with.push(measure(Kind::Captured));
    }
    Sample::new(pairs(&with, &without, |with, without| with - without)).print(name, 0);
    if name == "wal_bytes_per_event" {
        Sample::new(without).print("wal_bytes_per_update_without_capture", 0);
    }
}

fn of_small_transactions(server: &Server, kind: Kind) -> f64 {
    kind.apply(server, "pgbench_accounts");
    let per_client = (TRANSACTIONS / 32.0).ceil();
    let began = position(server);
    server.pgbench_script(UPDATES, &["-c", "32", "-j", "2", "-t", &per_client.to_string()]);
    (position(server) - began) / (per_client * 32.0)
}

fn of_a_large_transaction(server: &Server, kind: Kind) -> f64 {
    kind.apply(server, "bulk");
    let began = position(server);
    server.sql("update bulk set n = n + 1");
    (position(server) - began) / ROWS
}

fn events(server: &Server) -> f64 {
    server.figure("select count(*) from realtime.log")
}

fn log_bytes(server: &Server) -> f64 {
    server.figure("select log_bytes from realtime.status()")
}

fn position(server: &Server) -> f64 {
    server.figure("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
}
