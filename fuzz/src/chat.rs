//! The messages of the example `chat`.

#[path = "../../examples/chat/message.rs"]
mod message;

use message::{Deed, MAX_NICK, MAX_TEXT, Message, check_nick, checked_text};

/// Reads the bytes as a message, and as what somebody types. What is read is bounded, can be shown, and reads the same again.
pub fn chat(data: &[u8]) {
    if let Some(message) = Message::decode(data) {
        held(&message);
    }
    let Ok(typed) = std::str::from_utf8(data) else { return };
    if let Ok(Some(text)) = checked_text(typed) {
        held(&Message { nick: "alice".to_owned(), deed: Deed::Say(text) });
    }
    if check_nick(typed).is_ok() {
        held(&Message { nick: typed.to_owned(), deed: Deed::Hello });
    }
}

fn held(message: &Message) {
    let Message { nick, deed } = message;
    assert!((1..=MAX_NICK).contains(&nick.chars().count()), "{nick:?}");
    assert!(nick.chars().all(|c| !c.is_control() && !c.is_whitespace()), "{nick:?}");
    match deed {
        Deed::Say(text) => {
            assert!((1..=MAX_TEXT).contains(&text.len()), "{text:?}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert_eq!(checked_text(text), Ok(Some(text.clone())), "it is checked twice");
        }
        Deed::Hello | Deed::Bye => {}
    }
    assert_eq!(Message::decode(&message.encode()).as_ref(), Some(message));
}
