//! Whether what travels over AMQP and WebSockets is as `/asyncapi.json` has it.

use std::sync::{Arc, LazyLock, Mutex};

use futures_util::StreamExt;
use jsonschema::Draft;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::conformance::{self, Deviation, close};
use crate::judge::{Judge, Library, lock};
use crate::rabbitmq::RabbitNode;

/// An AsyncAPI document, as a judge.
#[derive(Debug)]
pub struct WireDocument {
    judge: Judge,
}

/// A message as RabbitMQ carried it.
#[derive(Debug, Clone)]
pub struct Carried {
    pub exchange: String,
    pub key: String,
    pub properties: Value,
    pub headers: Value,
    pub body: Vec<u8>,
}

impl Carried {
    pub fn r#type(&self) -> &str {
        self.properties["type"].as_str().unwrap_or_default()
    }
}

impl WireDocument {
    pub fn new(mut value: Value) -> Self {
        if let Some(schemas) = value["components"]["schemas"].as_object_mut() {
            let ours = schemas.iter_mut().filter(|(name, _)| !conformance::is_of_a_kind(name));
            ours.for_each(|(_, schema)| close(schema));
        }
        if let Some(messages) = value["components"]["messages"].as_object_mut() {
            for message in messages.values_mut() {
                close(&mut message["headers"]);
                if message["payload"].is_object() {
                    close(&mut message["payload"]);
                }
            }
        }
        Self { judge: Judge::new(value, Draft::Draft7) }
    }

    /// The document of the server at `base`, where it can be had.
    pub async fn of(base: &str) -> Option<Arc<Self>> {
        static READ: LazyLock<Library<WireDocument>> = LazyLock::new(Library::default);
        READ.fetch(&format!("{base}/asyncapi.json"), Self::new).await
    }

    /// Looks at a message. `kind`: of the job that it is about, where that is known; then inputs and outputs are those of the
    /// kind.
    ///
    /// # Errors
    /// How it is no message of its channel.
    pub fn check_message(&self, carried: &Carried, kind: Option<&str>) -> Result<(), Deviation> {
        let deviation = |what| Deviation { at: format!("{carried:?}"), what };
        let fitting = self.channels(&carried.exchange, &carried.key);
        let names = fitting.iter().flat_map(|channel| channel["messages"].as_object().into_iter().flatten());
        let mut names: Vec<_> = names.map(|(name, _)| name.as_str()).collect();
        let own = |name: &&str| kind.is_some_and(|kind| name.ends_with(&format!(".{kind}")));
        let general = |name: &&str| ["request", "outcome.succeeded"].contains(name);
        // What is said of the kind itself goes before what is said of all.
        names.retain(|name| if general(name) { kind.is_none() } else { !is_of_a_kind(name) || own(name) });
        if names.is_empty() {
            return Err(deviation("its channel is not in the document".into()));
        }
        let mut why = Vec::new();
        for name in names {
            match self.fits_message(name, carried) {
                Ok(()) => return Ok(()),
                Err(what) => why.push(format!("as {name}: {what}")),
            }
        }
        Err(deviation(why.join("; ")))
    }

    /// # Errors
    /// How this is no frame of `/v1/socket`.
    pub fn check_frame(&self, frame: &Value) -> Result<(), Deviation> {
        let name = format!("frame.{}", frame["type"].as_str().unwrap_or_default());
        let at = format!("/components/messages/{name}/payload");
        self.judge.fits(&at, frame).map_err(|what| Deviation { at: format!("the frame {frame}"), what })
    }

    fn channels(&self, exchange: &str, key: &str) -> Vec<&Value> {
        let channels = self.judge.document()["channels"].as_object().into_iter().flatten();
        let fits = |channel: &&Value| {
            let to = &channel["x-published-to"];
            let any = to["routingKey"].as_str().is_some_and(|own| own.starts_with('{'));
            to["exchange"] == exchange && (any || to["routingKey"] == key)
        };
        channels.map(|(_, channel)| channel).filter(fits).collect()
    }

    fn fits_message(&self, name: &str, carried: &Carried) -> Result<(), String> {
        let at = format!("/components/messages/{name}");
        self.judge.fits(&format!("{at}/x-properties"), &carried.properties)?;
        self.judge.fits(&format!("{at}/headers"), &carried.headers)?;
        match self.judge.document().pointer(&format!("{at}/payload")) {
            None if carried.body.is_empty() => Ok(()),
            None => Err("its body is not empty".into()),
            Some(_) => {
                let body = serde_json::from_slice(&carried.body).map_err(|error| error.to_string())?;
                self.judge.fits(&format!("{at}/payload"), &body)
            }
        }
    }
}

fn is_of_a_kind(message: &str) -> bool {
    message.starts_with("request.") || message.starts_with("outcome.succeeded.")
}

/// Hears all that one Buzzer sends over RabbitMQ, beside whom it is sent to.
#[derive(Debug)]
pub struct Tap {
    heard: Arc<Mutex<Vec<Carried>>>,
    _connection: Connection,
    _listening: Listening,
}

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Tap {
    /// From now on, of a Buzzer whose exchanges are there. `kinds`: whose requests it hears.
    ///
    /// # Panics
    /// When RabbitMQ refuses.
    pub async fn on(node: &RabbitNode, prefix: &str, kinds: &[&str]) -> Self {
        let connection = node.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("".into(), own, FieldTable::default()).await.expect("a queue");
        let queue = queue.name().as_str().to_owned();
        for kind in kinds {
            bind(&channel, &queue, &format!("{prefix}.requests"), kind).await;
        }
        for key in ["outcome", "pulse", "signal"] {
            bind(&channel, &queue, &format!("{prefix}.replies"), key).await;
        }
        bind(&channel, &queue, &format!("{prefix}.control"), "").await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumed = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await;
        let mut consumer = consumed.expect("a consumer");
        let heard = Arc::<Mutex<Vec<Carried>>>::default();
        let into = Arc::clone(&heard);
        let listening = tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                lock(&into).push(carried(delivery));
            }
        });
        Self { heard, _connection: connection, _listening: Listening(listening) }
    }

    /// All that was heard so far.
    pub fn heard(&self) -> Vec<Carried> {
        lock(&self.heard).clone()
    }
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) {
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
    bound.await.expect("a binding");
}

fn carried(delivery: Delivery) -> Carried {
    let headers = delivery.properties.headers().as_ref().into_iter().flat_map(|table| table.inner().iter());
    Carried {
        exchange: delivery.exchange.to_string(),
        key: delivery.routing_key.to_string(),
        properties: properties(&delivery.properties),
        headers: headers.map(|(name, value)| (name.to_string(), header(value))).collect::<Map<_, _>>().into(),
        body: delivery.data,
    }
}

fn properties(own: &BasicProperties) -> Value {
    let texts = [
        ("type", own.kind()),
        ("content_type", own.content_type()),
        ("message_id", own.message_id()),
        ("correlation_id", own.correlation_id()),
        ("expiration", own.expiration()),
        ("user_id", own.user_id()),
        ("reply_to", own.reply_to()),
        ("app_id", own.app_id()),
        ("content_encoding", own.content_encoding()),
    ];
    let numbers = [("delivery_mode", own.delivery_mode()), ("priority", own.priority())];
    let texts = texts.into_iter().filter_map(|(name, value)| Some((name.into(), json!(value.as_ref()?.as_str()))));
    let numbers = numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!((*value)?))));
    texts.chain(numbers).collect::<Map<_, _>>().into()
}

fn header(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::LongString(text) => json!(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::Boolean(flag) => json!(flag),
        AMQPValue::LongLongInt(number) => json!(number),
        AMQPValue::LongInt(number) => json!(number),
        other => json!({ "unexpected": format!("{other:?}") }),
    }
}
