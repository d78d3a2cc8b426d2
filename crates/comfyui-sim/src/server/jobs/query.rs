//! The parameters of `GET /api/jobs`.

use super::super::request::Parameters;

/// What a job can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Pending,
    InProgress,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    const ALL: [Self; 5] = [
        Self::Pending,
        Self::InProgress,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Filter, order and page.
#[derive(Debug)]
pub(super) struct Query {
    statuses: Option<Vec<Status>>,
    workflow_id: Option<String>,
    pub(super) by_duration: bool,
    pub(super) descending: bool,
    pub(super) offset: usize,
    pub(super) limit: Option<usize>,
}

impl Query {
    /// Reads the parameters, or says what is wrong with them.
    pub(super) fn read(parameters: &Parameters) -> Result<Self, String> {
        let statuses = parameters
            .get("status")
            .filter(|text| !text.is_empty())
            .map(read_statuses)
            .transpose()?;
        let by_duration = match parameters.get("sort_by") {
            None | Some("created_at") => false,
            Some("execution_duration") => true,
            Some(_) => {
                return Err("sort_by must be one of: created_at, execution_duration".to_owned());
            }
        };
        let descending = match parameters.get("sort_order") {
            None | Some("desc") => true,
            Some("asc") => false,
            Some(_) => return Err("sort_order must be one of: asc, desc".to_owned()),
        };
        let limit = parameters
            .get("limit")
            .map(|text| text.parse::<usize>().ok().filter(|limit| *limit > 0));
        let limit = match limit {
            None => None,
            Some(Some(limit)) => Some(limit),
            Some(None) => return Err("limit must be a positive integer".to_owned()),
        };
        let offset = parameters.get("offset").map_or(Ok(0), str::parse);
        let offset = offset.map_err(|_no_number| "offset must be an integer".to_owned())?;
        let workflow_id = parameters
            .get("workflow_id")
            .filter(|id| !id.is_empty())
            .map(str::to_owned);
        Ok(Self {
            statuses,
            workflow_id,
            by_duration,
            descending,
            offset,
            limit,
        })
    }

    pub(super) fn wants(&self, status: Status, workflow_id: Option<&str>) -> bool {
        let status = self
            .statuses
            .as_ref()
            .is_none_or(|statuses| statuses.contains(&status));
        let workflow = self
            .workflow_id
            .as_deref()
            .is_none_or(|wanted| workflow_id == Some(wanted));
        status && workflow
    }
}

fn read_statuses(text: &str) -> Result<Vec<Status>, String> {
    let names: Vec<String> = text
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let find = |name: &String| Status::ALL.into_iter().find(|status| status.name() == name);
    let unknown: Vec<&str> = names
        .iter()
        .filter(|name| find(name).is_none())
        .map(String::as_str)
        .collect();
    if unknown.is_empty() {
        return Ok(names.iter().filter_map(find).collect());
    }
    let valid = Status::ALL.map(Status::name).join(", ");
    Err(format!(
        "Invalid status value(s): {}. Valid values: {valid}",
        unknown.join(", ")
    ))
}
