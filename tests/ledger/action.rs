//! Single writes of a transaction. Each takes its keys at random from few, so that writers meet.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use crate::book::{Transaction, Write};
use crate::database::{CHANNELS, Table};
use crate::random::Random;

const ACCOUNTS: i32 = 12;
const STOCK: i32 = 10;
const SEATS: i32 = 20;
const PARENTS: i32 = 8;
const CHILDREN: i32 = 16;
/// Rows of a transaction that spills: some 300 bytes each, and memory for 64 KiB.
const BULK_ROWS: [i64; 3] = [100, 250, 550];
/// Rows of another transaction that one deletes.
const BULK_DELETED: i64 = 60;

/// One kind of write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    UpsertAccount,
    UpdateAccount,
    DeleteAccount,
    UpsertStock,
    MoveStock,
    TakeSeat,
    LeaveSeat,
    SwapSeats,
    AddChild,
    AddParent,
    DeleteChild,
    DeleteParent,
    Note,
    FillBulk,
    ThinBulk,
    FillScratch,
    EmptyScratch,
    Publish,
    Look,
}

/// How often each kind comes, as shares of their sum.
const SHARES: [(Action, u64); 19] = [
    (Action::UpsertAccount, 18),
    (Action::UpdateAccount, 18),
    (Action::DeleteAccount, 6),
    (Action::UpsertStock, 10),
    (Action::MoveStock, 5),
    (Action::TakeSeat, 8),
    (Action::LeaveSeat, 6),
    (Action::SwapSeats, 4),
    (Action::AddChild, 7),
    (Action::AddParent, 5),
    (Action::DeleteChild, 5),
    (Action::DeleteParent, 3),
    (Action::Note, 12),
    (Action::FillBulk, 1),
    (Action::ThinBulk, 2),
    (Action::FillScratch, 3),
    (Action::EmptyScratch, 1),
    (Action::Publish, 10),
    (Action::Look, 8),
];

impl Action {
    /// One of them.
    pub(crate) fn any(random: &mut Random) -> Self {
        let sum = SHARES.iter().map(|(_, share)| share).sum();
        let mut place = random.below(sum);
        for (action, share) in SHARES {
            if place < share {
                return action;
            }
            place -= share;
        }
        Self::Note
    }

    /// Carries it out and notes in the transaction what it wrote.
    pub(crate) async fn run(self, hand: &mut Hand<'_>) -> Result<(), Error> {
        match self {
            Self::UpsertAccount => upsert_account(hand).await,
            Self::UpdateAccount => update_account(hand).await,
            Self::DeleteAccount => delete(hand, Table::Accounts, ACCOUNTS).await,
            Self::UpsertStock => upsert_stock(hand).await,
            Self::MoveStock => move_stock(hand).await,
            Self::TakeSeat => take_seat(hand).await,
            Self::LeaveSeat => delete(hand, Table::Seats, SEATS).await,
            Self::SwapSeats => swap_seats(hand).await,
            Self::AddChild => add_child(hand).await,
            Self::AddParent => add_parent(hand).await,
            Self::DeleteChild => delete(hand, Table::Children, CHILDREN).await,
            Self::DeleteParent => delete(hand, Table::Parents, PARENTS).await,
            Self::Note => note(hand).await,
            Self::FillBulk => fill_bulk(hand).await,
            Self::ThinBulk => thin_bulk(hand).await,
            Self::FillScratch => fill_scratch(hand).await,
            Self::EmptyScratch => empty_scratch(hand).await,
            Self::Publish => publish(hand).await,
            Self::Look => look(hand).await,
        }
    }
}

/// What a write needs: a session in a transaction, the transaction's page in the book, and luck.
pub(crate) struct Hand<'a> {
    pub(crate) client: &'a Client,
    pub(crate) transaction: &'a mut Transaction,
    pub(crate) random: &'a mut Random,
}

impl Hand<'_> {
    /// Runs a statement in one round trip.
    async fn query(&self, text: &str, values: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Error> {
        self.client.query_typed(text, values).await
    }

    /// Notes an upsert by what its row says it replaced.
    fn upserted(&mut self, table: Table, token: i64, rows: &[Row]) {
        for row in rows {
            match row.get::<_, Option<i64>>(0) {
                None => self.transaction.writes.push(Write::Insert(table, token)),
                Some(replaced) => self.updated(table, token, replaced),
            }
        }
    }

    fn updated(&mut self, table: Table, token: i64, replaced: i64) {
        self.transaction.seen.push(replaced);
        self.transaction.writes.push(Write::Update(table, token));
    }

    fn deleted(&mut self, table: Table, rows: &[Row]) {
        for token in rows.iter().map(|row| row.get::<_, i64>(0)) {
            self.transaction.seen.push(token);
            self.transaction.writes.push(Write::Delete(table, token));
        }
    }

    fn inserted(&mut self, table: Table, token: i64) {
        self.transaction.writes.push(Write::Insert(table, token));
    }
}

async fn upsert_account(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (id, token) = (hand.random.key(ACCOUNTS), hand.transaction.token());
    let text = "insert into accounts as a values ($1, 1, $2, null, 'made')
        on conflict (id) do update set version = a.version + 1, prev = a.token, token = excluded.token returning prev";
    let rows = hand.query(text, &[(&id, Type::INT4), (&token, Type::INT8)]).await?;
    hand.upserted(Table::Accounts, token, &rows);
    Ok(())
}

async fn update_account(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (id, token) = (hand.random.key(ACCOUNTS), hand.transaction.token());
    let text = "update accounts set version = version + 1, prev = token, token = $2,
        note = repeat('x', version % 50) where id = $1 returning prev";
    for row in hand.query(text, &[(&id, Type::INT4), (&token, Type::INT8)]).await? {
        hand.updated(Table::Accounts, token, row.get(0));
    }
    Ok(())
}

async fn delete(hand: &mut Hand<'_>, table: Table, keys: i32) -> Result<(), Error> {
    let id = hand.random.key(keys);
    let text = format!("delete from {} where id = $1 returning token", table.name());
    let rows = hand.query(&text, &[(&id, Type::INT4)]).await?;
    hand.deleted(table, &rows);
    Ok(())
}

async fn upsert_stock(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (id, region, token) = (hand.random.key(STOCK), hand.random.key(2), hand.transaction.token());
    let text = "insert into stock as s values ($1, $2, 1, $3, null, null) on conflict (id, region) do update
        set version = s.version + 1, prev = s.token, token = excluded.token returning prev";
    let rows = hand.query(text, &[(&id, Type::INT4), (&region, Type::INT4), (&token, Type::INT8)]).await?;
    hand.upserted(Table::Stock, token, &rows);
    Ok(())
}

/// A row that moves to another partition is a deletion and an insertion.
async fn move_stock(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (id, region, token) = (hand.random.key(STOCK), hand.random.key(2), hand.transaction.token());
    let text = "update stock set region = 1 - region, version = version + 1, prev = token, token = $3
        where id = $1 and region = $2 returning prev";
    for row in hand.query(text, &[(&id, Type::INT4), (&region, Type::INT4), (&token, Type::INT8)]).await? {
        let replaced = row.get(0);
        hand.transaction.seen.push(replaced);
        hand.transaction.writes.push(Write::Delete(Table::Stock, replaced));
        hand.inserted(Table::Stock, token);
    }
    Ok(())
}

/// Waits, at commit, for whoever is leaving the place.
async fn take_seat(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (id, place, token) = (hand.random.key(SEATS), hand.random.key(SEATS), hand.transaction.token());
    let text = "insert into seats values ($1, $2, $3, null) on conflict (id) do nothing returning token";
    let rows = hand.query(text, &[(&id, Type::INT4), (&place, Type::INT4), (&token, Type::INT8)]).await?;
    if !rows.is_empty() {
        hand.inserted(Table::Seats, token);
    }
    Ok(())
}

async fn swap_seats(hand: &mut Hand<'_>) -> Result<(), Error> {
    let found = hand.query("select id, place from seats order by random() limit 2", &[]).await?;
    let [one, other] = found.as_slice() else { return Ok(()) };
    for (mover, target) in [(one, other), (other, one)] {
        let (id, place, token) = (mover.get::<_, i32>(0), target.get::<_, i32>(1), hand.transaction.token());
        let text = "update seats set place = $2, prev = token, token = $3 where id = $1 returning prev";
        for row in hand.query(text, &[(&id, Type::INT4), (&place, Type::INT4), (&token, Type::INT8)]).await? {
            hand.updated(Table::Seats, token, row.get(0));
        }
    }
    Ok(())
}

/// The parent may come later, from here or from somebody else; it is looked for at commit.
async fn add_child(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (id, parent, token) = (hand.random.key(CHILDREN), hand.random.key(PARENTS), hand.transaction.token());
    let text = "insert into children values ($1, $3, null, $2) on conflict (id) do nothing returning token";
    let rows = hand.query(text, &[(&id, Type::INT4), (&parent, Type::INT4), (&token, Type::INT8)]).await?;
    if !rows.is_empty() {
        hand.inserted(Table::Children, token);
    }
    if hand.random.chance(40) { add_parent_at(hand, parent).await } else { Ok(()) }
}

async fn add_parent(hand: &mut Hand<'_>) -> Result<(), Error> {
    let id = hand.random.key(PARENTS);
    add_parent_at(hand, id).await
}

async fn add_parent_at(hand: &mut Hand<'_>, id: i32) -> Result<(), Error> {
    let token = hand.transaction.token();
    let text = "insert into parents as p values ($1, $2, null) on conflict (id) do update
        set prev = p.token, token = excluded.token returning prev";
    let rows = hand.query(text, &[(&id, Type::INT4), (&token, Type::INT8)]).await?;
    hand.upserted(Table::Parents, token, &rows);
    Ok(())
}

async fn note(hand: &mut Hand<'_>) -> Result<(), Error> {
    let token = hand.transaction.token();
    hand.query("insert into journal values ($1, null)", &[(&token, Type::INT8)]).await?;
    hand.inserted(Table::Journal, token);
    Ok(())
}

async fn fill_bulk(hand: &mut Hand<'_>) -> Result<(), Error> {
    let count = hand.random.pick(&BULK_ROWS);
    let first = hand.transaction.tokens(count);
    let text = "insert into bulk select g, g, null, repeat('y', 200 + (g % 90)::int)
        from generate_series($1, $1 + $2 - 1) g";
    hand.query(text, &[(&first, Type::INT8), (&count, Type::INT8)]).await?;
    (first..first + count).for_each(|token| hand.inserted(Table::Bulk, token));
    Ok(())
}

async fn thin_bulk(hand: &mut Hand<'_>) -> Result<(), Error> {
    let text = "delete from bulk where id in (select id from bulk order by id limit $1 for update skip locked)
        returning token";
    let rows = hand.query(text, &[(&BULK_DELETED, Type::INT8)]).await?;
    hand.deleted(Table::Bulk, &rows);
    Ok(())
}

async fn fill_scratch(hand: &mut Hand<'_>) -> Result<(), Error> {
    let token = hand.transaction.token();
    hand.query("insert into scratch values ($1, $1, null)", &[(&token, Type::INT8)]).await?;
    hand.inserted(Table::Scratch, token);
    Ok(())
}

/// Always with another write, which tells whose truncation it was.
async fn empty_scratch(hand: &mut Hand<'_>) -> Result<(), Error> {
    hand.query("truncate scratch", &[]).await?;
    hand.transaction.writes.push(Write::Truncate(Table::Scratch));
    note(hand).await
}

async fn publish(hand: &mut Hand<'_>) -> Result<(), Error> {
    let (channel, token) = (hand.random.pick(&[0, 1, 2]), hand.transaction.token());
    let text = "select realtime.publish($1, 'note', jsonb_build_object('token', $2)) is not null";
    hand.query(text, &[(&CHANNELS[channel], Type::TEXT), (&token, Type::INT8)]).await?;
    hand.transaction.writes.push(Write::Message(channel, token));
    Ok(())
}

/// Reads what somebody else committed.
async fn look(hand: &mut Hand<'_>) -> Result<(), Error> {
    let table = hand.random.pick(&[Table::Accounts, Table::Stock, Table::Seats, Table::Parents]);
    let text = format!("select token from {} order by random() limit 3", table.name());
    let rows = hand.query(&text, &[]).await?;
    hand.transaction.seen.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    Ok(())
}
