//! Bulkhead's own settings as annotations of a container.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::complaint::Complaint;

/// What the annotation says, in the words of the flag of the same name; `None` if it is not there.
pub fn value<T: ValueEnum>(annotations: &BTreeMap<String, String>, name: &str) -> Result<Option<T>, Complaint> {
    let Some(text) = annotations.get(name) else { return Ok(None) };
    T::from_str(text, false).map(Some).map_err(|_| {
        let known = T::value_variants().iter().filter_map(T::to_possible_value);
        let known: Vec<_> = known.map(|value| value.get_name().to_owned()).collect();
        Complaint::new(format!("annotations.{name}"), format!("{text:?} is neither {}", known.join(" nor ")))
    })
}
