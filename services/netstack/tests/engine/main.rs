//! The engine from outside: stacks that speak to each other, or to a script, by a virtual clock.

mod kit;
mod network;
mod tcp;
