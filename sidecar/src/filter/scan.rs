//! The letters of a filter, and where a mistake is.

/// A mistake in a filter.
#[derive(Debug)]
pub(super) struct Fault {
    /// Bytes before it.
    pub(super) at: usize,
    pub(super) message: String,
}

/// Where in a filter one stands.
#[derive(Clone)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes are read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Reads this text when it comes next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    pub(super) fn expect(&mut self, text: &str, message: &str) -> Result<(), Fault> {
        if self.eat(text) { Ok(()) } else { Err(self.fault(message)) }
    }

    pub(super) fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }

    /// What comes before the first of these letters, or before the end.
    pub(super) fn until(&mut self, ends: &[char]) -> &'a str {
        let rest = self.rest();
        let length = rest.find(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// What stands between double quotes, when a quote comes next. A backslash takes the next letter as it is.
    pub(super) fn quoted(&mut self) -> Result<Option<String>, Fault> {
        let start = self.at;
        if !self.eat("\"") {
            return Ok(None);
        }
        let mut text = String::new();
        let mut letters = self.rest().char_indices();
        while let Some((place, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.at += place + 1;
                    return Ok(Some(text));
                }
                '\\' => text.extend(letters.next().map(|(_, escaped)| escaped)),
                _ => text.push(letter),
            }
        }
        Err(Fault { at: start, message: "a double quote is not closed: add one, or \\\" for the character".to_owned() })
    }

    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { at: self.at, message: message.into() }
    }
}
