//! Too much of everything, and stopping in the middle of it: others are unharmed, memory is bounded, nothing is lost.

mod flood;
mod http2;
mod limits;
mod process;
mod restart;
mod shutdown;
mod slow;
