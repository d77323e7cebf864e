//! What the worker itself costs, under load and at rest; the sidecar beside it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use realtime_tests::Sidecar;
use tokio::runtime::Runtime;

use crate::cpu;
use crate::kind::Kind;
use crate::server::{Server, UPDATES, number};
use crate::statistics::Sample;

/// How long nothing happens.
const REST: Duration = Duration::from_secs(10);

/// Ticks and processor time under 32 clients, then with nothing to do.
pub(crate) fn own_cost(runtime: &Runtime) {
    let server = Server::start();
    let sidecar = runtime.block_on(async {
        let sidecar = Sidecar::start(&server.sidecar_settings());
        sidecar.ready().await;
        sidecar
    });
    Kind::Captured.apply(&server, "pgbench_accounts");
    let pids = Pids { worker: worker_pid(&server), sidecar: sidecar.pid().expect("the sidecar runs") };
    under_load(&server, &pids);
    at_rest(&pids);
}

struct Pids {
    worker: u32,
    sidecar: u32,
}

fn worker_pid(server: &Server) -> u32 {
    server.sql("select worker_pid from realtime.status()").trim().parse().expect("a worker runs")
}

fn under_load(server: &Server, pids: &Pids) {
    let mut samples: [(&str, Vec<f64>); 5] = [
        ("worker_ticks_per_s", vec![]),
        ("worker_events_per_tick", vec![]),
        ("worker_cpu_s_per_1000_ticks", vec![]),
        ("worker_cores_under_load", vec![]),
        ("sidecar_cores_under_load", vec![]),
    ];
    let seconds = number("BENCH_SECONDS", 10);
    for _ in 0..number("BENCH_ROUNDS", 5) {
        let (began, before) = (Instant::now(), State::of(server, pids));
        server.pgbench_script(UPDATES, &["-c", "32", "-j", "2", "-T", &seconds.to_string()]);
        let (elapsed, after) = (began.elapsed().as_secs_f64(), State::of(server, pids));
        let (ticks, worker_s) = (after.ticks - before.ticks, after.worker_s - before.worker_s);
        let events = (after.offset - before.offset) / ticks;
        let sidecar = (after.sidecar_s - before.sidecar_s) / elapsed;
        let values = [ticks / elapsed, events, worker_s * 1000.0 / ticks, worker_s / elapsed, sidecar];
        samples.iter_mut().zip(values).for_each(|((_, sample), value)| sample.push(value));
    }
    for (name, values) in samples {
        Sample::new(values).print(name, 3);
    }
}

fn at_rest(pids: &Pids) {
    // What is still to be delivered comes first.
    sleep(REST);
    let (worker, sidecar) = (cpu::of_process(pids.worker), cpu::of_process(pids.sidecar));
    sleep(REST);
    let per_second = |now: f64, then: f64| (now - then) * 1e3 / REST.as_secs_f64();
    println!("worker_idle_cpu_ms_per_s {:.2}", per_second(cpu::of_process(pids.worker), worker));
    println!("sidecar_idle_cpu_ms_per_s {:.2}", per_second(cpu::of_process(pids.sidecar), sidecar));
}

/// What has been used up so far.
struct State {
    ticks: f64,
    offset: f64,
    worker_s: f64,
    sidecar_s: f64,
}

impl State {
    fn of(server: &Server, pids: &Pids) -> Self {
        Self {
            ticks: server.figure("select max(id) from realtime.ticks"),
            offset: server.figure("select max(last_offset) from realtime.ticks"),
            worker_s: cpu::of_process(pids.worker),
            sidecar_s: cpu::of_process(pids.sidecar),
        }
    }
}
