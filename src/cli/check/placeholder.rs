//! Values of files that something else replaces before they are applied.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::foreign::directory_of;

/// A longer value is no image, no quantity and no name, but a text in which such characters mean
/// something else.
const LONGEST: usize = 1024;

/// What replaces a placeholder. Of a file that needs several, the first does the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Renderer {
    /// `{{ … }}`.
    Helm,
    /// `$(NAME)`, names in capital letters, and images that a kustomization writes anew.
    Kustomize,
    /// An image that Skaffold builds.
    Skaffold,
    /// `ko://…`.
    Ko,
    /// `${NAME:=default}`, which `envsubst` of GNU leaves as it is.
    Flux,
    /// `${NAME}` and `$NAME`.
    Environment,
    /// `<…>`, `%s` and other names: whoever wrote them knows.
    Author,
}

/// A placeholder in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    /// As it is written.
    pub(super) text: String,
    /// What replaces it.
    pub(super) by: Renderer,
}

/// What is known of the directory of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Images that the kustomizations of this tree write anew; `None` where the file is beside none.
    pub(super) kustomized: Option<Arc<BTreeSet<String>>>,
    /// Images that Skaffold builds.
    pub(super) built: Arc<BTreeSet<String>>,
}

static FORMS: LazyLock<Vec<(Renderer, Regex)>> = LazyLock::new(|| {
    let forms = [
        (Renderer::Helm, r"\{\{.*\}\}"),
        (Renderer::Environment, r"\$\{\w+\}|\$[A-Z_][A-Z0-9_]*"),
        (Renderer::Flux, r"\$\{[^{}]+\}"),
        (Renderer::Kustomize, r"\$\([^()\s]+\)"),
        (Renderer::Ko, r"^ko://.+"),
        (Renderer::Author, r"<[A-Za-z][A-Za-z0-9 ._:/-]*>|%[sdv]"),
        // Two words at least: one may be a name that was meant.
        (Renderer::Author, r"^_*[A-Z][A-Z0-9]*(?:_+[A-Z0-9]+)+_*$"),
    ];
    let forms = forms.into_iter();
    forms
        .filter_map(|(by, form)| Some((by, Regex::new(form).ok()?)))
        .collect()
});

/// What templates of Go leave where a value is missing: nothing will replace it any more.
const MISSING: &[&str] = &["<no value>", "<nil>"];

// === impl Renderer ===

impl Renderer {
    /// How to get what is applied of a file, as in "check …".
    pub(super) fn advice(self, file: &str) -> String {
        let command = match self {
            // Standard input cannot be read again.
            _ if file == "-" => return "what it becomes before it is applied".to_owned(),
            Self::Environment => format!("envsubst < {file}"),
            Self::Flux => format!("flux envsubst < {file}"),
            Self::Kustomize => {
                let directory = directory_of(Path::new(file)).display();
                format!("kubectl kustomize {directory}")
            }
            Self::Helm => "helm template CHART".to_owned(),
            Self::Ko => format!("ko resolve -f {file}"),
            Self::Skaffold => "skaffold render".to_owned(),
            Self::Author => return "it again when the value is filled in".to_owned(),
        };
        format!("what it becomes: {command} | forestall check -f -")
    }
}

// === impl Placeholder ===

impl Placeholder {
    /// The first placeholder of a value, in a file of these surroundings.
    pub(super) fn find(value: &str, surroundings: &Surroundings) -> Option<Self> {
        if value.len() > LONGEST || value.contains('\n') {
            return None;
        }
        if MISSING.iter().any(|missing| value.contains(missing)) {
            return None;
        }
        let found = |text: &str, by| {
            let text = text.to_owned();
            Some(Self { text, by })
        };
        for (by, form) in FORMS.iter() {
            // What has blanks beside is a sentence or a program.
            if let Some(place) = form.find(value)
                && !form.replace_all(value, "").contains(char::is_whitespace)
            {
                return found(place.as_str(), *by);
            }
        }
        let name = name_of(value);
        let mut letters = value.chars();
        let is_capital = |char: char| char.is_ascii_uppercase() || char.is_ascii_digit();
        match &surroundings.kustomized {
            Some(_)
                if value.len() > 1
                    && letters.all(is_capital)
                    && value.starts_with(char::is_alphabetic) =>
            {
                found(value, Renderer::Kustomize)
            }
            Some(images) if images.contains(name) => found(name, Renderer::Kustomize),
            _ if surroundings.built.contains(name) => found(name, Renderer::Skaffold),
            _ => None,
        }
    }
}

/// An image without its tag and digest.
fn name_of(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str, surroundings: &Surroundings) -> Option<(String, Renderer)> {
        Placeholder::find(value, surroundings).map(|found| (found.text, found.by))
    }

    #[test]
    fn placeholders_are_told_from_mistakes() {
        let nowhere = Surroundings::default();
        for (value, text, by) in [
            ("${IMAGE}", "${IMAGE}", Renderer::Environment),
            ("r.io/a:${TAG:=v 1}", "${TAG:=v 1}", Renderer::Flux),
            ("$IMAGE", "$IMAGE", Renderer::Environment),
            ("r.io/$(NAME):1", "$(NAME)", Renderer::Kustomize),
            ("{{ image }}:{{tag}}", "{{ image }}:{{tag}}", Renderer::Helm),
            ("ko://example.com/cmd", "ko://example.com/cmd", Renderer::Ko),
            ("<your image>", "<your image>", Renderer::Author),
            ("r.io/a:<tag>", "<tag>", Renderer::Author),
            ("%s", "%s", Renderer::Author),
            ("IMAGE_URL", "IMAGE_URL", Renderer::Author),
            ("__REPLACE_ME__", "__REPLACE_ME__", Renderer::Author),
        ] {
            let expected = Some((text.to_owned(), by));
            assert_eq!(found(value, &nowhere), expected, "{value}");
        }
        for value in [
            "nginx:1.27",
            ":latest",
            "/a:1",
            "NGINX",
            "Nginx_Stable",
            "512m",
            "r.io/a:<no value>",
            "r.io/a:%!s(<nil>)",
            "r.io/a:$tag",
            "a < b > c",
            "echo $IMAGE",
            "a\n${B}",
        ] {
            assert_eq!(found(value, &nowhere), None, "{value}");
        }
    }

    #[test]
    fn advice_names_the_file() {
        let advice = Renderer::Environment.advice("a/b.yaml");
        assert!(advice.ends_with(": envsubst < a/b.yaml | forestall check -f -"));
        let advice = Renderer::Kustomize.advice("a/b.yaml");
        assert!(advice.ends_with(": kubectl kustomize a | forestall check -f -"));
        assert!(!Renderer::Environment.advice("-").contains('<'));
    }

    #[test]
    fn images_that_others_write_anew_are_placeholders_there_alone() {
        let images = |name: &str| Arc::new(BTreeSet::from([name.to_owned()]));
        let kustomized = Surroundings {
            kustomized: Some(images("controller")),
            built: images("r.io:5000/web"),
        };
        for (value, text, by) in [
            ("controller:latest", "controller", Renderer::Kustomize),
            ("controller@sha256:00", "controller", Renderer::Kustomize),
            ("IMAGE", "IMAGE", Renderer::Kustomize),
            ("r.io:5000/web", "r.io:5000/web", Renderer::Skaffold),
        ] {
            let expected = Some((text.to_owned(), by));
            assert_eq!(found(value, &kustomized), expected, "{value}");
            assert_eq!(found(value, &Surroundings::default()), None, "{value}");
        }
        assert_eq!(found("controllers:latest", &kustomized), None);
        assert_eq!(found("512", &kustomized), None);
    }
}
