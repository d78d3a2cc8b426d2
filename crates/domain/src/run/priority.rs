/// Which of one person's runs are begun first: the higher, the sooner.
///
/// It says nothing about other people's runs: those take turns whatever their
/// priorities are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunPriority(i8);

impl RunPriority {
    /// The lowest.
    pub const LOWEST: Self = Self(-10);
    /// The highest.
    pub const HIGHEST: Self = Self(10);

    /// A priority from -10 to 10; `None` for any other number.
    pub fn new(value: i64) -> Option<Self> {
        i8::try_from(value)
            .ok()
            .map(Self)
            .filter(|priority| (Self::LOWEST..=Self::HIGHEST).contains(priority))
    }

    /// The number.
    pub const fn value(self) -> i8 {
        self.0
    }
}
