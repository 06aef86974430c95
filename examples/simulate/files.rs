//! Files: what is written to them is known at the end, whether it can be at the beginning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Failure;

/// A file that will be written. Until then it keeps what it holds.
#[derive(Debug)]
pub(crate) struct Sink {
    path: PathBuf,
    file: File,
}

impl Sink {
    /// Opens a file, or makes an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        match file {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(error) => Err(Failure::file(path, &error)),
        }
    }

    /// Puts what `write` writes in the place of what the file holds.
    pub(crate) fn write(self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let Self { path, file } = self;
        let written = || {
            // Pipes and devices have no length.
            if file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            let mut buffer = BufWriter::new(&file);
            write(&mut buffer)?;
            buffer.flush()
        };
        written().map_err(|error| Failure::file(&path, &error))
    }
}

/// Makes a directory, and finds out whether files of some names can be written there.
pub(crate) fn directory(path: &Path, names: &[&str]) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| Failure::file(path, &error))?;
    let probe = path.join(format!(".simulate-{}", std::process::id()));
    File::create(&probe)
        .and_then(|_| fs::remove_file(&probe))
        .map_err(|error| Failure::file(path, &error))?;
    for file in names.iter().map(|name| path.join(name)).filter(|file| file.exists()) {
        Sink::open(&file)?;
    }
    Ok(())
}
