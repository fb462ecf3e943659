//! What is to be reached, and what became of it: a line of the last table of a benchmark. Knows no numbers.

/// One of them.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) what: String,
    pub(super) goal: String,
    pub(super) measured: String,
    /// `None`: it was not measured, and `measured` may say why.
    pub(super) reached: Option<bool>,
}

impl Target {
    /// What the table says.
    pub(super) fn verdict(&self) -> &'static str {
        match self.reached {
            Some(true) => "reached",
            Some(false) => "**missed**",
            None => "not measured",
        }
    }
}
