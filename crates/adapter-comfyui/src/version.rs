/// A version of ComfyUI, such as 0.3.57.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version([u32; 3]);

impl Version {
    /// The first that interrupts only the prompt that is named; older ones
    /// interrupt whatever runs (`reference/comfyui/PROTOCOL.md` section 12).
    pub(crate) const INTERRUPTS_BY_ID: Self = Self([0, 3, 57]);

    /// Reads the numbers at the beginning of a version; `None` if there are
    /// none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_start_matches('v').split('.');
        let mut number = || -> Option<u32> {
            let part = parts.next()?;
            let digits = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..digits)?.parse().ok()
        };
        let major = number()?;
        Some(Self([major, number()?, number().unwrap_or(0)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let version = |text| Version::parse(text).unwrap();

        assert!(version("0.3.9") < version("0.3.10"));
        assert!(version("0.33.0") > Version::INTERRUPTS_BY_ID);
        assert!(version("0.3.57-rc1") >= Version::INTERRUPTS_BY_ID);
        assert!(version("v0.3.56") < Version::INTERRUPTS_BY_ID);
        assert!(version("0.4") > Version::INTERRUPTS_BY_ID);
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "unknown", "0", "x.3.57"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
