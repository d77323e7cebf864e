//! A private copy of an installed Postgres with the extension in it. Programs are copied, everything else is linked:
//! Postgres finds `share` and `lib` relative to the real place of its program, so the copy uses the tree's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Account, ClusterError, access, account, files, place};
use crate::build::{self, Profile};
use crate::postgres::{Installation, Version};
use crate::script;
use crate::workspace::{self, EXTENSION};

/// A private Postgres installation of one version, with the extension in it.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The Postgres version.
    pub version: Version,
    /// Programs.
    pub bin: PathBuf,
    /// Loadable libraries, `realtime.so` among them.
    pub lib: PathBuf,
    /// Everything that is not a program.
    pub share: PathBuf,
    /// The account that servers run as.
    pub account: Account,
    /// The folder of this clone's private servers.
    pub(super) base: PathBuf,
}

impl Tree {
    /// Makes or refreshes the tree of a version, with the extension as it was last built for tests.
    ///
    /// # Errors
    ///
    /// When the version is not to be had, the extension has not been built, or a folder cannot be written.
    pub fn prepare(version: Version) -> Result<Self, ClusterError> {
        Self::prepare_profile(version, Profile::Dev)
    }

    /// As [`Tree::prepare`], with the extension of another build profile.
    ///
    /// # Errors
    ///
    /// As [`Tree::prepare`].
    pub fn prepare_profile(version: Version, profile: Profile) -> Result<Self, ClusterError> {
        let library = build::extension_library(version, profile);
        if !library.exists() {
            return Err(ClusterError::NotBuilt { path: library, version: version.major() });
        }
        let tree = Self::bare_named(version, &format!("{version}-{}", profile.folder()))?;
        tree.install(&library)?;
        Ok(tree)
    }

    /// As [`Tree::prepare`], under a name of its own and with every released script: for tests that put more scripts into
    /// it, which nobody else must find.
    ///
    /// # Errors
    ///
    /// As [`Tree::prepare`].
    pub fn prepare_named(version: Version, name: &str) -> Result<Self, ClusterError> {
        let tree = Self::bare_named(version, &format!("{version}-{name}"))?;
        tree.install(&build::extension_library(version, Profile::Dev))?;
        for (_, script) in script::releases()?.frozen().filter(|(release, _)| release.to_string() != workspace::VERSION)
        {
            tree.put_script(
                &script.file_name().unwrap_or_default().to_string_lossy(),
                &fs::read_to_string(script).map_err(access(script))?,
            )?;
        }
        Ok(tree)
    }

    /// Puts one more script of the extension into the tree.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn put_script(&self, name: &str, text: &str) -> Result<(), ClusterError> {
        let place = self.share.join("extension").join(name);
        crate::files::install_text(text, &place).map_err(access(&place))
    }

    /// A tree without the extension.
    ///
    /// # Errors
    ///
    /// When the version is not to be had or a folder cannot be written.
    pub fn bare(version: Version) -> Result<Self, ClusterError> {
        Self::bare_named(version, &format!("{version}-bare"))
    }

    fn bare_named(version: Version, name: &str) -> Result<Self, ClusterError> {
        let installation = version.installation()?;
        let account = Account::for_servers()?;
        let base = place::base(account)?;
        let root = base.join("trees").join(name);
        fs::create_dir_all(&root).map_err(access(&root))?;
        let _lock = files::lock(&root.join("lock")).map_err(access(&root))?;
        fill(&installation, &root).map_err(access(&root))?;
        let below = |folder: &Path| moved(&installation, folder, &root);
        let (bin, lib, share) = (below(&installation.bin), below(&installation.lib), below(&installation.share));
        Ok(Self { version, bin, lib, share, account, base })
    }

    /// Puts the extension's files into the tree, over those of a running server too.
    fn install(&self, library: &Path) -> Result<(), ClusterError> {
        let _lock = files::lock(&self.base.join("trees/lock")).map_err(access(&self.base))?;
        let script = script::join()?;
        let extensions = self.share.join("extension");
        let put = |source: &Path, place: PathBuf| crate::files::install(source, &place).map_err(access(&place));
        put(library, self.lib.join(format!("{EXTENSION}.so")))?;
        put(&control_file(), extensions.join(format!("{EXTENSION}.control")))?;
        for upgrade in script::upgrades()? {
            put(&upgrade, extensions.join(upgrade.file_name().unwrap_or_default()))?;
        }
        let place = extensions.join(script::file_name());
        crate::files::install_text(&script, &place).map_err(access(&place))
    }

    /// The folder of a server whose data is kept under a name (see [`Storage::Kept`](super::Storage)).
    pub fn kept_folder(&self, name: &str) -> PathBuf {
        self.base.join("servers").join(name)
    }

    /// A command for one of the tree's programs, run as us and knowing nothing of the caller's own Postgres settings.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        account::forget_postgres_settings(&mut command);
        command
    }
}

/// The extension's control file, as it is committed.
pub(super) fn control_file() -> PathBuf {
    workspace::root().join(format!("{EXTENSION}.control"))
}

fn fill(installation: &Installation, root: &Path) -> io::Result<()> {
    let below = |folder: &Path| moved(installation, folder, root);
    files::copy_entries(&installation.bin, &below(&installation.bin))?;
    files::link_entries(&installation.lib, &below(&installation.lib))?;
    let share = below(&installation.share);
    let extensions = share.join("extension");
    files::link_entries(&installation.share.join("extension"), &extensions)?;
    files::link_entries(&installation.share, &share)?;
    for companion in &installation.companions {
        files::link(companion, &below(companion))?;
    }
    Ok(())
}

/// The place of an installed folder in the tree.
fn moved(installation: &Installation, folder: &Path, root: &Path) -> PathBuf {
    root.join(folder.strip_prefix(&installation.prefix).unwrap_or(folder))
}
