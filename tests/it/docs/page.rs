//! A page of the documentation: its fenced blocks, tables, headings and links.

use std::fs;

/// A page of the documentation.
pub(crate) struct Page {
    path: String,
    text: String,
}

/// A fenced block.
pub(crate) struct Block {
    /// What stands behind the opening fence.
    pub(crate) info: String,
    /// The block's lines.
    pub(crate) text: String,
    /// Page and line of the opening fence.
    pub(crate) place: String,
}

impl Page {
    /// Reads a page; its path is counted from the top of the repository.
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(xtask::workspace::root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self { path: path.to_owned(), text }
    }

    /// The page's text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Asserts that a word stands on the page.
    pub(crate) fn assert_names(&self, word: &str) {
        assert!(self.text.contains(word), "{} does not say {word}", self.path);
    }

    /// The fenced blocks whose info begins with these words.
    pub(crate) fn blocks(&self, words: &str) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in (1..).zip(self.text.lines()) {
            match (line.strip_prefix("```"), open.take()) {
                (Some(info), None) => {
                    let place = format!("{}:{number}", self.path);
                    open = Some(Block { info: info.to_owned(), text: String::new(), place });
                }
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text.extend([line, "\n"]);
                    open = Some(block);
                }
                (None, None) => (),
            }
        }
        assert!(open.is_none(), "{} has a fence that is not closed", self.path);
        blocks.retain(|block| block.info == words || block.info.starts_with(&format!("{words} ")));
        assert!(!blocks.is_empty(), "{} has no blocks of {words}", self.path);
        blocks
    }

    /// What stands under a heading, up to the next one of the same or a higher level.
    pub(crate) fn section(&self, heading: &str) -> &str {
        let level = heading.chars().take_while(|c| *c == '#').count();
        let start = self.text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{}: no {heading}", self.path));
        let body = &self.text[start + heading.len() + 2..];
        let is_heading = |line: &str| {
            let depth = line.chars().take_while(|c| *c == '#').count();
            depth > 0 && depth <= level && line[depth..].starts_with(' ')
        };
        let mut end = 0;
        for line in body.split_inclusive('\n') {
            if is_heading(line) {
                break;
            }
            end += line.len();
        }
        &body[..end]
    }
}

/// The cells of all table rows in a text, heads and rules apart.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|--");
    let is_head = |index: usize| lines.get(index + 1).is_some_and(|next| is_rule(next));
    let rows = lines.iter().enumerate().filter(|(n, line)| line.starts_with('|') && !is_rule(line) && !is_head(*n));
    rows.map(|(_, line)| cells(line)).collect()
}

/// Splits at bars that stand outside of code.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut in_code) = (Vec::new(), String::new(), false);
    for character in line.trim_matches('|').chars() {
        in_code ^= character == '`';
        if character == '|' && !in_code {
            cells.push(std::mem::take(&mut cell).trim().to_owned());
        } else {
            cell.push(character);
        }
    }
    cells.push(cell.trim().to_owned());
    cells
}

/// The words between backticks, fenced blocks apart.
pub(crate) fn code_words(text: &str) -> Vec<&str> {
    let is_prose = |(index, _): &(usize, &str)| index % 2 == 0;
    let prose = text.split("\n```").enumerate().filter(is_prose).map(|(_, part)| part);
    prose.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

/// The targets of links, addresses of other sites apart.
pub(crate) fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}
