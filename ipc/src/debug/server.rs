//! The parked threads and the server that they become.

use super::{
    Common,
    connection::{Connection, Count},
    proto,
    reactor::Reactor,
};
use crate::affinity;
use std::{
    convert::Infallible,
    error::Error,
    io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::{Arc, mpsc::sync_channel},
    thread,
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};

/// How long the runtime stays after the last connection, because whoever asks often asks again.
const LINGER: Duration = Duration::from_secs(2);

/// Connections as they are accepted. They outlast a runtime that ends just then.
type Accepted = UnboundedReceiverStream<Arc<OwnedFd>>;

/// What a service's debug server offers beside what all of them do.
#[derive(Default)]
pub struct Plane {
    parts: Vec<Part>,
}

struct Part {
    name: &'static str,
    descriptors: &'static [u8],
    add: Box<dyn Fn(&mut RoutesBuilder) + Send>,
}

impl Plane {
    /// Health, reflection and `bulkhead.debug.v1.Debug`.
    pub fn new() -> Plane {
        Plane::default()
    }

    /// Adds a gRPC service (the generated `…Server` type). `descriptors` is the encoded file descriptor set of its protocol;
    /// `service` is cloned whenever the server starts.
    pub fn with<S>(mut self, descriptors: &'static [u8], service: S) -> Plane
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let add = Box::new(move |routes: &mut RoutesBuilder| {
            routes.add_service(service.clone());
        });
        self.parts.push(Part { name: S::NAME, descriptors, add });
        self
    }

    /// Starts the threads, and returns once they run: what starting them needs of the host is then over.
    pub(crate) fn start(self, listener: OwnedFd, common: Common) -> io::Result<()> {
        let plane = self.with(proto::DESCRIPTORS, proto::debug_server::DebugServer::new(common));
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let reactor = Arc::new(Reactor::new()?);
        let (sender, accepted) = mpsc::unbounded_channel();
        let waiting = reactor.clone();
        park("debug-wait", 128 << 10, move || {
            waiting.run(&listener, |socket| {
                let _ = sender.send(socket);
            });
        })?;
        park("debug", 512 << 10, move || plane.run(&reactor, accepted))
    }

    fn run(&self, reactor: &Arc<Reactor>, mut accepted: mpsc::UnboundedReceiver<Arc<OwnedFd>>) {
        while let Some(first) = accepted.blocking_recv() {
            let mut later = UnboundedReceiverStream::new(accepted);
            if let Err(error) = self.serve(reactor, first, &mut later) {
                tracing::warn!(error, "the debug plane cannot serve");
            }
            accepted = later.into_inner();
        }
    }

    /// Serves until nobody is connected any more.
    fn serve(&self, reactor: &Arc<Reactor>, first: Arc<OwnedFd>, later: &mut Accepted) -> Result<(), Box<dyn Error>> {
        let count = Count::new();
        let incoming = incoming(first, later, reactor, &count);
        // Its sockets are the reactor's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            let routes = self.routes().await?;
            let end = count.clone().idle_for(LINGER);
            Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, end).await?;
            Ok(())
        })
    }

    async fn routes(&self) -> Result<Routes, Box<dyn Error>> {
        let mut routes = RoutesBuilder::default();
        let (health, health_service) = tonic_health::server::health_reporter();
        routes.add_service(health_service);
        let reflection = || {
            self.parts.iter().fold(
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET),
                |builder, part| builder.register_encoded_file_descriptor_set(part.descriptors),
            )
        };
        routes.add_service(reflection().build_v1()?);
        routes.add_service(reflection().build_v1alpha()?);
        for part in &self.parts {
            (part.add)(&mut routes);
            health.set_service_status(part.name, tonic_health::ServingStatus::Serving).await;
        }
        Ok(routes.routes())
    }
}

/// The connections that there are: the first one does not wait for the runtime.
fn incoming(
    first: Arc<OwnedFd>,
    later: &mut Accepted,
    reactor: &Arc<Reactor>,
    count: &Count,
) -> impl Stream<Item = io::Result<Connection>> {
    let first = Connection::new(first, reactor.clone(), count);
    let later = later.map(|socket| Connection::new(socket, reactor.clone(), count));
    tokio_stream::once(first).chain(later).map(Ok)
}

/// Starts a thread that waits, mostly, and returns once it runs.
fn park(name: &str, stack: usize, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (started, has_started) = sync_channel::<()>(1);
    thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(move || {
        affinity::own_hash_key();
        let _ = started.send(());
        drop(started);
        body();
    })?;
    let _ = has_started.recv();
    Ok(())
}
