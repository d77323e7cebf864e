//! The grammar of filters.
//!
//! ```text
//! filter    = item *( "," item )
//! item      = group "=(" list ")" | operand "=" test
//! list      = inner *( "," inner )
//! inner     = group "(" list ")" | operand "." test
//! group     = [ "not." ] ( "and" | "or" )
//! operand   = name *( "->" step ) [ "->>" step ]
//! test      = [ "not." ] word "." value
//! ```

use super::{
    Tree,
    condition::{Condition, Operand, Place},
    json::Step,
    kind::Kind,
    scan::{Fault, Scan},
    test::{self, Request},
};

const CONDITIONS_MAX: usize = 100;
const DEPTH_MAX: usize = 10;
const VALUES_MAX: usize = 1_000;

/// Letters that end a name which stands without quotes.
const NAME_ENDS: &[char] = &['=', '.', '-', '>', ',', '(', ')', '"', ' ', ':'];

/// Where a condition stands: what separates operand and test, and what ends a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Group,
}

impl Level {
    fn separator(self) -> &'static str {
        if self == Self::Top { "=" } else { "." }
    }

    fn form(self) -> &'static str {
        match self {
            Self::Top => {
                "a condition is column=operator.value: write = here, or put a value with a comma in double quotes"
            }
            Self::Group => {
                "in a group a condition is column.operator.value: write . here, or put the value in double quotes"
            }
        }
    }
}

/// Reads a filter.
pub(super) struct Parser<'a, 'c> {
    scan: Scan<'a>,
    /// What is there, with its type.
    readable: &'c [(&'c str, &'c str)],
    /// What the filter names.
    pub(super) named: Vec<Box<str>>,
    conditions: usize,
    depth: usize,
}

impl<'a, 'c> Parser<'a, 'c> {
    pub(super) fn new(text: &'a str, readable: &'c [(&'c str, &'c str)]) -> Self {
        Self { scan: Scan::new(text), readable, named: Vec::new(), conditions: 0, depth: 0 }
    }

    pub(super) fn filter(&mut self) -> Result<Tree, Fault> {
        let tree = Tree::All(self.list(Level::Top)?);
        if self.scan.is_at_end() {
            return Ok(tree);
        }
        Err(self.scan.fault(
            "a condition ends here: write a comma before the next one, and put values with one in double quotes",
        ))
    }

    fn list(&mut self, level: Level) -> Result<Vec<Tree>, Fault> {
        let mut items = Vec::new();
        loop {
            self.scan.skip_spaces();
            items.push(self.item(level)?);
            if !self.scan.eat(",") {
                return Ok(items);
            }
        }
    }

    fn item(&mut self, level: Level) -> Result<Tree, Fault> {
        let open = if level == Level::Top { "=(" } else { "(" };
        for (word, is_any, is_negated) in
            [("and", false, false), ("or", true, false), ("not.and", false, true), ("not.or", true, true)]
        {
            if self.scan.rest().strip_prefix(word).is_some_and(|rest| rest.starts_with(open)) {
                self.scan.eat(word);
                self.scan.eat(open);
                let items = self.group()?;
                return Ok(negated(if is_any { Tree::Any(items) } else { Tree::All(items) }, is_negated));
            }
        }
        self.condition(level)
    }

    fn group(&mut self) -> Result<Vec<Tree>, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.scan.fault(format!("groups are nested deeper than {DEPTH_MAX}: use fewer parentheses")));
        }
        let items = self.list(Level::Group)?;
        self.scan.skip_spaces();
        self.scan.expect(")", "a group is not closed here: add ), a comma, or double quotes around the value")?;
        self.depth -= 1;
        Ok(items)
    }

    fn condition(&mut self, level: Level) -> Result<Tree, Fault> {
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(self.scan.fault(format!("more than {CONDITIONS_MAX} conditions: use in, or fewer of them")));
        }
        let operand = self.operand(level)?;
        self.scan.expect(level.separator(), level.form())?;
        let is_negated = self.scan.eat("not.");
        let (at, word) = (self.scan.at(), self.scan.until(&['.', ',', '(', ')', '=']));
        let operator = test::operator(word).map_err(|message| Fault { at, message })?;
        self.scan.expect(".", "a condition is column=operator.value: write . and a value after the operator")?;
        let value_at = self.scan.at();
        let values = if word == "in" { self.values()? } else { vec![self.value(level)?] };
        let request = Request { kind: &operand.kind, is_json: operand.place.is_some(), at, value_at };
        let test = test::build(&request, operator, &values)?;
        Ok(negated(Tree::Is(Condition { operand, test }), is_negated))
    }

    fn operand(&mut self, level: Level) -> Result<Operand, Fault> {
        let at = self.scan.at();
        let name = match self.scan.quoted()? {
            Some(name) => name,
            None => self.scan.until(NAME_ENDS).to_owned(),
        };
        if name.is_empty() {
            return Err(self.scan.fault("a column is expected here: a condition is column=operator.value"));
        }
        if !self.scan.rest().starts_with(level.separator()) && !self.scan.rest().starts_with("->") {
            return Err(self.scan.fault(level.form()));
        }
        let Some((_, kind)) = self.readable.iter().find(|(readable, _)| *readable == name) else {
            let message = format!("there is no column {name:?} that you may read: name one of the ack's columns");
            return Err(Fault { at, message });
        };
        let kind = Kind::parse(kind);
        let column = self.column(name);
        self.path(at, column, kind)
    }

    fn column(&mut self, name: String) -> usize {
        let name = name.into_boxed_str();
        self.named.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.named.push(name);
            self.named.len() - 1
        })
    }

    fn path(&mut self, at: usize, column: usize, kind: Kind) -> Result<Operand, Fault> {
        let mut path = Vec::new();
        let mut is_text = false;
        while !is_text && self.scan.eat("->") {
            is_text = self.scan.eat(">");
            path.push(self.step()?);
        }
        match kind {
            _ if path.is_empty() => Ok(Operand { column, place: None, kind }),
            Kind::Json { collation, is_binary } => {
                let kind = if is_text { Kind::Text { collation, is_padded: false } } else { Kind::Other };
                Ok(Operand { column, place: Some(Place { path, is_binary, is_text }), kind })
            }
            _ => Err(Fault { at, message: "only columns of type json or jsonb have paths: leave out ->".to_owned() }),
        }
    }

    fn step(&mut self) -> Result<Step, Fault> {
        if let Some(name) = self.scan.quoted()? {
            return Ok(Step::Member(name.into()));
        }
        let at = self.scan.at();
        let is_negative = self.scan.eat("-");
        let word = self.scan.until(NAME_ENDS);
        if word.is_empty() {
            return Err(self.scan.fault("a name or a number is expected after ->: put other names in double quotes"));
        }
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        let text = if is_negative { format!("-{word}") } else { word.to_owned() };
        if !is_number {
            return Ok(Step::Member(text.into()));
        }
        let too_large = || Fault { at, message: "an array has no such element: write a smaller number".to_owned() };
        text.parse().map(Step::Element).map_err(|_| too_large())
    }

    fn value(&mut self, level: Level) -> Result<String, Fault> {
        let ends: &[char] = if level == Level::Top { &[','] } else { &[',', '(', ')'] };
        Ok(self.scan.quoted()?.unwrap_or_else(|| self.scan.until(ends).to_owned()))
    }

    fn values(&mut self) -> Result<Vec<String>, Fault> {
        self.scan.expect("(", "in takes a list: write in.(a,b)")?;
        if self.scan.rest().starts_with(')') {
            return Err(self.scan.fault("in needs a value: write in.(\"\") for the empty text"));
        }
        let mut values = vec![self.value(Level::Group)?];
        while self.scan.eat(",") {
            values.push(self.value(Level::Group)?);
            if values.len() > VALUES_MAX {
                return Err(self.scan.fault(format!("more than {VALUES_MAX} values: use fewer")));
            }
        }
        self.scan
            .expect(")", "the list of in is not closed here: add ), a comma, or double quotes around the value")?;
        Ok(values)
    }
}

fn negated(tree: Tree, is_negated: bool) -> Tree {
    if is_negated { Tree::Not(Box::new(tree)) } else { tree }
}
