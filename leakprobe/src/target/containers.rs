//! Containers: what a control group's path says of them, and the names that runtimes keep in their files.
//!
//! There is no such thing as a container for the kernel. But every runtime gives each container a control group whose path has the
//! container's id in it: 64 hexadecimal digits, between other words (`docker-ID.scope`, `cri-containerd-ID.scope`, `/docker/ID`).
//! A pod of Kubernetes is the same with its uid (`kubepods-burstable-podUID.slice`). LXC and systemd-nspawn use the name itself.

use std::{
    fs::{self, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Digits of a container's id.
const ID_LEN: usize = 64;
/// Fewest digits that stand for an id: fewer may well be a name.
const MIN_PREFIX: usize = 8;
/// Longest file that is read.
const MAX_FILE: u64 = 16 << 20;
/// Most containers whose names are looked at.
const MAX_CONTAINERS: usize = 100_000;
/// Where runtimes keep what containers are called.
const DOCKER: &str = "var/lib/docker/containers";
const STORAGE: [&str; 2] = [
    "var/lib/containers/storage/overlay-containers/containers.json",
    "run/containers/storage/overlay-containers/containers.json",
];
const CONTAINERD: [&str; 2] =
    ["run/containerd/io.containerd.runtime.v2.task", "run/k3s/containerd/io.containerd.runtime.v2.task"];
/// Annotations in which those that use containerd keep the name.
const NAMES: [&str; 2] = ["nerdctl/name", "io.kubernetes.cri.container-name"];

/// Why a container cannot be told. One sentence each.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ContainerError {
    /// None is called that.
    #[error(
        "no running container has the id or name {0:?}: names are looked up in the files of Docker, Podman, CRI-O and containerd (as root); give the first 12 digits of its id, as `docker ps` or `crictl ps` prints them"
    )]
    Unknown(String),
    /// Several are.
    #[error("{given:?} stands for {count} containers ({some}); give more digits of the id")]
    Ambiguous {
        /// What was given.
        given: String,
        /// How many.
        count: usize,
        /// Some of them.
        some: String,
    },
}

/// What a control group's path says of containers: ids, uids of pods, names of LXC and nspawn containers.
pub fn names_in(group: &str) -> impl Iterator<Item = String> {
    group.split('/').flat_map(|part| [id(part), pod(part), own_name(part)]).flatten()
}

/// The 64 digits in a part of a path.
fn id(part: &str) -> Option<String> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    part.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == ID_LEN && word.bytes().all(is_digit))
        .map(str::to_owned)
}

/// The uid of a pod.
fn pod(part: &str) -> Option<String> {
    let at = part.rfind("pod").filter(|&at| at == 0 || part[..at].ends_with('-'))?;
    let uid = part[at + 3..].trim_end_matches(".slice").replace('_', "-");
    let is_uid = uid.len() == 36 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// The name of an LXC or nspawn container.
fn own_name(part: &str) -> Option<String> {
    let between = |prefix: &str, suffix: &str| part.strip_prefix(prefix)?.strip_suffix(suffix);
    let name = between("lxc.payload.", "")
        .or_else(|| between("systemd-nspawn@", ".service"))
        .or_else(|| between("machine-", ".scope"));
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The containers that `given`, an id, the beginning of one, a pod's uid or a name, stands for, among those that `run`. `root` is
/// below where runtimes keep their files: `/`.
///
/// # Errors
/// If there is none, or if it is not clear which.
pub fn resolve(given: &str, run: &[String], root: &Path) -> Result<Vec<String>, ContainerError> {
    if run.iter().any(|name| name == given) {
        return Ok(vec![given.to_owned()]);
    }
    let mut found: Vec<String> = named(given, root).into_iter().filter(|id| run.contains(id)).collect();
    if found.is_empty() && given.len() >= MIN_PREFIX && given.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let given = given.to_ascii_lowercase();
        found = run.iter().filter(|name| name.starts_with(&given)).cloned().collect();
    }
    found.sort_unstable();
    found.dedup();
    match found.len() {
        0 => Err(ContainerError::Unknown(given.to_owned())),
        1 => Ok(found),
        count => {
            let some: Vec<&str> = found.iter().take(5).map(|id| id.get(..12).unwrap_or(id)).collect();
            let some = some.join(", ") + if count > 5 { ", …" } else { "" };
            Err(ContainerError::Ambiguous { given: given.to_owned(), count, some })
        }
    }
}

/// The ids of the containers of that name, as runtimes' files tell.
fn named(name: &str, root: &Path) -> Vec<String> {
    let mut ids = docker(name, &root.join(DOCKER));
    for list in STORAGE {
        ids.extend(storage(name, &root.join(list)));
    }
    for tasks in CONTAINERD {
        ids.extend(containerd(name, &root.join(tasks)));
    }
    ids
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
}

/// Docker: a folder for each container.
fn docker(name: &str, containers: &Path) -> Vec<String> {
    let configs = folders(containers).filter_map(|folder| json::<DockerConfig>(&folder.join("config.v2.json")));
    configs.filter(|config| config.name.trim_start_matches('/') == name).map(|config| config.id).collect()
}

#[derive(Deserialize)]
struct Stored {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

/// Podman and CRI-O: one list.
fn storage(name: &str, list: &Path) -> Vec<String> {
    let stored: Vec<Stored> = json(list).unwrap_or_default();
    stored.into_iter().filter(|stored| stored.names.iter().any(|known| known == name)).map(|stored| stored.id).collect()
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// containerd: a folder for each namespace, and in it one for each container.
fn containerd(name: &str, tasks: &Path) -> Vec<String> {
    let bundles = folders(tasks).flat_map(|namespace| folders(&namespace).collect::<Vec<_>>());
    let is_named = |folder: &PathBuf| {
        json::<Bundle>(&folder.join("config.json")).is_some_and(|bundle| {
            NAMES.iter().any(|key| bundle.annotations.get(*key).is_some_and(|known| known == name))
        })
    };
    let ids = bundles.take(MAX_CONTAINERS).filter(is_named);
    ids.filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())).collect()
}

fn folders(of: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(of).into_iter().flatten().flatten().take(MAX_CONTAINERS).map(|entry| entry.path())
}

/// A file that is regular, no link, and not too long.
fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(digit: char) -> String {
        digit.to_string().repeat(ID_LEN)
    }

    #[test]
    fn ids_are_found_in_the_paths_of_every_runtime() {
        let id = id_of('a');
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/besteffort/{id}"),
            format!("/kubepods.slice/crio-{id}.scope/container"),
            format!("/machine.slice/libpod-{id}.scope"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container"),
            format!("/system.slice:nerdctl:{id}"),
        ] {
            assert_eq!(names_in(&path).collect::<Vec<_>>(), std::slice::from_ref(&id), "{path}");
        }
        for path in [
            "/",
            "",
            "/user.slice/user-0.slice",
            "/docker/abc",
            &format!("/x/{id}a"),
            &format!("/x/{}", id.to_uppercase()),
        ] {
            assert_eq!(names_in(path).count(), 0, "{path}");
        }
    }

    #[test]
    fn pods_and_named_containers_are_found() {
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let path = format!("/kubepods.slice/kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        assert_eq!(names_in(&path).collect::<Vec<_>>(), [uid]);
        assert_eq!(names_in(&format!("/kubepods/pod{uid}")).collect::<Vec<_>>(), [uid]);
        assert_eq!(names_in("/lxc.payload.web/init.scope").collect::<Vec<_>>(), ["web"]);
        assert_eq!(names_in("/machine.slice/systemd-nspawn@web.service").collect::<Vec<_>>(), ["web"]);
        assert_eq!(names_in("/machine.slice/machine-web.scope").collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn ids_may_be_cut_but_must_be_clear() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (format!("{}0", &id_of('a')[1..]), format!("{}1", &id_of('a')[1..]));
        let run = [a.clone(), b, id_of('c'), "web".to_owned()];
        assert_eq!(resolve(&a, &run, root.path()), Ok(vec![a]));
        assert_eq!(resolve("cccccccccccc", &run, root.path()), Ok(vec![id_of('c')]));
        assert_eq!(resolve("CCCCCCCC", &run, root.path()), Ok(vec![id_of('c')]));
        assert_eq!(resolve("web", &run, root.path()), Ok(vec!["web".to_owned()]));
        let error = resolve("aaaaaaaa", &run, root.path()).unwrap_err();
        assert!(matches!(error, ContainerError::Ambiguous { count: 2, .. }), "{error}");
        for unknown in ["ccccccc", "dddddddd", "db", ""] {
            assert_eq!(resolve(unknown, &run, root.path()), Err(ContainerError::Unknown(unknown.to_owned())));
        }
    }

    #[test]
    fn names_are_those_of_the_runtimes_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: String, text: String| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let run: Vec<String> = "abcdef".chars().map(id_of).collect();
        let [a, b, c, d, e, _] = &run[..] else { panic!() };
        write(format!("{DOCKER}/{a}/config.v2.json"), format!(r#"{{"ID":"{a}","Name":"/web","State":{{}}}}"#));
        write(format!("{DOCKER}/{b}/config.v2.json"), "{".to_owned());
        write(STORAGE[0].to_owned(), format!(r#"[{{"id":"{b}","names":["db","other"]}},{{"id":"{c}"}}]"#));
        for (id, name) in [(c, "app"), (d, "app"), (e, "cache")] {
            let annotations = format!(r#"{{"annotations":{{"io.kubernetes.cri.container-name":"{name}"}}}}"#);
            write(format!("{}/k8s.io/{id}/config.json", CONTAINERD[0]), annotations);
        }
        assert_eq!(resolve("web", &run, root.path()), Ok(vec![a.clone()]));
        assert_eq!(resolve("db", &run, root.path()), Ok(vec![b.clone()]));
        assert_eq!(resolve("cache", &run, root.path()), Ok(vec![e.clone()]));
        assert!(matches!(resolve("app", &run, root.path()), Err(ContainerError::Ambiguous { count: 2, .. })));
        // One that has a name, but does not run.
        assert_eq!(resolve("web", &run[1..], root.path()), Err(ContainerError::Unknown("web".to_owned())));
    }

    #[test]
    fn links_and_pipes_in_the_place_of_files_are_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join(DOCKER).join("x");
        fs::create_dir_all(&folder).unwrap();
        let (real, place) = (root.path().join("real.json"), folder.join("config.v2.json"));
        fs::write(&real, format!(r#"{{"ID":"{}","Name":"/web"}}"#, id_of('a'))).unwrap();
        std::os::unix::fs::symlink(&real, &place).unwrap();
        assert_eq!(docker("web", &root.path().join(DOCKER)), Vec::<String>::new());
        fs::remove_file(&place).unwrap();
        nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(docker("web", &root.path().join(DOCKER)), Vec::<String>::new());
        fs::remove_file(&place).unwrap();
        fs::rename(&real, &place).unwrap();
        assert_eq!(docker("web", &root.path().join(DOCKER)), [id_of('a')]);
    }
}
