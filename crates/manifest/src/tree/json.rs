//! JSON → tree. A stream of several values is several documents, as for kubectl.

use std::borrow::Cow;
use std::ops::Range;

use super::{Entry, Limits, NodeId, SyntaxError, Tree, Value, check_duplicates};

/// Reads every value of the stream, up to the first error.
pub(super) fn parse<'a>(
    text: &'a str,
    base: usize,
    limits: &Limits,
) -> (Tree<'a>, Option<SyntaxError>) {
    let mut reader = Reader { text, at: base, limits, tree: Tree::default() };
    let error = reader.documents().err();
    (reader.tree, error)
}

struct Reader<'a, 'l> {
    text: &'a str,
    at: usize,
    limits: &'l Limits,
    tree: Tree<'a>,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Reader<'a, '_> {
    fn documents(&mut self) -> Result<()> {
        loop {
            self.space();
            // kubectl's stream may separate JSON values by `---` as well.
            while self.text[self.at..].starts_with("---") {
                self.at += 3;
                self.space();
            }
            if self.at == self.text.len() {
                return Ok(());
            }
            let root = self.value(1)?;
            self.tree.push_document(root, self.limits)?;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(SyntaxError::new(self.at..self.at + 1, format!("not JSON: {}", message.into())))
    }

    fn push(&mut self, value: Value<'a>, span: Range<usize>) -> Result<NodeId> {
        self.tree.push(value, span, self.limits)
    }

    fn value(&mut self, depth: usize) -> Result<NodeId> {
        if depth > self.limits.depth {
            return Err(super::too_deep(self.at..self.at + 1, self.limits));
        }
        self.space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Str(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return self.error("the text ends inside a value"),
        };
        self.push(value, start..self.at)
    }

    fn word(&mut self) -> Result<Value<'a>> {
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.error("expected a value")
    }

    fn number(&mut self) -> Result<Value<'a>> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.peek(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            reader.at > from
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else if !digits(self) {
            return self.error("expected a digit");
        }
        let mut float = false;
        if self.peek() == Some(b'.') {
            float = true;
            self.at += 1;
            if !digits(self) {
                return self.error("expected a digit after the point");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !digits(self) {
                return self.error("expected a digit in the exponent");
            }
        }
        let text = &self.text[start..self.at];
        if !float {
            return Ok(match text.parse() {
                Ok(n) => Value::Int(n),
                Err(_) => Value::BigInt(text.into()),
            });
        }
        match text.parse::<f64>() {
            Ok(f) if f.is_finite() => Ok(Value::Float(f)),
            _ => self.error("the number is too large"),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value<'a>> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                _ => return self.error("expected `,` or `]`"),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value<'a>> {
        self.at += 1;
        let mut entries = Vec::new();
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return self.error("expected a key in quotes");
            }
            let start = self.at;
            let key = self.string()?;
            let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let key_span = (narrow(start), narrow(self.at));
            self.space();
            if self.peek() != Some(b':') {
                return self.error("expected `:` after the key");
            }
            self.at += 1;
            let value = self.value(depth + 1)?;
            entries.push(Entry { key, key_span, value });
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    check_duplicates(&entries)?;
                    return Ok(Value::Map(entries));
                }
                _ => return self.error("expected `,` or `}`"),
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            match self.peek() {
                None => return self.error("the text ends inside a string"),
                Some(b'"') => {
                    let rest = &self.text[copied..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(mut s) => {
                            s.push_str(rest);
                            Cow::Owned(s)
                        }
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_with(String::new);
                    text.push_str(&self.text[copied..self.at]);
                    self.at += 1;
                    let c = self.escape()?;
                    if let Some(text) = &mut owned {
                        text.push(c);
                    }
                    copied = self.at;
                }
                Some(0..=0x1f) => return self.error("a control character inside a string"),
                // Inside a character of several bytes every byte is ≥ 0x80, never a quote.
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let Some(b) = self.peek() else { return self.error("the text ends inside a string") };
        let c = match b {
            b'"' | b'\\' | b'/' => b as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                let first = self.hex()?;
                return self.surrogates(first);
            }
            _ => return self.error("unknown escape in a string"),
        };
        self.at += 1;
        Ok(c)
    }

    /// A character from `\uXXXX`, with the second half of a pair if it needs one. Go's decoder puts
    /// U+FFFD for a lone half, and so does this.
    fn surrogates(&mut self, first: u32) -> Result<char> {
        if !(0xd800..0xe000).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or('\u{fffd}'));
        }
        if first < 0xdc00 && self.text[self.at..].starts_with("\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            self.at = back;
        }
        Ok('\u{fffd}')
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let value = digits
            .and_then(|d| d.iter().try_fold(0, |n, b| Some(n * 16 + (*b as char).to_digit(16)?)));
        match value {
            Some(n) => {
                self.at += 4;
                Ok(n)
            }
            None => self.error("expected four hexadecimal digits"),
        }
    }
}
