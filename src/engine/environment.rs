//! The environment of a run, at its start and at its end.

use super::Observer;
use crate::backend::Backend;
use crate::event::RunEvent;
use crate::inventory::{EnvironmentInfo, changed_policies};

/// The environment of the run now, or a note on why it could not be read.
pub(super) async fn read<B: Backend>(backend: &mut B) -> Result<EnvironmentInfo, String> {
    backend
        .environment_info()
        .await
        .map_err(|error| format!("the environment of the run could not be read: {error}"))
}

/// The environment when all probes have stopped; notes the policies that differ from the start.
pub(super) async fn read_at_the_end<B: Backend>(
    before: Option<&EnvironmentInfo>,
    backend: &mut B,
    observer: &mut impl Observer,
) -> Option<EnvironmentInfo> {
    let after = match read(backend).await {
        Ok(after) => after,
        Err(text) => {
            observer.event(RunEvent::Note { text });
            return None;
        }
    };
    let changed = before
        .map(|before| changed_policies(&before.policies, &after.policies))
        .unwrap_or_default();
    if !changed.is_empty() {
        let text = format!(
            "not the same at the end as at the start: {}",
            changed.join(", ")
        );
        observer.event(RunEvent::Note { text });
    }
    if let Some(text) = differing_images(&after.probe_images) {
        observer.event(RunEvent::Note { text });
    }
    Some(after)
}

/// What is said where nodes ran different images as probes: all of them report this program's
/// version, but one may be another build.
fn differing_images(images: &[String]) -> Option<String> {
    (images.len() > 1).then(|| {
        format!(
            "the probes ran different images: {}; name the image by digest (--probe-image NAME@sha256:...), or load the same one onto every node",
            images.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_images_are_named_and_one_image_is_not() {
        let images = ["a@sha256:1".to_owned(), "a@sha256:2".to_owned()];
        let text = differing_images(&images).unwrap();
        assert!(text.contains("a@sha256:1, a@sha256:2"), "{text}");
        assert_eq!(differing_images(&images[..1]), None);
    }
}
