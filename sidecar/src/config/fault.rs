//! What is wrong with the settings, and what to do about it.

use std::fmt;

use super::Origin;

/// One fault. Never holds a value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting, as it is called in the file; empty when it is about a whole file.
    pub setting: String,
    /// Where the value came from.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// All faults of one run, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, origin, what, remedy } = self;
        match (setting.is_empty(), origin) {
            (true, origin) => write!(f, "{origin}: {what}; {remedy}"),
            (false, Origin::Default) => write!(f, "{setting}: {what}; {remedy}"),
            (false, origin) => write!(f, "{setting} ({origin}): {what}; {remedy}"),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The known name that is nearest to a mistyped one, when one is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the name wrong is a slip; more is another word.
    let distance_max = (name.len() / 3).max(1);
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min()
        .map(|(_, candidate)| candidate)
}
