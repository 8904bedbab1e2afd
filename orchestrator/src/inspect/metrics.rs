//! Figures in the form that Prometheus reads (text format 0.0.4).

use std::fmt::Write;

use super::proto::supervisor::{Family, Label, Sample};

/// Figures that are being gathered.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics {
    families: Vec<Family>,
}

impl Metrics {
    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, help, "gauge", labels, value);
    }

    /// Something that only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, help, "counter", labels, value);
    }

    fn add(&mut self, name: &str, help: &str, kind: &str, labels: &[(&str, &str)], value: f64) {
        let labels = labels.iter().map(|(name, value)| Label { name: (*name).to_owned(), value: (*value).to_owned() });
        let sample = Sample { labels: labels.collect(), value };
        self.merge(vec![Family { name: name.to_owned(), help: help.to_owned(), kind: kind.to_owned(), samples: vec![sample] }]);
    }

    /// Takes in others: each name stands once.
    pub fn merge(&mut self, families: Vec<Family>) {
        for family in families {
            match self.families.iter_mut().find(|known| known.name == family.name) {
                Some(known) => known.samples.extend(family.samples),
                None => self.families.push(family),
            }
        }
    }

    /// All of them.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// As text. What does not look like a metric's name (a service may say anything) is left out.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for family in self.families.iter().filter(|family| is_name(&family.name)) {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let kind = if family.kind == "counter" { "counter" } else { "gauge" };
            let _ = writeln!(text, "# HELP {} {help}\n# TYPE {} {kind}", family.name, family.name);
            for sample in &family.samples {
                let labels: Vec<String> = (sample.labels.iter())
                    .filter(|label| is_name(&label.name))
                    .map(|label| format!("{}=\"{}\"", label.name, escaped(&label.value)))
                    .collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = writeln!(text, "{}{labels} {}", family.name, sample.value);
            }
        }
        text
    }
}

fn is_name(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(ok) && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_stands_once_with_all_its_samples() {
        let mut metrics = Metrics::default();
        metrics.gauge("a_bytes", "Bytes.", &[("sandbox", "x\"y\n")], 12.0);
        let mut other = Metrics::default();
        other.gauge("a_bytes", "Bytes.", &[("sandbox", "z")], 0.5);
        other.counter("b_total", "Many.", &[], 1e10);
        metrics.merge(other.families().to_vec());
        let expected = "# HELP a_bytes Bytes.\n# TYPE a_bytes gauge\na_bytes{sandbox=\"x\\\"y\\n\"} 12\na_bytes{sandbox=\"z\"} 0.5\n\
                        # HELP b_total Many.\n# TYPE b_total counter\nb_total 10000000000\n";
        assert_eq!(metrics.text(), expected);
    }

    #[test]
    fn names_that_are_none_are_left_out() {
        let mut metrics = Metrics::default();
        metrics.gauge("a b", "x", &[], 1.0);
        metrics.gauge("a", "x\ny", &[("b\"", "1")], 1.0);
        assert_eq!(metrics.text(), "# HELP a x\\ny\n# TYPE a gauge\na 1\n");
    }
}
