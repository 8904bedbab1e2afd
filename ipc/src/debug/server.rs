//! The parked thread and the server that it becomes.

use super::{Common, connection, proto};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    convert::Infallible,
    error::Error,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    sync::mpsc,
    thread,
    time::Duration,
};
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};

/// How long the runtime stays after the last connection, because whoever asks often asks again.
const LINGER: Duration = Duration::from_secs(2);
/// How long the thread waits after it could not serve, so that a lasting failure does not make it spin.
const RETRY: Duration = Duration::from_secs(1);

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

    /// Starts the thread, and returns once it runs: what starting it needs of the host is then over.
    pub(crate) fn start(self, listener: OwnedFd, common: Common) -> io::Result<()> {
        let plane = self.with(proto::DESCRIPTORS, proto::debug_server::DebugServer::new(common));
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let (started, has_started) = mpsc::sync_channel::<()>(1);
        thread::Builder::new().name("debug".to_owned()).stack_size(512 << 10).spawn(move || {
            let _ = started.send(());
            drop(started);
            plane.run(&listener);
        })?;
        let _ = has_started.recv();
        Ok(())
    }

    fn run(&self, listener: &UnixListener) {
        loop {
            let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, PollTimeout::NONE) {
                Ok(_) if waiting[0].any() == Some(true) => {}
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the debug plane ends: it cannot wait for connections");
                    return;
                }
            }
            if let Err(error) = self.serve(listener) {
                tracing::warn!(error, "the debug plane cannot serve");
                thread::sleep(RETRY);
            }
        }
    }

    /// Serves until nobody is connected any more.
    fn serve(&self, listener: &UnixListener) -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
            let count = connection::Count::new();
            let incoming = connection::incoming(listener, count.clone());
            let routes = self.routes().await?;
            Server::builder().add_routes(routes).serve_with_incoming_shutdown(incoming, count.idle_for(LINGER)).await?;
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
