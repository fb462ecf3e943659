//! Which XDP program is on an interface.
//!
//! Asks the kernel over rtnetlink; changes nothing.

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// The kernel's number of it.
    pub id: u32,
    /// On the socket buffer, not in the driver.
    pub generic: bool,
}

/// The XDP program that is attached to an interface; `None` if there is none, or when the kernel does not say.
pub fn program(index: u32) -> Option<Program> {
    attributes(index)?.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(parts) => parts.into_iter().find_map(|part| match part {
            LinkXdp::DrvProgId(id) => Some(Program { id, generic: false }),
            LinkXdp::SkbProgId(id) => Some(Program { id, generic: true }),
            _ => None,
        }),
        _ => None,
    })
}

fn attributes(index: u32) -> Option<Vec<LinkAttribute>> {
    // On a thread of its own, for the caller may or may not be within a runtime; it is in the same network namespace.
    std::thread::scope(|scope| scope.spawn(|| ask(index)).join().ok().flatten())
}

fn ask(index: u32) -> Option<Vec<LinkAttribute>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().ok()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().ok()?;
        tokio::spawn(connection);
        let message = handle.link().get().match_index(index).execute().try_next().await.ok()??;
        Some(message.attributes)
    })
}
