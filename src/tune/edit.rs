//! Three settings of a `model.toml`, changed in place: all else of its text stays as it is.

use std::fmt;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, TableLike, Value, value};

const COUNT: &str = "instance_group.count";
const THREADS: &str = "parameters.intra_op_thread_count";

/// What is to stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// `None` for a model that does not batch.
    pub max_batch_size: Option<usize>,
    pub instances: usize,
    pub threads: usize,
}

/// A setting that is no longer what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: &'static str,
    /// As it stood there, if it did.
    pub from: Option<String>,
    pub to: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    #[error("model.toml is no TOML: {0}")]
    Broken(String),
    #[error(
        "model.toml has {0} groups of instances, and which of them is to have {1} instances is yours to say"
    )]
    Groups(usize, usize),
    #[error("`{0}` is not what it should be in model.toml")]
    Kind(&'static str),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            // As it would stand alone.
            COUNT => write!(f, "instance_group = [{{ count = {} }}]", self.to)?,
            key => write!(f, "{key} = {}", self.to)?,
        }
        match &self.from {
            Some(from) => write!(f, "   # was {from}"),
            None => Ok(()),
        }
    }
}

/// The file's new text, and what is new in it. What has its value already, or by default, is left alone.
pub fn edit(text: &str, wanted: &Wanted) -> Result<(String, Vec<Change>), Unwritable> {
    let broken = |error: toml_edit::TomlError| Unwritable::Broken(error.message().to_owned());
    let mut document: DocumentMut = text.parse().map_err(broken)?;
    let mut changes = Vec::new();
    if let Some(rows) = wanted.max_batch_size {
        changes.extend(set(document.as_table_mut(), "max_batch_size", "max_batch_size", rows, None));
    }
    if let Some(group) = group(&mut document, wanted.instances)? {
        changes.extend(set(group, "count", COUNT, wanted.instances, Some(1)));
    }
    let threads = "intra_op_thread_count";
    if document.contains_key("parameters") || wanted.threads != 1 {
        let parameters = document.entry("parameters").or_insert_with(|| Item::Table(Table::new()));
        let parameters = parameters.as_table_like_mut().ok_or(Unwritable::Kind("parameters"))?;
        changes.extend(set(parameters, threads, THREADS, wanted.threads, Some(1)));
    }
    Ok((document.to_string(), changes))
}

/// The one group of instances; made if there has to be one.
fn group(document: &mut DocumentMut, count: usize) -> Result<Option<&mut dyn TableLike>, Unwritable> {
    let wrong = Unwritable::Kind("instance_group");
    if !document.contains_key("instance_group") {
        if count == 1 {
            return Ok(None);
        }
        let mut groups = ArrayOfTables::new();
        groups.push(Table::new());
        document.insert("instance_group", Item::ArrayOfTables(groups));
    }
    let Some(groups) = document.get_mut("instance_group") else { return Ok(None) };
    let len = match groups {
        Item::ArrayOfTables(groups) => groups.len(),
        Item::Value(Value::Array(groups)) => groups.len(),
        _ => return Err(wrong),
    };
    let group = match groups {
        _ if len == 0 && count == 1 => return Ok(None),
        _ if len != 1 => return Err(Unwritable::Groups(len, count)),
        Item::ArrayOfTables(groups) => groups.get_mut(0).map(|group| group as &mut dyn TableLike),
        Item::Value(groups) => {
            let group = groups.as_array_mut().and_then(|groups| groups.get_mut(0));
            group.and_then(Value::as_inline_table_mut).map(|group| group as &mut dyn TableLike)
        }
        _ => None,
    };
    group.map(Some).ok_or(wrong)
}

/// Puts a number in the place of another one, and keeps the spaces and the comment around it.
fn set(
    table: &mut dyn TableLike,
    key: &str,
    name: &'static str,
    to: usize,
    default: Option<usize>,
) -> Option<Change> {
    let number = i64::try_from(to).unwrap_or(i64::MAX);
    let Some(item) = table.get_mut(key) else {
        if default == Some(to) {
            return None;
        }
        table.insert(key, value(number));
        return Some(Change { key: name, from: None, to });
    };
    let mut new = Value::from(number);
    let mut from = item.as_value().cloned();
    if let Some(from) = &mut from {
        if from.as_integer() == Some(number) {
            return None;
        }
        *new.decor_mut() = std::mem::take(from.decor_mut());
    }
    *item = Item::Value(new);
    Some(Change { key: name, from: from.map(|from| from.to_string()), to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, (rows, instances, threads): (usize, usize, usize), expect: Expect) {
        let wanted = Wanted { max_batch_size: (rows > 0).then_some(rows), instances, threads };
        let told = match edit(text, &wanted) {
            Err(error) => error.to_string(),
            Ok((text, changes)) => {
                let changes: String = changes.iter().map(|change| format!("> {change}\n")).collect();
                format!("{text}{changes}")
            }
        };
        expect.assert_eq(&told);
    }

    #[test]
    fn comments_and_order_stay() {
        check(
            "# A model.\n\nmax_batch_size =  64 # as measured in May\nspecialise = true # yes\n\n[inputs]\n# The rate.\nsr = { constant = 16000 }\n\n# Half the cores.\n[[instance_group]]\nkind = \"cpu\" # only\ncount = 3\n\n[parameters]\n# One.\nintra_op_thread_count = 4   # each\n",
            (8, 2, 1),
            expect![[r##"
                # A model.

                max_batch_size =  8 # as measured in May
                specialise = true # yes

                [inputs]
                # The rate.
                sr = { constant = 16000 }

                # Half the cores.
                [[instance_group]]
                kind = "cpu" # only
                count = 2

                [parameters]
                # One.
                intra_op_thread_count = 1   # each
                > max_batch_size = 8   # was 64
                > instance_group = [{ count = 2 }]   # was 3
                > parameters.intra_op_thread_count = 1   # was 4
            "##]],
        );
    }

    #[test]
    fn what_is_missing_is_added() {
        check(
            "",
            (8, 2, 4),
            expect![[r#"
            max_batch_size = 8

            [[instance_group]]
            count = 2

            [parameters]
            intra_op_thread_count = 4
            > max_batch_size = 8
            > instance_group = [{ count = 2 }]
            > parameters.intra_op_thread_count = 4
        "#]],
        );
        check(
            "# A model.\n[inputs]\nx = { batch_axis = 0 } # so\n",
            (8, 2, 4),
            expect![[r#"
            max_batch_size = 8
            # A model.
            [inputs]
            x = { batch_axis = 0 } # so

            [[instance_group]]
            count = 2

            [parameters]
            intra_op_thread_count = 4
            > max_batch_size = 8
            > instance_group = [{ count = 2 }]
            > parameters.intra_op_thread_count = 4
        "#]],
        );
        check(
            "optimization.cuda.graphs = false\nparameters.inter_op_thread_count = 2\n",
            (8, 1, 4),
            expect![[r#"
                optimization.cuda.graphs = false
                parameters.inter_op_thread_count = 2
                parameters.intra_op_thread_count = 4
                max_batch_size = 8
                > max_batch_size = 8
                > parameters.intra_op_thread_count = 4
            "#]],
        );
        check(
            "[[instance_group]]\nkind = 'cpu'\n",
            (0, 2, 1),
            expect![[r#"
            [[instance_group]]
            kind = 'cpu'
            count = 2
            > instance_group = [{ count = 2 }]
        "#]],
        );
    }

    #[test]
    fn what_holds_already_is_left_alone() {
        check(
            "max_batch_size = 8",
            (8, 1, 1),
            expect![[r#"
            max_batch_size = 8
        "#]],
        );
        check(
            "instance_group = [{ count = 2 }]\nparameters = {}\n",
            (0, 2, 1),
            expect![[r#"
            instance_group = [{ count = 2 }]
            parameters = {}
        "#]],
        );
        check("", (0, 1, 1), expect![[r#""#]]);
    }

    #[test]
    fn inline_tables_are_edited_too() {
        check(
            "instance_group = [ { kind = 'cpu', count = 1 } ] # one\nparameters = { intra_op_thread_count = 1 }\n",
            (4, 2, 3),
            expect![[r#"
                instance_group = [ { kind = 'cpu', count = 2 } ] # one
                parameters = { intra_op_thread_count = 3 }
                max_batch_size = 4
                > max_batch_size = 4
                > instance_group = [{ count = 2 }]   # was 1
                > parameters.intra_op_thread_count = 3   # was 1
            "#]],
        );
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        check(
            "max_batch_size = ",
            (8, 1, 1),
            expect!["model.toml is no TOML: string values must be quoted, expected literal string"],
        );
        check(
            "[[instance_group]]\n[[instance_group]]\n",
            (8, 2, 1),
            expect![
                "model.toml has 2 groups of instances, and which of them is to have 2 instances is yours to say"
            ],
        );
        check(
            "instance_group = []\n",
            (8, 2, 1),
            expect![
                "model.toml has 0 groups of instances, and which of them is to have 2 instances is yours to say"
            ],
        );
        check(
            "instance_group = 3\n",
            (8, 2, 1),
            expect!["`instance_group` is not what it should be in model.toml"],
        );
        check("parameters = 3\n", (8, 2, 1), expect!["`parameters` is not what it should be in model.toml"]);
    }
}
