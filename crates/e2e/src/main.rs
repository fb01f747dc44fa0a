//! `cargo xtask cluster|deploy|image|judge|upstream`: the commands of the test bench.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use holdfast_e2e::{cluster, deploy, image, judge, upstream};

/// A real Kubernetes for tests, and Holdfast held against it
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring up, look at and take down a real Kubernetes on this machine
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Write the plain manifests of deploy/manifests anew, from the chart
    Deploy,
    /// Write container images from local files, without a registry
    Image(image::Args),
    /// Run pods on the kubelet and on Holdfast, and compare
    Judge(judge::Command),
    /// Run upstream's own node tests
    Upstream(upstream::Args),
}

fn main() -> ExitCode {
    let result = match Args::parse().task {
        Task::Cluster(command) => cluster::run(command),
        Task::Deploy => deploy::write().map(|()| ExitCode::SUCCESS),
        Task::Image(args) => image::run(args).map(|()| ExitCode::SUCCESS),
        Task::Judge(command) => judge::run(command).map(|()| ExitCode::SUCCESS),
        Task::Upstream(args) => upstream::run(args).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}
