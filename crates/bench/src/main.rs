//! `holdfast-bench`: see the library's documentation.

#![forbid(unsafe_code)]

fn main() {
    print!("{}", holdfast_bench::engine::report(5, std::time::Duration::from_millis(200)));
}
