//! Progress: how far a run has come, for whoever watches it.

use std::fmt;

/// The progress of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// What goes on.
    pub stage: Stage,
    /// The share of that stage that is done, from 0 to 1: of the nodes while tables are made, of the connections
    /// while those are told, else of the virtual time.
    pub done: f64,
}

/// The stage of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Each node is given an ideal table.
    Tables,
    /// The other ends of their connections hear of them.
    Connecting,
    /// Nodes join, one after another.
    Joins,
    /// The network is left alone before time counts.
    Settling,
    /// Time counts.
    Running,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tables => "making tables",
            Self::Connecting => "connecting",
            Self::Joins => "joining",
            Self::Settling => "settling",
            Self::Running => "running",
        })
    }
}

impl Progress {
    pub(super) const fn new(stage: Stage, done: f64) -> Self {
        Self { stage, done: done.clamp(0.0, 1.0) }
    }
}
