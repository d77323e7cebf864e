//! What a write is compared with: no capture, ours, and the trigger that people write by hand.

use crate::server::Server;
use crate::statistics::Sample;

/// What happens to a table's changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Plain,
    /// Capture, by this extension.
    Captured,
    /// A row trigger that sends the row with `pg_notify`.
    Naive,
}

/// The row trigger that people write by hand.
pub(crate) const NAIVE: &str = "
create function naive() returns trigger language plpgsql as $$
begin
  perform pg_notify('naive', json_build_object('op', tg_op, 'record', row_to_json(new))::text);
  return null;
end $$;
";

impl Kind {
    /// All of them, each first in its turn: what else the machine does hits each of them alike.
    pub(crate) fn in_turn(round: u64) -> [Self; 3] {
        let mut kinds = [Self::Plain, Self::Captured, Self::Naive];
        kinds.rotate_left(usize::try_from(round % 3).unwrap_or(0));
        kinds
    }

    /// Makes it so for a table in schema `public`, which begins compact and with no checkpoint due.
    pub(crate) fn apply(self, server: &Server, table: &str) {
        server.sql(&format!("drop trigger if exists naive on {table}; select realtime.disable_realtime('{table}');"));
        match self {
            Self::Plain => (),
            Self::Captured => drop(server.sql(&format!("select realtime.enable_realtime('{table}')"))),
            Self::Naive => drop(server.sql(&format!(
                "create trigger naive after insert or update on {table} for each row execute function naive()"
            ))),
        }
        server.sql(&format!("vacuum full {table}"));
        server.sql("checkpoint");
    }
}

/// Values of each kind, measured in turn.
#[derive(Default)]
pub(crate) struct Measured {
    /// One value per round.
    pub(crate) plain: Vec<f64>,
    /// One value per round.
    pub(crate) captured: Vec<f64>,
    /// One value per round.
    pub(crate) naive: Vec<f64>,
}

impl Measured {
    /// Measures all kinds for so many rounds.
    pub(crate) fn of(rounds: u64, mut measure: impl FnMut(Kind) -> f64) -> Self {
        let mut measured = Self::default();
        for round in 0..rounds {
            for kind in Kind::in_turn(round) {
                measured.of_kind(kind).push(measure(kind));
            }
            let last = [&measured.plain, &measured.captured, &measured.naive].map(|values| values[values.len() - 1]);
            eprintln!("round {round}: {:.1} plain, {:.1} captured, {:.1} naive", last[0], last[1], last[2]);
        }
        measured
    }

    /// Prints medians and ranges of all kinds.
    pub(crate) fn print(&self, name: &str) {
        let kinds = [("without_capture", &self.plain), ("with_capture", &self.captured)];
        for (kind, values) in kinds.into_iter().chain([("with_notify_trigger", &self.naive)]) {
            Sample::new(values.clone()).print(&format!("{name}_{kind}"), 0);
        }
    }

    /// The values of one kind.
    pub(crate) fn of_kind(&mut self, kind: Kind) -> &mut Vec<f64> {
        match kind {
            Kind::Plain => &mut self.plain,
            Kind::Captured => &mut self.captured,
            Kind::Naive => &mut self.naive,
        }
    }
}

/// Combines the values of two kinds round by round.
pub(crate) fn pairs(left: &[f64], right: &[f64], combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    left.iter().zip(right).map(|(l, r)| combine(*l, *r)).collect()
}
