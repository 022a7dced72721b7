//! Lists as rabbitmqctl prints them.

use serde_json::Value;

/// Columns by tabs; what would break a row is a blank.
pub(super) fn table(columns: &[&str], rows: &[Value], has_head: bool) -> String {
    if rows.is_empty() {
        return "\n".to_owned();
    }
    let blank = |cell: String| cell.replace(['\t', '\n', '\r'], " ");
    print(columns, rows, has_head, "\t", blank)
}

pub(super) fn csv(columns: &[&str], rows: &[Value], has_head: bool) -> String {
    let quoted = |cell: String| format!("\"{}\"", cell.replace('"', "\"\""));
    print(columns, rows, has_head, ",", quoted)
}

fn print(
    columns: &[&str],
    rows: &[Value],
    has_head: bool,
    separator: &str,
    form: impl Fn(String) -> String,
) -> String {
    let head = has_head.then(|| columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let cells = rows.iter().map(|row| columns.iter().map(|name| cell(row, name)).collect());
    let lines = head.into_iter().chain(cells).map(|cells| {
        let cells: Vec<_> = cells.into_iter().map(&form).collect();
        cells.join(separator) + "\n"
    });
    lines.collect()
}

/// Every row on a line of its own, with its fields in the columns' order.
pub(super) fn json(columns: &[&str], rows: &[Value]) -> String {
    if rows.is_empty() {
        return "[]\n".to_owned();
    }
    let rows = rows.iter().map(|row| {
        let field = |name: &&str| format!("{}:{}", Value::from(*name), row[*name]);
        let fields: Vec<_> = columns.iter().map(field).collect();
        format!("{{{}}}", fields.join(","))
    });
    format!("[\n{}\n]\n", rows.collect::<Vec<_>>().join("\n,"))
}

fn cell(row: &Value, name: &str) -> String {
    match &row[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[&str] = &["name", "definition", "priority"];

    fn rows() -> [Value; 2] {
        let first = json!({"name": "a\tb\nc", "definition": "{\"n\":5}", "priority": 0});
        [first, json!({"priority": -3, "name": "é", "definition": ""})]
    }

    #[test]
    fn a_table_has_a_line_for_each_row_whatever_is_in_it() {
        let lines = "a b c\t{\"n\":5}\t0\né\t\t-3\n";
        let head = "name\tdefinition\tpriority\n";
        assert_eq!(table(COLUMNS, &rows(), true), format!("{head}{lines}"));
        assert_eq!(table(COLUMNS, &rows(), false), lines);
        assert_eq!(table(COLUMNS, &[], true), "\n");
    }

    #[test]
    fn json_keeps_the_order_of_the_columns() {
        let expected = "[\n{\"name\":\"a\\tb\\nc\",\"definition\":\"{\\\"n\\\":5}\",\"priority\":0}\
                        \n,{\"name\":\"é\",\"definition\":\"\",\"priority\":-3}\n]\n";
        assert_eq!(json(COLUMNS, &rows()), expected);
        assert_eq!(json(COLUMNS, &[]), "[]\n");
    }

    #[test]
    fn csv_quotes_everything() {
        let expected = "\"name\",\"definition\",\"priority\"\n\"é\",\"\",\"-3\"\n";
        assert_eq!(csv(COLUMNS, &rows()[1..], true), expected);
        assert!(csv(COLUMNS, &rows(), false).contains("\"{\"\"n\"\":5}\""));
    }
}
