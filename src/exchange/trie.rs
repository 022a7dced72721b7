//! The word trie under a topic exchange, walked as the automaton that it is.
//!
//! ```text
//! a.*.c, a.#.c, a     root --a--> 1 --*--> 2 --c--> 3
//!                                 |
//!                                 +--#--> 4 --c--> 5       4 also leads to itself by any word
//! ```
//! A walk keeps the set of nodes that the words so far can reach, so its cost is at most words x
//! nodes, whatever the patterns; nothing is tried twice. A node is entered from its parent alone,
//! which is in the set once. Only a `#` node can also stay from the word before, and one that was
//! entered stays to the end: a mark for those is all that keeps the set a set.

use super::binding::Destination;
use super::targets::Targets;
use hashbrown::{HashMap, HashSet};

/// A node's index. Zero is the root, which is nobody's child, so as a child it means none.
type NodeId = u32;
const ROOT: NodeId = 0;
const NONE: NodeId = ROOT;

#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<[u8]>, NodeId>,
    star: NodeId,
    hash: NodeId,
    /// Whether this node is a `#`, which any word leads back to.
    is_hash: bool,
    targets: Targets,
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Word(&'a [u8]),
    Star,
    Hash,
}

/// The state of a walk, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct Walk {
    active: Vec<NodeId>,
    next: Vec<NodeId>,
    /// The `#` nodes in `active`.
    entered: HashSet<NodeId>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Trie {
    pub(super) fn add(&mut self, pattern: &[u8], destination: &Destination) {
        let mut at = ROOT;
        for step in steps(pattern) {
            at = match self.node(at).child(step) {
                NONE => self.grow(at, step),
                child => child,
            };
        }
        self.nodes[at as usize].targets.add(destination);
    }

    pub(super) fn remove(&mut self, pattern: &[u8], destination: &Destination) {
        let mut path = Vec::new();
        let mut at = ROOT;
        for step in steps(pattern) {
            path.push((at, step));
            at = self.node(at).child(step);
            assert!(at != NONE, "only what was bound is unbound");
        }
        self.nodes[at as usize].targets.remove(destination);
        while let Some((parent, step)) = path.pop() {
            if !self.node(at).is_barren() {
                return;
            }
            self.nodes[parent as usize].cut(step);
            self.nodes[at as usize] = Node::default();
            self.free.push(at);
            at = parent;
        }
    }

    pub(super) fn targets(&self, at: NodeId) -> &Targets {
        &self.node(at).targets
    }

    /// The nodes where `key` ends, each once.
    pub(super) fn walk<'w>(&self, key: &[u8], walk: &'w mut Walk) -> &'w [NodeId] {
        self.start(walk);
        for word in words(key) {
            if walk.active.is_empty() {
                break;
            }
            self.advance(word, walk);
        }
        &walk.active
    }

    fn start(&self, walk: &mut Walk) {
        walk.active.clear();
        walk.entered.clear();
        self.enter(ROOT, &mut walk.active, &mut walk.entered);
    }

    /// Takes one word.
    fn advance(&self, word: &[u8], walk: &mut Walk) {
        walk.next.clear();
        for &at in &walk.active {
            let node = self.node(at);
            if node.is_hash {
                walk.next.push(at);
            }
            if node.star != NONE {
                self.enter(node.star, &mut walk.next, &mut walk.entered);
            }
            if let Some(&child) = node.words.get(word) {
                self.enter(child, &mut walk.next, &mut walk.entered);
            }
        }
        std::mem::swap(&mut walk.active, &mut walk.next);
    }

    /// Adds a node, and the `#` below it: that one needs no word.
    fn enter(&self, at: NodeId, active: &mut Vec<NodeId>, entered: &mut HashSet<NodeId>) {
        active.push(at);
        // No `#` stands below a `#`, so one step is enough.
        let hash = self.node(at).hash;
        if hash != NONE && entered.insert(hash) {
            active.push(hash);
        }
    }

    fn node(&self, at: NodeId) -> &Node {
        &self.nodes[at as usize]
    }

    fn grow(&mut self, parent: NodeId, step: Step<'_>) -> NodeId {
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("four billion nodes do not fit in RAM")
        });
        self.nodes[child as usize].is_hash = step == Step::Hash;
        let parent = &mut self.nodes[parent as usize];
        match step {
            Step::Word(word) => {
                parent.words.insert(word.into(), child);
            }
            Step::Star => parent.star = child,
            Step::Hash => parent.hash = child,
        }
        child
    }
}

impl Node {
    fn child(&self, step: Step<'_>) -> NodeId {
        match step {
            Step::Word(word) => self.words.get(word).copied().unwrap_or(NONE),
            Step::Star => self.star,
            Step::Hash => self.hash,
        }
    }

    fn cut(&mut self, step: Step<'_>) {
        match step {
            Step::Word(word) => {
                self.words.remove(word);
            }
            Step::Star => self.star = NONE,
            Step::Hash => self.hash = NONE,
        }
    }

    fn is_barren(&self) -> bool {
        let childless = self.words.is_empty() && self.star == NONE && self.hash == NONE;
        childless && self.targets.is_empty()
    }
}

/// RabbitMQ: an empty key has no words, but empty words between, before or after dots are words.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let split = (!key.is_empty()).then(|| key.split(|byte| *byte == b'.'));
    split.into_iter().flatten()
}

/// A `#` after a `#` matches nothing more, and is left out.
fn steps(pattern: &[u8]) -> impl Iterator<Item = Step<'_>> {
    let mut after_hash = false;
    words(pattern).filter_map(move |word| {
        let step = match word {
            b"*" => Step::Star,
            b"#" => Step::Hash,
            _ => Step::Word(word),
        };
        let repeated = after_hash && step == Step::Hash;
        after_hash = step == Step::Hash;
        (!repeated).then_some(step)
    })
}

#[cfg(test)]
mod tests {
    use super::super::targets::tests::queue;
    use super::*;

    /// Nodes that a walk over `key` visits, and whether it ever visits one twice at a word.
    fn visited(trie: &Trie, key: &[u8]) -> usize {
        let mut walk = Walk::default();
        trie.start(&mut walk);
        let mut visited = walk.active.len();
        for word in words(key) {
            trie.advance(word, &mut walk);
            let distinct: HashSet<_> = walk.active.iter().collect();
            assert_eq!(distinct.len(), walk.active.len(), "each node once");
            visited += walk.active.len();
        }
        visited
    }

    fn join(words: impl Iterator<Item = &'static str>) -> Vec<u8> {
        words.collect::<Vec<_>>().join(".").into_bytes()
    }

    #[test]
    fn a_thousand_bindings_of_consecutive_hashes_cost_a_word_one_node() {
        let mut trie = Trie::default();
        for id in 0..1000 {
            let hashes = 1 + id as usize % 127;
            trie.add(&join(std::iter::repeat_n("#", hashes)), &queue(id));
        }
        let key = join(std::iter::repeat_n("a", 100));
        assert_eq!(visited(&trie, &key), 2 + 100);
    }

    #[test]
    fn hashes_between_words_cost_at_most_words_times_nodes() {
        let mut trie = Trie::default();
        for id in 0..1000 {
            let (pairs, tail) = (1 + id as usize % 60, ["a", "*", "b", "#"][id as usize / 250]);
            let pattern = std::iter::repeat_n(["#", "a"], pairs).flatten();
            trie.add(&join(pattern.chain([tail])), &queue(id));
        }
        let key = join(std::iter::repeat_n("a", 100));
        let nodes = trie.nodes.len();
        assert!(nodes < 60 * 6, "{nodes}");
        let visited = visited(&trie, &key);
        assert!(visited <= 101 * nodes, "{visited} of {nodes}");
    }

    #[test]
    fn removing_every_pattern_leaves_only_the_root_in_use() {
        let mut trie = Trie::default();
        let patterns = ["", "#", "a.b", "a.*", "a.#", "a.#.#.b", "a.#.b", "..", "*.*", "a"];
        let mut nodes = [0, 0];
        for nodes in &mut nodes {
            for pattern in patterns {
                trie.add(pattern.as_bytes(), &queue(1));
            }
            for pattern in patterns {
                trie.remove(pattern.as_bytes(), &queue(1));
            }
            assert_eq!(trie.free.len() + 1, trie.nodes.len());
            assert!(trie.node(ROOT).is_barren());
            *nodes = trie.nodes.len();
        }
        assert_eq!(nodes[0], nodes[1], "freed nodes are used again");
    }
}
