use std::sync::atomic::{AtomicU64, Ordering};

use atelier_domain::ports::SecretGen;

/// Gives secrets that a test knows beforehand.
#[derive(Debug, Default)]
pub struct FixedSecrets(AtomicU64);

impl FixedSecrets {
    /// Begins with the first.
    pub fn new() -> Self {
        Self::default()
    }

    /// The secret that is given as number `count`, from 1.
    pub fn nth(count: u64) -> [u8; 32] {
        let mut secret = [0xA5; 32];
        let (_, end) = secret.split_at_mut(24);
        end.copy_from_slice(&count.to_be_bytes());
        secret
    }
}

impl SecretGen for FixedSecrets {
    fn secret(&self) -> [u8; 32] {
        Self::nth(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_secrets_are_known_beforehand_and_differ() {
        let secrets = FixedSecrets::new();

        assert_eq!(secrets.secret(), FixedSecrets::nth(1));
        assert_eq!(secrets.secret(), FixedSecrets::nth(2));
        assert_ne!(FixedSecrets::nth(1), FixedSecrets::nth(2));
    }
}
