//! Writing JSON where parts of it are JSON text already.

use std::fmt::Display;

/// Appends members to an object that is being written.
pub(super) struct Members<'a>(pub(super) &'a mut String);

impl Members<'_> {
    /// A member whose value is text.
    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.name(name);
        push_text(self.0, value);
        self
    }

    /// A member whose value is text that needs no escaping, such as a number, a moment or a uuid.
    pub(super) fn plain_text(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.raw(name, format_args!("\"{value}\""))
    }

    /// A member whose value is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: impl Display) -> &mut Self {
        use std::fmt::Write;
        self.name(name);
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{json}");
        self
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() && !self.0.ends_with('{') {
            self.0.push(',');
        }
        push_text(self.0, name);
        self.0.push(':');
    }
}

/// Appends text as a JSON string.
pub(super) fn push_text(json: &mut String, text: &str) {
    let quoted = serde_json::to_string(text).expect("a string is always JSON");
    json.push_str(&quoted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_separated_and_escaped() {
        let mut json = String::from("{");
        Members(&mut json).text("a\"b", "c\n\u{1}").raw("n", 1.5).plain_text("t", 2);
        assert_eq!(json, r#"{"a\"b":"c\n\u0001","n":1.5,"t":"2""#);
    }
}
