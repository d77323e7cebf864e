//! A steady load for a long time: what is kept is bounded, and nothing else grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use realtime_tests::Stack;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until};

use crate::figures::{descriptors, resident_bytes};
use crate::line::Line;

/// Samples of the whole time; the first third is for warming up.
const SAMPLES: u32 = 24;
const WRITERS: i64 = 4;
/// Between two transactions of one writer.
const PACE: Duration = Duration::from_millis(20);

/// What there was at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    log_bytes: u64,
    log_rows_dead: u64,
    sidecar_bytes: u64,
    descriptors: u64,
}

/// Writes, reads and reconnects for this long, and compares what there is in the last third with the third before it.
pub(crate) async fn run(duration: Duration) {
    let table = "create table t (id bigint primary key, body text); select realtime.enable_realtime('t');
        grant select on t to anon;";
    // The memory of the newest events is to be full before the first third is over.
    let builder = Stack::builder().set("REALTIME_LIMITS_RECENT_BYTES_MAX", "1048576");
    let stack = Arc::new(builder.sql(table).start().await);
    let retention = (duration / 8).as_secs().max(1);
    let text = format!("update realtime.settings set value = '{retention} seconds' where name = 'log_retention'");
    stack.exec(&text).await;
    let (stop, stopped) = watch::channel(false);
    let (written, read) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for number in 0..WRITERS {
        tasks.push(write(&stack, number, stopped.clone(), Arc::clone(&written)).await);
    }
    for number in 0..4 {
        tasks.push(tokio::spawn(listen(Arc::clone(&stack), number, stopped.clone(), Arc::clone(&read))));
    }
    let samples = sample(&stack, duration).await;
    stop.send(true).unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    println!("steady_s {}\nsteady_written {}", duration.as_secs(), written.load(Ordering::Relaxed));
    println!("steady_read {}", read.load(Ordering::Relaxed));
    judge(&samples);
}

async fn sample(stack: &Stack, duration: Duration) -> Vec<Sample> {
    let began = Instant::now();
    let mut samples = Vec::new();
    for number in 1..=SAMPLES {
        sleep_until(began + duration * number / SAMPLES).await;
        // The worker does so every ten seconds, which is the whole time of the short form.
        stack.exec("select realtime.rotate()").await;
        let dead = "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_all_tables
            where schemaname = 'realtime' and relname ~ '^(log|tick)_[0-7]$'";
        let sidecar = stack.sidecar.pid().unwrap();
        samples.push(Sample {
            log_bytes: stack.text("select realtime._log_bytes()").await.parse().unwrap(),
            log_rows_dead: stack.text(dead).await.parse().unwrap(),
            sidecar_bytes: resident_bytes(sidecar),
            descriptors: descriptors(sidecar),
        });
        println!("{:?}", samples.last().unwrap());
    }
    samples
}

fn judge(samples: &[Sample]) {
    let third = samples.len() / 3;
    let most = |samples: &[Sample], of: fn(&Sample) -> u64| samples.iter().map(of).max().unwrap();
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let both = |of: fn(&Sample) -> u64| (most(middle, of), most(last, of));
    let (log_before, log) = both(|it| it.log_bytes);
    let (memory_before, memory) = both(|it| it.sidecar_bytes);
    let (files_before, files) = both(|it| it.descriptors);
    let dead = most(samples, |it| it.log_rows_dead);
    println!("steady_log_kib {} {}\nsteady_log_rows_dead {dead}", log_before >> 10, log >> 10);
    println!("steady_sidecar_kib {} {}", memory_before >> 10, memory >> 10);
    println!("steady_descriptors {files_before} {files}");
    assert!(log < log_before * 3 / 2 + (1 << 20), "the log grows: {log_before}, {log}");
    assert_eq!(dead, 0, "rows of the log are never updated or deleted, and what is rolled back is never written");
    assert!(memory < memory_before + memory_before / 10 + (2 << 20), "the sidecar grows: {memory_before}, {memory}");
    assert!(files <= files_before + 4, "files stay open: {files_before}, {files}");
}

/// Inserts, updates and deletes in turn, so that the table does not grow; every tenth transaction is rolled back.
async fn write(stack: &Stack, number: i64, stopped: watch::Receiver<bool>, written: Arc<AtomicU64>) -> JoinHandle<()> {
    let session = stack.session().await;
    tokio::spawn(async move {
        let mut pace = interval(PACE);
        for turn in 0_i64.. {
            pace.tick().await;
            if *stopped.borrow() {
                return;
            }
            let id = number + WRITERS * (turn % 100);
            let end = if turn % 10 == 9 { "rollback" } else { "commit" };
            let text = format!(
                "begin; insert into t values ({id}, repeat('x', 300)) on conflict (id) do update set body = t.body || 'y';
                 delete from t where id = {id} and length(body) > 305; {end}"
            );
            session.batch_execute(&text).await.unwrap();
            written.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Listens; three of four come back again and again.
async fn listen(stack: Arc<Stack>, number: u64, mut stopped: watch::Receiver<bool>, read: Arc<AtomicU64>) {
    let address = stack.sidecar.address();
    let mut cursor = stack.text("select head from realtime.status()").await.parse().unwrap();
    loop {
        let mut line = Line::open(address, "table:t", cursor).await.unwrap();
        let end = if number == 0 { u64::MAX } else { number * 50 };
        for _ in 0..end {
            // Behind the last write there is no event to wait for.
            tokio::select! {
                event = line.event() => drop(event.unwrap()),
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            read.fetch_add(1, Ordering::Relaxed);
        }
        cursor = line.cursor;
    }
}
