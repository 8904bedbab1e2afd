//! `ps`: the host's processes that make up a container.

use std::process::Command;

use clap::{Args, ValueEnum};

use super::{Context, parse_id};
use crate::{
    cgroup::Places,
    error::{Error, Result},
};

/// Arguments of `ps`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: Format,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
    /// Options of ps(1), instead of -ef
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Lists the processes.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let state = context.store.load(&parse_id(&arguments.id)?)?;
    let pids = Places::of(&state.cgroups).members();
    if arguments.format == Format::Json {
        println!("{}", serde_json::json!(pids));
        return Ok(0);
    }
    let default = ["-ef".to_owned()];
    let options = if arguments.options.is_empty() { &default[..] } else { &arguments.options };
    let output = Command::new("ps").args(options).output().map_err(Error::host("run ps"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(Error::Host { doing: "run ps", why: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
    }
    print!("{}", select(&text, &pids)?);
    Ok(0)
}

/// The title and the lines of these pids.
fn select(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Error::Usage("couldn't find PID field in ps output".into()))?;
    let wanted = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|word| word.parse().ok()).is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(title).chain(lines.filter(wanted)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::select;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let text = "UID PID CMD\nroot 1 init\nroot 20 x 1\n";
        assert_eq!(select(text, &[20]).unwrap(), "UID PID CMD\nroot 20 x 1\n");
        assert!(select("CMD\nx\n", &[1]).is_err());
    }
}
