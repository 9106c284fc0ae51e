//! Secrets: texts of requests that are no part of the plan, since a plan stands in the
//! specification of a pod, where everyone may read it who may read pods.
//!
//! They come beside it: in a cluster as variables of the environment, whose values the kubelet
//! takes from a Secret; from a parent process as the first line of stdin.

use crate::wire::RequestText;
use std::collections::BTreeMap;
use std::io::BufRead;

/// Prefix of the variables that hold secrets, followed by the secret's name.
const PREFIX: &str = "WATERTIGHT_SECRET_";

/// The variable that says that the secrets are the first line of stdin.
pub const SECRETS_ON_STDIN: &str = "WATERTIGHT_SECRETS_ON_STDIN";

/// Maximum bytes of the line of secrets.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// The name of the variable that holds a secret.
pub fn secret_variable(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The line of secrets for the probe's stdin, newline included: a JSON object by name.
pub fn secrets_line<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let object: serde_json::Map<String, serde_json::Value> = secrets
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    // A JSON text of this library has no line break.
    format!("{}\n", serde_json::Value::Object(object))
}

/// The values of secrets, by name. Without `Debug`, so that nothing can print them.
#[derive(Default)]
pub(crate) struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// The secrets of this process: `variables` are those of its environment.
    ///
    /// # Errors
    /// What is wrong with the line on stdin, without its content.
    pub(crate) fn receive(
        variables: impl IntoIterator<Item = (String, String)>,
        stdin: impl BufRead,
    ) -> Result<Self, String> {
        let mut on_stdin = false;
        let mut secrets = BTreeMap::new();
        for (variable, value) in variables {
            if variable == SECRETS_ON_STDIN {
                on_stdin = value == "1";
            } else if let Some(name) = variable.strip_prefix(PREFIX) {
                secrets.insert(name.to_owned(), value);
            }
        }

        if on_stdin {
            let mut line = String::new();
            stdin
                .take(MAX_LINE)
                .read_line(&mut line)
                .map_err(|error| format!("reading the secrets: {error}"))?;
            let more: BTreeMap<String, String> = serde_json::from_str(&line)
                .map_err(|_| "the secrets are no JSON object of texts".to_owned())?;
            secrets.extend(more);
        }
        Ok(Self(secrets))
    }

    /// A text of a request.
    ///
    /// # Errors
    /// The secret did not come.
    pub(crate) fn text<'a>(&'a self, text: &'a RequestText) -> Result<&'a str, String> {
        match text {
            RequestText::Plain(text) => Ok(text),
            RequestText::Secret { secret } => {
                let value = self.0.get(secret).map(String::as_str);
                value.ok_or_else(|| format!("the secret {secret} did not come with the plan"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str) -> RequestText {
        RequestText::Secret {
            secret: name.to_owned(),
        }
    }

    #[test]
    fn secrets_come_from_variables_and_from_stdin() {
        let variables = [
            (secret_variable("A"), "one".to_owned()),
            (SECRETS_ON_STDIN.to_owned(), "1".to_owned()),
        ];
        let line = secrets_line([("B", "two\n\"3\"")]);
        assert_eq!(line.matches('\n').count(), 1);
        let secrets = Secrets::receive(variables, line.as_bytes()).unwrap();
        assert_eq!(secrets.text(&secret("A")), Ok("one"));
        assert_eq!(secrets.text(&secret("B")), Ok("two\n\"3\""));
        assert_eq!(secrets.text(&"plain".into()), Ok("plain"));
        assert!(secrets.text(&secret("C")).unwrap_err().contains('C'));
    }

    #[test]
    fn error_of_a_damaged_line_does_not_quote_it() {
        let variables = [(SECRETS_ON_STDIN.to_owned(), "1".to_owned())];
        let error = Secrets::receive(variables, &b"hunter2\n"[..])
            .err()
            .unwrap();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
