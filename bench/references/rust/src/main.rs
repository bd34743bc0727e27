//! Programs that show the theoretical limits that Latchkey is measured against. They use the same libraries.
//!
//! - `hello PORT`: a poem-openapi endpoint that answers with constant JSON;
//! - `floor PORT REDIS_PORT`: the cheapest possible refresh, introspection and sign-out ([`floor`]);
//! - `argon2 THREADS SECONDS`: prints how many hashes per second this many threads compute.

mod argon;
mod floor;
mod hello;

use anyhow::{Context, bail};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number_at =
        |i: usize| -> anyhow::Result<u16> { Ok(arguments.get(i).context("an argument is missing")?.parse::<u16>()?) };
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match arguments.first().map(String::as_str) {
        Some("hello") => runtime()?.block_on(hello::serve(number_at(1)?)),
        Some("floor") => runtime()?.block_on(floor::serve(number_at(1)?, number_at(2)?)),
        Some("argon2") => argon::run(number_at(1)?.into(), number_at(2)?.into()),
        _ => bail!("usage: hello PORT, floor PORT REDIS_PORT, or argon2 THREADS SECONDS"),
    }
}
