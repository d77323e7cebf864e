//! LIKE as a regular expression, which is searched in one pass whatever the pattern.

use regex::{Regex, RegexBuilder};

use super::regular;

/// How much a compiled pattern may hold. One that needs more is refused.
const COMPILED_BYTES_MAX: usize = 256 * 1024;
const CACHE_BYTES_MAX: usize = 256 * 1024;

/// How letters of the two cases are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// They are different.
    Exact,
    /// ASCII letters are equal to their other case; nothing else is.
    AsciiFolded,
}

/// A pattern of LIKE. `%`, and `*` where a client cannot write that, stand for any characters, `_` for one, and a
/// backslash takes the next character as it is.
pub(super) fn like(pattern: &str, case: Case) -> Result<Regex, String> {
    let mut regular = String::from("^");
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' | '*' => regular.push_str(".*"),
            '_' => regular.push('.'),
            '\\' => {
                let escaped = letters.next().ok_or("a backslash ends the pattern: write two, or leave it out")?;
                push_literal(&mut regular, escaped, case);
            }
            _ => push_literal(&mut regular, letter, case),
        }
    }
    regular.push('$');
    compile(&regular)
}

/// A regular expression of Postgres, as far as it means the same here.
///
/// `has_classes`: `\d`, `\w` and `\s` are ASCII, as they are under the collation C.
pub(super) fn matching(pattern: &str, case: Case, has_classes: bool) -> Result<Regex, String> {
    compile(&regular::translate(pattern, case, has_classes)?)
}

fn compile(regular: &str) -> Result<Regex, String> {
    RegexBuilder::new(regular)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .build()
        .map_err(|_| "the pattern is too large: use fewer or smaller repetitions".to_owned())
}

/// Appends what matches exactly this character.
pub(super) fn push_literal(regular: &mut String, letter: char, case: Case) {
    if case == Case::AsciiFolded && letter.is_ascii_alphabetic() {
        regular.extend(['[', letter.to_ascii_lowercase(), letter.to_ascii_uppercase(), ']']);
    } else {
        regular.push_str(&regex::escape(letter.encode_utf8(&mut [0; 4])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, case: Case, matching: &[&str], others: &[&str]) {
        let like = like(pattern, case).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in matching {
            assert!(like.is_match(text), "{text:?} is like {pattern:?}");
        }
        for text in others {
            assert!(!like.is_match(text), "{text:?} is not like {pattern:?}");
        }
    }

    #[test]
    fn wildcards_stand_for_anything() {
        check("a%", Case::Exact, &["a", "abc", "a\nb"], &["", "ba", "A"]);
        check("*ö_", Case::Exact, &["öx", "aöü", "ö\n"], &["ö", "öxy", "oe"]);
        check("", Case::Exact, &[""], &["a", "\n"]);
        check("%%", Case::Exact, &["", "x"], &[]);
    }

    #[test]
    fn a_backslash_takes_the_next_one_as_it_is() {
        check(r"50\%", Case::Exact, &["50%"], &["500", r"50\%"]);
        check(r"\*\_\\\a", Case::Exact, &[r"*_\a"], &["xxxa"]);
        assert!(like("a\\", Case::Exact).is_err());
    }

    #[test]
    fn letters_of_a_regular_expression_are_letters() {
        check("(a.b)+[c]|^$", Case::Exact, &["(a.b)+[c]|^$"], &["axb", ""]);
    }

    #[test]
    fn folding_is_of_ascii_letters_alone() {
        check("kÄ%", Case::AsciiFolded, &["kÄ", "KÄx"], &["kä", "\u{212a}Ä"]);
    }

    #[test]
    fn a_pattern_that_would_take_too_much_is_refused() {
        assert!(matching("(a{200}){200}", Case::Exact, false).is_err());
    }
}
