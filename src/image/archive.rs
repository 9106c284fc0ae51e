//! Packs programs into one tar that is both an OCI layout and a docker archive.
//!
//! The same programs, name and version give the same bytes: files are sorted, owned by root with a
//! fixed time, keys of JSON objects are sorted, and layers are not compressed (the output of a
//! compressor depends on its version, and registry clients compress during the upload). BlobStore
//! are stored once: the docker archive's manifest points into the OCI layout.
//!
//! # Limitations
//!
//! A docker archive has one platform for a name: the first one, which is amd64 if it is present.
//! The OCI layout has all platforms.

use super::{Architecture, Kind, Program, USER};
use oci_spec::OciSpecError;
use oci_spec::distribution::Reference;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, PlatformBuilder, RootFsBuilder, Sha256Digest,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io;
use std::str::FromStr;

/// The time of every file in the archive, fixed so that builds are reproducible.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image as an archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Full name and tag; a name without a registry is one of Docker Hub, as container engines read
    /// it.
    pub name: String,
    /// Digest of the index, which a registry shows after a copy of the whole archive.
    pub digest: String,
    pub architectures: Vec<Architecture>,
    /// The tar file.
    pub bytes: Vec<u8>,
}

/// Why an archive cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No program was given.
    #[error("make an image without a program")]
    NoProgram,
    /// Two programs for one architecture.
    #[error("make an image of two programs for {0}")]
    DuplicateArchitecture(Architecture),
    /// The text is not the name of an image.
    #[error("read {name:?} as an image's name: {error}")]
    Name {
        name: String,
        error: oci_spec::distribution::ParseError,
    },
    /// A name with a digest, which the content determines.
    #[error("name an image {0:?}: leave the digest out, it is computed from the content")]
    NamedByDigest(String),
    /// A document does not conform to the OCI image specification.
    #[error("describe the image: {0}")]
    Spec(#[from] OciSpecError),
    /// A document cannot be written as JSON.
    #[error("describe the image: {0}")]
    Json(#[from] serde_json::Error),
    /// The tar cannot be written.
    #[error("write the archive: {0}")]
    Tar(#[from] io::Error),
}

impl Archive {
    /// Packs programs of one kind, one for each architecture.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn pack(programs: &[Program], name: Option<&str>) -> Result<Self, ArchiveError> {
        let kind = programs.first().ok_or(ArchiveError::NoProgram)?.kind();
        let mut by_architecture = BTreeMap::new();
        for program in programs.iter().filter(|program| program.kind() == kind) {
            if by_architecture
                .insert(program.architecture(), program)
                .is_some()
            {
                return Err(ArchiveError::DuplicateArchitecture(program.architecture()));
            }
        }

        let name = full_name(name.unwrap_or(kind.default_name()))?;
        let mut blobs = BlobStore::default();
        let mut images = Vec::new();
        for (architecture, program) in &by_architecture {
            images.push(Image::build(kind, *architecture, program, &mut blobs)?);
        }
        let index = ImageIndexBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageIndex)
            .manifests(
                images
                    .iter()
                    .map(|image| image.manifest.clone())
                    .collect::<Vec<_>>(),
            )
            .build()?;
        let index = blobs.json(MediaType::ImageIndex, &index)?;
        let digest = index.digest().to_string();

        let mut files = blobs.files;
        files.insert(
            "oci-layout".into(),
            sorted_json(
                &OciLayoutBuilder::default()
                    .image_layout_version("1.0.0")
                    .build()?,
            )?,
        );
        files.insert(
            "index.json".into(),
            sorted_json(&layout_index(&index, &name)?)?,
        );
        files.insert(
            "manifest.json".into(),
            sorted_json(&docker_manifest(&images, &name))?,
        );
        let bytes = tar_files(&files, 0o644)?;
        Ok(Self {
            name,
            digest,
            architectures: by_architecture.into_keys().collect(),
            bytes,
        })
    }
}

/// The full name, with registry and tag.
fn full_name(name: &str) -> Result<String, ArchiveError> {
    let reference = Reference::from_str(name).map_err(|error| ArchiveError::Name {
        name: name.to_owned(),
        error,
    })?;
    match reference.digest() {
        Some(_) => Err(ArchiveError::NamedByDigest(name.to_owned())),
        None => Ok(reference.whole()),
    }
}

/// The blobs of a layout, by path.
#[derive(Default)]
struct BlobStore {
    files: BTreeMap<String, Vec<u8>>,
}

impl BlobStore {
    fn add(&mut self, media_type: MediaType, bytes: Vec<u8>) -> Result<Descriptor, ArchiveError> {
        let digest = Sha256Digest::from_str(&hex(&Sha256::digest(&bytes)))?;
        let descriptor = Descriptor::new(media_type, bytes.len() as u64, Digest::from(digest));
        self.files.insert(blob_path(&descriptor), bytes);
        Ok(descriptor)
    }

    fn json(
        &mut self,
        media_type: MediaType,
        value: &impl Serialize,
    ) -> Result<Descriptor, ArchiveError> {
        self.add(media_type, sorted_json(value)?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _infallible = write!(hex, "{byte:02x}");
        hex
    })
}

fn blob_path(descriptor: &Descriptor) -> String {
    format!(
        "blobs/{}/{}",
        descriptor.digest().algorithm(),
        descriptor.digest().digest()
    )
}

/// The image of one platform.
struct Image {
    manifest: Descriptor,
    config: Descriptor,
    layer: Descriptor,
}

impl Image {
    fn build(
        kind: Kind,
        architecture: Architecture,
        program: &Program,
        blobs: &mut BlobStore,
    ) -> Result<Self, ArchiveError> {
        let layer = tar_files(
            &BTreeMap::from([(kind.program().to_owned(), program.bytes().to_vec())]),
            0o755,
        )?;
        let layer = blobs.add(MediaType::ImageLayer, layer)?;

        let labels = HashMap::from(
            [
                ("title", kind.title()),
                ("description", kind.description()),
                ("version", env!("CARGO_PKG_VERSION")),
                ("licenses", env!("CARGO_PKG_LICENSE")),
            ]
            .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned())),
        );
        let container = ConfigBuilder::default()
            .user(USER.to_string())
            .entrypoint(vec![format!("/{}", kind.program())])
            .cmd(
                kind.arguments()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            )
            .working_dir("/")
            .labels(labels)
            .build()?;

        let arch = match architecture {
            Architecture::Amd64 => Arch::Amd64,
            Architecture::Arm64 => Arch::ARM64,
        };
        let history = HistoryBuilder::default()
            .created(CREATED)
            .created_by("watertight image")
            .build()?;
        let config = ImageConfigurationBuilder::default()
            .created(CREATED)
            .architecture(arch.clone())
            .os(Os::Linux)
            .config(container)
            // The digest of an uncompressed layer is also its diff id.
            .rootfs(
                RootFsBuilder::default()
                    .typ("layers")
                    .diff_ids(vec![layer.digest().to_string()])
                    .build()?,
            )
            .history(vec![history])
            .build()?;
        let config = blobs.json(MediaType::ImageConfig, &config)?;

        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config.clone())
            .layers(vec![layer.clone()])
            .build()?;
        let mut manifest = blobs.json(MediaType::ImageManifest, &manifest)?;
        manifest.set_platform(Some(
            PlatformBuilder::default()
                .architecture(arch)
                .os(Os::Linux)
                .build()?,
        ));
        Ok(Self {
            manifest,
            config,
            layer,
        })
    }
}

/// `index.json`, which names the one index of all platforms.
///
/// containerd takes the image's name from `io.containerd.image.name`; skopeo and podman take the
/// tag from `org.opencontainers.image.ref.name` (OCI image specification, annotations).
fn layout_index(index: &Descriptor, name: &str) -> Result<impl Serialize + use<>, ArchiveError> {
    let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
    let annotations = HashMap::from([
        ("io.containerd.image.name".to_owned(), name.to_owned()),
        (
            "org.opencontainers.image.ref.name".to_owned(),
            tag.to_owned(),
        ),
    ]);
    let named = DescriptorBuilder::default()
        .media_type(index.media_type().clone())
        .digest(index.digest().clone())
        .size(index.size())
        .annotations(annotations)
        .build()?;
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![named])
        .build()?;
    Ok(index)
}

/// `manifest.json` of `docker save`, for the first platform.
fn docker_manifest(images: &[Image], name: &str) -> Value {
    let first = images.iter().take(1).map(
        |image| json!({ "Config": blob_path(&image.config), "Layers": [blob_path(&image.layer)], "RepoTags": [name] }),
    );
    Value::Array(first.collect())
}

/// JSON with sorted keys, because maps of the `oci_spec` crate have no fixed order.
fn sorted_json(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    fn sorted(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let sorted_map: BTreeMap<String, Value> = map
                    .into_iter()
                    .map(|(key, value)| (key, sorted(value)))
                    .collect();
                Value::Object(sorted_map.into_iter().collect::<Map<_, _>>())
            }
            Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
            other => other,
        }
    }
    serde_json::to_vec(&sorted(serde_json::to_value(value)?))
}

/// A tar of regular files in order, with time 0 and owner 0.
fn tar_files(files: &BTreeMap<String, Vec<u8>>, mode: u32) -> Result<Vec<u8>, io::Error> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::elf;
    use super::*;
    use object::elf::{EM_AARCH64, EM_X86_64, PT_LOAD};
    use std::io::Read;

    fn program(kind: Kind, machine: u16) -> Program {
        Program::new(kind, elf(kind, machine, PT_LOAD)).unwrap()
    }

    fn both() -> Vec<Program> {
        vec![
            program(Kind::Probe, EM_AARCH64),
            program(Kind::Probe, EM_X86_64),
        ]
    }

    /// Every file of the tar, after a check that its header has time 0 and owner 0.
    fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut last = String::new();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (
                    header.mtime().unwrap(),
                    header.uid().unwrap(),
                    header.gid().unwrap()
                ),
                (0, 0, 0)
            );
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            assert!(last < path, "{last} before {path}");
            last.clone_from(&path);
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(path, content);
        }
        files
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(format!("sha256:{}", hex(&Sha256::digest(bytes))), digest);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn the_same_programs_in_another_order_give_the_same_bytes() {
        let first = Archive::pack(&both(), None).unwrap();
        // The order of a hash map differs between instances, so many runs would show it.
        for _ in 0..20 {
            let mut programs = both();
            programs.reverse();
            assert!(Archive::pack(&programs, None).unwrap().bytes == first.bytes);
        }
        let other = Archive::pack(&both()[..1], None).unwrap();
        assert_ne!(other.digest, first.digest);
    }

    #[test]
    fn every_blob_of_an_archive_has_its_digest() {
        let archive = Archive::pack(&both(), Some("registry.example:5000/team/probe:7")).unwrap();
        let files = files(&archive.bytes);
        assert_eq!(
            parsed(&files["oci-layout"]),
            json!({ "imageLayoutVersion": "1.0.0" })
        );
        let layout = parsed(&files["index.json"]);
        let [named] = layout["manifests"].as_array().unwrap().as_slice() else {
            panic!("{layout}")
        };
        assert_eq!(named["digest"], archive.digest.as_str());
        assert_eq!(
            named["annotations"]["io.containerd.image.name"],
            "registry.example:5000/team/probe:7"
        );
        assert_eq!(
            named["annotations"]["org.opencontainers.image.ref.name"],
            "7"
        );
        let index = parsed(blob(&files, named));
        let mut seen = Vec::new();
        for manifest in index["manifests"].as_array().unwrap() {
            let platform = manifest["platform"]["architecture"].as_str().unwrap();
            let image = parsed(blob(&files, manifest));
            let config = parsed(blob(&files, &image["config"]));
            assert_eq!(config["architecture"], platform);
            assert_eq!(config["config"]["User"], "65532");
            assert_eq!(config["config"]["Entrypoint"], json!(["/watertight-probe"]));
            assert_eq!(
                config["config"]["Labels"]["org.opencontainers.image.version"],
                env!("CARGO_PKG_VERSION")
            );
            let layer = blob(&files, &image["layers"][0]);
            assert_eq!(
                config["rootfs"]["diff_ids"],
                json!([image["layers"][0]["digest"]])
            );
            let root = self::files(layer);
            assert_eq!(root.keys().collect::<Vec<_>>(), ["watertight-probe"]);
            seen.push(platform.to_owned());
        }
        assert_eq!(seen, ["amd64", "arm64"]);
    }

    #[test]
    fn an_archive_is_what_docker_saves_too() {
        let archive = Archive::pack(&both(), Some("probe:1")).unwrap();
        let files = files(&archive.bytes);
        let manifest = parsed(&files["manifest.json"]);
        let [image] = manifest.as_array().unwrap().as_slice() else {
            panic!("{manifest}")
        };
        assert_eq!(image["RepoTags"], json!(["docker.io/library/probe:1"]));
        let config = parsed(&files[image["Config"].as_str().unwrap()]);
        assert_eq!(config["architecture"], "amd64");
        let layer = &files[image["Layers"][0].as_str().unwrap()];
        let mut entries = tar::Archive::new(layer.as_slice());
        let header = entries
            .entries()
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .header()
            .clone();
        assert_eq!(header.mode().unwrap(), 0o755);
    }

    #[test]
    fn programs_and_names_that_make_no_image_are_rejected() {
        assert!(matches!(
            Archive::pack(&[], None),
            Err(ArchiveError::NoProgram)
        ));
        let twice = [
            program(Kind::Probe, EM_X86_64),
            program(Kind::Probe, EM_X86_64),
        ];
        assert!(matches!(
            Archive::pack(&twice, None),
            Err(ArchiveError::DuplicateArchitecture(Architecture::Amd64))
        ));
        let digest = format!("probe@sha256:{}", "0".repeat(64));
        assert!(matches!(
            Archive::pack(&both(), Some(&digest)),
            Err(ArchiveError::NamedByDigest(_))
        ));
        for name in ["", "Probe", "a b", "registry.example/", ":1"] {
            assert!(
                matches!(
                    Archive::pack(&both(), Some(name)),
                    Err(ArchiveError::Name { .. })
                ),
                "{name}"
            );
        }
    }

    #[test]
    fn the_runner_is_an_image_too() {
        let archive = Archive::pack(&[program(Kind::Runner, EM_X86_64)], None).unwrap();
        assert_eq!(archive.name, Kind::Runner.default_name());
        assert!(
            files(&archive.bytes).len() == 7,
            "three documents, an index, a manifest, a config and a layer"
        );
    }
}
