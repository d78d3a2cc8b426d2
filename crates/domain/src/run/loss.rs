/// What a run can lose while it is running, through no fault of its graph.
///
/// Each class has a budget of its own: a fleet that is being restarted must not
/// use up what protects against a run that brings its backend down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunLoss {
    /// Its worker died, or could not go on.
    Worker,
    /// Its backend went away, or forgot it before it began to execute.
    Backend,
    /// Its backend broke down while it executed it.
    Execution,
}

impl RunLoss {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Worker, Self::Backend, Self::Execution];

    /// How many such losses end the run.
    pub const fn budget(self) -> u32 {
        match self {
            Self::Worker | Self::Backend => 10,
            // What brings its backend down three times would do so for ever.
            Self::Execution => 3,
        }
    }
}
