//! A publisher that knows nothing of Buzzer and keeps to no manners: AMQP 0-9-1 written by hand.
//!
//! lapin, like most clients, would not send what this sends: ids and header names that are not UTF-8, headers nested
//! ten thousand deep.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rabbitmq::RabbitNode;

/// The byte that ends each frame.
const FRAME_END: u8 = 0xce;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
/// The one channel; 0 is the connection itself.
const CHANNEL: u16 = 1;

/// A connection with one channel, on which each message is confirmed.
#[derive(Debug)]
pub struct Foreign {
    stream: TcpStream,
    /// The largest frame, in bytes.
    frame_max: usize,
}

/// What a message carries beside its body. Texts are bytes: any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    pub content_type: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Value)>,
    pub correlation_id: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
    pub r#type: Option<Vec<u8>>,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(Vec<u8>),
    Int(i64),
    Bool(bool),
    Table(Vec<(Vec<u8>, Value)>),
    /// A table that is written already.
    Written(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// A class and its method, as a frame begins with them.
type Method = (u16, u16);

impl Foreign {
    /// # Panics
    /// When RabbitMQ does not let it in.
    pub async fn connect(node: &RabbitNode) -> Self {
        let url = node.url();
        let address = (url.host_str().expect("a host"), url.port().expect("a port"));
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.expect("to write");
        let mut this = Self { stream, frame_max: 4096 };
        this.answer((10, 10)).await;
        let password = url.password().unwrap_or_default();
        let response = format!("\0{}\0{password}", url.username());
        let start_ok = [long(b""), short(b"PLAIN"), long(response.as_bytes()), short(b"en_US")];
        this.call(0, (10, 11), &start_ok.concat()).await;
        let tune = this.answer((10, 30)).await;
        this.frame_max = u32::from_be_bytes(tune[2..6].try_into().expect("four bytes")) as usize;
        // Without heartbeats: it lives for a moment only.
        this.call(0, (10, 31), &[&tune[..6], &[0, 0]].concat()).await;
        this.call(0, (10, 40), &[short(b"/"), short(b""), vec![0]].concat()).await;
        this.answer((10, 41)).await;
        this.call(CHANNEL, (20, 10), &short(b"")).await;
        this.answer((20, 11)).await;
        this.call(CHANNEL, (85, 10), &[0]).await;
        this.answer((85, 11)).await;
        this
    }

    /// Publishes one message. Answers once RabbitMQ has it in a queue.
    ///
    /// # Panics
    /// When RabbitMQ does not take it.
    pub async fn publish(&mut self, exchange: &str, key: &[u8], properties: &Properties, body: &[u8]) {
        const MANDATORY: u8 = 1;
        let publish = [&[0, 0], short(exchange.as_bytes()).as_slice(), &short(key), &[MANDATORY]].concat();
        self.call(CHANNEL, (60, 40), &publish).await;
        let size = u64::try_from(body.len()).expect("a size").to_be_bytes();
        let header = [&[0, 60, 0, 0], size.as_slice(), &properties.written()].concat();
        self.send(HEADER, CHANNEL, &header).await;
        // A frame has a head of seven bytes and an end of one.
        for part in body.chunks(self.frame_max - 8) {
            self.send(BODY, CHANNEL, part).await;
        }
        self.answer((60, 80)).await;
    }

    async fn call(&mut self, channel: u16, (class, method): Method, arguments: &[u8]) {
        let payload = [&class.to_be_bytes(), method.to_be_bytes().as_slice(), arguments].concat();
        self.send(METHOD, channel, &payload).await;
    }

    async fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(length(payload));
        frame.extend(payload);
        frame.push(FRAME_END);
        self.stream.write_all(&frame).await.expect("to write");
    }

    /// The arguments of the method that RabbitMQ sends next, which has to be this one.
    async fn answer(&mut self, expected: Method) -> Vec<u8> {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.expect("a frame");
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload).await.expect("a frame");
        payload.pop();
        let said = (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        let arguments = payload.split_off(4);
        assert_eq!(said, expected, "RabbitMQ said {}", String::from_utf8_lossy(&arguments));
        arguments
    }
}

impl Properties {
    fn written(&self) -> Vec<u8> {
        let (mut flags, mut written) = (0_u16, Vec::new());
        let texts = [(15, &self.content_type), (10, &self.correlation_id), (7, &self.message_id), (5, &self.r#type)];
        for bit in (0..16).rev() {
            if bit == 13 && !self.headers.is_empty() {
                flags |= 1 << bit;
                written.extend(table(&self.headers));
            }
            if let Some((_, Some(text))) = texts.iter().find(|(at, _)| *at == bit) {
                flags |= 1 << bit;
                written.extend(short(text));
            }
        }
        [flags.to_be_bytes().as_slice(), &written].concat()
    }
}

impl Value {
    fn written(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => [vec![b'S'], long(text)].concat(),
            Self::Int(number) => [b"l", number.to_be_bytes().as_slice()].concat(),
            Self::Bool(value) => vec![b't', u8::from(*value)],
            Self::Table(entries) => [vec![b'F'], table(entries)].concat(),
            Self::Written(table) => [b"F", table.as_slice()].concat(),
        }
    }
}

/// Tables, each within the next.
pub fn nested(depth: usize) -> Value {
    // An entry is an empty name, a kind and a length: six bytes.
    let lengths = (0..depth).rev().map(|inside| u32::try_from(inside * 6).expect("a length").to_be_bytes());
    let tables: Vec<_> = lengths.map(|length| length.to_vec()).collect();
    Value::Written(tables.join([0, b'F'].as_slice()))
}

fn table(entries: &[(Vec<u8>, Value)]) -> Vec<u8> {
    long(&entries.iter().flat_map(|(name, value)| [short(name), value.written()].concat()).collect::<Vec<_>>())
}

/// Up to 255 bytes, behind their number.
fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("at most 255 bytes");
    [&[length], text].concat()
}

/// Any number of bytes, behind that.
fn long(bytes: &[u8]) -> Vec<u8> {
    [length(bytes).as_slice(), bytes].concat()
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("less than 4 GiB").to_be_bytes()
}
