//! What the worker is given to run.

use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use crate::failure::Failure;
use crate::submit::Input;

/// About how large the input is that is made large: less than the 1 MiB that an API takes at most.
const BIG: usize = 900 * 1024;

/// Inputs as they are named on the command line.
#[derive(Debug, Args)]
pub struct InputArgs {
    /// One that succeeds soon; the example that the worker announces unless given.
    #[arg(long, short, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    input: Option<Input>,

    /// One with which a run takes a minute or more, and better tells how far it is. Without it, rows are skipped.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    slow_input: Option<Input>,

    /// One with which two attempts or more fail, and may be tried again. Without it, a row is skipped.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    failing_input: Option<Input>,

    /// One of almost 1 MiB; the first text in the example, made longer, unless given.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    big_input: Option<Input>,
}

/// Inputs as they are sent.
#[derive(Debug)]
pub struct Inputs {
    pub good: Option<Bytes>,
    pub slow: Option<Bytes>,
    pub failing: Option<Bytes>,
    pub big: Option<Bytes>,
}

impl InputArgs {
    /// # Errors
    /// When one cannot be read, or is no JSON.
    pub fn read(self) -> Result<Inputs, Failure> {
        let read = |input: Option<Input>| -> Result<Option<Bytes>, Failure> {
            let json = input.map(Input::read).transpose()?;
            Ok(json.map(|json| Bytes::copy_from_slice(json.get().as_bytes())))
        };
        Ok(Inputs {
            good: read(self.input)?,
            slow: read(self.slow_input)?,
            failing: read(self.failing_input)?,
            big: read(self.big_input)?,
        })
    }
}

impl Inputs {
    /// Takes what was not given from an example.
    pub fn or_from(&mut self, example: &Value) {
        self.good.get_or_insert_with(|| example.to_string().into());
        if self.big.is_none() {
            let mut big = example.clone();
            self.big = lengthen(&mut big).then(|| big.to_string().into());
        }
    }
}

/// Makes the first text in it long. `false` when there is none.
fn lengthen(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let once = if text.is_empty() { "soup ".to_owned() } else { std::mem::take(text) };
            *text = once.repeat(BIG / once.len() + 1);
            true
        }
        Value::Array(items) => items.iter_mut().any(lengthen),
        Value::Object(fields) => fields.values_mut().any(lengthen),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_text_of_an_example_is_made_long_and_nothing_else() {
        let mut example = json!({ "n": 1, "list": [null, "ab", "cd"] });
        assert!(lengthen(&mut example));
        let long = example["list"][1].as_str().unwrap().len();
        assert!((BIG..BIG + 10).contains(&long), "{long}");
        assert_eq!((&example["n"], &example["list"][2]), (&json!(1), &json!("cd")));
        assert!(!lengthen(&mut json!({ "n": [1, true] })));
    }
}
