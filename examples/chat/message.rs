//! What is sent to a room: a nick, and what its owner does, as a small JSON object.
//!
//! Whatever others send is bounded and checked here, and cannot upset a terminal.

use serde_json::{Value, json};

/// The longest nick, in characters.
pub(crate) const MAX_NICK: usize = 32;

/// The longest text of a message, in bytes.
pub(crate) const MAX_TEXT: usize = 1024;

/// The longest message on the wire: every byte of the text may be written as two.
const MAX_ENCODED: usize = 4096;

/// What somebody does in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Is there.
    Hello,
    Say(String),
    /// Leaves.
    Bye,
}

/// A message to all in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) nick: String,
    pub(crate) deed: Deed,
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let value = match &self.deed {
            Deed::Hello => json!({ "nick": self.nick, "hello": true }),
            Deed::Say(text) => json!({ "nick": self.nick, "say": text }),
            Deed::Bye => json!({ "nick": self.nick, "bye": true }),
        };
        value.to_string().into_bytes()
    }

    /// Returns what the bytes say; `None` if no node of this program sends them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_ENCODED {
            return None;
        }
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let nick = value.get("nick")?.as_str()?;
        check_nick(nick).ok()?;
        let is = |what| value.get(what).and_then(Value::as_bool) == Some(true);
        let deed = match value.get("say") {
            Some(text) => Deed::Say(checked_text(text.as_str()?).ok().flatten()?),
            None if is("hello") => Deed::Hello,
            None if is("bye") => Deed::Bye,
            None => return None,
        };
        Some(Self { nick: nick.to_owned(), deed })
    }
}

/// Checks a nick: nothing that could be taken for something else, as a line of somebody else.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_nick(nick: &str) -> Result<(), String> {
    if nick.is_empty() {
        return Err("a nick has at least one character".to_owned());
    }
    if nick.chars().nth(MAX_NICK).is_some() {
        return Err(format!("a nick has at most {MAX_NICK} characters"));
    }
    if !nick.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
        return Err("a nick has letters, digits, `-`, `_` and `.` only".to_owned());
    }
    Ok(())
}

/// Returns the text as it may be shown, `None` if nothing is left of it.
///
/// # Errors
/// It is too long, which nobody wants to find out by what arrives.
pub(crate) fn checked_text(text: &str) -> Result<Option<String>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("{} bytes are too long for a message: at most {MAX_TEXT}", text.len()));
    }
    let text = printable(text);
    let text = text.trim();
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Strips what moves the cursor, ends the line or turns the direction of what follows; white space becomes a blank.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_whitespace() => Some(' '),
        c if c.is_control() => None,
        // Marks of direction, and invisible characters that are no part of any script or emoji.
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => None,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => None,
        c => Some(c),
    };
    text.chars().filter_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Message {
        Message { nick: "alice".to_owned(), deed: Deed::Say(text.to_owned()) }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let longest = "\"".repeat(MAX_TEXT);
        for message in [
            said("good morning: \\ \"you\" \u{e9}\u{1f4a5}"),
            said(&longest),
            Message { nick: "b.o-b_1".to_owned(), deed: Deed::Hello },
            Message { nick: "\u{e9}".repeat(MAX_NICK), deed: Deed::Bye },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn what_nobody_sends_is_nothing() {
        let long = said(&"x".repeat(MAX_TEXT + 1)).encode();
        let padded = format!("{}{}", " ".repeat(MAX_ENCODED), String::from_utf8_lossy(&said("x").encode()));
        let deep = "[".repeat(MAX_ENCODED);
        let strange: [&[u8]; 14] = [
            b"",
            b"\xff\xfe",
            b"null",
            b"[]",
            b"{}",
            deep.as_bytes(),
            &long,
            padded.as_bytes(),
            br#"{"nick":"alice"}"#,
            br#"{"nick":"alice","say":7}"#,
            br#"{"nick":"alice","say":" \u001b\u0007\u202e"}"#,
            br#"{"nick":"alice","hello":false}"#,
            br#"{"nick":"* bob left","hello":true}"#,
            br#"{"nick":["alice"],"bye":true}"#,
        ];
        for bytes in strange {
            assert_eq!(Message::decode(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_others_say_cannot_upset_the_terminal() {
        let cunning = said("one\u{1b}[2J\r\ntwo\tthree\u{202e}\u{0}\u{9b}31m\u{200b}\u{2028}four ");
        let decoded = Message::decode(&cunning.encode()).expect("something is left of it");
        assert_eq!(decoded, said("one[2J  two three31m four"));
    }

    #[test]
    fn a_nick_is_a_short_word() {
        for nick in ["a", "alice", "\u{e9}\u{df}", "x.y-z_0", &"n".repeat(MAX_NICK)] {
            assert_eq!(check_nick(nick), Ok(()));
        }
        for nick in ["", "a b", "a:", "*", "a\u{1b}", "a\u{202e}", "a#1", "/who", &"n".repeat(MAX_NICK + 1)] {
            assert!(check_nick(nick).is_err(), "{nick:?}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_told_and_not_cut() {
        assert_eq!(checked_text(" hi "), Ok(Some("hi".to_owned())));
        assert_eq!(checked_text(" \t\u{7} "), Ok(None));
        assert_eq!(checked_text(&"x".repeat(MAX_TEXT)), Ok(Some("x".repeat(MAX_TEXT))));
        let error = checked_text(&"x".repeat(MAX_TEXT + 1)).expect_err("one too many");
        assert_eq!(error, "1025 bytes are too long for a message: at most 1024");
    }
}
