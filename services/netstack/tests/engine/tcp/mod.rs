//! A case for every mechanism of TCP.

mod closing;
mod congestion;
mod handshake;
mod offload;
mod receiving;
mod sending;
mod simulation;
mod storm;
