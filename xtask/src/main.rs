//! Tasks of the repository, run as `cargo xtask TASK`. One file a task; what they share: [`run`] starts and prints
//! external commands, [`repo`] knows the folders, [`debian`] installs packages, [`tally`] counts tests, [`excerpt`]
//! shows why some failed.

mod bench;
mod build_ebpf;
mod checked;
mod ci;
mod corpus;
mod debian;
mod dist;
mod excerpt;
mod field;
mod field_verdicts;
mod fuzz;
mod go;
mod go_programs;
mod kernels;
mod programs;
mod repo;
mod rooms;
mod run;
mod tally;
mod test;
mod toolchain;
mod verdicts;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the leakprobe repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Bench(bench::Args),
    BuildEbpf(build_ebpf::Args),
    Ci(ci::Args),
    Dist(dist::Args),
    Fuzz(fuzz::Args),
    Kernels(kernels::Args),
    Programs(programs::Args),
    Test(test::Args),
    Verdicts(verdicts::Args),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Bench(args) => bench::run(&args),
        Task::BuildEbpf(args) => build_ebpf::run(&args),
        Task::Ci(args) => ci::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Kernels(args) => kernels::run(&args),
        Task::Programs(args) => programs::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Verdicts(args) => verdicts::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::complain(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
