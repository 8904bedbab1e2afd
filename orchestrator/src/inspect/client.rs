//! A connection to the debug socket of a service.

use std::{fs::File, future::Future, os::fd::AsRawFd, path::PathBuf, time::Duration};

use nix::sys::signal::{SigSet, Signal};
use tokio::sync::watch;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::proto::{
    debug::debug_client::DebugClient, gofer::gofer_client::GoferClient, sentry::sentry_client::SentryClient,
    supervisor::supervisor_client::SupervisorClient, vfs::vfs_client::VfsClient,
};
use crate::{
    error::{Error, Result},
    id::ContainerId,
    state::{Status as ContainerStatus, Store},
};

/// How long a service may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer at most: long lists.
const MOST: usize = 64 << 20;

/// A container whose services can be asked.
#[derive(Debug)]
pub struct Inspection {
    directory: PathBuf,
}

macro_rules! clients {
    ($($name:ident: $client:ident, $service:literal;)*) => {
        $(
            #[doc = concat!("The ", $service, ".")]
            pub async fn $name(&self) -> Result<$client<Channel>> {
                Ok($client::new(self.connect($service).await?).max_decoding_message_size(MOST))
            }
        )*
    };
}

impl Inspection {
    /// Of a container that is there and not stopped.
    pub fn of(store: &Store, id: &ContainerId) -> Result<Inspection> {
        match store.load(id)?.status() {
            ContainerStatus::Stopped => Err(Error::Usage(format!("container {id} is not running"))),
            ContainerStatus::Paused => {
                Err(Error::Usage(format!("container {id} is paused, and its services with it: resume it first")))
            }
            _ => Ok(Inspection { directory: store.directory(id).join("debug") }),
        }
    }

    clients! {
        sentry: SentryClient, "sentry";
        vfs: VfsClient, "vfs";
        gofer: GoferClient, "gofer";
        supervisor: SupervisorClient, "supervisor";
    }

    /// What all services answer, of one of them.
    pub async fn common(&self, service: &'static str) -> Result<DebugClient<Channel>> {
        Ok(DebugClient::new(self.connect(service).await?).max_decoding_message_size(MOST))
    }

    async fn connect(&self, service: &'static str) -> Result<Channel> {
        let socket = self.directory.join(format!("{service}.sock"));
        let failed = |why: String| Error::Plane { service, what: format!("cannot connect to its debug socket: {why}") };
        // A socket's path is limited to 108 bytes, and Docker's are longer.
        let directory = File::open(&self.directory).map_err(Error::file("open", &self.directory))?;
        let short = format!("unix:/proc/self/fd/{}/{service}.sock", directory.as_raw_fd());
        if !socket.exists() {
            return Err(failed("there is none".into()));
        }
        let endpoint = Endpoint::from_shared(short).map_err(|error| failed(error.to_string()))?;
        let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
        endpoint.connect().await.map_err(|error| failed(causes(&error)))
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    text
}

/// For `map_err`: what a service answered instead of an answer.
pub fn failure(service: &'static str) -> impl Fn(Status) -> Error {
    move |status| {
        let words = super::paint::clean(status.message());
        let what = match status.code() {
            // It has understood and says why not.
            Code::InvalidArgument | Code::NotFound | Code::ResourceExhausted | Code::Unavailable if !words.is_empty() => words,
            Code::Unimplemented => "does not know this call: is it of another version?".to_owned(),
            Code::DeadlineExceeded | Code::Cancelled => format!("does not answer within {} s", PATIENCE.as_secs()),
            _ if words.is_empty() => format!("answers nonsense ({:?})", status.code()),
            _ => format!("answers nonsense: {words}"),
        };
        Error::Plane { service, what }
    }
}

/// Runs something that asks, on this thread.
pub fn run<T>(asking: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map_err(Error::host("start to ask"))?.block_on(asking)
}

/// Ctrl-C and its kin, as something to wait for: the command ends in good order.
#[derive(Debug)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// From now on.
    pub fn new() -> Result<Interrupt> {
        let doing = "watch for signals";
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block().map_err(Error::host(doing))?;
        let (sender, receiver) = watch::channel(false);
        let wait = move || {
            let _ = signals.wait();
            // The command may have come to its end by itself.
            let _ = sender.send(true);
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(Error::host(doing))?;
        Ok(Interrupt(receiver))
    }

    /// Waits for one.
    pub async fn happened(&self) {
        // One that cannot be watched any more ends the command too.
        let _ = self.0.clone().wait_for(|happened| *happened).await;
    }
}
