//! Fates: what became of each peer that was asked, and how that is told in one line.

use std::fmt;
use std::sync::Arc;

use libp2p_identity::PeerId;

use super::RequestError;

/// The fates of peers: what became of those that were asked in vain.
///
/// As text it tells how many, and why: `2 of 3: no answer came in time; 1 of 3: does not speak /my/kad/1.0.0 (is it a
/// client?)`. The three most frequent reasons are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fates {
    /// They failed, each for its reason.
    pub failed: Vec<(PeerId, RequestError)>,
    /// So many others were asked and had neither answered nor failed.
    pub pending: usize,
    /// The protocol by which they were asked.
    pub protocol: Arc<str>,
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.failed.iter().map(|(_, error)| *error);
        let total = self.failed.len() + self.pending;
        f.write_str(&told(total, errors, self.pending, &self.protocol))
    }
}

/// The outcome of a seed: what became of asking it while joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeedOutcome {
    /// The seed.
    pub peer: PeerId,
    /// Whether it answered when it was asked last; `None` if it was not asked yet, or has not answered yet.
    pub result: Option<Result<(), RequestError>>,
}

/// How many reasons are named, the most frequent first. Chosen, not measured.
const MAX_REASONS: usize = 3;

/// Tells of how many of `total` peers there is no success, and why not.
pub(crate) fn told(
    total: usize,
    errors: impl Iterator<Item = RequestError>,
    pending: usize,
    protocol: &str,
) -> String {
    if total == 0 {
        return "there was nobody to ask".to_owned();
    }
    let mut groups: Vec<(usize, String)> = Vec::new();
    for error in errors {
        let reason = reason(&error, protocol);
        match groups.iter_mut().find(|(_, known)| *known == reason) {
            Some((count, _)) => *count += 1,
            None => groups.push((1, reason)),
        }
    }
    groups.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let others: usize = groups.iter().skip(MAX_REASONS).map(|(count, _)| count).sum();
    groups.truncate(MAX_REASONS);
    if others > 0 {
        groups.push((others, "other reasons".to_owned()));
    }
    if pending > 0 {
        groups.push((pending, "no answer yet".to_owned()));
    }
    let told: Vec<_> = groups.iter().map(|(count, reason)| format!("{count} of {total}: {reason}")).collect();
    told.join("; ")
}

/// Returns the text of an error, with the name of the protocol where that is known.
pub(crate) fn reason(error: &RequestError, protocol: &str) -> String {
    if *error == RequestError::Unsupported && !protocol.is_empty() {
        format!("does not speak {protocol} (is it a client?)")
    } else {
        error.to_string()
    }
}

/// Tells how much had been reached by the end of a query; nothing if nothing had.
pub(crate) fn so_far(what: &str, count: usize) -> String {
    if count == 0 { String::new() } else { format!(" ({what} by then: {count})") }
}

/// Returns a text that goes on behind another.
pub(crate) fn after_semicolon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; {text}") }
}
