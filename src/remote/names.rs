//! Names of files from elsewhere: only such as lie below the folder that they are put into.

use std::path::{Component, Path, PathBuf};

const DEEPEST: usize = 16;
const LONGEST: usize = 1024;

/// The name as a path below a folder; `None` of the folder itself.
pub(super) fn below(name: &str) -> Result<Option<PathBuf>, String> {
    let wrong = |why: &str| {
        Err(format!("it has the name '{}', {why}", name.escape_debug().take(100).collect::<String>()))
    };
    if name.len() > LONGEST {
        return wrong("which is too long");
    }
    if name.contains(['\\', '\0']) || name.chars().any(char::is_control) {
        return wrong("which has characters that names of models do not have");
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return wrong("which leads out of its folder");
            }
        }
    }
    match path.components().count() {
        0 => Ok(None),
        count if count > DEEPEST => wrong("which is too deep"),
        _ => Ok(Some(path)),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(name: &str, expect: Expect) {
        expect.assert_eq(&match below(name) {
            Ok(Some(path)) => path.display().to_string(),
            Ok(None) => "nothing".to_owned(),
            Err(why) => why,
        });
    }

    #[test]
    fn names_stay_below() {
        check("a/1/model.onnx", expect!["a/1/model.onnx"]);
        check("./a//1/", expect!["a/1"]);
        check("./", expect!["nothing"]);
        check("a/..b/...", expect!["a/..b/..."]);
        check("../a", expect!["it has the name '../a', which leads out of its folder"]);
        check("a/../../b", expect!["it has the name 'a/../../b', which leads out of its folder"]);
        check("/etc/passwd", expect!["it has the name '/etc/passwd', which leads out of its folder"]);
        check(
            "a\\..\\b",
            expect![[r"it has the name 'a\\..\\b', which has characters that names of models do not have"]],
        );
        check(
            "a\nb",
            expect![[r"it has the name 'a\nb', which has characters that names of models do not have"]],
        );
        check(
            &"a/".repeat(17),
            expect!["it has the name 'a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/', which is too deep"],
        );
        assert!(below(&"a".repeat(1025)).is_err());
    }
}
