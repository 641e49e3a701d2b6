//! What RabbitMQ sends, cut into frames. Pure.

use super::content;

/// Type, channel, and the size of the payload.
const HEAD: usize = 7;
/// Where in the head the size stands.
const SIZE: usize = 3;
/// The byte that ends each frame.
const END: usize = 1;
/// The method, the first frame of a message.
const METHOD: u8 = 1;
/// The properties, the second.
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// RabbitMQ's frames have 128 KiB at most. More than this is no frame of its.
const HELD_MAX: usize = 1 << 20;

/// Bytes go in as they come from the socket, and come out as lapin can parse them.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    now: Now,
    /// The frame that is looked at, as far as it is here.
    held: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` was taken.
    taken: usize,
}

#[derive(Debug, Clone, Copy, Default)]
enum Now {
    /// A frame begins.
    #[default]
    Head,
    /// In a frame that goes through unseen; so much is left of it.
    Passing(usize),
    /// In a frame that is looked at once it is whole; so long it will be.
    Holding(usize),
    /// This is not what AMQP looks like: whatever comes is lapin's business.
    Blind,
}

impl Sieve {
    /// Fills `into` as far as there is something; says how far.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.out[self.taken..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.out.len() {
            self.out.clear();
            self.taken = 0;
        }
        count
    }

    pub(super) fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.now {
                Now::Head => {
                    self.hold(&mut bytes, HEAD);
                    self.begin();
                }
                Now::Holding(length) => {
                    self.hold(&mut bytes, length);
                    if self.held.len() == length {
                        self.look();
                    }
                }
                Now::Passing(left) => {
                    let count = left.min(bytes.len());
                    self.out.extend_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    self.now = if left == count { Now::Head } else { Now::Passing(left - count) };
                }
                Now::Blind => {
                    self.out.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    /// Moves bytes into `held`, up to this length.
    fn hold(&mut self, bytes: &mut &[u8], length: usize) {
        let count = (length - self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..count]);
        *bytes = &bytes[count..];
    }

    /// Decides what becomes of the frame whose head is held.
    fn begin(&mut self) {
        let Some((&[kind, _, _, a, b, c, d], [])) = self.held.split_first_chunk::<HEAD>() else { return };
        let size = u32::from_be_bytes([a, b, c, d]);
        let rest = size as usize + END;
        match kind {
            METHOD | HEADER if rest <= HELD_MAX => self.now = Now::Holding(HEAD + rest),
            BODY | HEARTBEAT => {
                self.out.append(&mut self.held);
                self.now = Now::Passing(rest);
            }
            _ => {
                self.out.append(&mut self.held);
                self.now = Now::Blind;
            }
        }
    }

    /// Passes the frame that is held on, readable.
    fn look(&mut self) {
        let kind = self.held[0];
        let end = self.held.len() - END;
        let payload = &mut self.held[HEAD..end];
        if kind == METHOD {
            content::mend_method(payload);
        } else if let Some(rewritten) = content::rewritten_header(payload) {
            self.replace(&rewritten);
        }
        self.out.append(&mut self.held);
        self.now = Now::Head;
    }

    /// Puts another payload into the frame that is held.
    fn replace(&mut self, payload: &[u8]) {
        let Ok(size) = u32::try_from(payload.len()) else { return };
        let end = self.held.pop();
        self.held.truncate(HEAD);
        self.held[SIZE..].copy_from_slice(&size.to_be_bytes());
        self.held.extend_from_slice(payload);
        self.held.extend(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap();
        [&[kind, 0, 1], size.to_be_bytes().as_slice(), payload, &[0xce]].concat()
    }

    fn sieved(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let (mut sieve, mut out) = (Sieve::default(), Vec::new());
        for piece in pieces {
            sieve.put(&piece);
            let mut buffer = [0; 5];
            while let count @ 1.. = sieve.take(&mut buffer) {
                out.extend_from_slice(&buffer[..count]);
            }
        }
        out
    }

    /// A content header with a correlation id.
    fn header(id: &[u8]) -> Vec<u8> {
        let length = u8::try_from(id.len()).unwrap();
        frame(HEADER, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0b100, 0, length], id].concat())
    }

    #[test]
    fn what_can_be_read_goes_through_as_it_is() {
        let stream = [frame(METHOD, &[0, 20, 0, 11]), header(b"id"), frame(BODY, &[0xff; 9]), frame(HEARTBEAT, &[])];
        assert_eq!(sieved(stream.clone()), stream.concat());
    }

    #[test]
    fn what_cannot_be_read_is_rewritten_and_its_neighbours_are_not() {
        let body = frame(BODY, &[0xff; 9]);
        let out = sieved([header(b"\xff\xfe"), body.clone(), header(b"id")]);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("unreadable: its correlation id is not UTF-8"), "{text}");
        assert!(out.ends_with(&[body, header(b"id")].concat()));
    }

    #[test]
    fn what_is_not_amqp_is_left_to_lapin() {
        let other = b"AMQP\x00\x01\x00\x00 and whatever follows".to_vec();
        assert_eq!(sieved([other.clone()]), other);
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_in_which_pieces_it_comes(
            payloads in vec((prop::sample::select(vec![METHOD, HEADER, BODY, HEARTBEAT]), vec(any::<u8>(), 0..60)), 0..8),
            piece in 1_usize..40,
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let pieces = stream.chunks(piece).map(<[u8]>::to_vec);
            prop_assert_eq!(sieved(pieces), sieved([stream.clone()]));
        }
    }
}
