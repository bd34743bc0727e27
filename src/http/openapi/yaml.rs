//! Writes JSON values as YAML in block style.

use serde_json::Value;

/// Words that YAML 1.1 parsers read as something other than a string.
const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// The spaces by which a nested collection is indented.
const INDENT: usize = 2;

/// A value as a YAML document.
pub(super) fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

/// Appends a value. A collection starts on a line of its own, indented by `indent`; a scalar continues the line.
fn write(text: &mut String, value: &Value, indent: usize) {
    let indentation = " ".repeat(indent);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                text.push_str(&indentation);
                text.push_str(&key(name));
                text.push(':');
                write_after_indicator(text, value, indent + INDENT);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.push_str(&indentation);
                if is_collection(item) {
                    // the first line of the nested collection continues the line after `- `
                    let mut nested = String::new();
                    write(&mut nested, item, indent + INDENT);
                    text.push_str("- ");
                    text.push_str(nested.trim_start());
                } else {
                    text.push('-');
                    write_after_indicator(text, item, indent + INDENT);
                }
            }
        }
        scalar => {
            text.push_str(&scalar_text(scalar, &indentation));
            text.push('\n');
        }
    }
}

/// Appends a value after `name:` or `-`: a collection on the next line, a scalar on the same line.
fn write_after_indicator(text: &mut String, value: &Value, indent: usize) {
    if is_collection(value) {
        text.push('\n');
    } else {
        text.push(' ');
    }
    write(text, value, indent);
}

/// Whether a value is an object or an array that is not empty. Empty ones are written like scalars: `{}` and `[]`.
fn is_collection(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

/// A scalar or an empty collection. JSON's forms are valid YAML; texts of several lines are literal blocks where possible, with
/// `indentation` before each line.
fn scalar_text(value: &Value, indentation: &str) -> String {
    match value.as_str() {
        Some(text) if is_literal(text) => {
            // `|-` begins a block without a line end at its end
            let mut block = String::from("|-");
            for line in text.lines() {
                block.push('\n');
                if !line.is_empty() {
                    block.push_str(indentation);
                    block.push_str(line);
                }
            }
            block
        }
        _ => value.to_string(),
    }
}

/// Whether a text can be a literal block without an indentation indicator or escapes.
fn is_literal(text: &str) -> bool {
    text.contains('\n')
        && !text.ends_with('\n')
        && !text.starts_with([' ', '\n'])
        && text.chars().all(|character| character == '\n' || !character.is_control())
}

/// A member's name as a key: plain if every YAML parser reads it as a string, else quoted.
fn key(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/' || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "_/.{}-".contains(character))
        && !RESERVED.contains(&name.to_ascii_lowercase().as_str());
    if is_plain { name.to_owned() } else { Value::from(name).to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_written_in_block_style() {
        let value = json!({
            "openapi": "3.0.0",
            "paths": { "/v1/sessions/{id}": { "200": { "on": true, "empty": {}, "none": [] } } },
            "list": [1, null, "a: b", { "x": 1, "y": [2] }, [3, 4]],
            "text": "first\n\n  second: \"x\"\nthird",
        });
        // The members are sorted, since a JSON object is a sorted map here.
        let expected = "\
list:
  - 1
  - null
  - \"a: b\"
  - x: 1
    \"y\":
      - 2
  - - 3
    - 4
openapi: \"3.0.0\"
paths:
  /v1/sessions/{id}:
    \"200\":
      empty: {}
      none: []
      \"on\": true
text: |-
  first

    second: \"x\"
  third
";
        assert_eq!(to_yaml(&value), expected);
    }
}
