//! Programs that show the theoretical limits that Latchkey is measured against. They use the same libraries as Latchkey.
//!
//! - `hello PORT`: a poem-openapi endpoint that answers with constant JSON;
//! - `floor PORT REDIS_PORT`: the cheapest possible refresh, introspection and sign-out ([`floor`]);
//! - `argon2 THREADS SECONDS`: prints how many hashes per second this many threads compute, measured for SECONDS.

mod argon;
mod floor;
mod hello;

use anyhow::{Context, bail};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    // skips the path of the program, so that the first argument is the command
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number_at = |index: usize| -> anyhow::Result<u16> {
        let text = arguments.get(index).context("an argument is missing")?;
        Ok(text.parse()?)
    };
    let new_runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match arguments.first().map(String::as_str) {
        Some("hello") => new_runtime()?.block_on(hello::serve(number_at(1)?)),
        Some("floor") => new_runtime()?.block_on(floor::serve(number_at(1)?, number_at(2)?)),
        Some("argon2") => argon::run(number_at(1)?.into(), number_at(2)?.into()),
        _ => bail!("usage: hello PORT, floor PORT REDIS_PORT, or argon2 THREADS SECONDS"),
    }
}
