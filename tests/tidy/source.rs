//! A Rust file as the rules see it: its code without comments and strings, and the paths, names
//! and functions in it. Reads the text, not the syntax, which is enough for rustfmt's output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Source {
    /// The path from the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
    /// `text` with comments, strings and chars blanked out, line by line the same.
    code: String,
}

/// A path named in code, without `crate`, `self` and `super` where those were asked to be resolved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// One token of code that matters here, and the line it stands in.
type Token = (usize, String);

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files that git tracks or would track; without git, all files but what a build leaves behind.
pub(crate) fn text_files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output();
    match listed {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8_lossy(&output.stdout).into_owned();
            let names = names.split('\0').filter(|name| !name.is_empty());
            names.map(str::to_owned).collect()
        }
        _ => files_under(repository()),
    }
}

fn files_under(folder: &Path) -> Vec<String> {
    const LEFT_BEHIND: &[&str] = &["target", ".git", "node_modules", "leveret-data"];
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let left_behind = LEFT_BEHIND.iter().any(|name| entry.file_name() == *name);
            if path.is_dir() && !left_behind {
                open.push(path);
            } else if path.is_file() {
                let name = path.strip_prefix(repository()).expect("it is below the root");
                files.push(name.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into(), code: blank_out(text) }
    }

    pub(crate) fn under(folders: &[&str]) -> Vec<Self> {
        let folders = folders.iter().map(|name| repository().join(name));
        let files = folders.flat_map(|folder| files_under(&folder));
        files
            .filter(|name| name.ends_with(".rs") && !name.contains("/target/"))
            .map(|name| {
                let text = std::fs::read_to_string(repository().join(&name));
                Self::new(&name, &text.expect("a source file is UTF-8"))
            })
            .collect()
    }

    pub(crate) fn at(&self, line: usize, message: &str) -> String {
        format!("{}:{line}: {message}", self.name)
    }

    /// The modules from the crate's root to this file.
    fn module_path(&self) -> Vec<&str> {
        let name = self.name.strip_prefix("src/").unwrap_or(&self.name);
        let name = name.strip_suffix(".rs").unwrap_or(name);
        let name = name.strip_suffix("/mod").unwrap_or(name);
        name.split('/').collect()
    }

    /// The module under the crate's root that this file belongs to.
    pub(crate) fn module(&self) -> &str {
        self.module_path()[0]
    }

    /// Paths into this crate, from its root.
    pub(crate) fn crate_paths(&self) -> Vec<NamedPath> {
        let paths = self.raw_paths().into_iter();
        let paths = paths.filter_map(|(path, inline)| {
            let mut segments = path.segments;
            match segments[0].as_str() {
                "crate" | "leveret" => {
                    segments.remove(0);
                }
                "super" => segments = self.resolve(segments, &inline),
                _ => return None,
            }
            Some(NamedPath { line: path.line, segments })
        });
        paths.filter(|path| !path.segments.is_empty()).collect()
    }

    /// All paths, as written, with groups taken apart.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        let paths = self.raw_paths().into_iter();
        paths.map(|(path, _)| path).collect()
    }

    fn resolve(&self, segments: Vec<String>, inline: &[String]) -> Vec<String> {
        let own = self.module_path();
        let mut at: Vec<String> = own.into_iter().map(str::to_owned).collect();
        at.extend_from_slice(inline);
        let mut rest = segments.into_iter().peekable();
        while rest.next_if(|segment| segment == "super").is_some() {
            at.pop();
        }
        at.extend(rest);
        at
    }

    /// Paths, each with the inline modules around it.
    fn raw_paths(&self) -> Vec<(NamedPath, Vec<String>)> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut depth = 0;
        let mut inline: Vec<(usize, String)> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let word = |i: usize| tokens.get(i).map_or("", |(_, token)| token.as_str());
            match word(at) {
                "mod" if word(at + 2) == "{" => inline.push((depth, word(at + 1).to_owned())),
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inline.pop_if(|(opened, _)| *opened == depth);
                }
                first if is_name(first) && word(at + 1) == "::" => {
                    let mut found = Vec::new();
                    at = take_tree(&tokens, at, &mut Vec::new(), &mut found);
                    let around: Vec<_> = inline.iter().map(|(_, name)| name.clone()).collect();
                    paths.extend(found.into_iter().map(|path| (path, around.clone())));
                    continue;
                }
                // Everywhere else a path of one name is a local one.
                "use" if is_name(word(at + 1)) && word(at + 2) == ";" => {
                    let (line, name) = tokens[at + 1].clone();
                    let segments = vec![name];
                    paths.push((NamedPath { line, segments }, Vec::new()));
                }
                _ => {}
            }
            at += 1;
        }
        paths
    }

    /// Files that the `mod x;` lines here lead to, whether they exist or not.
    pub(crate) fn submodules(&self) -> Vec<String> {
        let folder = match self.name.strip_suffix(".rs").unwrap_or(&self.name) {
            root @ ("src/lib" | "src/main") => root.rsplit_once('/').map_or("", |(f, _)| f),
            own => own.strip_suffix("/mod").unwrap_or(own),
        };
        let tokens = tokens(&self.code);
        let declared = tokens.windows(3).filter(|w| w[0].1 == "mod" && w[2].1 == ";");
        let mut files: Vec<_> = declared
            .flat_map(|w| {
                let name = &w[1].1;
                [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
            })
            .collect();
        let beside = self.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        for line in self.text.lines() {
            let quoted = line.strip_prefix("#[path = \"");
            if let Some(file) = quoted.and_then(|rest| rest.strip_suffix("\"]")) {
                files.push(format!("{beside}/{file}"));
            }
        }
        files
    }

    /// Whether this is the tests of the file beside it.
    pub(crate) fn is_tests(&self) -> bool {
        self.name.ends_with("_tests.rs") || self.name.ends_with("/tests.rs")
    }

    /// Lines before the tests at the end of the file.
    pub(crate) fn lines_without_tests(&self) -> usize {
        if self.is_tests() {
            return 0;
        }
        let lines: Vec<_> = self.text.lines().collect();
        let mut pairs = lines.windows(2);
        let tests = pairs.position(|w| w[0] == "#[cfg(test)]" && w[1].starts_with("mod "));
        tests.unwrap_or(lines.len())
    }

    /// Line, name and length in lines of each function with a body.
    pub(crate) fn functions(&self) -> Vec<(usize, String, usize)> {
        let tokens = tokens(&self.code);
        let mut functions = Vec::new();
        for at in 0..tokens.len().saturating_sub(1) {
            if tokens[at].1 != "fn" || !is_name(&tokens[at + 1].1) {
                continue;
            }
            let (line, name) = tokens[at + 1].clone();
            let (mut braces, mut rounds) = (0, 0);
            for (end_line, token) in &tokens[at + 2..] {
                match token.as_str() {
                    "(" | "[" => rounds += 1,
                    ")" | "]" => rounds -= 1,
                    "{" => braces += 1,
                    "}" => braces -= 1,
                    _ => {}
                }
                let ends_at_once = token == ";" && braces == 0 && rounds == 0;
                if ends_at_once || (token == "}" && braces == 0) {
                    functions.push((line, name, end_line + 1 - line));
                    break;
                }
            }
        }
        functions
    }

    /// Names that this file gives to its items, and its own.
    pub(crate) fn given_names(&self) -> Vec<(usize, String)> {
        const KEYWORDS: &[&str] =
            &["fn", "struct", "enum", "trait", "mod", "type", "const", "static", "union"];
        let tokens = tokens(&self.code);
        let pairs = tokens.windows(2);
        let items = pairs.filter(|w| KEYWORDS.contains(&w[0].1.as_str()) && is_name(&w[1].1));
        let own = self.module_path().into_iter().map(|name| (1, name.into()));
        items.map(|w| w[1].clone()).chain(own).collect()
    }
}

/// The words in a snake_case or CamelCase name, in lower case.
pub(crate) fn words(name: &str) -> BTreeSet<String> {
    let mut spaced = String::new();
    for c in name.chars() {
        if c.is_uppercase() || c == '_' {
            spaced.push(' ');
        }
        spaced.extend(c.to_lowercase());
    }
    spaced.split([' ', '_']).map(str::to_owned).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::` and single punctuation marks.
fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let in_name = |c: char| c.is_alphanumeric() || c == '_';
            let end = if in_name(first) {
                rest.find(|c| !in_name(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((index + 1, rest[..end].to_owned()));
            rest = rest[end..].trim_start();
        }
    }
    tokens
}

/// Reads a path or a tree of `use` from `at` on, and returns where it ends.
fn take_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &mut Vec<String>,
    out: &mut Vec<NamedPath>,
) -> usize {
    let before = prefix.len();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    let word = |i: usize| tokens.get(i).map_or("", |(_, token)| token.as_str());
    let mut is_group = false;
    while is_name(word(at)) || word(at) == "*" {
        prefix.push(word(at).to_owned());
        at += 1;
        if word(at) != "::" {
            break;
        }
        at += 1;
        if word(at) == "{" {
            is_group = true;
            at += 1;
            while !matches!(word(at), "}" | "") {
                let next = take_tree(tokens, at, prefix, out);
                let renamed = if word(next) == "as" { 2 } else { 0 };
                at = (next + renamed).max(at + 1);
            }
            at += 1;
        }
    }
    if !is_group && prefix.len() > before {
        out.push(NamedPath { line, segments: prefix.clone() });
    }
    prefix.truncate(before);
    at
}

/// Replaces comments and the contents of strings and chars by blanks.
fn blank_out(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match literal_len(rest, out.chars().next_back()) {
            Some(len) => {
                let blanks = rest[..len].chars().map(|c| if c == '\n' { c } else { ' ' });
                out.extend(blanks);
                len
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[len..];
    }
    out
}

/// The length of the comment, string or char that `text` begins with, if it does.
fn literal_len(text: &str, before: Option<char>) -> Option<usize> {
    let until = |start: usize, end: &str| {
        let found = text[start..].find(end);
        found.map_or(text.len(), |at| start + at + end.len())
    };
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(until(2, "*/"));
    }
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r'));
    if let Some(raw) = raw.filter(|_| !in_name) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let start = text.len() - raw.len() + hashes + 1;
            return Some(until(start, &format!("\"{}", "#".repeat(hashes))));
        }
    }
    match text.as_bytes()[0] {
        b'"' => Some(quoted_len(text, b'"')),
        // A lifetime has no closing quote right behind its first character.
        b'\'' if text[1..].starts_with('\\') => Some(quoted_len(text, b'\'')),
        b'\'' => {
            let inner = text[1..].chars().next()?.len_utf8();
            text[1 + inner..].starts_with('\'').then_some(inner + 2)
        }
        _ => None,
    }
}

fn quoted_len(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[test]
fn comments_and_literals_are_blank_and_lifetimes_are_not() {
    let code = blank_out("a // b\n'c' r#\"d\"# 'e: \"f\\\"g\" /* h\n */ b'\\n' i");
    let code: Vec<_> = code.split_whitespace().collect();
    assert_eq!(code, ["a", "'e:", "b", "i"]);
}

#[test]
fn a_use_tree_is_taken_apart() {
    let source = Source::new("src/x.rs", "use a::{b::{c, d as e}, f::*, self};\nlet x = g::h();");
    let paths = source.paths().into_iter();
    let paths: Vec<_> = paths.map(|p| (p.line, p.segments.join("::"))).collect();
    let expected = [(1, "a::b::c"), (1, "a::b::d"), (1, "a::f::*"), (1, "a::self"), (2, "g::h")];
    let expected = expected.map(|(line, path)| (line, path.to_owned()));
    assert_eq!(paths, expected);
}

#[test]
fn names_fall_apart_into_words() {
    assert!(words("QueueManager").contains("manager"));
    assert!(words("string_util").contains("util"));
    assert!(!words("Commonwealth").contains("common"));
}
