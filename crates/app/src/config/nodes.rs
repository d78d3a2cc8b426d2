//! Which classes of nodes graphs may use.
//!
//! - `ATELIER_NODE_DENY`: classes that are refused, separated by commas: names as `ComfyUI` has them,
//!   `*` for any characters, `default` for the list that is refused if this is not set, `none` for
//!   nothing. `default,Foo*` refuses more than usual.
//! - `ATELIER_NODE_ALLOW`: classes that are allowed, all others being refused; any that is not refused
//!   by the other list if this is not set.

use atelier_domain::graph::{ClassPattern, NodePolicy};

use super::{Mistakes, or_variables};

const DENY: &str = "ATELIER_NODE_DENY";
const ALLOW: &str = "ATELIER_NODE_ALLOW";

/// The word for the list that is refused if nobody says otherwise.
const USUAL: &str = "default";

/// The word for a list of nothing: an empty one counts as not set.
const NOTHING: &str = "none";

/// How the policy is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NodeArguments {
    /// The classes of nodes that are refused, separated by commas; * for any characters.
    ///
    /// Default: `default`, the classes that are known to run code, to reach into the file system or
    /// the network, or to share data between prompts. `default,Foo*` refuses more; `none` nothing.
    #[arg(long, env = DENY, value_name = "CLASSES")]
    pub node_deny: Option<String>,
    /// The only classes of nodes that are allowed, as above; --node-deny still holds.
    ///
    /// Default: all.
    #[arg(long, env = ALLOW, value_name = "CLASSES")]
    pub node_allow: Option<String>,
}

impl NodeArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<NodePolicy> {
        let deny = match or_variables(self.node_deny, &[]) {
            None => Some(NodePolicy::refused_by_default().collect()),
            Some(list) => patterns(DENY, &list, mistakes),
        };
        let allow = match or_variables(self.node_allow, &[]) {
            None => Some(None),
            Some(list) => patterns(ALLOW, &list, mistakes).map(Some),
        };
        Some(NodePolicy::new(deny?, allow?))
    }
}

fn patterns(
    variable: &'static str,
    list: &str,
    mistakes: &mut Mistakes,
) -> Option<Vec<ClassPattern>> {
    let mut patterns = Vec::new();
    let mut is_fine = true;
    for word in list.split(',').map(str::trim) {
        match word {
            "" | NOTHING => {}
            USUAL if variable == DENY => patterns.extend(NodePolicy::refused_by_default()),
            name => match ClassPattern::parse(name) {
                Ok(pattern) => patterns.push(pattern),
                Err(fault) => {
                    mistakes.add(variable, format!("`{name}`: {fault}"));
                    is_fine = false;
                }
            },
        }
    }
    is_fine.then_some(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deny: Option<&str>, allow: Option<&str>) -> Result<NodePolicy, String> {
        let arguments = NodeArguments {
            node_deny: deny.map(str::to_owned),
            node_allow: allow.map(str::to_owned),
        };
        let mut mistakes = Mistakes::default();
        let policy = arguments.check(&mut mistakes);
        mistakes.check(policy).map_err(|all| all.to_string())
    }

    #[test]
    fn what_is_not_set_or_empty_has_a_default() {
        assert_eq!(check(None, None), Ok(NodePolicy::default()));
        assert_eq!(check(Some(""), Some("")), Ok(NodePolicy::default()));
    }

    #[test]
    fn lists_may_add_to_the_default_or_go_in_its_place() {
        let refuses = |deny, class| check(Some(deny), None).unwrap().refusal(class).is_some();

        assert!(refuses("default, Foo*", "SRL Eval"));
        assert!(refuses("default, Foo*", "FooBar"));
        assert!(!refuses("default, Foo*", "LoadImage"));
        assert!(!refuses("Foo*", "SRL Eval"));
        assert!(!refuses("none", "SRL Eval"));
    }

    #[test]
    fn what_is_allowed_is_allowed_alone() {
        let policy = check(Some("none"), Some("KSampler,Load*")).unwrap();

        assert_eq!(policy.refusal("LoadImage"), None);
        assert!(policy.refusal("SaveImage").is_some());
    }

    #[test]
    fn what_names_no_class_is_a_mistake() {
        let long = "x".repeat(201);
        let told = check(Some(&long), Some("a\nb")).expect_err("two mistakes");

        for variable in [DENY, ALLOW] {
            assert!(told.contains(&format!("\n  {variable}: `")), "{told}");
        }
    }
}
