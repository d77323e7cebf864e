//! Regular expressions of Postgres, the part that means the same everywhere.
//!
//! A pattern is read by Postgres' grammar (its advanced regular expressions) and written anew for the engine at hand.
//! Classes that depend on a locale, back references, look-around, embedded options and what is an error in Postgres are
//! refused, each with what to write instead. Greediness is refused because it decides nothing: a filter asks only
//! whether there is a match.

use std::{collections::BTreeSet, iter::Peekable, str::Chars};

use super::pattern::{Case, push_literal};

/// Largest bound of a repetition: Postgres' own.
const REPEAT_MAX: u32 = 255;
const DEPTH_MAX: usize = 20;

/// The same pattern for the engine at hand.
pub(super) fn translate(pattern: &str, case: Case, has_classes: bool) -> Result<String, String> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 8),
        case,
        has_classes,
        depth: 0,
        last: Last::Start,
    };
    translator.run()?;
    Ok(translator.out)
}

/// What stands before the place that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing that could be repeated: the start, `(`, `|`.
    Start,
    /// An anchor, which Postgres does not let repeat.
    Anchor,
    /// Something that may be repeated.
    Atom,
    /// A repetition.
    Repeat,
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    case: Case,
    has_classes: bool,
    depth: usize,
    last: Last,
}

type Step = Result<(), String>;

impl Translator<'_> {
    fn run(&mut self) -> Step {
        while let Some(letter) = self.rest.next() {
            self.step(letter)?;
        }
        if self.depth > 0 {
            return Err("a parenthesis is not closed: add ), or write \\( for the character".to_owned());
        }
        Ok(())
    }

    fn step(&mut self, letter: char) -> Step {
        match letter {
            '(' => self.open(),
            ')' => self.close(),
            '|' => self.plain("|", Last::Start),
            '^' => self.plain("^", Last::Anchor),
            '$' => self.plain("$", Last::Anchor),
            '.' => self.plain(".", Last::Atom),
            '*' | '+' | '?' => self.repeat(&letter.to_string()),
            '{' => self.bounds(),
            '[' => self.bracket(),
            '\\' => self.escape(),
            _ => self.literal(letter),
        }
    }

    fn plain(&mut self, text: &str, last: Last) -> Step {
        self.out.push_str(text);
        self.last = last;
        Ok(())
    }

    fn literal(&mut self, letter: char) -> Step {
        push_literal(&mut self.out, letter, self.case);
        self.last = Last::Atom;
        Ok(())
    }

    fn open(&mut self) -> Step {
        if self.rest.next_if_eq(&'?').is_some() && self.rest.next_if_eq(&':').is_none() {
            return Err("look-around and embedded options are not available: use ( or (?:".to_owned());
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("groups are nested deeper than {DEPTH_MAX}: use fewer parentheses"));
        }
        self.plain("(?:", Last::Start)
    }

    fn close(&mut self) -> Step {
        self.depth = self.depth.checked_sub(1).ok_or("a ) has no (: write \\) for the character")?;
        self.plain(")", Last::Atom)
    }

    fn repeat(&mut self, how: &str) -> Step {
        match self.last {
            Last::Atom => self.plain(how, Last::Repeat),
            Last::Repeat => Err("a repetition is repeated: put it into a group, or leave the second out".to_owned()),
            Last::Start | Last::Anchor => {
                Err(format!("there is nothing to repeat before {how}: write \\{how} for the character"))
            }
        }
    }

    fn bounds(&mut self) -> Step {
        let least = self.bound()?;
        let mut how = format!("{{{least}");
        if self.rest.next_if_eq(&',').is_some() {
            how.push(',');
            if self.rest.peek() != Some(&'}') {
                let most = self.bound()?;
                if most < least {
                    return Err("the bounds of a repetition are in the wrong order: write {least,most}".to_owned());
                }
                how.push_str(&most.to_string());
            }
        }
        self.rest.next_if_eq(&'}').ok_or("a repetition is {n}, {n,} or {n,m}: write \\{ for the character")?;
        how.push('}');
        self.repeat(&how)
    }

    fn bound(&mut self) -> Result<u32, String> {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let bound = digits.parse().ok().filter(|bound| *bound <= REPEAT_MAX);
        bound.ok_or_else(|| {
            format!("a repetition is {{n}}, {{n,}} or {{n,m}} with at most {REPEAT_MAX}: write \\{{ for the character")
        })
    }

    fn escape(&mut self) -> Step {
        let letter = self.rest.next().ok_or("a backslash ends the pattern: write two, or leave it out")?;
        let class = match letter {
            'd' => "[0-9]",
            'w' => "[0-9A-Za-z_]",
            's' => "[\\t\\n\\x0B\\x0C\\r ]",
            _ if letter.is_ascii_punctuation() || letter == ' ' => return self.literal(letter),
            _ => return Err(format!("\\{letter} is not available: use characters, [a-z] and groups")),
        };
        if !self.has_classes {
            return Err(format!("\\{letter} depends on the column's collation: name the characters, such as [0-9]"));
        }
        self.plain(class, Last::Atom)
    }

    fn bracket(&mut self) -> Step {
        let is_negated = self.rest.next_if_eq(&'^').is_some();
        let mut set = BTreeSet::new();
        let mut is_first = true;
        loop {
            match self.rest.next().ok_or("a [ is not closed: add ], or write \\[ for the character")? {
                ']' if !is_first => break,
                letter => self.member(letter, &mut set)?,
            }
            is_first = false;
        }
        self.push_set(is_negated, &set);
        self.last = Last::Atom;
        Ok(())
    }

    /// One character of a bracket, or a range.
    fn member(&mut self, letter: char, set: &mut BTreeSet<char>) -> Step {
        match letter {
            '[' if matches!(self.rest.peek(), Some(':' | '.' | '=')) => {
                return Err("named classes depend on the collation: name the characters, such as [a-z]".to_owned());
            }
            '\\' => {
                let escaped = self.rest.next().filter(char::is_ascii_punctuation);
                set.insert(escaped.ok_or("in brackets a backslash takes punctuation only: name the characters")?);
                return self.no_range();
            }
            _ if letter.is_ascii_alphanumeric() && self.rest.peek() == Some(&'-') => return self.range(letter, set),
            _ => set.insert(letter),
        };
        self.no_range()
    }

    /// Refuses a `-` that would make a range of what was just read: a `-` stands first, last, or between two letters or digits.
    fn no_range(&mut self) -> Step {
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.next() != Some(']') {
            return Err("a range in brackets goes from a letter or digit to another, such as [a-z]".to_owned());
        }
        Ok(())
    }

    fn range(&mut self, from: char, set: &mut BTreeSet<char>) -> Step {
        self.rest.next();
        if self.rest.peek() == Some(&']') {
            set.extend([from, '-']);
            return Ok(());
        }
        let to = self.rest.next().filter(|to| to.is_ascii_alphanumeric() && from <= *to);
        set.extend(from..=to.ok_or("a range in brackets goes from a letter or digit up to another, such as [a-z]")?);
        self.no_range()
    }

    fn push_set(&mut self, is_negated: bool, set: &BTreeSet<char>) {
        self.out.push_str(if is_negated { "[^" } else { "[" });
        for &letter in set {
            self.push_member(letter);
            if self.case == Case::AsciiFolded && letter.is_ascii_alphabetic() {
                let other =
                    if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
                self.push_member(other);
            }
        }
        self.out.push(']');
    }

    fn push_member(&mut self, letter: char) {
        if letter.is_ascii_punctuation() {
            self.out.push('\\');
        }
        self.out.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::super::pattern::matching;
    use super::*;

    fn check(pattern: &str, matching_texts: &[&str], others: &[&str]) {
        let regex = matching(pattern, Case::Exact, false).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in matching_texts {
            assert!(regex.is_match(text), "{text:?} has {pattern:?}");
        }
        for text in others {
            assert!(!regex.is_match(text), "{text:?} has no {pattern:?}");
        }
    }

    #[test]
    fn what_is_the_same_everywhere_is_taken() {
        check("b", &["abc"], &["B", ""]);
        check("^a.c$", &["abc", "a\nc"], &["abc\n", "xabc"]);
        check("^(ab|c)+x?$", &["ab", "cabx"], &["abxx", ""]);
        check("a{2}b{1,2}c{0,}", &["aab", "aabbcc"], &["ab"]);
        check(r"\.\*\[", &[".*["], &["xx["]);
        check("", &["", "x"], &[]);
        check("a|", &["", "x"], &[]);
        check("^(?:ä)+$", &["ää"], &["Ä"]);
        check("]}#&~", &["]}#&~"], &[]);
    }

    #[test]
    fn bounds_are_those_of_postgres() {
        check("^a{2,2}$", &["aa"], &["a", "aaa"]);
        check("^a{255}$", &[&"a".repeat(255)], &["a"]);
        let nested = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
        assert!(translate(&nested(DEPTH_MAX), Case::Exact, true).is_ok());
        assert!(translate(&nested(DEPTH_MAX + 1), Case::Exact, true).is_err());
        assert!(translate(&"(a)".repeat(DEPTH_MAX + 1), Case::Exact, true).is_ok(), "side by side");
    }

    #[test]
    fn brackets_have_postgres_grammar() {
        check("^[]a-c^-]+$", &["]^-b", "a"], &["d", "["]);
        check("^[^]x]$", &["a", "\n", "ß"], &["]", "x", ""]);
        check("^[a-]$", &["a", "-"], &["b"]);
        check(r"^[\]\-x&&~~]+$", &["]-&~x"], &["\\", "a"]);
        check("^[[a]$", &["[", "a"], &["]"]);
        check("^[-a]$", &["-", "a"], &["b"]);
        check("^[ä-]$", &["ä", "-"], &["b"]);
        check("^[a-c]$", &["c"], &["C", "-"]);
    }

    #[test]
    fn folding_is_of_ascii_letters_alone() {
        let regex = matching("^[a-b]K[^x]$", Case::AsciiFolded, false).expect("plain");
        assert!(regex.is_match("BkY") && regex.is_match("akä"));
        assert!(!regex.is_match("BkX") && !regex.is_match("B\u{212a}y"));
    }

    #[test]
    fn classes_are_for_the_collation_c() {
        let regex = matching(r"^\w\d\s$", Case::Exact, true).expect("plain");
        assert!(regex.is_match("_1\u{b}") && !regex.is_match("ä1 "));
        assert!(translate(r"\d", Case::Exact, false).is_err());
    }

    #[test]
    fn what_may_differ_is_refused() {
        for pattern in [
            "(",
            ")",
            "[",
            "[]",
            "a**",
            "a*?",
            "a{2}?",
            "*a",
            "^*",
            "$+",
            "a|*",
            "(*a)",
            "{1}",
            "a{",
            "a{x}",
            "a{2,1}",
            "a{256}",
            "(?=a)",
            "(?!a)",
            "(?i)a",
            "***=a",
            r"(a)\1",
            r"\m",
            r"\A",
            r"\B",
            "a\\",
            "[[:alpha:]]",
            "[[=a=]]",
            "[[.a.]]",
            r"[\d]",
            "[a-b-c]",
            "[b-a]",
            "[a-ä]",
            "[!-/]",
            "[--/]",
            "[a-[]",
            r"[\a]",
            r"\ä",
        ] {
            assert!(translate(pattern, Case::Exact, true).is_err(), "{pattern}");
        }
    }
}
