//! Frames recognised by their first bytes, and the constant replies to them.
//!
//! A RESP request begins with `*2` (GET) or `*3` (SET), a memcached request with `g` or `s`.
//! That, and the sizes that were agreed, is all a floor server knows: the rest of a frame is
//! counted, not read.

use super::FloorError;

/// Sizes of the four frames that a floor server knows, in bytes. They belong to one protocol;
/// a shape that fits both serves both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// A GET request, key included.
    pub request_get_bytes: usize,
    /// A SET request, key and value included.
    pub request_set_bytes: usize,
    /// The reply to a GET that hits.
    pub reply_get_bytes: usize,
    /// The reply to a SET.
    pub reply_set_bytes: usize,
}

/// Bytes that begin no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// What a request is, as far as its reply depends on it; indexes [`Replies::text`].
#[derive(Clone, Copy, Debug)]
enum Request {
    RespGet,
    RespSet,
    TextGet,
    TextSet,
}

/// The replies of a floor server, made once.
#[derive(Clone, Debug)]
pub struct Replies {
    shape: Shape,
    /// In the order of [`Request`]; `None` where the protocol has no reply of that size.
    text: [Option<Box<[u8]>>; 4],
}

impl Replies {
    /// Makes the replies of a shape. Allocates them.
    ///
    /// # Errors
    ///
    /// If neither protocol has replies of these sizes, or a request is too short to be one.
    pub fn new(shape: &Shape) -> Result<Replies, FloorError> {
        if shape.request_get_bytes < 2 || shape.request_set_bytes < 2 {
            return Err(FloorError::Shape("a request takes at least 2 bytes".to_string()));
        }
        // A protocol is spoken as a whole or not at all.
        let [resp_get, resp_set] = match (resp_get(shape), resp_set(shape)) {
            (Some(get), Some(set)) => [Some(get), Some(set)],
            _ => [None, None],
        };
        let [text_get, text_set] = match (text_get(shape), text_set(shape)) {
            (Some(get), Some(set)) => [Some(get), Some(set)],
            _ => [None, None],
        };
        if resp_get.is_none() && text_get.is_none() {
            return Err(FloorError::Shape(format!(
                "neither RESP nor memcached has replies of {} bytes to GET and {} to SET",
                shape.reply_get_bytes, shape.reply_set_bytes
            )));
        }
        Ok(Replies { shape: *shape, text: [resp_get, resp_set, text_get, text_set] })
    }

    fn request_bytes(&self, request: Request) -> usize {
        match request {
            Request::RespGet | Request::TextGet => self.shape.request_get_bytes,
            Request::RespSet | Request::TextSet => self.shape.request_set_bytes,
        }
    }

    fn of(&self, request: Request) -> Result<&[u8], Unknown> {
        self.text[request as usize].as_deref().ok_or(Unknown)
    }
}

/// Where a connection is between two frames. Nothing of a torn frame is kept but its count.
#[derive(Debug, Default)]
pub struct FrameCounter {
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// The next byte begins a frame.
    #[default]
    Start,
    /// The `*` of a RESP frame has come, and nothing behind it.
    Star,
    /// So many bytes of this frame are still to come; never zero.
    Inside(Request, usize),
}

impl FrameCounter {
    /// Takes what has arrived and appends a reply per frame that it completes. Returns how many.
    /// Costs a few instructions and one copy per reply; does not look at the other bytes.
    ///
    /// # Errors
    ///
    /// [`Unknown`] if a frame begins like none that has a reply. The counter is of no use then.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        replies: &Replies,
        output: &mut Vec<u8>,
    ) -> Result<usize, Unknown> {
        let mut frames = 0;
        while let Some(&first) = bytes.first() {
            let (request, missing_bytes) = match self.state {
                State::Inside(request, missing_bytes) => (request, missing_bytes),
                State::Star => {
                    let request = resp_request(first)?;
                    (request, replies.request_bytes(request) - 1)
                }
                State::Start => {
                    let request = match (first, bytes.get(1)) {
                        (b'*', Some(&second)) => resp_request(second)?,
                        (b'*', None) => {
                            self.state = State::Star;
                            break;
                        }
                        (b'g', _) => Request::TextGet,
                        (b's', _) => Request::TextSet,
                        _ => return Err(Unknown),
                    };
                    (request, replies.request_bytes(request))
                }
            };
            let reply = replies.of(request)?;
            if bytes.len() < missing_bytes {
                self.state = State::Inside(request, missing_bytes - bytes.len());
                break;
            }
            output.extend_from_slice(reply);
            frames += 1;
            bytes = &bytes[missing_bytes..];
            self.state = State::Start;
        }
        Ok(frames)
    }
}

fn resp_request(second: u8) -> Result<Request, Unknown> {
    match second {
        b'2' => Ok(Request::RespGet),
        b'3' => Ok(Request::RespSet),
        _ => Err(Unknown),
    }
}

/// `$LENGTH\r\nVALUE\r\n` of an exact size.
fn resp_get(shape: &Shape) -> Option<Box<[u8]>> {
    let (value_bytes, length) = split_length(shape.reply_get_bytes.checked_sub(5)?)?;
    let value = "x".repeat(value_bytes);
    Some(format!("${length}\r\n{value}\r\n").into_bytes().into())
}

/// `+OK\r\n`, padded behind the OK.
fn resp_set(shape: &Shape) -> Option<Box<[u8]>> {
    let padding = " ".repeat(shape.reply_set_bytes.checked_sub("+OK\r\n".len())?);
    Some(format!("+OK{padding}\r\n").into_bytes().into())
}

/// `VALUE KEY 0 LENGTH\r\nVALUE\r\nEND\r\n` of an exact size, the key as long as in `get KEY\r\n`.
fn text_get(shape: &Shape) -> Option<Box<[u8]>> {
    let key_bytes = shape.request_get_bytes.checked_sub("get \r\n".len())?;
    let frame_bytes = "VALUE  0 \r\n\r\nEND\r\n".len() + key_bytes;
    let (value_bytes, length) = split_length(shape.reply_get_bytes.checked_sub(frame_bytes)?)?;
    let (key, value) = ("k".repeat(key_bytes), "x".repeat(value_bytes));
    Some(format!("VALUE {key} 0 {length}\r\n{value}\r\nEND\r\n").into_bytes().into())
}

/// `STORED\r\n`, padded behind the word.
fn text_set(shape: &Shape) -> Option<Box<[u8]>> {
    let padding = " ".repeat(shape.reply_set_bytes.checked_sub("STORED\r\n".len())?);
    Some(format!("STORED{padding}\r\n").into_bytes().into())
}

/// Splits a number of bytes into a value and the decimal digits of its length. Where no value
/// fits exactly, the digits begin with a zero. `None` without a byte for a digit.
fn split_length(bytes: usize) -> Option<(usize, String)> {
    (1..=bytes.min(20)).find_map(|digits| {
        let value_bytes = bytes - digits;
        let length = format!("{value_bytes:0digits$}");
        (length.len() == digits).then_some((value_bytes, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Prng;

    const RESP: Shape = Shape {
        request_get_bytes: 9,
        request_set_bytes: 20,
        reply_get_bytes: 16,
        reply_set_bytes: 5,
    };

    #[test]
    fn replies_have_the_size_asked_and_the_form_of_their_protocol() {
        let get = |bytes| resp_get(&Shape { reply_get_bytes: bytes, ..RESP });
        assert_eq!(get(5), None);
        assert_eq!(&*get(6).unwrap(), b"$0\r\n\r\n");
        assert_eq!(&*get(15).unwrap(), b"$9\r\nxxxxxxxxx\r\n");
        // Nine digits and a two-digit length would be one too few, ten and one too many.
        assert_eq!(&*get(16).unwrap(), b"$09\r\nxxxxxxxxx\r\n");
        assert_eq!(&*get(17).unwrap(), b"$10\r\nxxxxxxxxxx\r\n");
        for bytes in 6..3000 {
            assert_eq!(get(bytes).unwrap().len(), bytes);
        }
        let text = Shape { request_get_bytes: 9, reply_get_bytes: 26, ..RESP };
        assert_eq!(&*text_get(&text).unwrap(), b"VALUE kkk 0 4\r\nxxxx\r\nEND\r\n");
        assert_eq!(&*text_set(&Shape { reply_set_bytes: 8, ..RESP }).unwrap(), b"STORED\r\n");
        assert_eq!(&*resp_set(&RESP).unwrap(), b"+OK\r\n");
    }

    #[test]
    fn impossible_shapes_are_refused() {
        let error = Replies::new(&Shape { reply_set_bytes: 4, ..RESP }).unwrap_err();
        assert!(error.to_string().contains("4 to SET"), "{error}");
        assert!(Replies::new(&Shape { request_get_bytes: 1, ..RESP }).is_err());
    }

    #[test]
    fn unknown_requests_are_noticed_even_when_torn() {
        let replies = Replies::new(&RESP).unwrap();
        for bytes in [&b"PING\r\n"[..], b"*1\r\n", b"\0", b"get k\r\n"] {
            let mut counter = FrameCounter::default();
            let mut output = Vec::new();
            // memcached has no reply of 5 bytes to SET, so that this shape does not speak it.
            assert_eq!(counter.feed(bytes, &replies, &mut output), Err(Unknown));
            assert!(output.is_empty());
        }
        let mut counter = FrameCounter::default();
        assert_eq!(counter.feed(b"*", &replies, &mut Vec::new()), Ok(0));
        assert_eq!(counter.feed(b"9", &replies, &mut Vec::new()), Err(Unknown));
    }

    #[test]
    fn torn_frames_get_the_same_replies_as_whole_ones() {
        for seed in 0..200 {
            let mut prng = Prng::new(seed);
            let replies = Replies::new(&RESP).unwrap();
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for _ in 0..50 {
                if prng.below(2) == 0 {
                    stream.extend_from_slice(b"*2.......");
                    expected.extend_from_slice(b"$09\r\nxxxxxxxxx\r\n");
                } else {
                    stream.extend_from_slice(b"*3..................");
                    expected.extend_from_slice(b"+OK\r\n");
                }
            }
            let (mut counter, mut output, mut frames) = (FrameCounter::default(), Vec::new(), 0);
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let take = (usize::try_from(prng.below(30)).unwrap() + 1).min(rest.len());
                frames += counter.feed(&rest[..take], &replies, &mut output).unwrap();
                rest = &rest[take..];
            }
            assert_eq!((frames, output), (50, expected), "seed {seed}");
        }
    }
}
