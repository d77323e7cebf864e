//! Which columns of a table a subscription gets.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// A set of columns in table order, and which of them have their numbers sent as strings.
///
/// Many subscriptions have the same set, made apart; the hash lets them share one encoding without comparing names
/// each time.
#[derive(Clone, Debug)]
pub struct Columns {
    columns: Arc<[Column]>,
    hash: u64,
    /// Not only these, but every column that there is.
    is_everything: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Column {
    name: Arc<str>,
    quoted: bool,
}

impl Columns {
    /// The columns with these names, all numbers as they are.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self::from_columns(names.into_iter().map(|name| Column { name, quoted: false }).collect())
    }

    /// Every column, whatever it is called.
    #[must_use]
    pub fn everything() -> Self {
        Self { is_everything: true, ..Self::new([]) }
    }

    /// The same columns, with the numbers of those for which `quoted` is true sent as strings.
    #[must_use]
    pub fn with_quoted(&self, quoted: impl Fn(&str) -> bool) -> Self {
        let columns = self.columns.iter().map(|it| Column { name: Arc::clone(&it.name), quoted: quoted(&it.name) });
        Self::from_columns(columns.collect())
    }

    /// The columns that `wanted` names too.
    #[must_use]
    pub fn intersect(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self::from_columns(self.columns.iter().filter(|it| wanted(&it.name)).cloned().collect())
    }

    fn from_columns(columns: Arc<[Column]>) -> Self {
        let mut hasher = DefaultHasher::new();
        columns.hash(&mut hasher);
        Self { hash: hasher.finish(), columns, is_everything: false }
    }

    /// Whether the column is among them.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.is_everything || self.columns.iter().any(|it| &*it.name == name)
    }

    /// Whether the column is sent with its number as a string.
    #[must_use]
    pub fn is_quoted(&self, name: &str) -> bool {
        self.columns.iter().any(|it| it.quoted && &*it.name == name)
    }

    /// Whether any column has its number sent as a string.
    #[must_use]
    pub fn quotes_any(&self) -> bool {
        self.columns.iter().any(|it| it.quoted)
    }

    /// The names, in table order.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.columns.iter().map(|it| &it.name)
    }

    /// Whether every column is among them, whatever it is called.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.is_everything
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && !self.is_everything
    }
}

impl PartialEq for Columns {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && self.is_everything == other.is_everything
            && (Arc::ptr_eq(&self.columns, &other.columns) || self.columns == other.columns)
    }
}

impl Eq for Columns {}

#[cfg(test)]
mod tests {
    use super::Columns;

    fn columns(names: &[&str]) -> Columns {
        Columns::new(names.iter().map(|&name| name.into()))
    }

    #[test]
    fn equal_sets_made_apart_are_equal() {
        assert_eq!(columns(&["id", "name"]), columns(&["id", "name"]));
        assert_ne!(columns(&["id", "name"]), columns(&["id"]));
        assert_ne!(columns(&["id"]), columns(&["id"]).with_quoted(|_| true));
    }

    #[test]
    fn everything_has_every_column_and_is_like_no_list() {
        assert!(Columns::everything().contains("whatever"));
        assert!(!Columns::everything().is_empty());
        assert_ne!(Columns::everything(), columns(&[]));
        assert_eq!(Columns::everything(), Columns::everything());
    }

    #[test]
    fn a_projection_keeps_table_order_and_nothing_unknown() {
        let wanted = ["name", "id", "secret"];
        let projected = columns(&["id", "name", "at"]).intersect(|name| wanted.contains(&name));
        assert_eq!(projected, columns(&["id", "name"]));
    }
}
