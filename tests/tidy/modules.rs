//! The crate's files as a graph: which file names which, where each type's `impl` blocks stand, what the crate shows.
//!
//! Read from text, without a compiler. A path is followed from module to module, through what each imports or re-exports,
//! to the file that defines what it names.

use std::collections::{BTreeMap, BTreeSet};

/// Files by their path below `src`.
pub(crate) type Files = BTreeMap<String, File>;

/// What a file says of itself.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Its child modules, with whether they are public.
    children: BTreeMap<String, bool>,
    uses: Vec<Use>,
    /// Paths of two parts or more outside of `use`.
    paths: Vec<Vec<String>>,
    /// Every word outside of `use`.
    words: BTreeSet<String>,
    /// The items it defines at its top level, with whether they are public.
    items: BTreeMap<String, bool>,
    /// The types for which it has `impl` blocks, as paths.
    impls: BTreeSet<Vec<String>>,
}

#[derive(Debug)]
struct Use {
    path: Vec<String>,
    /// The name by which it is known here; `*` if it is all there is.
    name: String,
    is_exported: bool,
    is_public: bool,
}

/// Splits a text into words, `::` and single characters. Comments are left out, texts and lifetimes made short.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = at(i);
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && at(i) != '\n' {
                i += 1;
            }
        } else if c == '"' {
            i += 1;
            while i < chars.len() && at(i) != '"' {
                i += if at(i) == '\\' { 2 } else { 1 };
            }
            i += 1;
            out.push("\"".to_owned());
        } else if c == '\'' {
            // A character, or else a lifetime.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
            }
        } else if c.is_alphanumeric() || c == '_' {
            let from = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            out.push(chars[from..i].iter().collect());
        } else if c == ':' && at(i + 1) == ':' {
            out.push("::".to_owned());
            i += 2;
        } else {
            if !c.is_whitespace() {
                out.push(c.to_string());
            }
            i += 1;
        }
    }
    out
}

/// Reads tokens one after another.
struct Reader {
    tokens: Vec<String>,
    at: usize,
}

impl Reader {
    fn peek(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned().unwrap_or_default()
    }

    fn is_at(&self, expected: &[&str]) -> bool {
        expected.iter().enumerate().all(|(ahead, token)| self.peek(ahead) == *token)
    }

    /// Skips what stands between two brackets, the first of which is next.
    fn skip_brackets(&mut self, open: &str, close: &str) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            let token = self.next();
            if token == open {
                depth += 1;
            } else if token == close {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
        }
    }

    /// Skips an item: to its semicolon, or to the end of its block.
    fn skip_item(&mut self) {
        while self.at < self.tokens.len() {
            match self.peek(0) {
                "{" => return self.skip_brackets("{", "}"),
                "(" => self.skip_brackets("(", ")"),
                "[" => self.skip_brackets("[", "]"),
                ";" => {
                    self.at += 1;
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Reads a tree of a `use`, whose path so far is `path`.
    fn use_tree(&mut self, mut path: Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
        loop {
            match self.peek(0) {
                "{" => {
                    self.at += 1;
                    while !matches!(self.peek(0), "}" | "") {
                        self.use_tree(path.clone(), found);
                        self.at += usize::from(self.peek(0) == ",");
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    found.push((path, "*".to_owned()));
                    return;
                }
                _ => {
                    let name = self.next();
                    if name != "self" || path.is_empty() {
                        path.push(name);
                    }
                }
            }
            if self.peek(0) == "::" {
                self.at += 1;
                continue;
            }
            let mut name = path.last().cloned().unwrap_or_default();
            if self.peek(0) == "as" {
                self.at += 1;
                name = self.next();
            }
            found.push((path, name));
            return;
        }
    }
}

/// Words that begin an item with a name.
const ITEMS: [&str; 9] = ["struct", "enum", "trait", "type", "const", "static", "fn", "union", "macro_rules"];

impl File {
    pub(crate) fn read(text: &str) -> Self {
        let mut file = Self::default();
        let mut reader = Reader { tokens: tokens(text), at: 0 };
        // How deep in braces; only what stands at the top are items of the file.
        let (mut depth, mut is_hidden, mut visibility) = (0, false, None);
        while reader.at < reader.tokens.len() {
            if reader.is_at(&["#", "[", "cfg", "(", "test", ")", "]"]) {
                reader.at += 7;
                while reader.is_at(&["#", "["]) {
                    reader.at += 1;
                    reader.skip_brackets("[", "]");
                }
                reader.skip_item();
                continue;
            }
            if reader.is_at(&["#", "["]) || reader.is_at(&["#", "!", "["]) {
                is_hidden |= reader.is_at(&["#", "[", "doc", "(", "hidden", ")"]);
                reader.at += if reader.peek(1) == "!" { 2 } else { 1 };
                reader.skip_brackets("[", "]");
                continue;
            }
            if reader.peek(0) == "pub" {
                reader.at += 1;
                visibility = Some(reader.peek(0) != "(");
                if reader.peek(0) == "(" {
                    reader.skip_brackets("(", ")");
                }
                continue;
            }
            let is_public = visibility == Some(true) && !is_hidden;
            let token = reader.peek(0).to_owned();
            match token.as_str() {
                "use" => {
                    reader.at += 1;
                    reader.at += usize::from(reader.peek(0) == "::");
                    let mut found = Vec::new();
                    reader.use_tree(Vec::new(), &mut found);
                    let is_exported = visibility.is_some();
                    let uses = found.into_iter();
                    file.uses.extend(uses.map(|(path, name)| Use { path, name, is_exported, is_public }));
                }
                "mod" if depth == 0 => {
                    reader.at += 1;
                    let name = reader.next();
                    if reader.peek(0) == ";" {
                        file.children.insert(name, is_public);
                    }
                }
                "impl" if depth == 0 => {
                    reader.at += 1;
                    file.impl_head(&mut reader);
                }
                "groups" if depth == 0 && reader.is_at(&["groups", "!", "{"]) => file.groups(&mut reader),
                word if depth == 0 && ITEMS.contains(&word) => {
                    reader.at += 1;
                    reader.at += usize::from(reader.peek(0) == "!");
                    // `const fn`
                    if !ITEMS.contains(&reader.peek(0)) {
                        let name = reader.next();
                        file.items.insert(name, is_public);
                    } else {
                        continue;
                    }
                }
                "{" | "}" => {
                    depth += if token == "{" { 1 } else { -1 };
                    reader.at += 1;
                }
                _ => drop(file.path(&mut reader)),
            }
            (visibility, is_hidden) = (None, false);
        }
        file
    }

    /// Takes note of what a macro makes of its body: a public struct of each name.
    fn groups(&mut self, reader: &mut Reader) {
        reader.at += 3;
        while !matches!(reader.peek(0), "}" | "") {
            let name = reader.next();
            if reader.peek(0) == "{" {
                self.items.insert(name, true);
                reader.skip_brackets("{", "}");
            }
        }
        reader.at += 1;
    }

    /// Takes note of the type that an `impl` block is for.
    fn impl_head(&mut self, reader: &mut Reader) {
        let (mut angles, mut subject) = (0, Vec::new());
        while !matches!(reader.peek(0), "{" | "where" | "") {
            match reader.peek(0) {
                "-" => reader.at += usize::from(reader.peek(1) == ">"),
                "<" => angles += 1,
                ">" => angles -= 1,
                "for" if angles == 0 => subject.clear(),
                _ => {}
            }
            let path = self.path(reader);
            if angles == 0 && path.first().is_some_and(|word| !["for", "dyn", "mut"].contains(&word.as_str()))
            {
                subject = path;
            }
        }
        self.impls.insert(subject);
    }

    /// Takes note of the path or word that is next, and returns it; anything else is skipped.
    fn path(&mut self, reader: &mut Reader) -> Vec<String> {
        let is_word = |token: &str| token.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
        let mut path = vec![reader.next()];
        if !path.iter().all(|token| is_word(token)) {
            return Vec::new();
        }
        while reader.peek(0) == "::" && is_word(reader.peek(1)) {
            reader.at += 1;
            path.push(reader.next());
        }
        self.words.extend(path.first().cloned());
        if path.len() > 1 {
            self.paths.push(path.clone());
        }
        path
    }
}

/// The module of a file: `a/b.rs` is `["a", "b"]`, `lib.rs` the root.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// The file of a module.
fn file_of(module: &[String]) -> String {
    if module.is_empty() { "lib.rs".to_owned() } else { format!("{}.rs", module.join("/")) }
}

/// Follows a path from a module to the file that defines what it names, and the name there; without a name it is the
/// module itself. `None` if it leads out of the crate.
fn resolve(
    files: &Files,
    from: &[String],
    path: &[String],
    depth: usize,
) -> Option<(String, Option<String>)> {
    let (mut here, mut rest) = (from.to_vec(), path);
    match path.first()?.as_str() {
        "crate" => (here, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while let Some(("super", behind)) = rest.split_first().map(|(first, rest)| (first.as_str(), rest))
            {
                here.pop();
                rest = behind;
            }
        }
        _ => {}
    }
    let Some((name, behind)) = rest.split_first() else {
        return Some((file_of(&here), None));
    };
    let file = files.get(&file_of(&here))?;
    if file.children.contains_key(name)
        && files.contains_key(&file_of(&[&here[..], std::slice::from_ref(name)].concat()))
    {
        here.push(name.clone());
        let path = [&["self".to_owned()], behind].concat();
        return resolve(files, &here, &path, depth);
    }
    if file.items.contains_key(name) || depth > 8 {
        return Some((file_of(&here), Some(name.clone())));
    }
    let known = file.uses.iter().find(|known| known.name == *name);
    if let Some(known) = known.filter(|known| known.path.first() != Some(name) || known.path.len() > 1) {
        return resolve(files, &here, &[&known.path[..], behind].concat(), depth + 1);
    }
    for glob in file.uses.iter().filter(|known| known.name == "*") {
        let found = resolve(files, &here, &[&glob.path[..], std::slice::from_ref(name)].concat(), depth + 1);
        if let Some((at, Some(name))) = found
            && files.get(&at).is_some_and(|file| file.items.contains_key(&name))
        {
            return Some((at, Some(name)));
        }
    }
    // Whatever it is that a macro makes, if the path names this crate at all.
    let is_ours = matches!(path.first().map(String::as_str), Some("crate" | "self" | "super"));
    is_ours.then(|| (file_of(&here), Some(name.clone())))
}

/// Which file names which.
///
/// `a.rs` names `b.rs` if a path in it, followed through imports and re-exports, ends at an item of `b.rs`. What is only
/// handed on by `pub use` is not named, nor is a child by `mod child;`: a parent may show what its children have, and they may
/// use what it has. If it uses theirs itself it is built from them, and they must not know it. Tests do not count.
pub(crate) fn edges(files: &Files) -> BTreeMap<&str, BTreeSet<String>> {
    let mut edges = BTreeMap::new();
    for (at, file) in files {
        let module = module(at);
        let is_used = |used: &&Use| !used.is_exported || file.words.contains(&used.name);
        let (globs, uses): (Vec<_>, Vec<_>) =
            file.uses.iter().filter(is_used).partition(|used| used.name == "*");
        let paths = uses.iter().map(|used| &used.path).chain(&file.paths);
        let ends = paths.filter_map(|path| resolve(files, &module, path, 0));
        // A module that is imported is not used by that alone: what is used of it stands behind it in another path.
        let ends = ends.filter(|(_, name)| name.is_some()).map(|(end, _)| end);
        let globs =
            globs.iter().filter_map(|used| resolve(files, &module, &used.path, 0)).map(|(end, _)| end);
        let named = ends.chain(globs).filter(|end| end != at);
        edges.insert(at.as_str(), named.collect());
    }
    edges
}

/// The circles: sets of files of which each leads to each other.
pub(crate) fn circles(files: &Files) -> Vec<Vec<String>> {
    let edges = edges(files);
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from.to_owned()];
        while let Some(at) = next.pop() {
            for to in edges.get(at.as_str()).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = files.keys().map(|at| (at.as_str(), reach(at))).collect();
    let mut circles = BTreeSet::new();
    for (at, reachable) in &reached {
        let back = |to: &&String| reached.get(to.as_str()).is_some_and(|back| back.contains(*at));
        let circle: Vec<_> = reachable.iter().filter(back).cloned().collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// In which files the `impl` blocks of each of the crate's types stand, types by file and name.
pub(crate) fn impls(files: &Files) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut places: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (at, file) in files {
        for subject in &file.impls {
            if let Some((end, Some(name))) = resolve(files, &module(at), subject, 0)
                && files.get(&end).is_some_and(|file| file.items.contains_key(&name))
            {
                places.entry((end, name)).or_default().insert(at.clone());
            }
        }
    }
    places
}

/// The public items that can be named from outside, by the path from the crate's root.
pub(crate) fn public(files: &Files) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    public_of(files, &[], "", &mut found);
    found
}

fn public_of(files: &Files, module: &[String], prefix: &str, found: &mut BTreeSet<String>) {
    let Some(file) = files.get(&file_of(module)) else {
        return;
    };
    found.extend(
        file.items.iter().filter(|(_, is_public)| **is_public).map(|(name, _)| format!("{prefix}{name}")),
    );
    for (child, _) in file.children.iter().filter(|(_, is_public)| **is_public) {
        found.insert(format!("{prefix}{child}"));
        public_of(
            files,
            &[module, std::slice::from_ref(child)].concat(),
            &format!("{prefix}{child}::"),
            found,
        );
    }
    for used in file.uses.iter().filter(|used| used.is_public) {
        if used.name == "*" {
            if let Some((end, None)) = resolve(files, module, &used.path, 0) {
                public_of(files, &self::module(&end), prefix, found);
            }
        } else {
            found.insert(format!("{prefix}{}", used.name));
        }
    }
}
