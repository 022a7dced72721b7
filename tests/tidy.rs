//! The house rules that a compiler does not check: who may name whom, who may touch the outside
//! world, sizes, words, and that every file is part of the program. Messages say file and line.

#[path = "tidy/source.rs"]
mod source;

use source::{Source, repository, text_files};
use std::collections::BTreeSet;

/// Modules that name nothing of the crate but each other.
const VOCABULARY: &[&str] = &[
    "command",
    "config",
    "counters",
    "deduplication",
    "exception",
    "id",
    "limits",
    "message",
    "name",
    "table",
    "time",
];

/// Which modules each may name besides itself and the vocabulary.
const LAYERS: &[(&str, &[&str])] = &[
    ("server", &["session", "broker", "exchange", "queue", "store", "wire"]),
    ("session", &["broker", "exchange", "queue", "store", "wire"]),
    ("broker", &["exchange", "queue", "store"]),
    ("wire", &[]),
    ("exchange", &[]),
    ("store", &[]),
    ("queue", &[]),
    ("cli", &["server", "store"]),
];

/// The gaps in the layers: what a queue appends to the journal and gets back from it, and what the
/// header of a message says that the broker itself publishes again.
const GAPS: &[(&str, &[&str])] = &[
    (
        "queue",
        &["store::CameBack", "store::Log", "store::OnDisk", "store::RecordBatch", "store::Target"],
    ),
    ("broker", &["wire::Properties"]),
];

/// The boundary crate, and which crates stand on it and on nothing else of ours.
const PLUGIN_API: &str = "leveret_plugin_api";
const PLUGINS: &[&str] = &["plugins/exchange-types/"];

/// Where the outside world may be named: paths in code, and the files or folders that may.
const OUTSIDE: &[(&[&str], &[&str])] = &[
    (&["tokio"], &["src/server/", "src/main.rs"]),
    (&["socket2"], &["src/server/"]),
    (&["std", "net", "TcpStream"], &["src/server/", "src/cli/"]),
    (&["std", "net", "TcpListener"], &["src/server/", "src/cli/"]),
    (&["getrandom"], &["src/server/", "src/cli/"]),
    (&["Instant", "now"], &["src/server/", "src/cli/perf/"]),
    (&["SystemTime", "now"], &["src/server/", "src/cli/perf/"]),
    (&["std", "process"], &["src/main.rs", "src/cli/"]),
    (&["sled"], &["src/store/catalogue.rs"]),
    (&["rustix"], &["src/store/disk.rs"]),
    // The command line reads the configuration file before there is a broker, or a disk to model;
    // perf is a client, and reads from /proc what a broker and its own threads cost. The server
    // reads there what memory it has and uses. The control socket's file holds no data.
    (
        &["std", "fs"],
        &[
            "src/store/disk.rs",
            "src/store/catalogue_place.rs",
            "src/server/memory.rs",
            "src/server/control/socket.rs",
            "src/cli/mod.rs",
            "src/cli/perf/",
        ],
    ),
];

const COLUMNS_MAX: usize = 100;
const FILE_LINES_AIM: usize = 400;
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_AIM: usize = 70;

/// Words that say nothing, as part of a name that we give.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "helpers", "util", "utils", "common"];

/// Marks of unfinished work, in pieces so that this file does not contain them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("db", "g!("),
    concat!("#[", "ignore"),
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/tm", "p/"),
];

/// Package registries, and the settings that point a client at another one.
const REGISTRIES: &[&str] = &[
    concat!("registry.", "npmjs.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("py", "pi.org"),
    concat!("static.", "crates.io"),
    concat!("index.", "crates.io"),
    concat!("proxy.", "golang.org"),
    concat!("index-", "url"),
    concat!("GO", "PROXY="),
    concat!("replace-", "with"),
];

/// Lock files name where a package comes from: the public registry and nothing else.
const LOCK_FILES: &[(&str, &str, &str)] = &[
    (
        "Cargo.lock",
        "source = \"",
        concat!("registry+https://github.com/rust-lang/", "crates.io-index"),
    ),
    ("package-lock.json", "\"resolved\": \"", concat!("https://registry.", "npmjs.org/")),
];

fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}:\n{}", violations.join("\n"));
}

/// The files of `src/`, which the layers are about.
fn broker_sources() -> Vec<Source> {
    Source::under(&["src"])
}

/// Every Rust file of the workspace.
fn all_sources() -> Vec<Source> {
    Source::under(&["src", "plugins", "conformance", "tests", "benches", "fuzz"])
}

#[test]
fn a_module_names_only_the_layers_below_it() {
    let mut violations = Vec::new();
    for source in broker_sources() {
        for path in source.crate_paths() {
            let [from, to, ..] = [source.module(), path.segments.first().map_or("", |s| s)];
            if !may_name(from, to, &path.segments.join("::")) {
                let named = path.segments.join("::");
                violations.push(source.at(path.line, &format!("{from} names {named}")));
            }
        }
    }
    assert_none("not a layer below (see LAYERS)", &violations);
}

fn may_name(from: &str, to: &str, path: &str) -> bool {
    if from == to || matches!(from, "main" | "lib") {
        return true;
    }
    let gaps = GAPS.iter().filter(|(module, _)| *module == from);
    if gaps.flat_map(|(_, gaps)| *gaps).any(|gap| path_starts(path, gap)) {
        return true;
    }
    let is_module = VOCABULARY.contains(&to) || LAYERS.iter().any(|(name, _)| *name == to);
    // What is not a module is a macro or an item that lib.rs gives out again.
    !is_module
        || VOCABULARY.contains(&to)
        || LAYERS.iter().any(|(name, below)| *name == from && below.contains(&to))
}

fn path_starts(path: &str, start: &str) -> bool {
    path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Whether a path begins with `named`, or calls its `now`.
fn path_names(segments: &[String], named: &[&str]) -> bool {
    match named {
        [kind, "now"] => segments.windows(2).any(|w| w == [*kind, "now"]),
        _ => segments.iter().zip(named).filter(|(a, b)| a == b).count() == named.len(),
    }
}

#[test]
fn a_plugin_knows_the_broker_by_the_boundary_crate_only() {
    let mut violations = Vec::new();
    for source in Source::under(&["plugins"]) {
        let is_plugin = PLUGINS.iter().any(|place| source.name.starts_with(place));
        for path in source.paths() {
            let first = path.segments.first().map_or("", |s| s);
            let is_ours = first == "leveret" || first.starts_with("leveret_");
            if is_ours && !(is_plugin && first == PLUGIN_API) {
                violations.push(source.at(path.line, &format!("names {first}")));
            }
            if OUTSIDE.iter().any(|(named, _)| path_names(&path.segments, named)) {
                let message = format!("{} is the outside world", path.segments.join("::"));
                violations.push(source.at(path.line, &message));
            }
        }
    }
    assert_none("a plugin has the boundary crate and no world", &violations);
}

#[test]
fn the_outside_world_is_named_where_it_belongs() {
    let mut violations = Vec::new();
    for source in broker_sources() {
        for path in source.paths() {
            for (named, places) in OUTSIDE {
                let found = path_names(&path.segments, named);
                if found && !places.iter().any(|place| source.name.starts_with(place)) {
                    let message = format!("{} belongs in {places:?}", named.join("::"));
                    violations.push(source.at(path.line, &message));
                }
            }
        }
    }
    assert_none("named in the wrong place (see OUTSIDE)", &violations);
}

#[test]
fn every_file_under_src_is_part_of_the_program() {
    let sources = broker_sources();
    let mut reached = BTreeSet::new();
    let mut open = vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()];
    while let Some(name) = open.pop() {
        if let Some(source) = sources.iter().find(|s| s.name == name)
            && reached.insert(name)
        {
            open.extend(source.submodules());
        }
    }
    let unreached = sources.iter().filter(|s| !reached.contains(&s.name));
    let unreached: Vec<_> =
        unreached.map(|s| s.at(1, "no `mod` leads here from lib.rs or main.rs")).collect();
    assert_none("dead files", &unreached);
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let silent: Vec<_> = broker_sources()
        .iter()
        .filter(|source| !source.is_tests() && !source.text.starts_with("//!"))
        .map(|source| source.at(1, "begin with `//!`: what the module owns, and what not"))
        .collect();
    assert_none("no module documentation", &silent);
}

#[test]
fn lines_and_files_are_short() {
    let mut violations = Vec::new();
    for source in all_sources() {
        for (index, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                violations.push(source.at(index + 1, &format!("{columns} columns")));
            }
        }
        let lines = source.lines_without_tests();
        let product = ["src/", "plugins/"].iter().any(|place| source.name.starts_with(place));
        if product && lines > FILE_LINES_MAX {
            violations.push(source.at(lines, &format!("more than {FILE_LINES_MAX} lines")));
        } else if product && lines > FILE_LINES_AIM {
            println!("long: {}", source.at(lines, &format!("aim at {FILE_LINES_AIM} lines")));
        }
        for (line, name, lines) in source.functions() {
            if product && lines > FUNCTION_LINES_AIM {
                let message = format!("{name} has {lines} lines, aim at {FUNCTION_LINES_AIM}");
                println!("long: {}", source.at(line, &message));
            }
        }
    }
    assert_none("too wide or too long", &violations);
}

#[test]
fn names_say_something_and_nothing_is_unfinished() {
    let mut violations = Vec::new();
    for source in all_sources() {
        for (line, name) in source.given_names() {
            let empty = |word: &String| EMPTY_WORDS.contains(&word.as_str());
            if name.starts_with("do_") || source::words(&name).iter().any(empty) {
                violations.push(source.at(line, &format!("{name} says nothing")));
            }
        }
        for (index, line) in source.text.lines().enumerate() {
            if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(**mark)) {
                violations.push(source.at(index + 1, mark));
            }
        }
    }
    assert_none("empty words, or unfinished work", &violations);
}

#[test]
fn no_text_depends_on_one_machine() {
    let mut violations = Vec::new();
    for name in text_files() {
        let Ok(text) = std::fs::read_to_string(repository().join(&name)) else {
            continue;
        };
        let file_name = name.rsplit('/').next().unwrap_or(&name);
        let lock = LOCK_FILES.iter().find(|(lock, ..)| *lock == file_name);
        for (index, line) in text.lines().enumerate() {
            let found = match lock {
                Some((_, field, public)) => foreign_source(line, field, public),
                None => machine_word(line),
            };
            if let Some(found) = found {
                violations.push(format!("{name}:{}: {found}", index + 1));
            }
        }
    }
    assert_none("a path or a registry of one machine", &violations);
}

/// The place a lock file's line takes a package from, if it is not the public registry.
fn foreign_source<'a>(line: &'a str, field: &str, public: &str) -> Option<&'a str> {
    let (_, place) = line.split_once(field)?;
    (!place.starts_with(public)).then_some(place)
}

fn machine_word(line: &str) -> Option<&'static str> {
    let begins_path = |path: &&&str| {
        line.match_indices(**path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_-./}".contains(c))
        })
    };
    let path = MACHINE_PATHS.iter().find(begins_path);
    path.or_else(|| REGISTRIES.iter().find(|host| line.contains(**host))).copied()
}

#[test]
fn the_rules_know_a_breach_when_they_see_one() {
    let breach = |name: &str, text: &str| {
        let source = Source::new(name, text);
        let paths = source.crate_paths();
        paths.into_iter().any(|path| {
            let to = path.segments.first().map_or("", |s| s);
            !may_name(source.module(), to, &path.segments.join("::"))
        })
    };
    assert!(breach("src/queue/core.rs", "use crate::{name::Name, broker::{Vhost}};"));
    assert!(breach("src/queue/core.rs", "fn f() { super::super::exchange::route() }"));
    assert!(breach("src/queue/core.rs", "use crate::store::Journal;"));
    assert!(!breach("src/queue/core.rs", "use crate::store::RecordBatch;"));
    assert!(breach("src/broker/mod.rs", "use crate::wire::frame;"));
    assert!(!breach("src/broker/mod.rs", "use crate::wire::Properties;"));
    assert!(!breach("src/queue/core.rs", "// crate::broker\nconst A: &str = \"crate::broker\";"));
    assert!(!breach("src/queue/mod.rs", "mod tests { use super::*; }"));
    assert!(breach("src/exchange/mod.rs", "use super::queue::Queue;"));
    assert!(!breach("src/session/mod.rs", "use crate::wire; use crate::broker::link;"));
    assert!(breach("src/cli/mod.rs", "use leveret::broker::Broker;"));
    assert!(machine_word(&format!("cd {}x", MACHINE_PATHS[0])).is_some());
    assert!(machine_word(&format!("{{name}}{}x", MACHINE_PATHS[0])).is_none());
    let field = LOCK_FILES[0].1;
    assert!(foreign_source("source = \"registry+https://mirror\"", field, "registry+x").is_some());
}
