//! The first two frames of a message, as lapin parses them, and what to put in the place of what it cannot. Pure.

use std::fmt;
use std::str::from_utf8;

use crate::broker::UNREADABLE;

/// How a property is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Up to 255 bytes, behind their number.
    Text,
    Table,
    /// So many bytes.
    Fixed(usize),
}

/// The properties of a message in the order in which they come. The first has the highest bit of the flags.
const PROPERTIES: [(&str, Shape); 14] = [
    ("content type", Shape::Text),
    ("content encoding", Shape::Text),
    ("headers", Shape::Table),
    ("delivery mode", Shape::Fixed(1)),
    ("priority", Shape::Fixed(1)),
    ("correlation id", Shape::Text),
    ("reply-to", Shape::Text),
    ("expiration", Shape::Text),
    ("message id", Shape::Text),
    ("timestamp", Shape::Fixed(8)),
    (TYPE, Shape::Text),
    ("user id", Shape::Text),
    ("app id", Shape::Text),
    ("cluster id", Shape::Text),
];
const TYPE: &str = "type";
/// The flag of the first property.
const HIGHEST: u16 = 0x8000;
/// Class, weight, and the size of the body.
const BEFORE_PROPERTIES: usize = 12;
/// Headers within headers. lapin descends into them on a thread with a small stack; RabbitMQ's own have three.
const DEPTH_MAX: usize = 16;
/// A rewritten message keeps headers of so many bytes at most: it must not grow beyond a frame.
const HEADERS_MAX: usize = 32 * 1024;

/// Why lapin could not parse a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    NotText(&'static str),
    HeaderName,
    TooDeep,
    Malformed,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText(what) => write!(f, "its {what} is not UTF-8"),
            Self::HeaderName => f.write_str("one of its headers has a name that is not UTF-8"),
            Self::TooDeep => f.write_str("its headers are nested too deep"),
            Self::Malformed => f.write_str("its properties are malformed"),
        }
    }
}

/// What to put in the place of this content header; `None` when lapin can parse it.
pub(super) fn rewritten_header(payload: &[u8]) -> Option<Vec<u8>> {
    // Without these there is no message, and lapin may say so.
    let (before, properties) = payload.split_at_checked(BEFORE_PROPERTIES)?;
    let defect = check(properties).err()?;
    Some([before, &rewritten(properties, defect)].concat())
}

/// Replaces what lapin could not parse in the frame that announces a message: the names of the exchange and the key,
/// which nobody reads.
pub(super) fn mend_method(payload: &mut [u8]) {
    let texts: &[Skip] = match payload {
        [0, 60, 0, 60, ..] => &[Skip::Text, Skip::Bytes(9), Skip::Text, Skip::Text],
        [0, 60, 0, 71, ..] => &[Skip::Bytes(9), Skip::Text, Skip::Text],
        _ => return,
    };
    let mut at = 4;
    for text in texts {
        let length = match text {
            Skip::Bytes(count) => *count,
            Skip::Text => {
                let length = payload.get(at).copied().unwrap_or(0).into();
                at += 1;
                if let Some(text) = payload.get_mut(at..at + length) {
                    mend_text(text);
                }
                length
            }
        };
        at += length;
    }
}

/// What stands next in a method's frame.
enum Skip {
    Text,
    Bytes(usize),
}

/// Replaces bytes that are no UTF-8 one by one, so that the length stays.
fn mend_text(text: &mut [u8]) {
    if from_utf8(text).is_err() {
        text.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
    }
}

fn check(properties: &[u8]) -> Result<(), Defect> {
    let mut reader = Reader(properties);
    for (name, shape) in reader.present()? {
        match shape {
            Shape::Text if from_utf8(reader.text()?).is_err() => return Err(Defect::NotText(name)),
            Shape::Text => {}
            Shape::Table => check_table(reader.long()?, 0)?,
            Shape::Fixed(count) => drop(reader.bytes(count)?),
        }
    }
    if reader.0.is_empty() { Ok(()) } else { Err(Defect::Malformed) }
}

fn check_table(table: &[u8], depth: usize) -> Result<(), Defect> {
    let mut reader = Reader(table);
    while !reader.0.is_empty() {
        if from_utf8(reader.text()?).is_err() {
            return Err(Defect::HeaderName);
        }
        check_value(&mut reader, depth)?;
    }
    Ok(())
}

fn check_value(reader: &mut Reader<'_>, depth: usize) -> Result<(), Defect> {
    let (kind, value) = reader.value()?;
    if !matches!(kind, b'F' | b'A') {
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(Defect::TooDeep);
    }
    if kind == b'F' {
        return check_table(value, depth + 1);
    }
    let mut items = Reader(value);
    while !items.0.is_empty() {
        check_value(&mut items, depth + 1)?;
    }
    Ok(())
}

/// The same properties as far as they can be read, with a type that says why not all of them can.
fn rewritten(properties: &[u8], defect: Defect) -> Vec<u8> {
    let mut reader = Reader(properties);
    let mut kept: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut keep = || -> Result<(), Defect> {
        for (name, shape) in reader.present()? {
            let property = match shape {
                Shape::Text => written_text(reader.text()?),
                Shape::Fixed(count) => reader.bytes(count)?.to_vec(),
                Shape::Table => written_table(reader.long()?),
            };
            kept.push((name, property));
        }
        Ok(())
    };
    // What comes behind a length that is wrong cannot be found.
    let _ = keep();
    kept.retain(|(name, _)| *name != TYPE);
    kept.push((TYPE, written_text(format!("{UNREADABLE}{defect}").as_bytes())));
    let (mut flags, mut written) = (0_u16, Vec::new());
    for (place, (name, _)) in PROPERTIES.iter().enumerate() {
        if let Some((_, property)) = kept.iter().find(|(kept, _)| kept == name) {
            flags |= HIGHEST >> place;
            written.extend_from_slice(property);
        }
    }
    [flags.to_be_bytes().as_slice(), &written].concat()
}

fn written_text(text: &[u8]) -> Vec<u8> {
    let mut written = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
    written.extend(text.iter().take(usize::from(u8::MAX)));
    mend_text(&mut written[1..]);
    written
}

/// The headers that can be read, up to where the table breaks off.
fn written_table(table: &[u8]) -> Vec<u8> {
    let (mut reader, mut kept) = (Reader(table), Vec::new());
    while let Ok((entry, is_readable)) = reader.entry() {
        if is_readable && kept.len() + entry.len() <= HEADERS_MAX {
            kept.extend_from_slice(entry);
        }
    }
    let length = u32::try_from(kept.len()).unwrap_or(0);
    [length.to_be_bytes().as_slice(), &kept].concat()
}

/// What is not read yet.
#[derive(Debug, Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Defect> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Defect::Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Defect> {
        self.bytes(N)?.try_into().map_err(|_| Defect::Malformed)
    }

    /// Up to 255 bytes, behind their number.
    fn text(&mut self) -> Result<&'a [u8], Defect> {
        let [length] = self.array()?;
        self.bytes(length.into())
    }

    /// Any number of bytes, behind that.
    fn long(&mut self) -> Result<&'a [u8], Defect> {
        let length = u32::from_be_bytes(self.array()?);
        self.bytes(length as usize)
    }

    /// Which properties follow.
    fn present(&mut self) -> Result<impl Iterator<Item = (&'static str, Shape)> + use<>, Defect> {
        let flags = u16::from_be_bytes(self.array()?);
        let present = move |(place, property)| (flags & (HIGHEST >> place) != 0).then_some(property);
        Ok(PROPERTIES.into_iter().enumerate().filter_map(present))
    }

    /// The next value: its kind, and its bytes without their number.
    fn value(&mut self) -> Result<(u8, &'a [u8]), Defect> {
        let [kind] = self.array()?;
        let value = match kind {
            b'V' => &[],
            b't' | b'b' | b'B' => self.bytes(1)?,
            b's' | b'U' | b'u' => self.bytes(2)?,
            b'I' | b'i' | b'f' => self.bytes(4)?,
            b'D' => self.bytes(5)?,
            b'L' | b'l' | b'd' | b'T' => self.bytes(8)?,
            b'S' | b'x' | b'A' | b'F' => self.long()?,
            _ => return Err(Defect::Malformed),
        };
        Ok((kind, value))
    }

    /// The next header, and whether lapin can parse it.
    fn entry(&mut self) -> Result<(&'a [u8], bool), Defect> {
        let start = self.0;
        let name = self.text()?;
        let mut value = *self;
        self.value()?;
        let is_readable = from_utf8(name).is_ok() && check_value(&mut value, 0).is_ok();
        Ok((&start[..start.len() - self.0.len()], is_readable))
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;
    use lapin::protocol::basic::parse_properties;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What lapin makes of these properties.
    fn parsed(properties: &[u8]) -> Option<BasicProperties> {
        let (rest, parsed) = parse_properties(properties).ok()?;
        rest.is_empty().then_some(parsed)
    }

    fn text(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()], text].concat()
    }

    fn long(bytes: &[u8]) -> Vec<u8> {
        [u32::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat()
    }

    fn properties(flags: u16, rest: &[&[u8]]) -> Vec<u8> {
        [flags.to_be_bytes().as_slice(), &rest.concat()].concat()
    }

    fn readable(properties: &[u8]) -> BasicProperties {
        let payload = [&[0; BEFORE_PROPERTIES], properties].concat();
        let rewritten = rewritten_header(&payload).expect("something to rewrite");
        assert_eq!(rewritten[..BEFORE_PROPERTIES], payload[..BEFORE_PROPERTIES]);
        parsed(&rewritten[BEFORE_PROPERTIES..]).expect("something that lapin can parse")
    }

    fn kind(properties: &BasicProperties) -> &str {
        properties.kind().as_ref().map_or("", |kind| kind.as_str())
    }

    #[test]
    fn an_id_that_is_not_utf_8_is_named_and_the_rest_is_kept() {
        let broken = properties(0b0000_0100_1010_0000, &[&text(b"a\xffb"), &text(b"m/1"), &text(b"buzzer.outcome.v1")]);
        assert!(parsed(&broken).is_none());
        let read = readable(&broken);
        assert_eq!(kind(&read), "unreadable: its correlation id is not UTF-8");
        assert_eq!(read.correlation_id().as_ref().unwrap().as_str(), "a?b");
        assert_eq!(read.message_id().as_ref().unwrap().as_str(), "m/1");
    }

    #[test]
    fn a_header_whose_name_is_not_utf_8_goes_and_the_others_stay() {
        let table = [
            text(b"kind"),
            b"S".to_vec(),
            long(b"echo"),
            text(b"\xfe"),
            b"t\x01".to_vec(),
            text(b"n"),
            b"b\x07".to_vec(),
        ];
        let read = readable(&properties(0x2000, &[&long(&table.concat())]));
        assert_eq!(kind(&read), "unreadable: one of its headers has a name that is not UTF-8");
        let names: Vec<_> = read.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["kind", "n"]);
    }

    #[test]
    fn headers_nested_deep_do_not_reach_lapins_small_stack() {
        let mut table = Vec::new();
        for _ in 0..10_000 {
            table = [text(b""), b"F".to_vec(), long(&table)].concat();
        }
        assert_eq!(
            kind(&readable(&properties(0x2000, &[&long(&table)]))),
            "unreadable: its headers are nested too deep"
        );
    }

    #[test]
    fn a_delivery_keeps_its_length_when_its_key_is_mended() {
        let deliver =
            |key: &[u8]| [&[0, 60, 0, 60], text(b"tag").as_slice(), &[0; 9], &text(b"x"), &text(key)].concat();
        let get = |key: &[u8]| [&[0, 60, 0, 71], [0; 9].as_slice(), &text(b"x"), &text(key), &[0, 0, 0, 9]].concat();
        for (mut broken, mended) in [(deliver(b"k\xff"), deliver(b"k?")), (get(b"k\xff"), get(b"k?"))] {
            mend_method(&mut broken);
            assert_eq!(broken, mended);
        }
    }

    /// Properties that are mostly right.
    fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
        let id = || {
            prop_oneof![4 => "[a-zé]{0,9}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..6)]
                .prop_map(|t| text(&t))
        };
        let scalar = prop_oneof![
            vec(any::<u8>(), 1).prop_map(|v| [b"t".as_slice(), &v].concat()),
            vec(any::<u8>(), 8).prop_map(|v| [b"l".as_slice(), &v].concat()),
            vec(any::<u8>(), 0..5).prop_map(|v| [b"S".to_vec(), long(&v)].concat()),
            Just(b"V".to_vec()),
            vec(any::<u8>(), 0..4),
        ];
        let value = scalar.prop_recursive(4, 20, 4, move |inner| {
            let name = prop_oneof![3 => "[a-z]{0,4}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..3)];
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(|items| [b"A".to_vec(), long(&items.concat())].concat()),
                vec((name, inner), 0..4).prop_map(|items| {
                    let items: Vec<_> = items.into_iter().map(|(name, value)| [text(&name), value].concat()).collect();
                    [b"F".to_vec(), long(&items.concat())].concat()
                }),
            ]
        });
        let table = vec(("[a-z]{0,4}", value), 0..4).prop_map(|items| {
            let items: Vec<_> =
                items.into_iter().map(|(name, value)| [text(name.as_bytes()), value].concat()).collect();
            long(&items.concat())
        });
        prop_oneof![
            (table, (id(), id()), any::<u8>()).prop_map(|(table, (id, kind), priority)| {
                properties(0b0010_1100_0010_0000, &[&table, &[priority], &id, &kind])
            }),
            vec(any::<u8>(), 0..40),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn lapin_parses_whatever_comes_out(properties in nearly_right()) {
            let payload = [&[0; BEFORE_PROPERTIES], properties.as_slice()].concat();
            match rewritten_header(&payload) {
                None => prop_assert!(parsed(&properties).is_some(), "{properties:?}"),
                Some(rewritten) => {
                    prop_assert!(parsed(&rewritten[BEFORE_PROPERTIES..]).is_some(), "{properties:?}");
                    prop_assert!(parsed(&properties).is_none(), "needless: {properties:?}");
                }
            }
        }
    }
}
