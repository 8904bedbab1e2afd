//! The same bundle under runc and under Bulkhead.

use std::{path::PathBuf, process::Output};

use serde_json::Value;

use crate::{
    bundle::Bundle,
    guest::compile,
    leftovers::Leftovers,
    runtime::{Runtime, code, text},
    tree,
};

/// A program to be run in fresh bundles over a tree.
pub struct Scene {
    tree: PathBuf,
    arguments: Vec<String>,
    input: Vec<u8>,
    change: Box<dyn Fn(&mut Value)>,
    /// A C program of `integration/guests`, which is put there as `/guest`.
    guest: Option<String>,
}

impl Scene {
    /// In the Debian tree.
    pub fn debian(arguments: &[&str]) -> Scene {
        Scene::new("debian", arguments)
    }

    /// In the busybox tree.
    pub fn busybox(arguments: &[&str]) -> Scene {
        Scene::new("busybox", arguments)
    }

    /// A bash script in the Debian tree.
    pub fn bash(script: &str) -> Scene {
        Scene::debian(&["/bin/bash", "-c", script])
    }

    /// An ash script in the busybox tree.
    pub fn ash(script: &str) -> Scene {
        Scene::busybox(&["/bin/sh", "-c", script])
    }

    /// A C program of `integration/guests` in the busybox tree.
    pub fn guest(source: &str) -> Scene {
        Scene { guest: Some(source.to_owned()), ..Scene::busybox(&["/guest"]) }
    }

    fn new(name: &str, arguments: &[&str]) -> Scene {
        Scene {
            tree: tree(name),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            input: Vec::new(),
            change: Box::new(|_| ()),
            guest: None,
        }
    }

    /// With bytes on standard input.
    pub fn input(mut self, input: &[u8]) -> Scene {
        self.input = input.to_vec();
        self
    }

    /// With a changed configuration.
    pub fn configure(mut self, change: impl Fn(&mut Value) + 'static) -> Scene {
        self.change = Box::new(change);
        self
    }

    /// Under one runtime.
    pub fn run(&self, runtime: &Runtime) -> Output {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut bundle = Bundle::new(&self.tree, &arguments);
        bundle.configure(|config| (self.change)(config));
        if let Some(source) = &self.guest {
            compile(source, &bundle.rootfs().join("guest"));
        }
        runtime.run(&bundle, &self.input)
    }

    /// Under Bulkhead, which leaves nothing behind.
    pub fn under_bulkhead(&self) -> Output {
        let runtime = Runtime::bulkhead();
        let output = self.run(&runtime);
        Leftovers::of(&runtime).assert_none();
        output
    }

    /// Under both: standard output, standard error and exit code are the same. Returns Bulkhead's.
    pub fn same(&self) -> Output {
        let expected = self.run(&Runtime::runc());
        let got = self.under_bulkhead();
        assert!(
            text(&expected.stdout) == text(&got.stdout)
                && text(&expected.stderr) == text(&got.stderr)
                && code(&expected) == code(&got),
            "{:?}\n--- runc: exit {}\n{}{}\n--- bulkhead: exit {}\n{}{}",
            self.arguments,
            code(&expected),
            text(&expected.stdout),
            text(&expected.stderr),
            code(&got),
            text(&got.stdout),
            text(&got.stderr),
        );
        got
    }

    /// As [`Scene::same`], and the program succeeded and said something: a scene that fails alike proves nothing.
    pub fn same_and_succeeds(&self) -> Output {
        let output = self.same();
        assert_eq!(code(&output), 0, "{:?}: {}{}", self.arguments, text(&output.stdout), text(&output.stderr));
        assert!(!output.stdout.is_empty(), "{:?} says nothing", self.arguments);
        output
    }
}
