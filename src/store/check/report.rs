//! What a check found, for an operator.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// What was safely stored is lost or cannot be read; a start may refuse.
    Damage,
    /// The same, but a start goes on: it holds the queues that may have lost something.
    Held,
    /// The next start or checkpoint puts it right by itself, and nothing is lost.
    Mended,
    /// Worth knowing.
    Note,
}

/// One thing that is not as a broker leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Within the data directory.
    pub file: String,
    pub offset: Option<u64>,
    pub what: String,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub segments: u64,
    /// Of those segments that count.
    pub records: u64,
    pub queues: u64,
    /// That live, and can be read.
    pub messages: u64,
    /// Of their bodies.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub totals: Totals,
}

impl Report {
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let is_damage = |severity| matches!(severity, Severity::Damage | Severity::Held);
        self.findings.iter().any(|finding| is_damage(finding.severity))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Damage => "damage",
            Severity::Held => "held",
            Severity::Mended => "mended at the next start",
            Severity::Note => "note",
        };
        write!(f, "{severity}: ")?;
        if self.file.is_empty() {
            return f.write_str(&self.what);
        }
        f.write_str(&self.file)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, records, queues, messages, bytes } = self;
        write!(
            f,
            "{segments} segments, {records} records, {queues} queues, {messages} messages with \
             {bytes} bytes"
        )
    }
}
