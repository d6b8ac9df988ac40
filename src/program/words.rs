//! Words of a line, and what is said of a text that is not in a language of lines.

use std::borrow::Cow;

/// Why a text is not read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: expected {expected}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What should have been there.
    pub expected: Cow<'static, str>,
}

/// A word, and where it begins in its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    at: usize,
}

/// The words of a line, which white space parts.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    number: u32,
    line: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    /// Of the line with this number, counted from 1.
    pub(super) fn new(number: u32, line: &'a str) -> Words<'a> {
        Words { number, line, at: 0 }
    }

    /// The next word, left where it is.
    pub(super) fn peek(&self) -> Option<Word<'a>> {
        let rest = self.line.get(self.at..)?;
        let start = self.at + (rest.len() - rest.trim_start().len());
        let text = self.line.get(start..)?.split_whitespace().next()?;
        Some(Word { text, at: start })
    }

    /// The next word.
    pub(super) fn next(&mut self) -> Option<Word<'a>> {
        let word = self.peek()?;
        self.at = word.at + word.text.len();
        Some(word)
    }

    /// The next word, which must be there.
    pub(super) fn need(&mut self, expected: &'static str) -> Result<Word<'a>, ParseError> {
        self.next().ok_or_else(|| self.end_error(expected))
    }

    /// Everything after the words so far without the spaces around it, which must be something.
    pub(super) fn need_rest(&mut self, expected: &'static str) -> Result<&'a str, ParseError> {
        let first = self.need(expected)?;
        self.at = self.line.len();
        Ok(self.line.get(first.at..).unwrap_or_default().trim_end())
    }

    /// That something else should stand where a word is.
    pub(super) fn error(&self, word: &Word<'_>, expected: impl Into<Cow<'static, str>>) -> ParseError {
        self.error_at(word.at, expected)
    }

    /// That something more should stand in the line.
    pub(super) fn end_error(&self, expected: &'static str) -> ParseError {
        self.error_at(self.line.trim_end().len(), expected)
    }

    fn error_at(&self, at: usize, expected: impl Into<Cow<'static, str>>) -> ParseError {
        let column = self.line.char_indices().take_while(|(start, _)| *start < at).count() as u32 + 1;
        ParseError { line: self.number, column, expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_their_place() {
        let mut words = Words::new(3, "  é add\t10.0.0.1  x ");
        assert_eq!(words.next().map(|word| word.text), Some("é"));
        let word = words.need("a command").unwrap();
        assert_eq!(word.text, "add");
        let error = words.error(&word, "a set");
        assert_eq!(error.to_string(), "line 3, column 5: expected a set");
        assert_eq!(words.peek(), words.clone().next());
        assert_eq!(words.need_rest("the rest").as_deref(), Ok("10.0.0.1  x"));
        assert_eq!(words.next(), None);
        assert_eq!(words.need_rest("more"), words.clone().need("more").map(|word| word.text));
        assert_eq!(words.need("more").unwrap_err().column, 20);
    }
}
