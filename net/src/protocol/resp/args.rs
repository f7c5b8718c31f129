//! The arguments of one request, as ranges of its frame.
//!
//! One `Args` serves a whole core. The first [`ARGS_INLINE`] ranges live in the struct, so that
//! GET and SET with all their options touch no heap; the rest spill into a vector that is reused.
//!
//! Invariant: every range lies within its source (the frame given to the parser, or the text
//! unescaped from it), start before or at end.
//!
//! Cost: 8 bytes an argument; after a giant request the memory beyond [`SPILL_KEPT_MAX`] ranges
//! and [`TEXT_KEPT_BYTES_MAX`] bytes is given back at the next one.

/// Arguments that need no heap: `SET key value NX GET PX ms` has seven.
const ARGS_INLINE: usize = 8;
/// Spilled ranges whose memory is kept between requests: 128 KiB.
const SPILL_KEPT_MAX: usize = 16 << 10;
/// Bytes of unescaped text whose memory is kept between requests: the longest inline command.
const TEXT_KEPT_BYTES_MAX: usize = super::INLINE_BYTES_MAX as usize;

const _: () = assert!(size_of::<Range32>() == 8);

/// Bytes `start..end` of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range32 {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Range32 {
    /// The length in bytes.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is no byte in it.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of `source` in this range. Panics if `source` is shorter, which means that it
    /// is not what the range was made for.
    #[inline]
    #[must_use]
    pub fn of(self, source: &[u8]) -> &[u8] {
        &source[self.start as usize..self.end as usize]
    }
}

/// The arguments that [`parse`](super::parse) found, the command's name first.
#[derive(Debug, Default)]
pub struct Args {
    inline: [Range32; ARGS_INLINE],
    spill: Vec<Range32>,
    count: usize,
    /// The arguments of a command with quotes, without them; the ranges refer to it instead of
    /// the frame while `is_unescaped`.
    text: Vec<u8>,
    is_unescaped: bool,
}

impl Args {
    /// No arguments; does not allocate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many arguments there are, the command's name included.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none, so that nothing is to be executed.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Argument `index` of the frame that was parsed. Panics if there is no such argument, so
    /// check [`len`](Self::len) first, or if `frame` is another frame.
    #[inline]
    #[must_use]
    pub fn arg<'a>(&'a self, frame: &'a [u8], index: usize) -> &'a [u8] {
        self.range_at(index).of(self.source(frame))
    }

    /// Argument `index` of the frame that was parsed, if there is one.
    #[inline]
    #[must_use]
    pub fn get<'a>(&'a self, frame: &'a [u8], index: usize) -> Option<&'a [u8]> {
        (index < self.count).then(|| self.arg(frame, index))
    }

    /// The arguments from `first` on, in order. Panics like [`arg`](Self::arg) on another frame.
    pub fn iter_from<'a>(
        &'a self,
        frame: &'a [u8],
        first: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let source = self.source(frame);
        (first.min(self.count)..self.count).map(move |index| self.range_at(index).of(source))
    }

    /// Where argument `index` lies in the frame, so that it can be found again without this
    /// `Args`. `None` if there is no such argument, or if the command had quotes, so that its
    /// arguments are not slices of the frame.
    #[inline]
    #[must_use]
    pub fn frame_range(&self, index: usize) -> Option<Range32> {
        (index < self.count && !self.is_unescaped).then(|| self.range_at(index))
    }

    /// Empties it before a request of at most `count_max` arguments.
    #[inline]
    pub(super) fn begin(&mut self, count_max: usize) {
        self.count = 0;
        self.is_unescaped = false;
        if self.spill.capacity() | self.text.capacity() != 0 {
            self.empty_heap();
        }
        if count_max > ARGS_INLINE {
            self.spill.reserve(count_max - ARGS_INLINE);
        }
    }

    #[inline]
    pub(super) fn push(&mut self, start: usize, end: usize) {
        debug_assert!(start <= end);
        debug_assert!(u32::try_from(end).is_ok());
        let range = Range32 { start: start as u32, end: end as u32 };
        match self.inline.get_mut(self.count) {
            Some(slot) => *slot = range,
            None => self.spill.push(range),
        }
        self.count += 1;
    }

    /// From now on arguments are built in the returned text instead of sliced from the frame.
    /// Those found so far are moved there.
    pub(super) fn unescape_from(&mut self, frame: &[u8]) {
        if self.is_unescaped {
            return;
        }
        self.is_unescaped = true;
        for index in 0..self.count {
            let start = self.text.len() as u32;
            self.text.extend_from_slice(self.range_at(index).of(frame));
            let moved = Range32 { start, end: self.text.len() as u32 };
            match self.inline.get_mut(index) {
                Some(slot) => *slot = moved,
                None => self.spill[index - ARGS_INLINE] = moved,
            }
        }
    }

    #[inline]
    pub(super) fn is_unescaped(&self) -> bool {
        self.is_unescaped
    }

    /// The text to which unescaped arguments are appended.
    #[inline]
    pub(super) fn text_mut(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    #[cfg(test)]
    pub(super) fn spill_capacity(&self) -> usize {
        self.spill.capacity()
    }

    #[inline]
    fn range_at(&self, index: usize) -> Range32 {
        debug_assert!(index < self.count);
        match self.inline.get(index) {
            Some(range) => *range,
            None => self.spill[index - ARGS_INLINE],
        }
    }

    #[inline]
    fn source<'a>(&'a self, frame: &'a [u8]) -> &'a [u8] {
        if self.is_unescaped { &self.text } else { frame }
    }

    #[cold]
    fn empty_heap(&mut self) {
        self.spill.clear();
        self.spill.shrink_to(SPILL_KEPT_MAX);
        self.text.clear();
        self.text.shrink_to(TEXT_KEPT_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_spill_in_order_and_memory_is_given_back() {
        let frame: Vec<u8> = (0..200).collect();
        let mut args = Args::new();
        for count in [0, 1, ARGS_INLINE, ARGS_INLINE + 1, 100] {
            args.begin(count);
            for index in 0..count {
                args.push(index, index + 2);
            }
            assert_eq!(args.len(), count);
            assert_eq!(args.is_empty(), count == 0);
            for index in 0..count {
                assert_eq!(args.arg(&frame, index), &frame[index..index + 2]);
                assert_eq!(args.frame_range(index).map(Range32::len), Some(2));
            }
            assert_eq!(args.get(&frame, count), None);
            assert_eq!(args.frame_range(count), None);
            let tail: Vec<_> = args.iter_from(&frame, 1).collect();
            assert_eq!(tail.len(), count.saturating_sub(1));
            assert_eq!(tail.last().copied(), (count > 1).then(|| &frame[count - 1..count + 1]));
        }
        args.begin(1 << 20);
        assert!(args.spill.capacity() >= (1 << 20) - ARGS_INLINE);
        args.begin(2);
        assert!(args.spill.capacity() <= SPILL_KEPT_MAX);
    }

    #[test]
    fn unescaping_moves_what_was_found_before() {
        let frame = b"a b c d e f g h i j";
        let mut args = Args::new();
        args.begin(0);
        for index in 0..10 {
            args.push(index * 2, index * 2 + 1);
        }
        args.unescape_from(frame);
        args.text_mut().extend_from_slice(b"new");
        args.push(10, 13);
        let all: Vec<_> = args.iter_from(frame, 0).collect();
        assert_eq!(all.concat(), b"abcdefghijnew");
        assert_eq!(args.frame_range(0), None);
        args.begin(0);
        assert!(args.text.is_empty());
        assert!(args.spill.is_empty());
    }
}
