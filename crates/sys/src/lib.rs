//! Safe wrappers of the Linux calls that Holdfast needs; the only crate that may contain `unsafe`.
