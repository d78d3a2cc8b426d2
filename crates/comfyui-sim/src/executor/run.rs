//! One run of one prompt, and the frames it sends (`reference/comfyui/PROTOCOL.md` section 6, order per scenario).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::extract::ws::Message;
use serde_json::{Value, json};

use super::cache::{Cache, signatures};
use super::plan::Plan;
use crate::events::{Audience, text_frame};
use crate::graph::Link;
use crate::history::{Ending, Entry};
use crate::instance::{Instance, now_ms};
use crate::json::Ordered;
use crate::nodes::{Argument, Call, Failure, Produced, Slot};
use crate::options::PreviewMethod;
use crate::picture::Digest;
use crate::queue::QueueItem;

/// Who the frames of a prompt are for.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Submitter {
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
    submitter: Submitter,
    record: RefCell<Record>,
}

/// What the run has left behind so far.
#[derive(Debug, Default)]
struct Record {
    progress: Vec<(String, Value)>,
    outputs: Vec<(String, Value)>,
    executed: Vec<String>,
    messages: Vec<(&'static str, Value)>,
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
            self.set_progress(node_id, json!(1), json!(1), "finished");
            return NodeEnd::Done;
        }
        self.set_progress(node_id, json!(0.0), json!(1.0), "running");
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
                self.tell_error(&call, exception, &message, signatures);
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

    /// One step of a sampler: progress, and a preview if somebody wants one.
    pub(crate) fn sampler_step(
        &self,
        node_id: &str,
        step: u64,
        steps: u64,
        preview: impl FnOnce() -> Vec<u8>,
    ) {
        self.set_progress(node_id, json!(step), json!(steps), "running");
        let with_metadata = match &self.submitter {
            Submitter::Client(client_id) => self
                .instance
                .sockets
                .supports(client_id, "supports_preview_metadata"),
            Submitter::Unreachable | Submitter::Unknown => false,
        };
        let preview = self.wants_previews().then(preview);
        if with_metadata && let Some(picture) = &preview {
            self.shared(self.preview_with_metadata(node_id, picture));
        }
        self.tell_progress(node_id, step, steps);
        if !with_metadata && let Some(picture) = &preview {
            self.shared(binary_frame(&[1, 1], picture));
        }
    }

    /// A final picture that goes to the client instead of into a file.
    pub(crate) fn final_picture(&self, node_id: &str, position: u64, count: u64, png: &[u8]) {
        self.set_progress(node_id, json!(position), json!(count), "running");
        self.tell_progress(node_id, position, count);
        self.shared(binary_frame(&[1, 2], png));
    }

    fn preview_with_metadata(&self, node_id: &str, picture: &[u8]) -> Message {
        let metadata = Ordered(vec![
            ("node_id".to_owned(), json!(node_id)),
            ("prompt_id".to_owned(), json!(self.item.prompt_id)),
            ("display_node_id".to_owned(), json!(node_id)),
            ("parent_node_id".to_owned(), Value::Null),
            ("real_node_id".to_owned(), json!(node_id)),
            ("image_type".to_owned(), json!("image/jpeg")),
        ]);
        let metadata = serde_json::to_vec(&metadata).unwrap_or_default();
        let length = u32::try_from(metadata.len()).unwrap_or(u32::MAX);
        binary_frame(&[4, length], &[metadata.as_slice(), picture].concat())
    }

    fn wants_previews(&self) -> bool {
        let by_flag = self.instance.options.preview_method != PreviewMethod::None;
        let asked = self
            .item
            .extra_data
            .get("preview_method")
            .and_then(Value::as_str);
        match asked {
            Some(method) if self.instance.options.version.is_current() => match method {
                "none" => false,
                "auto" | "latent2rgb" | "taesd" => true,
                _ => by_flag,
            },
            _ => by_flag,
        }
    }

    fn tell_progress(&self, node_id: &str, value: u64, max: u64) {
        let data =
            json!({"value": value, "max": max, "prompt_id": self.item.prompt_id, "node": node_id});
        self.shared(text_frame("progress", &data));
    }

    fn finish_progress(&self, node_id: &str) {
        let max = {
            let record = self.record.borrow();
            let entry = record.progress.iter().find(|(id, _)| id == node_id);
            entry
                .and_then(|(_, state)| state.get("max"))
                .cloned()
                .unwrap_or(json!(1.0))
        };
        self.set_progress(node_id, max.clone(), max, "finished");
    }

    fn set_progress(&self, node_id: &str, value: Value, max: Value, state: &str) {
        let state = json!({
            "value": value,
            "max": max,
            "state": state,
            "node_id": node_id,
            "prompt_id": self.item.prompt_id,
            "display_node_id": node_id,
            "parent_node_id": null,
            "real_node_id": node_id,
        });
        let mut record = self.record.borrow_mut();
        match record.progress.iter_mut().find(|(id, _)| id == node_id) {
            Some((_, known)) => *known = state,
            None => record.progress.push((node_id.to_owned(), state)),
        }
        if self.submitter != Submitter::Unreachable {
            let nodes: serde_json::Map<_, _> = record.progress.iter().cloned().collect();
            drop(record);
            self.shared(text_frame(
                "progress_state",
                &json!({"prompt_id": self.item.prompt_id, "nodes": nodes}),
            ));
        }
    }

    fn show_output(&self, node_id: &str, ui: Option<&Value>) {
        let Some(ui) = ui else { return };
        self.record
            .borrow_mut()
            .outputs
            .push((node_id.to_owned(), ui.clone()));
        let times = if self.instance.faults.current().duplicate_executed {
            2
        } else {
            1
        };
        for _ in 0..times {
            self.direct(|| {
                let prompt_id = &self.item.prompt_id;
                let data = json!({"node": node_id, "display_node": node_id, "output": ui, "prompt_id": prompt_id});
                text_frame("executed", &data)
            });
        }
    }

    fn tell_interruption(&self, node_id: &str) {
        let data = self.stamped(json!({
            "prompt_id": self.item.prompt_id,
            "node_id": node_id,
            "node_type": self.item.prompt.class_type(node_id),
            "executed": self.record.borrow().executed,
        }));
        self.shared(text_frame("execution_interrupted", &data));
        self.record
            .borrow_mut()
            .messages
            .push(("execution_interrupted", data));
    }

    fn tell_error(
        &self,
        call: &Call<'_>,
        exception: &str,
        message: &str,
        signatures: &HashMap<String, Digest>,
    ) {
        let class_type = self.item.prompt.class_type(call.node_id);
        let hidden = self
            .instance
            .catalogue
            .get(class_type)
            .map(|class| class.definition.hidden)
            .unwrap_or_default();
        self.message(
            "execution_error",
            json!({
                "prompt_id": self.item.prompt_id,
                "node_id": call.node_id,
                "node_type": class_type,
                "executed": self.record.borrow().executed,
                "exception_message": format!("{message}\n"),
                "exception_type": exception,
                "traceback": [format!("  File \"/opt/ComfyUI/execution.py\", in execute: {class_type}\n")],
                "current_inputs": call.described_arguments(hidden),
                "current_outputs": self.item.prompt.order.iter().filter(|id| signatures.contains_key(*id)).collect::<Vec<_>>(),
            }),
        );
    }

    /// An event that is also kept in the history.
    fn message(&self, kind: &'static str, data: Value) {
        let data = self.stamped(data);
        self.direct(|| text_frame(kind, &data));
        self.record.borrow_mut().messages.push((kind, data));
    }

    fn stamped(&self, mut data: Value) -> Value {
        if let Some(members) = data.as_object_mut() {
            members.insert("timestamp".to_owned(), json!(now_ms()));
        }
        data
    }

    /// Sends a frame to the submitter alone.
    fn direct(&self, frame: impl FnOnce() -> Message) {
        if let Submitter::Client(client_id) = &self.submitter {
            self.instance
                .publisher
                .send(Audience::Client(client_id.clone()), frame());
        }
    }

    /// Sends a frame to the submitter, or to everybody if the submitter is not known.
    fn shared(&self, frame: Message) {
        let audience = match &self.submitter {
            Submitter::Client(client_id) => Audience::Client(client_id.clone()),
            Submitter::Unknown => Audience::Everybody,
            Submitter::Unreachable => return,
        };
        self.instance.publisher.send(audience, frame);
    }
}

/// A binary frame: some 32-bit big-endian numbers, then bytes.
fn binary_frame(head: &[u32], bytes: &[u8]) -> Message {
    let mut frame: Vec<u8> = head
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect();
    frame.extend_from_slice(bytes);
    Message::binary(frame)
}
