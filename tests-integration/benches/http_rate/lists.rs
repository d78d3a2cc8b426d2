//! Whether lists take the same time however many rows there are.

use atelier_domain::workflow::WorkflowScope;
use atelier_tests_integration::server::Server;

use crate::contest::{Contender, Pace, Rates};
use crate::data;
use crate::load::Request;
use crate::rows::record;
use crate::site::{Site, address};

const FEW: u64 = 1_000;
const MANY: u64 = 1_000_000;

/// Little enough for the time of a request to be its own.
const CONNECTIONS: usize = 4;

pub(crate) async fn measure(site: &Site, pace: Pace) {
    let few = site.database("few", &data::of_one_in_many(FEW)).await;
    let many = site.database("many", &data::of_one_in_many(MANY)).await;
    let (few, many) = (site.setup(&few).start(), site.setup(&many).start());
    for scope in [WorkflowScope::Own, WorkflowScope::All] {
        for page in ["first", "deep"] {
            let at_few = asked(&few, scope, (page == "deep").then_some(FEW));
            let at_many = asked(&many, scope, (page == "deep").then_some(MANY));
            let rates = Rates::measure(pace, &[at_few, at_many]).await;
            let figures = format!(
                "{:.0}/s at 1 000 rows, {:.0}/s at 1 000 000",
                rates.of(0),
                rates.of(1)
            );
            let row = format!("many-{}-{page}", scope.as_str());
            record(&row, rates.ratio(0, 1), &figures);
        }
    }
}

fn asked(server: &Server, scope: WorkflowScope, half_of: Option<u64>) -> Contender {
    let mut path = format!(
        "/api/v1/comfyui/workflows?limit=50&scope={}",
        scope.as_str()
    );
    if let Some(rows) = half_of {
        path.push_str("&cursor=");
        path.push_str(&data::half_way(rows, scope));
    }
    Contender::Http {
        address: address(server),
        requests: vec![Request::get(&path, &data::token(0)); CONNECTIONS],
        status: 200,
    }
}
