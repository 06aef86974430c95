//! Who is in the room.
//!
//! Somebody is there from the first message on, until a goodbye, or until nothing is heard any more.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// Everybody says hello so often.
pub(crate) const HELLO_INTERVAL: Duration = Duration::from_secs(15);

/// Who is silent for so long has gone: two hellos were missed.
const SILENCE: Duration = Duration::from_secs(40);

/// How long the last words may take of somebody who does not listen any more.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many others are told apart. More are not let in.
const MAX_OTHERS: usize = 1000;

struct Other {
    /// Under which name it is shown: no two have the same.
    name: String,
    /// When it has gone unless it is heard.
    until: Instant,
    /// Whether the connection to it has been lost, and nothing was heard since.
    is_lost: bool,
}

/// What a message changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Joined(String),
    Known(String),
    /// The message is older than the goodbye of somebody who was not there, or there is no room left.
    Stale,
}

/// The others in a room.
pub(crate) struct Room {
    own_nick: String,
    others: HashMap<PeerId, Other>,
    /// Who has said goodbye: messages may overtake each other.
    gone: HashMap<PeerId, Gone>,
}

struct Gone {
    /// The number of the goodbye.
    number: u64,
    at: Instant,
    /// Under which name it was shown, if it was there.
    name: Option<String>,
}

impl Room {
    pub(crate) fn new(own_nick: String) -> Self {
        Self { own_nick, others: HashMap::new(), gone: HashMap::new() }
    }

    /// Takes note of a message that is not a goodbye. The numbers of one peer's messages grow.
    pub(crate) fn heard(&mut self, now: Instant, peer: PeerId, number: u64, nick: &str) -> Heard {
        if let Some(other) = self.others.get_mut(&peer) {
            (other.until, other.is_lost) = (now + SILENCE, false);
            return Heard::Known(other.name.clone());
        }
        if let Some(gone) = self.gone.get(&peer).filter(|gone| number < gone.number) {
            return gone.name.clone().map_or(Heard::Stale, Heard::Known);
        }
        if self.others.len() == MAX_OTHERS {
            return Heard::Stale;
        }
        let name = self.name_for(peer, nick);
        self.others.insert(peer, Other { name: name.clone(), until: now + SILENCE, is_lost: false });
        Heard::Joined(name)
    }

    /// Returns the nick if nobody has it, or else with the end of the id: nobody can pass for somebody else.
    fn name_for(&self, peer: PeerId, nick: &str) -> String {
        let is_free =
            |name: &str| name != self.own_nick && self.others.values().all(|other| other.name != name);
        let id = peer.to_string();
        let longer = [nick.to_owned(), format!("{nick}#{}", &id[id.len().saturating_sub(6)..])];
        longer.into_iter().find(|name| is_free(name)).unwrap_or_else(|| format!("{nick}#{id}"))
    }

    /// Takes note of a goodbye. Returns who has left, if it was there.
    pub(crate) fn bye(&mut self, now: Instant, peer: PeerId, number: u64) -> Option<String> {
        // Nothing older arrives any more.
        self.gone.retain(|_, gone| now.saturating_duration_since(gone.at) < 4 * SILENCE);
        let name = self.left(&peer);
        if self.gone.len() < MAX_OTHERS {
            self.gone.insert(peer, Gone { number, at: now, name: name.clone() });
        }
        name
    }

    fn left(&mut self, peer: &PeerId) -> Option<String> {
        self.others.remove(peer).map(|other| other.name)
    }

    /// Takes note that a peer does not listen any more. Its goodbye, and what it said before, may still be on their way.
    pub(crate) fn unsubscribed(&mut self, now: Instant, peer: &PeerId) {
        if let Some(other) = self.others.get_mut(peer) {
            other.until = now + LAST_WORDS;
        }
    }

    /// Takes note that the connection to a peer was lost. Returns whether the peer is in the room.
    pub(crate) fn lost(&mut self, peer: &PeerId) -> bool {
        self.others.get_mut(peer).map(|other| other.is_lost = true).is_some()
    }

    /// Takes note that a peer cannot be dialled. It has left if a connection was lost before: others can be heard through
    /// those between.
    pub(crate) fn unreachable(&mut self, peer: &PeerId) -> Option<String> {
        if self.others.get(peer)?.is_lost { self.left(peer) } else { None }
    }

    /// Takes out those who have been silent for too long.
    pub(crate) fn silent(&mut self, now: Instant) -> Vec<String> {
        self.others.extract_if(|_, other| other.until < now).map(|(_, other)| other.name).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.others.len()
    }

    /// Returns the names of the others, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.others.values().map(|other| other.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some point in time")]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_for_somebody_else() {
        let now = Instant::now();
        let mut room = Room::new("alice".to_owned());
        let [a, b, c] = [PeerId::random(), PeerId::random(), PeerId::random()];
        let Heard::Joined(name) = room.heard(now, a, 1, "alice") else { unreachable!("it is new") };
        assert!(name.starts_with("alice#") && a.to_string().ends_with(&name[6..]), "{name}");
        assert_eq!(room.heard(now, b, 1, "bob"), Heard::Joined("bob".to_owned()));
        let Heard::Joined(third) = room.heard(now, c, 1, "bob") else { unreachable!("it is new") };
        assert!(third.starts_with("bob#"), "{third}");
        assert_eq!(room.heard(now, b, 2, "carol"), Heard::Known("bob".to_owned()), "a nick stays");
        assert_eq!(room.names(), [name.as_str(), "bob", third.as_str()]);
    }

    #[test]
    fn a_message_that_a_goodbye_has_overtaken_brings_nobody_back() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut room = Room::new("alice".to_owned());
        assert_eq!(room.bye(now, peer, 7), None);
        assert_eq!(room.heard(now, peer, 6, "bob"), Heard::Stale);
        assert_eq!(room.heard(now, peer, 8, "bob"), Heard::Joined("bob".to_owned()));
        assert_eq!(room.bye(now, peer, 9), Some("bob".to_owned()));
        assert_eq!(room.heard(now, peer, 8, "bob"), Heard::Known("bob".to_owned()), "last words are heard");
        assert_eq!(room.len(), 0);
    }

    #[test]
    fn who_is_silent_or_out_of_reach_has_left() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut room = Room::new("alice".to_owned());
        assert!(!room.lost(&peer));
        room.heard(now, peer, 1, "bob");
        assert_eq!(room.unreachable(&peer), None, "it was heard through others");
        assert!(room.lost(&peer));
        room.heard(now, peer, 2, "bob");
        assert_eq!(room.unreachable(&peer), None, "it was heard since");
        assert!(room.lost(&peer));
        assert_eq!(room.unreachable(&peer), Some("bob".to_owned()));
        room.heard(now, peer, 3, "bob");
        assert_eq!(room.silent(now + SILENCE), Vec::<String>::new());
        assert_eq!(room.silent(now + SILENCE + HELLO_INTERVAL), ["bob"]);
        room.heard(now, peer, 4, "bob");
        room.unsubscribed(now, &peer);
        assert_eq!(room.names(), ["bob"]);
        assert_eq!(room.silent(now + 2 * LAST_WORDS), ["bob"]);
    }

    #[test]
    fn the_room_is_bounded() {
        let now = Instant::now();
        let mut room = Room::new("alice".to_owned());
        for n in 0..2 * MAX_OTHERS {
            room.heard(now, PeerId::random(), 1, &format!("n{n}"));
            room.bye(now, PeerId::random(), 1);
        }
        assert_eq!((room.len(), room.gone.len()), (MAX_OTHERS, MAX_OTHERS));
    }
}
