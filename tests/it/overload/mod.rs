//! Overload and shutdown under load: other clients are served, memory stays bounded, and no request is lost.

mod flood;
mod http2;
mod limits;
mod pending_bodies;
mod process;
mod restart;
mod shutdown;
mod slow;
