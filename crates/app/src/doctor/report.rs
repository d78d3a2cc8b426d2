use std::fmt::Write as _;

use serde::Serialize;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// What a check found. None of its texts may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) verdict: Verdict,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn fine(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict: Verdict::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    pub(super) fn doubtful(
        check: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            remedy: Some(remedy.into()),
            ..Self::fine(check, detail)
        }
    }

    pub(super) fn broken(
        check: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Failed,
            ..Self::doubtful(check, detail, remedy)
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.verdict != Verdict::Failed
    }

    /// Fine, or broken where these are not none.
    pub(super) fn none_of(
        check: impl Into<String>,
        names: &[String],
        fine: &str,
        broken: &str,
        remedy: &str,
    ) -> Self {
        if names.is_empty() {
            Self::fine(check, fine)
        } else {
            Self::broken(check, format!("{broken}: {}", names.join(", ")), remedy)
        }
    }
}

/// Everything that was found, in the order of the checks.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub(super) fn extend(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    pub(super) fn failures(&self) -> usize {
        let failed = self
            .findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Failed);
        failed.count()
    }

    /// A line a check, and one more for what is to be done.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "warning",
                Verdict::Failed => "FAILED",
            };
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{verdict:<8} {}: {}", finding.check, finding.detail);
            if let Some(remedy) = &finding.remedy {
                let _infallible = writeln!(text, "         -> {remedy}");
            }
        }
        text.pop();
        text
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.add(Finding::fine("a", "works"));
        report.add(Finding::doubtful("b", "is slow", "make it fast"));
        report.add(Finding::broken("c", "is gone", "bring it back"));
        report
    }

    #[test]
    fn each_check_is_a_line_with_what_to_do() {
        assert_eq!(
            report().to_text(),
            "ok       a: works\n\
             warning  b: is slow\n         -> make it fast\n\
             FAILED   c: is gone\n         -> bring it back"
        );
        assert_eq!(report().failures(), 1);
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let read: serde_json::Value =
            serde_json::from_str(&report().to_json()).expect("it is JSON");

        assert_eq!(read["findings"][2]["verdict"], "failed");
        assert_eq!(read["findings"][2]["remedy"], "bring it back");
        assert_eq!(read["findings"][0].get("remedy"), None);
    }
}
