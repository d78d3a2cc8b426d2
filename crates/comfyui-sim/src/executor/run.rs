//! One run of one prompt, and the frames it sends (`reference/comfyui/PROTOCOL.md` section 6, order per scenario).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use super::cache::{Cache, signatures};
use super::plan::Plan;
use crate::events::text_frame;
use crate::graph::Link;
use crate::history::{Ending, Entry};
use crate::instance::Instance;
use crate::nodes::{Argument, Call, Failure, Produced, Slot};
use crate::picture::Digest;
use crate::queue::QueueItem;

/// Who the frames of a prompt are for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Submitter {
    Client(String),
    /// A client id that no socket can have, such as a number: nobody gets anything.
    Unreachable,
    /// No client id: progress goes to everybody, the rest to nobody.
    Unknown,
}

/// One run of one prompt.
#[derive(Debug)]
pub(crate) struct Run<'run> {
    pub(crate) instance: &'run Instance,
    pub(crate) item: &'run QueueItem,
    pub(super) submitter: Submitter,
    pub(super) record: RefCell<Record>,
}

/// What the run has left behind so far.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) progress: Vec<(String, Value)>,
    pub(super) outputs: Vec<(String, Value)>,
    pub(super) executed: Vec<String>,
    pub(super) messages: Vec<(&'static str, Value)>,
}

/// How a node ended.
enum NodeEnd {
    Done,
    Failed(Ending),
    Abandoned,
}

impl<'run> Run<'run> {
    pub(crate) fn new(instance: &'run Instance, item: &'run QueueItem) -> Self {
        let submitter = match item.extra_data.get("client_id") {
            None | Some(Value::Null) => Submitter::Unknown,
            Some(Value::String(client_id)) => Submitter::Client(client_id.clone()),
            Some(_) => Submitter::Unreachable,
        };
        Self {
            instance,
            item,
            submitter,
            record: RefCell::default(),
        }
    }

    /// Runs the prompt to its end; `None` if the server went down meanwhile.
    pub(crate) fn execute(&self, cache: &mut Cache) -> Option<Entry> {
        let client_id = match &self.submitter {
            Submitter::Client(client_id) => Some(client_id.clone()),
            Submitter::Unreachable | Submitter::Unknown => None,
        };
        self.instance.set_running_client(client_id);
        self.message("execution_start", json!({"prompt_id": self.item.prompt_id}));
        self.instance
            .queue
            .pause(self.instance.options.prompt_delay);
        let signatures = signatures(self.instance, &self.item.prompt, &self.item.outputs);
        cache.keep_only(&signatures);
        let is_cached = |node_id: &str| {
            signatures
                .get(node_id)
                .is_some_and(|signature| cache.get(signature).is_some())
        };
        let cached: Vec<_> = self
            .item
            .prompt
            .order
            .iter()
            .filter(|node_id| is_cached(node_id))
            .collect();
        self.message(
            "execution_cached",
            json!({"nodes": cached, "prompt_id": self.item.prompt_id}),
        );
        let plan = Plan::new(
            &self.item.prompt,
            &self.instance.catalogue,
            &self.item.outputs,
            is_cached,
        );
        let ending = self.walk(plan, &signatures, cache)?;
        if ending == Ending::Success {
            self.message(
                "execution_success",
                json!({"prompt_id": self.item.prompt_id}),
            );
        }
        let delay = Duration::from_millis(self.instance.faults.current().history_delay_ms);
        let Record {
            outputs, messages, ..
        } = self.record.take();
        Some(Entry::new(
            self.item.clone(),
            outputs,
            ending,
            messages,
            delay,
        ))
    }

    /// The last frame of a prompt, after the history is readable.
    pub(crate) fn announce_end(&self) {
        self.direct(|| {
            text_frame(
                "executing",
                &json!({"node": null, "prompt_id": self.item.prompt_id}),
            )
        });
    }

    fn walk(
        &self,
        mut plan: Plan,
        signatures: &HashMap<String, Digest>,
        cache: &mut Cache,
    ) -> Option<Ending> {
        let is_output = |node_id: &str| {
            let class = self
                .instance
                .catalogue
                .get(self.item.prompt.class_type(node_id));
            class.is_some_and(|class| class.definition.output_node)
        };
        while let Some(node_id) = plan.next(is_output) {
            match self.execute_node(&node_id, signatures, cache) {
                NodeEnd::Done => plan.complete(&node_id),
                NodeEnd::Failed(ending) => return Some(ending),
                NodeEnd::Abandoned => return None,
            }
        }
        Some(Ending::Success)
    }

    fn execute_node(
        &self,
        node_id: &str,
        signatures: &HashMap<String, Digest>,
        cache: &mut Cache,
    ) -> NodeEnd {
        let signature = signatures.get(node_id).copied().unwrap_or_default();
        if let Some(produced) = cache.get(&signature) {
            self.show_output(node_id, produced.ui.as_ref());
            self.set_progress(node_id, &json!(1), &json!(1), "finished");
            return NodeEnd::Done;
        }
        self.set_progress(node_id, &json!(0.0), &json!(1.0), "running");
        self.instance.set_running_node(Some(node_id.to_owned()));
        self.direct(|| {
            let data =
                json!({"node": node_id, "display_node": node_id, "prompt_id": self.item.prompt_id});
            text_frame("executing", &data)
        });
        let call = Call {
            node_id,
            run: self,
            arguments: self.arguments(node_id, signatures, cache),
        };
        match self.act(&call) {
            Ok(produced) => {
                self.show_output(node_id, produced.ui.as_ref());
                self.finish_progress(node_id);
                self.record.borrow_mut().executed.push(node_id.to_owned());
                cache.put(signature, produced);
                NodeEnd::Done
            }
            Err(Failure::Abandoned) => NodeEnd::Abandoned,
            Err(Failure::Interrupted) => {
                self.tell_interruption(node_id);
                NodeEnd::Failed(Ending::Interrupted)
            }
            Err(Failure::Raised { exception, message }) => {
                self.tell_error(&call, exception, &message);
                NodeEnd::Failed(Ending::Error)
            }
        }
    }

    fn act(&self, call: &Call<'_>) -> Result<Produced, Failure> {
        self.check_interrupt()?;
        let class_type = self.item.prompt.class_type(call.node_id);
        if let Some(target) = self.instance.faults.current().error_at
            && (target == class_type || target == call.node_id)
        {
            return Err(Failure::raised(
                "RuntimeError",
                format!("simulated failure at {target}"),
            ));
        }
        let class = self.instance.catalogue.get(class_type);
        let class = class.ok_or_else(|| Failure::raised("KeyError", format!("'{class_type}'")))?;
        let produced = (class.action)(call)?;
        if self.instance.queue.is_closed() {
            Err(Failure::Abandoned)
        } else {
            Ok(produced)
        }
    }

    /// Fails if the prompt was interrupted, or if the server is going down.
    pub(crate) fn check_interrupt(&self) -> Result<(), Failure> {
        if self.instance.queue.is_closed() {
            return Err(Failure::Abandoned);
        }
        if self.instance.queue.is_interrupted() {
            Err(Failure::Interrupted)
        } else {
            Ok(())
        }
    }

    fn arguments(
        &self,
        node_id: &str,
        signatures: &HashMap<String, Digest>,
        cache: &Cache,
    ) -> BTreeMap<String, Argument> {
        let Some(class) = self
            .instance
            .catalogue
            .get(self.item.prompt.class_type(node_id))
        else {
            return BTreeMap::new();
        };
        let names = class.definition.inputs.iter().map(|input| input.name);
        names
            .filter_map(|name| {
                let value = self.item.prompt.input(node_id, name)?;
                let argument = match Link::read(value) {
                    None => Argument::Literal(value.clone()),
                    Some(link) => {
                        let produced = signatures
                            .get(link.node_id)
                            .and_then(|signature| cache.get(signature));
                        Argument::Linked(
                            produced?
                                .slots
                                .get(link.slot)
                                .cloned()
                                .unwrap_or(Slot::Json(Value::Null)),
                        )
                    }
                };
                Some((name.to_owned(), argument))
            })
            .collect()
    }
}
