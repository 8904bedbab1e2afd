//! What commands (`bulkhead start`, `kill`, `exec` and so on) ask of a sandbox's supervisor over its control socket, and what it
//! answers. `schema/control.capnp` is the form on the wire.
#![forbid(unsafe_code)]

use crate::{
    control_capnp as schema,
    setup::{Execution, decode, encode},
    wire::{self, DecodeError},
};

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum Request {
    /// Make the container's process and find its program.
    Prepare,
    /// Run that program.
    Start,
    /// Send a signal to the container's first process, or to all.
    Signal {
        /// Its number.
        signal: i32,
        /// To all processes.
        all: bool,
    },
    /// Run a further program, whose fds come with the request. Answered by `Executing` and later `Ended`, or `Refused`. When the
    /// connection closes first, the program is killed.
    Execute(Execution),
    /// Send a signal to the program that this connection had executed. Not answered.
    Forward(i32),
    /// Let the container have so many threads at most.
    LimitTasks(Option<u64>),
    /// Show the container so many bytes of memory.
    LimitMemory(u64),
    /// The window of a terminal of the host that a program was given may have another size now. Not answered.
    WindowChanged,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done. The first answer on a supervisor's first channel says that the container is created.
    Done,
    /// It is not, and why.
    Refused(String),
    /// It is not, because a service ended or gave up, and the sandbox with it.
    Failed(String),
    /// The program runs, as this pid of the container.
    Executing(i32),
    /// The program has ended with this exit status, as a shell counts.
    Ended(i32),
}

impl Request {
    /// Replaces `into` by the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        wire::encode(into, |message| {
            let mut to = message.init_root::<schema::request::Builder<'_>>();
            match self {
                Request::Prepare => to.set_prepare(()),
                Request::Start => to.set_start(()),
                Request::Signal { signal, all } => encode::signal(*signal, *all, to.init_signal()),
                Request::Execute(execution) => encode::execution(execution, to.init_execute()),
                Request::Forward(signal) => to.set_forward(*signal),
                Request::LimitTasks(limit) => to.set_limit_tasks(limit.unwrap_or(0)),
                Request::LimitMemory(bytes) => to.set_limit_memory(*bytes),
                Request::WindowChanged => to.set_window_changed(()),
            }
        });
    }

    /// Reads and checks a message. Signal 0, with which a process is only looked for, is as good as another here.
    pub fn decode(bytes: &[u8]) -> Result<Request, DecodeError> {
        decode::read(bytes, |message| {
            use schema::request::Which;
            Ok(match message.get_root::<schema::request::Reader<'_>>()?.which()? {
                Which::Prepare(()) => Request::Prepare,
                Which::Start(()) => Request::Start,
                Which::Signal(order) => {
                    let order = order?;
                    let signal = match order.get_signal() {
                        0 => 0,
                        signal => decode::signal_number(signal)?,
                    };
                    Request::Signal { signal, all: order.get_all() }
                }
                Which::Execute(execution) => Request::Execute(decode::execution(execution?)?),
                Which::LimitTasks(limit) => Request::LimitTasks(decode::task_limit(limit)),
                Which::LimitMemory(bytes) => Request::LimitMemory(bytes),
                Which::Forward(signal) => Request::Forward(decode::signal_number(signal)?),
                Which::WindowChanged(()) => Request::WindowChanged,
            })
        })
    }
}

impl Answer {
    /// Replaces `into` by the message.
    pub fn encode(&self, into: &mut Vec<u8>) {
        wire::encode(into, |message| {
            let mut to = message.init_root::<schema::answer::Builder<'_>>();
            match self {
                Answer::Done => to.set_done(()),
                Answer::Refused(why) => to.set_refused(why.as_str()),
                Answer::Failed(why) => to.set_failed(why.as_str()),
                Answer::Executing(pid) => to.set_executing(*pid),
                Answer::Ended(status) => to.set_ended(*status),
            }
        });
    }

    /// Reads and checks a message; reasons are cut to a line of a bounded length.
    pub fn decode(bytes: &[u8]) -> Result<Answer, DecodeError> {
        decode::read(bytes, |message| {
            use schema::answer::Which;
            Ok(match message.get_root::<schema::answer::Reader<'_>>()?.which()? {
                Which::Done(()) => Answer::Done,
                Which::Refused(why) => Answer::Refused(decode::one_line(why?.as_bytes())),
                Which::Failed(why) => Answer::Failed(decode::one_line(why?.as_bytes())),
                Which::Executing(pid) => Answer::Executing(pid),
                Which::Ended(status) => Answer::Ended(status),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Program;

    #[test]
    fn requests_and_answers_survive_the_wire() {
        let program = Program { arguments: vec![b"sh".to_vec(), vec![0xff]], uid: 7, umask: Some(0o27), ..Default::default() };
        for request in [
            Request::Prepare,
            Request::Start,
            Request::Signal { signal: 0, all: false },
            Request::Signal { signal: 9, all: true },
            Request::Execute(Execution { program }),
            Request::Forward(15),
            Request::LimitTasks(Some(9)),
            Request::LimitTasks(None),
            Request::LimitMemory(7 << 30),
            Request::WindowChanged,
        ] {
            let mut message = Vec::new();
            request.encode(&mut message);
            assert_eq!(Request::decode(&message), Ok(request));
        }
        for answer in
            [Answer::Done, Answer::Refused("no".into()), Answer::Failed("x".into()), Answer::Executing(7), Answer::Ended(143)]
        {
            let mut message = Vec::new();
            answer.encode(&mut message);
            assert_eq!(Answer::decode(&message), Ok(answer));
        }
    }

    #[test]
    fn a_signal_that_is_none_is_refused() {
        let mut message = Vec::new();
        Request::Forward(65).encode(&mut message);
        assert_eq!(Request::decode(&message), Err(DecodeError::Invalid("signal")));
    }
}
