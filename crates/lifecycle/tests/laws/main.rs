//! The laws of a pod's life, held against random pods in random worlds, and against every
//! interleaving of small pods.

mod exhaustive;
mod large;
mod random;
mod world;
