//! SETBIT and GETBIT.

use super::super::context::{Arguments, Context, Flow, read_item};
use super::super::string::{Edit, Target, change};
use super::{WRONG_OFFSET, bit_offset};
use crate::protocol::resp::Writer;

pub(super) fn getbit(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let Some(offset) = bit_offset(args.at(2), None) else {
        context.error(WRONG_OFFSET);
        return Flow::Continue;
    };
    let byte = (offset / 8) as usize;
    let entry =
        read_item(context.shard, context.session, context.first_hash, args.at(1), context.now_ms);
    let bits = entry.map(|entry| entry.value.part(byte, byte + 1).next().map_or(0, |part| part[0]));
    context.count_read(bits.is_some());
    context.reply().integer(i64::from(bits.unwrap_or(0) >> (7 - offset % 8) & 1));
    Flow::Continue
}

pub(super) fn setbit(context: &mut Context<'_>, args: &Arguments<'_>) -> Flow {
    let offset = bit_offset(args.at(2), None);
    let Some(offset) =
        offset.filter(|&offset| offset / 8 < context.settings.value_bytes_max as u64)
    else {
        context.error(WRONG_OFFSET);
        return Flow::Continue;
    };
    let is_set = match args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => {
            context.error("ERR bit is not an integer or out of range");
            return Flow::Continue;
        }
    };
    let (byte, mask) = ((offset / 8) as usize, 0x80 >> (offset % 8));
    change(context, context.first_hash, args.at(1), &SetBit { byte, mask, is_set })
}

/// Sets or clears a bit, and answers with the old one.
#[derive(Clone, Copy, Debug)]
struct SetBit {
    byte: usize,
    mask: u8,
    is_set: bool,
}

impl Edit for SetBit {
    fn length_bytes(&self, _old_bytes: usize) -> usize {
        self.byte + 1
    }

    fn apply(&self, _old_bytes: usize, target: &mut Target<'_>, reply: &mut Writer<'_>) {
        let mut bits = [0];
        target.read(self.byte, &mut bits);
        let new = if self.is_set { bits[0] | self.mask } else { bits[0] & !self.mask };
        target.write(self.byte, &[new]);
        reply.integer(i64::from(bits[0] & self.mask != 0));
    }

    fn keep(&self) -> Box<dyn Edit> {
        Box::new(*self)
    }

    fn memory_bytes(&self) -> usize {
        size_of::<SetBit>()
    }
}
