//! What the user types and reads: on a terminal with line editing, in a pipe line by line.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::thread;

use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

/// Lines that wait to be carried out: more are not read.
const MAX_LINES: usize = 16;

/// What was typed; an error says why it could not be read.
pub(crate) type Lines = mpsc::Receiver<io::Result<String>>;

/// Where lines are shown, each at once.
pub(crate) enum Screen {
    Pipe,
    /// Above what is being typed.
    Prompt(Box<dyn ExternalPrinter + Send>),
}

impl Screen {
    pub(crate) fn show(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Pipe => {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}")?;
                out.flush()
            }
            Self::Prompt(printer) => printer.print(format!("{line}\n")).map_err(io::Error::other),
        }
    }
}

/// Starts to read stdin; the channel ends where the input does.
///
/// # Errors
/// There is no thread or terminal to be had.
pub(crate) fn open() -> io::Result<(Screen, Lines)> {
    let (lines, receiver) = mpsc::channel(MAX_LINES);
    let name = thread::Builder::new().name("input".to_owned());
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        let mut editor = DefaultEditor::new().map_err(io::Error::other)?;
        let printer = editor.create_external_printer().map_err(io::Error::other)?;
        name.spawn(move || edit(editor, &lines))?;
        Ok((Screen::Prompt(Box::new(printer)), receiver))
    } else {
        name.spawn(move || read(&lines))?;
        Ok((Screen::Pipe, receiver))
    }
}

fn edit(mut editor: DefaultEditor, lines: &mpsc::Sender<io::Result<String>>) {
    // Ctrl-C and ctrl-D leave.
    loop {
        let text = match editor.readline("> ") {
            Ok(text) => Ok(text),
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return,
            Err(error) => Err(io::Error::other(error)),
        };
        let is_over = text.is_err();
        if let Ok(text) = &text {
            // A history that cannot grow is none to end a chat for.
            let _ = editor.add_history_entry(text);
        }
        if lines.blocking_send(text).is_err() || is_over {
            return;
        }
    }
}

fn read(lines: &mpsc::Sender<io::Result<String>>) {
    for text in io::stdin().lock().split(b'\n') {
        let (text, is_over) = match text {
            Ok(bytes) => (String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8")), false),
            Err(error) => (Err(error), true),
        };
        if lines.blocking_send(text).is_err() || is_over {
            return;
        }
    }
}
