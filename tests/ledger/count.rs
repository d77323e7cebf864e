//! The counting, once everything is at rest.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use crate::book::{Truth, Write};
use crate::database::Table;
use crate::event::Row;
use crate::plan::Plan;
use crate::random::Random;
use crate::reader::{Desk, Habits, Reader};
use crate::recompute;
use crate::seed::Segment;
use crate::stream::Stream;
use crate::verdict::Verdict;

/// What was written and what was delivered.
pub(crate) struct Found {
    /// What was written.
    pub(crate) truth: Truth,
    /// What readers and clients got.
    pub(crate) streams: Vec<Stream>,
    /// What a client that cannot resume got over each of its connections.
    pub(crate) segments: Vec<Segment>,
}

impl Found {
    /// Counts, prints the counts, and returns them.
    pub(crate) async fn count(mut self, client: &Client, plan: &Plan, desk: &Desk) -> Verdict {
        let gaps_allowed = plan.has_gaps();
        let mut verdict = Verdict::default();
        if !gaps_allowed {
            let whole = read_again(desk, client).await;
            verdict.judge_segments(&self.segments, &whole);
            self.streams.push(whole);
        }
        for stream in &self.streams {
            let (events, marks) = (stream.steps.len(), stream.marks.len());
            println!("{}: {events} events, {marks} marks, gaps {:?}", stream.name, reasons(stream));
            verdict.judge(stream, &self.truth, gaps_allowed);
        }
        verdict.judge_gaps(&self.streams, &self.truth);
        verdict.two_values.add_all(desk.memory.doubles());
        verdict.failed_user_writes.add_all(desk.book.failures());
        verdict.contradictions.add_all(self.truth.contradictions.iter().cloned());
        verdict.wrong_fold.add_all(compare_folds(client, &self.streams).await);
        verdict.wrong_order.add_all(differences(client).await);
        self.print(desk);
        verdict.print();
        if plan.sabotage.is_none() {
            verdict.print_evidence();
        }
        verdict
    }

    fn print(&self, desk: &Desk) {
        let in_segments: usize = self.segments.iter().map(|segment| segment.writes.len()).sum();
        println!("seed client: {in_segments} events in {} parts", self.segments.len());
        println!("transactions {:?}, taken back {}", self.truth.outcomes, self.truth.taken_back);
        println!("ordinary errors {:?}", desk.book.expected());
        println!("committed events {}", self.truth.made_by.len());
    }
}

/// Why a subscriber had gaps, and how many.
fn reasons(stream: &Stream) -> BTreeMap<&str, usize> {
    let mut reasons = BTreeMap::new();
    for gap in &stream.gaps {
        *reasons.entry(gap.reason.as_str()).or_default() += 1;
    }
    reasons
}

/// The final log, read once more from its beginning: what was delivered must be what it says.
async fn read_again(desk: &Desk, client: &Client) -> Stream {
    let oldest: i64 = client.query_one("select oldest from realtime.status()", &[]).await.unwrap().get(0);
    Reader::new("the final log", desk.clone(), Habits::default(), Random::new(0), oldest).run().await
}

async fn compare_folds(client: &Client, streams: &[Stream]) -> Vec<String> {
    let mut faults = Vec::new();
    for table in Table::ALL {
        let there = rows_of(client, table).await;
        let whole = streams.iter().filter(|stream| stream.is_whole());
        for stream in whole.filter(|stream| stream.scope.has(Write::Truncate(table))) {
            let folded = stream.folded(table);
            if folded != there {
                let (got, have) = (folded.len(), there.len());
                let first = folded.iter().zip(&there).find(|(one, other)| one != other);
                faults.push(format!("{}: {table:?} folds to {got} rows, has {have}; {first:?}", stream.name));
            }
        }
    }
    faults
}

async fn rows_of(client: &Client, table: Table) -> Vec<Row> {
    let text = format!("select row_to_json(t)::text from {} t order by {}", table.name(), table.key().join(", "));
    let rows = client.query(&text, &[]).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row.get(0)).unwrap()).collect()
}

/// What the log's own tables say against themselves.
async fn differences(client: &Client) -> Vec<String> {
    client.batch_execute("set enable_seqscan = off; set jit = off; set timezone = 'UTC'").await.unwrap();
    let mut faults = Vec::new();
    for (what, text) in [("order", recompute::DIFFERENCES), ("chain", recompute::CHAIN), ("left", recompute::LEFT)] {
        let rows = client.simple_query(text).await.unwrap();
        faults.extend(rows.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(format!("{what}: {}", line(&row))),
            _ => None,
        }));
    }
    faults
}

fn line(row: &tokio_postgres::SimpleQueryRow) -> String {
    (0..row.len()).map(|column| row.get(column).unwrap_or("null")).collect::<Vec<_>>().join(" ")
}
