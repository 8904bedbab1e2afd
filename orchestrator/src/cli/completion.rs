//! `completion`: what a shell needs to complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Command;
use crate::error::Result;

/// Arguments of `completion`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script; `source <(bulkhead completion bash)`.
pub fn run(arguments: &Arguments) -> Result<i32> {
    clap_complete::generate(arguments.shell, &mut Command::command(), "bulkhead", &mut std::io::stdout());
    Ok(0)
}
