//! `holdfast manager`: the environment and the flags go to the crate of that name.

use holdfast_manager::config::{Config, Places};

use crate::args::ManagerArgs;
use crate::output;

/// It cannot run, or not any more.
const EXIT_CANNOT_RUN: u8 = 1;

pub(crate) fn run(args: &ManagerArgs) -> anyhow::Result<u8> {
    // What is not text cannot be one of ours.
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let env = std::env::vars_os().filter_map(text).collect();
    let config = Config::read(&args.flags, &env, &Places::default())?;
    holdfast_manager::log::start(config.log);
    // The proxy's connections have threads of their own; what is left is little.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let result = runtime.block_on(holdfast_manager::run(config));
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    match result {
        Ok(()) => Ok(0),
        Err(error) => {
            output::error(format_args!("{error}"));
            Ok(EXIT_CANNOT_RUN)
        }
    }
}
