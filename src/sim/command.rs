//! The command line that repeats a scenario.

use super::scenario::Scenario;

impl Scenario {
    /// Returns the command that runs this scenario with the example `simulate`.
    pub fn command(&self) -> String {
        format!(
            "cargo run --release --example simulate --features simulator -- --nodes {} --seed {}",
            self.nodes, self.seed
        )
    }
}
