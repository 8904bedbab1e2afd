//! `graph`: the processes of a sandbox, how each is confined, and the channels between them.

use clap::Args;

use super::{Context, parse_id, trace::Format};
use crate::{
    error::Result,
    inspect::{
        Inspection, failure,
        paint::{self, Ink, Paint, Table},
        proto::supervisor::{Confinement, GetGraphRequest, GetGraphResponse, GetPolicyRequest, Process},
        run as ask,
    },
};

/// Arguments of `graph`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Also what a service may ask of the host, rule by rule
    #[arg(long, value_name = "SERVICE")]
    policy: Option<String>,
    /// Form of the output
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    format: Format,
    /// The container's name
    #[arg(value_name = "ID")]
    id: String,
}

/// Prints it.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let inspection = Inspection::of(&context.store, &parse_id(&arguments.id)?)?;
    ask(async {
        let mut supervisor = inspection.supervisor().await?;
        if let Some(service) = &arguments.policy {
            let request = GetPolicyRequest { service: service.clone() };
            let policy = supervisor.get_policy(request).await.map_err(failure("supervisor"))?.into_inner();
            match arguments.format {
                Format::Json => super::print_json(&policy),
                Format::Text => {
                    let paint = Paint::of_stdout();
                    if let Some(confinement) = &policy.confinement {
                        println!("{}: {}", paint.ink(Ink::Name, &paint::clean(service)), describe(confinement));
                    }
                    let mut table = Table::new(&["CALL", "PART", "REASON"]);
                    for rule in &policy.rules {
                        let part = if rule.fragment.is_empty() { "its own" } else { &rule.fragment };
                        table.row([rule.call.as_str(), part, rule.reason.as_str()]);
                        table.ink(0, Ink::Name);
                    }
                    print!("{}", table.render(paint));
                }
            }
            return Ok(0);
        }
        let graph = supervisor.get_graph(GetGraphRequest {}).await.map_err(failure("supervisor"))?.into_inner();
        match arguments.format {
            Format::Json => super::print_json(&graph),
            Format::Text => print!("{}", draw(&graph, Paint::of_stdout())),
        }
        Ok(0)
    })
}

/// `filter, 60 host calls, no capabilities, own user mnt pid net`
fn describe(confinement: &Confinement) -> String {
    let seccomp = match confinement.seccomp.as_str() {
        "none" => "no seccomp filter".to_owned(),
        mode => format!("seccomp {}", paint::clean(mode)),
    };
    let capabilities = match confinement.capabilities.len() {
        0 => "no capabilities".to_owned(),
        many @ 8.. => format!("{many} capabilities"),
        _ => paint::clean(&confinement.capabilities.join(" ")),
    };
    let privileges = if confinement.no_new_privileges { ", no new privileges" } else { "" };
    let namespaces = match confinement.own_namespaces.join(" ") {
        none if none.is_empty() => "the host's namespaces".to_owned(),
        own => format!("own {}", paint::clean(&own)),
    };
    format!("{seccomp}, {capabilities}{privileges}, uid {}, {namespaces}", confinement.uid)
}

fn draw(graph: &GetGraphResponse, paint: Paint) -> String {
    let status = paint::clean(&graph.status);
    let ink = if status == "running" { Ink::Good } else { Ink::Notable };
    let mut text = format!(
        "{}  {}  since {}\n{}\n\n",
        paint.ink(Ink::Title, &paint::clean(&graph.sandbox)),
        paint.ink(ink, &status),
        paint::clean(&graph.created),
        paint.ink(Ink::Faint, &format!("bundle {}", paint::clean(&graph.bundle))),
    );
    let is_service = |process: &&Process| !matches!(process.name.as_str(), "supervisor" | "stub" | "exec");
    let services: Vec<&Process> = graph.processes.iter().filter(is_service).collect();
    for process in graph.processes.iter().filter(|process| process.name == "supervisor") {
        text += &format!("{}\n", node(process, paint));
    }
    let executions = graph.processes.iter().filter(|process| process.name == "exec").count();
    for (index, service) in services.iter().enumerate() {
        let last = index + 1 == services.len() && executions == 0;
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        text += &format!("{branch}{}\n", node(service, paint));
        let stubs = graph.processes.iter().filter(|process| process.name == "stub" && process.parent == service.pid);
        let (count, memory) =
            stubs.fold((0, 0u64), |(count, memory), stub| (count + 1, memory.saturating_add(stub.resident_bytes)));
        if count > 0 {
            let stub = graph.processes.iter().find(|process| process.name == "stub").and_then(|stub| stub.confinement.as_ref());
            let confinement = stub.map(describe).unwrap_or_default();
            let name = paint.ink(Ink::Name, &format!("stub ×{count}"));
            text += &format!("{below}└─ {name}  {}  {}\n", paint::bytes(memory), paint.ink(Ink::Faint, &confinement));
        }
    }
    if executions > 0 {
        text += &format!("└─ {}  programs that exec runs\n", paint.ink(Ink::Name, &format!("exec ×{executions}")));
    }
    let mut table = Table::new(&["FROM", "TO", "HOW", ">COUNT", "WHAT FOR"]);
    for channel in &graph.channels {
        let count = channel.count.to_string();
        table.row([channel.from.as_str(), channel.to.as_str(), channel.kind.as_str(), &count, channel.purpose.as_str()]);
        table.ink(0, Ink::Name);
        table.ink(1, Ink::Name);
    }
    text + "\n" + &table.render(paint)
}

fn node(process: &Process, paint: Paint) -> String {
    let calls = if process.host_calls > 0 { format!("{} host calls, ", process.host_calls) } else { String::new() };
    let confinement = process.confinement.as_ref().map(describe).unwrap_or_default();
    let threads = if process.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", process.threads) };
    format!(
        "{}  pid {}  {}  {threads}  {}",
        paint.ink(Ink::Name, &paint::clean(&process.name)),
        process.pid,
        paint::bytes(process.resident_bytes),
        paint.ink(Ink::Faint, &format!("{calls}{confinement}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_hang_below_the_service_that_made_them() {
        let process = |name: &str, pid, parent| Process { name: name.into(), pid, parent, threads: 1, ..Process::default() };
        let graph = GetGraphResponse {
            sandbox: "c1".into(),
            status: "running".into(),
            processes: vec![
                process("supervisor", 1, 0),
                process("sentry", 2, 1),
                process("vfs", 3, 1),
                process("stub", 4, 2),
                process("stub", 5, 2),
            ],
            ..GetGraphResponse::default()
        };
        let text = draw(&graph, Paint::PLAIN);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
        assert!(at("├─ sentry") < at("│  └─ stub ×2") && at("stub ×2") < at("└─ vfs"), "{text}");
    }
}
