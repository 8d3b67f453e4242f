//! `producerd` watches order books of crypto exchanges and publishes each one as a Kafka record.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "a test that meets the unexpected is to fail"))]

mod books;
mod cli;
mod config;
mod exchange;
mod handout;
mod http;
mod once;
mod publish;
mod schedule;
mod selection;
mod spool;
mod status;
mod supervisor;
mod unit;
mod worker;

#[cfg(test)]
#[path = "../../packaging/shipped.rs"]
mod shipped;

fn main() -> ! {
    tune_allocator();
    cli::run().leave()
}

/// glibc gives nearly each thread a heap of its own, and what books leave in one is of no use in another. A batch for the
/// spool leaves gaps there that nothing fills: what is that large gets its own pages, which go with it.
#[cfg(target_env = "gnu")]
fn tune_allocator() {
    const ARENAS: i32 = 2;
    const LARGE_BYTES: i32 = 64 << 10;
    #[expect(unsafe_code, reason = "there is no safe access to it")]
    // SAFETY: no other thread runs yet; a setting that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
    }
}

#[cfg(not(target_env = "gnu"))]
fn tune_allocator() {}
