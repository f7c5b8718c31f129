//! Which commands a core port does not serve, as a node of a Redis cluster: those with keys of
//! several slots, and those with keys of another core. Within MULTI such an error spoils the
//! transaction, and a transaction whose commands belong to several slots is refused by EXEC.
//!
//! Cost: a pass over the command's keys.

use super::super::context::{Arguments, Context};
use super::super::keys::key_slots;
use super::super::spec::Spec;

/// Whether a command on a core port was refused because of where its keys belong. `spec` is the
/// subcommand's, if it is one; `number` is what it is counted under.
pub(in super::super) fn is_refused(
    context: &mut Context<'_>,
    spec: &'static Spec,
    number: u16,
    args: &Arguments<'_>,
) -> bool {
    if !context.session.core_port || spec.keys.is_empty() {
        return false;
    }
    let Some(view) = &context.settings.cluster else { return false };
    match view.place(key_slots(spec, *args)) {
        Err(redirect) => {
            let text = redirect.text(view, &context.session.host);
            context.reject(number, &text);
            true
        }
        Ok(slot) => {
            if let Some((slot, transaction)) = slot.zip(context.session.transaction.as_mut()) {
                transaction.note_slot(slot);
            }
            false
        }
    }
}
