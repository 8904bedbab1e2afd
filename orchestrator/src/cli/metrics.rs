//! `metrics`: figures of all containers, or of one, for Prometheus: once, or served.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Context, parse_id};
use crate::{
    error::{Error, Result},
    id::ContainerId,
    inspect::{
        Inspection, Interrupt, failure,
        metrics::Metrics,
        proto::{gofer::StatsRequest, sentry::ListTasksRequest, supervisor::GetMetricsRequest, vfs::CacheStatsRequest},
        run as ask,
    },
    state::Status,
};

/// Bytes of a request's head at most.
const MOST_HEAD: usize = 8 << 10;
/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `metrics`.
#[derive(Args, Debug)]
pub struct Arguments {
    /// Serve them over HTTP at this address, such as 127.0.0.1:9400 or :9400, at /metrics
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    listen: Option<SocketAddr>,
    /// The container's name; without one, all that run
    #[arg(value_name = "ID")]
    id: Option<String>,
}

fn parse_address(text: &str) -> std::result::Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| format!("{text:?} is no address: give one such as 127.0.0.1:9400"))
}

/// Prints or serves them.
pub fn run(context: &Context, arguments: &Arguments) -> Result<i32> {
    let id = arguments.id.as_deref().map(parse_id).transpose()?;
    ask(async {
        match arguments.listen {
            None => {
                print!("{}", gather(context, id.as_ref()).await?.text());
                Ok(0)
            }
            Some(address) => serve(context, id.as_ref(), address).await,
        }
    })
}

/// What all wanted containers tell. When one of several cannot be asked, that is a figure as well.
async fn gather(context: &Context, id: Option<&ContainerId>) -> Result<Metrics> {
    let mut metrics = Metrics::default();
    if let Some(id) = id {
        of(&Inspection::of(&context.store, id)?, id, &mut metrics).await?;
        return Ok(metrics);
    }
    let mut states = [0u32; 4];
    for (id, _) in context.store.ids()? {
        let Ok(state) = context.store.load(&id) else { continue };
        let status = state.status();
        states[status as usize] += 1;
        if matches!(status, Status::Created | Status::Running) {
            let asked = match Inspection::of(&context.store, &id) {
                Ok(inspection) => of(&inspection, &id, &mut metrics).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &asked {
                context.log.warning(&format!("{id}: {error}"));
            }
            let label = [("sandbox", id.as_str())];
            let answered = if asked.is_ok() { 1.0 } else { 0.0 };
            metrics.gauge("bulkhead_sandbox_answers", "Whether all services of the sandbox could be asked.", &label, answered);
        }
    }
    for status in [Status::Created, Status::Running, Status::Paused, Status::Stopped] {
        let name = format!("{status:?}").to_lowercase();
        let count = states[status as usize].into();
        metrics.gauge("bulkhead_containers", "Containers by status.", &[("status", &name)], count);
    }
    Ok(metrics)
}

async fn of(inspection: &Inspection, id: &ContainerId, metrics: &mut Metrics) -> Result<()> {
    let label = [("sandbox", id.as_str())];
    let mut supervisor = inspection.supervisor().await?;
    let answer = supervisor.get_metrics(GetMetricsRequest {}).await.map_err(failure("supervisor"))?;
    metrics.merge(answer.into_inner().families);

    let tasks = inspection.sentry().await?.list_tasks(ListTasksRequest {}).await.map_err(failure("sentry"))?.into_inner();
    let threads: usize = tasks.processes.iter().map(|process| process.threads.len()).sum();
    metrics.gauge("bulkhead_guest_processes", "Processes in the container.", &label, tasks.processes.len() as f64);
    metrics.gauge("bulkhead_guest_threads", "Threads in the container.", &label, threads as f64);

    let cache = inspection.vfs().await?.cache_stats(CacheStatsRequest {}).await.map_err(failure("vfs"))?.into_inner();
    metrics.counter("bulkhead_vfs_requests_total", "Requests of the sentry to vfs.", &label, cache.requests as f64);
    metrics.gauge("bulkhead_vfs_dentries", "Names that vfs keeps.", &label, cache.dentries as f64);
    metrics.gauge("bulkhead_vfs_inodes", "Files that vfs keeps.", &label, cache.inodes as f64);
    metrics.gauge("bulkhead_vfs_open_nodes", "Files and directories that the sentry holds.", &label, cache.nodes as f64);
    let bytes = cache.bytes_in_memory as f64;
    metrics.gauge("bulkhead_vfs_memory_file_bytes", "Memory of files of tmpfs and of upper layers.", &label, bytes);

    let gofer = inspection.gofer().await?.stats(StatsRequest {}).await.map_err(failure("gofer"))?.into_inner();
    metrics.counter("bulkhead_gofer_requests_total", "Requests of vfs to the gofer.", &label, gofer.requests as f64);
    metrics.counter("bulkhead_gofer_refused_total", "Of these, with an error.", &label, gofer.refused as f64);
    metrics.counter("bulkhead_gofer_donated_fds_total", "Fds of files that were handed over.", &label, gofer.donated_fds as f64);
    metrics.gauge("bulkhead_gofer_handles", "What vfs holds of the host.", &label, gofer.handles as f64);
    Ok(())
}

/// Answers until it is interrupted, one client at a time: Prometheus asks every few seconds.
async fn serve(context: &Context, id: Option<&ContainerId>, address: SocketAddr) -> Result<i32> {
    let interrupt = Interrupt::new()?;
    let failed =
        |error| Error::Host { doing: "listen for Prometheus", why: format!("{address}: {}", crate::error::describe(&error)) };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    println!("http://{address}/metrics");
    loop {
        let client = tokio::select! {
            () = interrupt.happened() => return Ok(0),
            client = listener.accept() => client,
        };
        match client {
            Ok((client, _)) => {
                let answered = tokio::time::timeout(PATIENCE * 4, answer(context, id, client));
                tokio::select! {
                    () = interrupt.happened() => return Ok(0),
                    // A client that has gone, or that is too slow, may ask again.
                    _ = answered => {}
                }
            }
            Err(error) => {
                context.log.warning(&format!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(context: &Context, id: Option<&ContainerId>, mut client: TcpStream) -> std::io::Result<()> {
    let head = tokio::time::timeout(PATIENCE, head(&mut client)).await??;
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, path.split('?').next().unwrap_or_default()) {
        ("GET" | "HEAD", "/metrics") => match gather(context, id).await {
            Ok(metrics) => ("200 OK", "text/plain; version=0.0.4; charset=utf-8", metrics.text()),
            Err(error) => ("503 Service Unavailable", "text/plain", format!("{error}\n")),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", "text/plain", "ask for /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", "only GET\n".to_owned()),
    };
    let length = body.len();
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    if method != "HEAD" {
        text += &body;
    }
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}

/// A request's first line and headers.
async fn head(client: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        let length = client.read(&mut buffer).await?;
        if length == 0 || head.len() + length > MOST_HEAD {
            break;
        }
        head.extend_from_slice(&buffer[..length]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_leave_out_the_host() {
        assert_eq!(parse_address(":9400"), Ok("127.0.0.1:9400".parse().unwrap()));
        assert_eq!(parse_address("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        assert!(parse_address("nonsense").unwrap_err().contains("127.0.0.1:9400"));
    }
}
