//! Cuts a rule line into words, as iptables-restore does.

use std::borrow::Cow;

/// A word of a rule, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// What it says.
    pub(super) text: Cow<'a, str>,
    /// Where it begins in the body; at the `!` before it, if there is one.
    pub(super) start: usize,
    /// Where it ends, its quote included.
    pub(super) end: usize,
    /// A `!` stands before it.
    pub(super) negated: bool,
    /// It has quotes: it is a value, whatever it says.
    pub(super) quoted: bool,
}

/// Why a body is not words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordError {
    /// The quote at this byte is never closed.
    OpenQuote(usize),
    /// Nothing follows the `!` at this byte.
    LoneBang(usize),
}

/// The words of a rule's body, one of which is the current one.
#[derive(Debug, Clone)]
pub(in crate::program::xtables) struct Words<'a> {
    body: &'a str,
    at: usize,
    current: Option<Word<'a>>,
    last_end: usize,
}

impl<'a> Words<'a> {
    /// Stands at the first word.
    pub(super) fn new(body: &'a str) -> Result<Words<'a>, WordError> {
        let mut words = Words { body, at: 0, current: None, last_end: 0 };
        words.advance()?;
        Ok(words)
    }

    /// All words of a body, each `!` being one of its own. An open quote ends with the body.
    pub(in crate::program::xtables) fn all(body: &'a str) -> Vec<Cow<'a, str>> {
        let mut words = Words { body, at: 0, current: None, last_end: 0 };
        let mut all = Vec::new();
        while let Ok(Some(word)) = words.cut() {
            all.push(word.text);
        }
        all
    }

    /// The whole body.
    pub(super) fn body(&self) -> &'a str {
        self.body
    }

    /// The current word; `None` at the end.
    pub(super) fn current(&self) -> Option<&Word<'a>> {
        self.current.as_ref()
    }

    /// Where the word before the current one ends.
    pub(super) fn last_end(&self) -> usize {
        self.last_end
    }

    /// Goes to the next word.
    pub(super) fn advance(&mut self) -> Result<(), WordError> {
        if let Some(word) = &self.current {
            self.last_end = word.end;
        }
        self.current = match self.cut()? {
            Some(bang) if !bang.quoted && bang.text == "!" => match self.cut()? {
                Some(word) => Some(Word { start: bang.start, negated: true, ..word }),
                None => return Err(WordError::LoneBang(bang.start)),
            },
            word => word,
        };
        Ok(())
    }

    /// Takes the current word.
    pub(super) fn take(&mut self) -> Result<Option<Word<'a>>, WordError> {
        let end = self.current.as_ref().map_or(self.last_end, |word| word.end);
        let word = self.current.take();
        self.advance()?;
        self.last_end = end;
        Ok(word)
    }

    fn cut(&mut self) -> Result<Option<Word<'a>>, WordError> {
        let bytes = self.body.as_bytes();
        let mut start = self.at;
        while start < bytes.len() && is_space(bytes[start]) {
            start += 1;
        }
        if start == bytes.len() {
            self.at = start;
            return Ok(None);
        }
        if bytes[start] == b'"' {
            let rest = &bytes[start + 1..];
            return match rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
                Some(len) if rest[len] == b'"' => {
                    let end = start + len + 2;
                    self.at = end;
                    Ok(Some(self.borrowed(start, end, start + 1..end - 1, true)))
                }
                Some(_) => self.cut_slowly(start),
                None => Err(WordError::OpenQuote(start)),
            };
        }
        let rest = &bytes[start..];
        let len = rest.iter().position(|byte| is_space(*byte) || *byte == b'"').unwrap_or(rest.len());
        let end = start + len;
        if bytes.get(end) == Some(&b'"') {
            return self.cut_slowly(start);
        }
        self.at = end;
        Ok(Some(self.borrowed(start, end, start..end, false)))
    }

    fn borrowed(&self, start: usize, end: usize, text: std::ops::Range<usize>, quoted: bool) -> Word<'a> {
        // All ends are at ASCII characters: the slice exists.
        let text = Cow::Borrowed(self.body.get(text).unwrap_or_default());
        Word { text, start, end, negated: false, quoted }
    }

    /// A word with escapes, or with a quote inside: a quote that closes ends the word.
    fn cut_slowly(&mut self, start: usize) -> Result<Option<Word<'a>>, WordError> {
        let mut text = String::new();
        let mut opened = None;
        let mut escaped = false;
        for (offset, character) in self.body[start..].char_indices() {
            let at = start + offset;
            let ended = match character {
                _ if escaped => {
                    text.push(character);
                    escaped = false;
                    continue;
                }
                '\\' if opened.is_some() => {
                    escaped = true;
                    continue;
                }
                '"' if opened.is_some() => at + 1,
                '"' => {
                    opened = Some(at);
                    continue;
                }
                ' ' | '\t' | '\n' | '\r' if opened.is_none() => at,
                _ => {
                    text.push(character);
                    continue;
                }
            };
            self.at = ended;
            return Ok(Some(Word {
                text: Cow::Owned(text),
                start,
                end: ended,
                negated: false,
                quoted: true,
            }));
        }
        match opened {
            Some(at) => Err(WordError::OpenQuote(at)),
            None => {
                self.at = self.body.len();
                let end = self.at;
                Ok(Some(Word { text: Cow::Owned(text), start, end, negated: false, quoted: true }))
            }
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
