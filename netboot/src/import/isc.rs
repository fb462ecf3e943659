//! ISC dhcpd: the `host` declarations of `dhcpd.conf` (dhcpd.conf(5)), wherever groups and subnets nest them.
//!
//! Only the outer form of everything else is known: statements that end in `;` and blocks in braces. `include` is not
//! followed.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::Path;

use super::{Found, Host, Leftovers};
use crate::config::json::Source;
use crate::config::problem::Severity;
use crate::mac::Mac;

/// Reads a configuration. The first mistake in its form ends the reading; there is no telling what comes after it.
pub fn hosts(path: &Path, text: &str) -> Found {
    let source = Source::new(path, text);
    let mut reading = Reading {
        source: &source,
        blocks: Vec::new(),
        statement: Vec::new(),
        found: Found::default(),
        leftovers: Leftovers::default(),
    };
    if let Err((at, message, help)) = reading.all() {
        reading.found.error(&source, &at, message, help);
    }
    let Reading { mut found, leftovers, .. } = reading;
    leftovers.tell(&source, &mut found);
    found
}

/// What is wrong with the form: where, what, what to write.
type Malformed = (Range<usize>, &'static str, &'static str);

struct Reading<'s> {
    source: &'s Source,
    /// The blocks that are open: where each was opened, and the machine, if it is one's.
    blocks: Vec<(Range<usize>, Option<Draft>)>,
    /// The statement so far.
    statement: Vec<Word<'s>>,
    found: Found,
    leftovers: Leftovers,
}

/// A word of a statement, quotes removed.
#[derive(Clone, Debug)]
struct Word<'s> {
    at: Range<usize>,
    text: &'s str,
}

/// A machine that is being read.
#[derive(Debug, Default)]
struct Draft {
    at: Range<usize>,
    name: String,
    mac: Option<Mac>,
    addr: Option<Ipv4Addr>,
    hostname: Option<String>,
    /// Why it is left out.
    odd: Option<&'static str>,
    /// It has a mistake that was told.
    wrong: bool,
}

impl Reading<'_> {
    fn all(&mut self) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some((token, range)) = next(self.source.text(), at)? {
            at = range.end;
            match token {
                Token::Word(text) => self.statement.push(Word { at: range, text }),
                Token::Comma => {}
                Token::Semicolon => self.end_statement(),
                Token::Open => self.open(range),
                Token::Close => self.close(&range)?,
            }
        }
        if let Some((at, _)) = self.blocks.last() {
            return Err((at.clone(), "this block is never closed", "close it with }"));
        }
        match self.statement.first() {
            Some(first) => Err((first.at.clone(), "this statement has no end", "end it with ;")),
            None => Ok(()),
        }
    }

    fn open(&mut self, brace: Range<usize>) {
        let draft = match self.statement.as_slice() {
            [keyword, name] if is(keyword, "host") => {
                let at = keyword.at.start..name.at.end;
                Some(Draft { at, name: name.text.to_owned(), ..Draft::default() })
            }
            _ => None,
        };
        self.statement.clear();
        self.blocks.push((brace, draft));
    }

    fn close(&mut self, brace: &Range<usize>) -> Result<(), Malformed> {
        if let Some(first) = self.statement.first() {
            return Err((first.at.clone(), "this statement has no end", "end it with ;"));
        }
        let Some((_, draft)) = self.blocks.pop() else {
            return Err((brace.clone(), "this closes nothing", "remove it, or open what it closes with {"));
        };
        if let Some(draft) = draft {
            self.finish(draft);
        }
        Ok(())
    }

    fn finish(&mut self, draft: Draft) {
        let Draft { at, name, mac, addr, hostname, odd, wrong } = draft;
        let help = "add it by hand if it is to be reserved";
        match (odd, mac, addr) {
            _ if wrong => {}
            (Some(why), ..) => self.found.skip(self.source, &at, why, help),
            (None, None, _) => self.found.skip(self.source, &at, "it has no `hardware ethernet`", help),
            (None, _, None) => self.found.skip(self.source, &at, "it has no `fixed-address`", help),
            (None, Some(mac), Some(addr)) => {
                // The declaration's own name is what an operator calls the machine.
                self.found.hosts.push(Host { at, mac, addr, hostname: Some(hostname.unwrap_or(name)) });
            }
        }
    }

    fn end_statement(&mut self) {
        let words = std::mem::take(&mut self.statement);
        let Some(first) = words.first() else { return };
        if is(first, "include") {
            let end = words.last().map_or(first.at.end, |last| last.at.end);
            let message = "this file is not read: `include` is not followed";
            let help = "import that file too";
            let warning = self.source.problem(Severity::Warning, first.at.start, end, message, help);
            self.found.problems.push(warning);
        }
        let Some((_, Some(draft))) = self.blocks.last_mut() else { return };
        match words.as_slice() {
            [keyword, kind, mac, ..] if is(keyword, "hardware") && is(kind, "ethernet") => {
                if let Ok(mac) = mac.text.parse() {
                    draft.mac = Some(mac);
                } else {
                    let message = format!("`{}` is not a MAC address", mac.text);
                    let help = "write six hexadecimal pairs, as in 52:54:00:12:34:56";
                    self.found.error(self.source, &mac.at, message, help);
                    draft.wrong = true;
                }
            }
            [keyword, ..] if is(keyword, "hardware") => draft.odd = Some("it is no Ethernet machine"),
            [keyword, addr, more @ ..] if is(keyword, "fixed-address") => {
                draft.addr = addr.text.parse().ok();
                if draft.addr.is_none() {
                    draft.odd = Some("its `fixed-address` is a name, not an address");
                }
                if let Some(second) = more.first() {
                    self.leftovers.note("second fixed-address", &second.at);
                }
            }
            [keyword, option, name, ..] if is(keyword, "option") && is(option, "host-name") => {
                draft.hostname = Some(name.text.to_owned());
            }
            [keyword, ..] if is(keyword, "deleted") => draft.odd = Some("it was deleted"),
            [keyword, option, ..] if is(keyword, "option") => {
                self.leftovers.note(&format!("option {}", option.text), &keyword.at);
            }
            [keyword, ..] => self.leftovers.note(keyword.text, &keyword.at),
            [] => {}
        }
    }
}

fn is(word: &Word<'_>, keyword: &str) -> bool {
    word.text.eq_ignore_ascii_case(keyword)
}

enum Token<'s> {
    Word(&'s str),
    Open,
    Close,
    Semicolon,
    Comma,
}

/// The next token from `at` on, and where it is. Comments run from `#` to the end of the line.
fn next(text: &str, at: usize) -> Result<Option<(Token<'_>, Range<usize>)>, Malformed> {
    let mut at = at;
    let rest = loop {
        let rest = text.get(at..).unwrap_or_default();
        let code = rest.trim_start();
        at += rest.len() - code.len();
        if !code.starts_with('#') {
            break code;
        }
        at += code.find('\n').unwrap_or(code.len());
    };
    let Some(first) = rest.chars().next() else { return Ok(None) };
    let (token, length) = match first {
        '{' => (Token::Open, 1),
        '}' => (Token::Close, 1),
        ';' => (Token::Semicolon, 1),
        ',' => (Token::Comma, 1),
        '"' => {
            let Some(end) = closing_quote(rest) else {
                return Err((at..at + 1, "this string is never closed", "close it with a double quote"));
            };
            (Token::Word(rest.get(1..end).unwrap_or_default()), end + 1)
        }
        _ => {
            let ends = |c: char| c.is_whitespace() || "{};,\"#".contains(c);
            let length = rest.find(ends).unwrap_or(rest.len());
            (Token::Word(rest.get(..length).unwrap_or_default()), length)
        }
    };
    Ok(Some((token, at..at + length)))
}

/// Where the string that begins the text ends; a backslash keeps a quote in it.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return Some(at),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests;
