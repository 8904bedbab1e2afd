//! `list`: all containers.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Context, state::document};
use crate::error::{Error, Result};

/// Arguments of `list`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Only ids
    #[arg(long, short)]
    quiet: bool,
    /// Form of the list
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Lists the containers; those whose state cannot be read are warned of.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let mut documents = Vec::new();
    for (id, uid) in context.store.ids()? {
        match context.store.load(&id) {
            Ok(state) => documents.push(document(&state, &user_name(uid))),
            // Being made or removed.
            Err(Error::NoContainer) => {}
            Err(error) => context.log.warning(&error.to_string()),
        }
    }
    if arguments.quiet {
        documents.iter().filter_map(|d| d["id"].as_str()).for_each(|id| println!("{id}"));
    } else if arguments.format == Format::Json {
        // An empty list is null in runc's.
        println!("{}", if documents.is_empty() { Value::Null } else { Value::Array(documents) });
    } else {
        print!("{}", table(&documents));
    }
    Ok(0)
}

fn user_name(uid: u32) -> String {
    match nix::unistd::User::from_uid(uid.into()) {
        Ok(Some(user)) => user.name,
        _ => format!("#{uid}"),
    }
}

/// Columns at least twelve wide, three apart.
fn table(documents: &[Value]) -> String {
    let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    let keys = ["id", "pid", "status", "bundle", "created", "owner"];
    let cell = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut rows = vec![titles.map(str::to_owned)];
    rows.extend(documents.iter().map(|document| keys.map(|key| cell(&document[key]))));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..titles.len() - 1).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}"));
        }
        text.push_str(&row[titles.len() - 1]);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn an_empty_table_is_runcs() {
        assert_eq!(table(&[]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    }
}
