//! What /proc tells of the host's hardware. Read once at start-up, while the host's /proc can still be seen.

/// Facts about the CPUs.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// The host's /proc/cpuinfo, one paragraph per CPU.
    processors: Vec<String>,
}

impl HostFacts {
    /// Reads them from the host. What cannot be read is left out: no guest depends on it to run.
    pub fn read() -> HostFacts {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        HostFacts { processors: text.split("\n\n").map(str::trim_end).filter(|cpu| !cpu.is_empty()).map(str::to_owned).collect() }
    }

    /// /proc/cpuinfo of a guest with `cpus` CPUs: they are numbered from 0, whichever the host gave.
    pub fn cpuinfo(&self, cpus: usize) -> Vec<u8> {
        let mut text = String::new();
        for cpu in 0..cpus {
            let Some(facts) = self.processors.get(cpu).or(self.processors.first()) else { break };
            for line in facts.lines() {
                let name = line.split(':').next().unwrap_or_default().trim_end();
                match name {
                    "processor" | "core id" | "apicid" | "initial apicid" => text.push_str(&numbered(line, cpu)),
                    "siblings" | "cpu cores" => text.push_str(&numbered(line, cpus)),
                    "physical id" => text.push_str(&numbered(line, 0)),
                    _ => text.push_str(line),
                }
                text.push('\n');
            }
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// The line with another value behind its colon.
fn numbered(line: &str, value: usize) -> String {
    format!("{}: {value}", line.split(':').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_numbered_from_zero() {
        let facts = HostFacts { processors: vec!["processor\t: 5\nmodel name\t: X\ncpu cores\t: 64".to_owned()] };
        let text = String::from_utf8(facts.cpuinfo(2)).unwrap();
        assert_eq!(
            text,
            "processor\t: 0\nmodel name\t: X\ncpu cores\t: 2\n\nprocessor\t: 1\nmodel name\t: X\ncpu cores\t: 2\n\n"
        );
    }
}
