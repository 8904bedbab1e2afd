//! The command line.

/// What to measure.
#[derive(Debug)]
pub struct Arguments {
    /// Rows of these names; all when there are none.
    pub only: Vec<String>,
    /// Pairs of runs, one under each runtime.
    pub pairs: usize,
    /// Whether a missed goal is a failure.
    pub check: bool,
}

const USAGE: &str = "usage: bench [--only NAME,...] [--pairs NUMBER] [--check]
  --only    rows with one of these names, or else with one of these words in their names
  --pairs   pairs of runs, one under each runtime, of which the medians are printed (default 5)
  --check   exit with 1 where a goal is missed";

impl Arguments {
    /// From the program's arguments; the error is what to say.
    pub fn parse(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut arguments = Arguments { only: Vec::new(), pairs: 5, check: false };
        while let Some(option) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{option} needs a value\n{USAGE}"));
            match option.as_str() {
                "--only" => arguments.only.extend(value()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
                "--pairs" => {
                    arguments.pairs = value()?.parse().ok().filter(|pairs| *pairs > 0).ok_or_else(|| USAGE.to_owned())?;
                }
                "--check" => arguments.check = true,
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(arguments)
    }

    /// Whether a row is wanted, `names` being those of all rows.
    pub fn want(&self, name: &str, names: &[&str]) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|word| if names.contains(&word.as_str()) { word == name } else { name.contains(word.as_str()) })
    }
}
