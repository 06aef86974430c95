//! Where commands come from: a thread that reads lines, and the next one only when the last has been carried out.

use std::io::{self, BufRead as _};
use std::thread;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tokio::sync::{mpsc, oneshot};

/// A line, and whom to tell when it has been carried out.
pub(crate) struct Line {
    pub(crate) text: io::Result<String>,
    pub(crate) done: oneshot::Sender<()>,
}

/// Starts to read stdin; the channel ends where the input does.
pub(crate) fn start(is_terminal: bool) -> io::Result<mpsc::Receiver<Line>> {
    let (lines, receiver) = mpsc::channel(1);
    let name = thread::Builder::new().name("input".to_owned());
    if is_terminal {
        let editor = DefaultEditor::new().map_err(io::Error::other)?;
        name.spawn(move || edit(editor, &lines))?;
    } else {
        name.spawn(move || read(&lines))?;
    }
    Ok(receiver)
}

/// Returns when the user presses ctrl-C while a command runs. From a pipe that ends the node, as it does by default.
pub(crate) async fn interrupted(is_terminal: bool) {
    if !is_terminal || tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// Hands a line over and waits until it has been carried out. Returns whether there are to be more.
fn hand_over(text: io::Result<String>, lines: &mpsc::Sender<Line>) -> bool {
    let (done, carried_out) = oneshot::channel();
    lines.blocking_send(Line { text, done }).is_ok() && carried_out.blocking_recv().is_ok()
}

fn edit(mut editor: DefaultEditor, lines: &mpsc::Sender<Line>) {
    loop {
        let text = match editor.readline("> ") {
            Ok(text) => text,
            // Ctrl-C gives up the line.
            Err(ReadlineError::Interrupted) => continue,
            Err(_) => return,
        };
        // A history that cannot grow is none to end a node for.
        let _ = editor.add_history_entry(&text);
        if !hand_over(Ok(text), lines) {
            return;
        }
    }
}

fn read(lines: &mpsc::Sender<Line>) {
    for text in io::stdin().lock().split(b'\n') {
        let (text, is_over) = match text {
            Ok(bytes) => (String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8")), false),
            Err(error) => (Err(error), true),
        };
        if !hand_over(text, lines) || is_over {
            return;
        }
    }
}
