//! A chat by script: what is said, and what has to be heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::message::{check_nick, checked_text};

/// How many messages are remembered that no `expect` has asked for.
const MAX_HEARD: usize = 1000;

/// A line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Until so many others are there.
    Wait(usize),
    Say(String),
    /// Until this has been heard, now or before.
    Expect(String, String),
    Sleep(Duration),
    Quit,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Say(String),
    /// Nothing, until more is heard or time has passed.
    Nothing,
    Quit,
}

/// The lines that are left of a script, and what was heard for them.
#[derive(Debug)]
pub(crate) struct Script {
    /// With their numbers and texts.
    steps: VecDeque<(usize, String, Step)>,
    heard: VecDeque<(String, String)>,
    /// When the sleep ends that has begun.
    wakes: Option<Instant>,
}

impl Script {
    /// Reads a script: a command in each line that is neither empty nor begins with `#`.
    ///
    /// # Errors
    /// The first line that is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = VecDeque::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let step = step(line).map_err(|error| format!("line {}: {error}: {line}", at + 1))?;
            steps.push_back((at + 1, line.to_owned(), step));
        }
        Ok(Self { steps, heard: VecDeque::new(), wakes: None })
    }

    /// Takes note of what somebody said.
    pub(crate) fn heard(&mut self, name: &str, text: &str) {
        if self.heard.len() == MAX_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back((name.to_owned(), text.to_owned()));
    }

    /// Returns what is to be done now that so many others are there.
    pub(crate) fn next(&mut self, now: Instant, others: usize) -> Next {
        while let Some((_, _, step)) = self.steps.front() {
            let next = match step {
                Step::Wait(wanted) if others < *wanted => return Next::Nothing,
                Step::Wait(_) => None,
                Step::Say(text) => Some(Next::Say(text.clone())),
                Step::Expect(name, text) => {
                    let Some(at) = self.heard.iter().position(|heard| (&heard.0, &heard.1) == (name, text))
                    else {
                        return Next::Nothing;
                    };
                    // Each message meets one expectation.
                    self.heard.remove(at);
                    None
                }
                Step::Sleep(time) => {
                    if now < *self.wakes.get_or_insert(now + *time) {
                        return Next::Nothing;
                    }
                    self.wakes = None;
                    None
                }
                Step::Quit => Some(Next::Quit),
            };
            self.steps.pop_front();
            if let Some(next) = next {
                return next;
            }
        }
        Next::Quit
    }

    /// Returns the line that is waited for.
    pub(crate) fn stuck_at(&self) -> String {
        match self.steps.front() {
            Some((number, line, _)) => format!("line {number}: {line}"),
            None => "the end".to_owned(),
        }
    }
}

fn step(line: &str) -> Result<Step, String> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim();
    match verb {
        "wait" => Ok(Step::Wait(rest.parse().map_err(|_| "expected: wait N")?)),
        "say" => Ok(Step::Say(checked_text(rest)?.ok_or("expected: say TEXT")?)),
        "expect" => {
            let (name, text) = rest.split_once(':').ok_or("expected: expect NICK: TEXT")?;
            // Of two who have the same nick one is shown with a part of its id.
            check_nick(name.split('#').next().unwrap_or_default())?;
            let text = checked_text(text)?.ok_or("expected: expect NICK: TEXT")?;
            Ok(Step::Expect(name.to_owned(), text))
        }
        "sleep" => {
            let ms: u32 = rest.parse().map_err(|_| "expected: sleep MS")?;
            Ok(Step::Sleep(Duration::from_millis(ms.into())))
        }
        "quit" if rest.is_empty() => Ok(Step::Quit),
        _ => Err("unknown command".to_owned()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some point in time")]
mod tests {
    use super::*;

    fn script(text: &str) -> Script {
        Script::parse(text).expect("a script")
    }

    #[test]
    fn a_script_is_carried_out_line_by_line() {
        let now = Instant::now();
        let mut script = script(
            "# who\n\n wait 2\nsay  good morning \nexpect bob: hi: there\nsleep 30\nsay bye\nquit\nsay no\n",
        );
        assert_eq!(script.next(now, 1), Next::Nothing);
        assert_eq!(script.stuck_at(), "line 3: wait 2");
        assert_eq!(script.next(now, 2), Next::Say("good morning".to_owned()));
        assert_eq!(script.next(now, 0), Next::Nothing);
        script.heard("carol", "hi: there");
        script.heard("bob", "hi");
        assert_eq!(script.next(now, 2), Next::Nothing);
        assert_eq!(script.stuck_at(), "line 5: expect bob: hi: there");
        script.heard("bob", "hi: there");
        assert_eq!(script.next(now, 2), Next::Nothing, "it sleeps");
        assert_eq!(script.next(now + Duration::from_millis(29), 2), Next::Nothing);
        assert_eq!(script.next(now + Duration::from_millis(30), 2), Next::Say("bye".to_owned()));
        assert_eq!(script.next(now, 2), Next::Quit);
    }

    #[test]
    fn its_end_is_to_quit() {
        let mut script = script("say hi");
        assert_eq!(script.next(Instant::now(), 0), Next::Say("hi".to_owned()));
        assert_eq!(script.next(Instant::now(), 0), Next::Quit);
        assert_eq!(script.stuck_at(), "the end");
    }

    #[test]
    fn what_was_heard_before_counts_once() {
        let now = Instant::now();
        let mut script = script("expect bob#abc: hi\nexpect bob#abc: hi");
        for _ in 0..2 * MAX_HEARD {
            script.heard("carol", "hi");
        }
        script.heard("bob#abc", "hi");
        assert_eq!(script.next(now, 1), Next::Nothing);
        assert_eq!(script.stuck_at(), "line 2: expect bob#abc: hi");
        assert!(script.heard.len() < MAX_HEARD);
        script.heard("bob#abc", "hi");
        assert_eq!(script.next(now, 1), Next::Quit);
    }

    #[test]
    fn a_wrong_line_is_told_with_its_number() {
        for (line, error) in [
            ("wait", "expected: wait N"),
            ("wait -1", "expected: wait N"),
            ("say", "expected: say TEXT"),
            ("say \u{7}", "expected: say TEXT"),
            ("expect bob", "expected: expect NICK: TEXT"),
            ("expect bob:", "expected: expect NICK: TEXT"),
            ("expect b b: hi", "a nick has letters"),
            ("sleep 1s", "expected: sleep MS"),
            ("quit now", "unknown command"),
            ("shout hi", "unknown command"),
            (&format!("say {}", "x".repeat(1025)), "too long"),
        ] {
            let said = Script::parse(&format!("wait 1\n{line}\n")).expect_err(line);
            assert!(said.starts_with("line 2: ") && said.contains(error), "{said}");
        }
    }
}
