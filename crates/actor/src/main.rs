//! The program in the containers of the judge's pods: see the library.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    holdfast_actor::act(std::env::args().skip(1))
}
