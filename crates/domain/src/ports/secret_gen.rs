/// Makes secrets that nobody can guess.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait SecretGen: Send + Sync {
    /// 32 bytes from the system's source of randomness.
    fn secret(&self) -> [u8; 32];
}
